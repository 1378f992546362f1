//! A namespace with a quota.

use cluster::{DRAIN, Ground};
use harness::{CORPORATION, wait_until};

/// A quota that counts everything pods can ask for, with this much memory for limits; in force when this returns.
async fn quota(ground: &Ground, memory: &str) {
    ground.bash(&format!(
        "kubectl -n rollcall create quota all --dry-run=client -o yaml --hard=pods=4,requests.cpu=600m,limits.cpu=4,\
requests.memory=256Mi,limits.memory={memory},requests.ephemeral-storage=256Mi,limits.ephemeral-storage=1Gi,\
persistentvolumeclaims=0,services=8,secrets=4,configmaps=4,count/cronjobs.batch=3,count/jobs.batch=6 \
         | kubectl -n rollcall apply -f -"
    ));
    // Admission goes by what a controller writes into the status.
    wait_until(super::LIMIT, "the quota is in force", async || {
        let quota = ground.object("quota/all");
        quota["status"]["hard"] == quota["spec"]["hard"]
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn a_quota_on_everything_admits_the_overlay_and_its_runs() {
    let ground = Ground::prepared("quota", &["outbox-worker"]).await;
    quota(&ground, "384Mi").await;
    ground.people(1, CORPORATION).await;
    ground.apply();
    ground.bash("kubectl -n rollcall wait --for=condition=Complete job -l app=migrate --timeout=3m");
    ground.bash(&format!("kubectl -n rollcall rollout status deployment/{DRAIN} --timeout=3m"));
    ground.start("manual-1");
    ground.complete("manual-1");
    assert_eq!(ground.due().await, 0);
    let used = ground.object("quota/all");
    assert_eq!(used["status"]["used"]["count/cronjobs.batch"], "2", "the quota is in force: {used:#}");

    // Nobody may ask for memory any more: no pod, and the reason is told. With room again it runs by itself.
    quota(&ground, "1Mi").await;
    ground.stage.later(60).await;
    ground.start("manual-2");
    wait_until(super::LIMIT, "the event tells of the quota", async || {
        let events = ground.object("events --field-selector reason=FailedCreate,involvedObject.name=manual-2");
        let events = events["items"].as_array().unwrap();
        events.iter().any(|event| event["message"].as_str().unwrap_or_default().contains("exceeded quota: all"))
    })
    .await;
    assert_eq!((ground.pods("manual-2").len(), ground.due().await), (0, 1));
    quota(&ground, "384Mi").await;
    ground.complete("manual-2");
    assert_eq!(ground.due().await, 0);
}
