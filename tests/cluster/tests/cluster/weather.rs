//! What surrounds a run fails or changes: Pushgateway, image, settings, time.

use std::collections::BTreeSet;

use cluster::{Ground, VERIFIER};
use esi_simulator::Route;
use harness::{CORPORATION, Fault, wait_until};
use serde_json::Value;

/// How many ids each affiliation call named.
fn asked(ground: &Ground) -> Vec<usize> {
    let calls = ground.stage.sim.requests();
    calls.iter().filter(|call| call.route == Route::Affiliation).map(|call| call.ids.len()).collect()
}

/// Replaces settings in the ConfigMap, as the documentation says.
fn set(ground: &Ground, settings: &str) {
    ground.bash(&format!("kubectl -n rollcall patch configmap/{VERIFIER}-config -p '{{\"data\": {{{settings}}}}}'"));
}

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn a_run_completes_without_its_pushgateway_and_is_counted_by_the_next() {
    let ground = Ground::new("push-gone").await;
    ground.people(3, CORPORATION).await;
    ground.pushgateway().stop();
    ground.start("manual-1");
    ground.complete("manual-1");
    assert_eq!(ground.exit_codes("manual-1"), [0]);
    assert_eq!((&ground.finished("manual-1")["outcome"], ground.due().await), (&Value::from("done"), 0));
    let log = ground.log("manual-1");
    assert!(log.contains("metrics could not be pushed"), "{log}");

    ground.pushgateway().start_again();
    ground.people(1, harness::ALLIANCE).await;
    ground.start("manual-2");
    ground.complete("manual-2");
    let verified = ground.pushed("battlescope_characters_verified_total", &[("status", "success")]);
    assert_eq!(verified, Some(4.0), "both runs");
    let failures = ground.pushed("rollcall_push_failures_total", &[]);
    assert!(failures.is_some_and(|failures| failures >= 2.0), "start and end of the first run: {failures:?}");
}

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn an_absent_image_changes_nothing_and_the_job_ends_at_its_deadline() {
    let ground = Ground::new("no-image").await;
    ground.people(1, CORPORATION).await;
    ground.bash("kubectl -n rollcall wait --for=condition=Complete job -l app=migrate --timeout=3m");
    let before = ground.stage.community.exact_fingerprint().await;
    // The deadline is an hour otherwise. Enough for a pod that waits while another test's node is drained.
    ground.bash(&format!(
        "kubectl -n rollcall patch cronjob {VERIFIER} --type=json -p '[
           {{\"op\": \"replace\", \"path\": \"/spec/jobTemplate/spec/activeDeadlineSeconds\", \"value\": 60}},
           {{\"op\": \"replace\", \"path\": \"/spec/jobTemplate/spec/template/spec/containers/0/image\",
             \"value\": \"localhost/rollcall/{VERIFIER}:absent\"}}]'"
    ));
    ground.start("manual-1");
    wait_until(super::LIMIT, "the kubelet says that there is no image", async || {
        let pods = ground.pods("manual-1");
        let waiting =
            pods.first().map(|pod| pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].clone());
        matches!(waiting.as_ref().and_then(Value::as_str), Some("ErrImagePull" | "ImagePullBackOff"))
    })
    .await;
    let ended = ground.end("manual-1");
    assert_eq!((&*ended.how, &*ended.reason), ("Failed", "DeadlineExceeded"), "{ended:?}");
    assert_eq!(ground.stage.community.exact_fingerprint().await, before);
    assert_eq!(ground.stage.community.runs().await.len(), 0);
    let pushed = ground.pushgateway().metrics();
    assert!(pushed.iter().all(|sample| !sample.name.starts_with("rollcall_")), "{pushed:#?}");
}

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn settings_changed_in_mid_run_hold_from_the_next_run_on() {
    let ground = Ground::new("settings").await;
    ground.people(6, CORPORATION).await;
    ground.stage.sim.settings(|settings| settings.record_ids = true);
    set(&ground, "\"BATCH_SIZE\": \"1\", \"ESI_CONCURRENCY\": \"1\"");
    ground.stage.sim.faults().add(esi_simulator::Fault::on(Route::Affiliation, esi_simulator::Kind::Slow { ms: 1000 }));
    ground.start("manual-1");
    wait_until(super::LIMIT, "the first character is written", async || ground.due().await == 5).await;
    set(&ground, "\"BATCH_SIZE\": \"1000\"");
    assert_ne!(ground.due().await, 0, "it was in the middle");
    ground.complete("manual-1");
    assert_eq!((asked(&ground), ground.due().await), (vec![1; 6], 0));

    ground.stage.sim.faults().clear();
    ground.stage.later(60).await;
    ground.stage.sim.clear_requests();
    ground.start("manual-2");
    ground.complete("manual-2");
    assert_eq!((asked(&ground), ground.due().await), (vec![6], 0));
}

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn a_run_ends_itself_at_max_runtime_with_its_log_kept_and_the_next_goes_on() {
    let ground = Ground::new("max-runtime").await;
    ground.people(40, CORPORATION).await;
    ground.stage.sim.faults().add(esi_simulator::Fault::on(Route::Affiliation, esi_simulator::Kind::Slow { ms: 500 }));
    // Five of the seconds are kept for finishing.
    ground.start_with("manual-1", "BATCH_SIZE=1 ESI_CONCURRENCY=1 MAX_RUNTIME=15s");
    ground.complete("manual-1");
    let told = ground.finished("manual-1");
    let (scanned, remaining) = (told["scanned"].as_i64().unwrap(), told["remaining"].as_i64().unwrap());
    assert!(scanned > 0 && remaining > 0, "{told}");
    assert_eq!((&told["outcome"], scanned + remaining, ground.due().await), (&Value::from("done"), 40, remaining));
    assert!(told["note"].as_str().unwrap_or_default().contains("MAX_RUNTIME"), "{told}");
    assert_eq!(ground.exit_codes("manual-1"), [0], "the pod is still there");

    ground.stage.sim.faults().clear();
    ground.start("manual-2");
    ground.complete("manual-2");
    assert_eq!((&ground.finished("manual-2")["scanned"], ground.due().await), (&Value::from(remaining), 0));
    let names: BTreeSet<_> = ground.ledger().await.into_iter().collect();
    assert_eq!(names, BTreeSet::from([("manual".to_owned(), "done".to_owned())]));
}

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn two_installations_that_share_a_pushgateway_do_not_touch_each_other() {
    let first = Ground::new("first").await;
    let second = Ground::beside("second", &first).await;
    let members = first.people(2, CORPORATION).await;
    first.start("manual-1");
    first.complete("manual-1");
    let group = |namespace: &str| {
        let all = first.pushgateway().metrics().into_iter();
        let group = all.filter(|sample| sample.has(&[("job", VERIFIER), ("namespace", namespace)]));
        let mut lines: Vec<String> = group.map(|sample| format!("{sample:?}")).collect();
        lines.sort();
        lines
    };
    let (data, pushed) = (first.stage.community.exact_fingerprint().await, group(&first.namespace));
    assert!(!pushed.is_empty());

    // Everybody leaves, there.
    let leavers = second.people(2, harness::STRANGERS).await;
    second.start("manual-1");
    second.complete("manual-1");
    assert_eq!((second.alive(&leavers).await, second.due().await), (0, 0));
    assert!(group(&second.namespace).len() >= pushed.len() / 2, "{:#?}", group(&second.namespace));
    assert_eq!(first.stage.community.exact_fingerprint().await, data);
    assert_eq!(group(&first.namespace), pushed, "not even the time of the last push");
    assert_eq!(first.alive(&members).await, 2);

    // A run of the first holds its lease; that of the second has its own.
    first.stage.later(60).await;
    second.stage.later(60).await;
    first.esi.set(Fault::Hang);
    first.start("manual-2");
    wait_until(super::LIMIT, "the first one's run is told", async || {
        first.pushed("rollcall_job_in_progress", &[]) == Some(1.0)
    })
    .await;
    second.start("manual-2");
    second.complete("manual-2");
    assert_eq!(second.finished("manual-2")["outcome"], "done");
    assert_eq!(first.pushed("rollcall_job_in_progress", &[]), Some(1.0));
    first.esi.set(Fault::Pass);
    first.complete("manual-2");
    assert_eq!((first.ledger().await.len(), second.ledger().await.len()), (2, 2));
}
