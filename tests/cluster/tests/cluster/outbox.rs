//! The outbox: drained by the schedule, or by workers that share it.

use std::{collections::BTreeSet, time::Duration};

use cluster::{DRAIN, Ground, kill, say, strike};
use harness::wait_until;
use redis::AsyncCommands;

use super::{
    LIMIT,
    install::changed,
    schedule::{fires, job_of},
};

/// The stream, by its default name.
const STREAM: &str = "rollcall:events";
/// For two pods to start, and to have done all there was to do.
const START: Duration = Duration::from_mins(2);

/// Events of accounts called by this name and a number, five of each.
pub(crate) async fn enqueue(ground: &Ground, name: &str, accounts: u32) {
    ground
        .execute(&format!(
            "INSERT INTO outbox_events (event_id, aggregate_type, aggregate_id, aggregate_hash, brand_id, event_type, payload)
             SELECT gen_random_uuid(), 'account', a, hashtext('account:' || a), gen_random_uuid(), 'TESTED',
                 json_build_object('turn', turn)
             FROM generate_series(1, 5) AS turn, (SELECT '{name}' || n AS a FROM generate_series(1, {accounts}) AS n) AS s"
        ))
        .await;
}

/// Entries of the stream.
pub(crate) async fn published(ground: &Ground) -> usize {
    ground.stage.db.redis().xlen(STREAM).await.unwrap()
}

/// Runs that hold partitions.
async fn owners(ground: &Ground) -> BTreeSet<String> {
    let sql = "-- cluster::owners
        SELECT DISTINCT run_id FROM outbox_partitions WHERE run_id IS NOT NULL AND expires_at > clock_timestamp()";
    let found: Vec<String> = sqlx::query_scalar(sql).fetch_all(ground.stage.db.pool()).await.unwrap();
    found.into_iter().collect()
}

/// The uids of the workers' pods, whose CronJob is suspended.
fn workers(ground: &Ground) -> BTreeSet<String> {
    let pods = ground.object(&format!("pods -l app={DRAIN}"));
    let uids = pods["items"].as_array().unwrap().iter().filter_map(|pod| pod["metadata"]["uid"].as_str());
    uids.map(str::to_owned).collect()
}

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn a_schedule_drains_the_outbox_onto_the_stream() {
    let ground = Ground::new("outbox").await;
    ground.bash("kubectl -n rollcall wait --for=condition=Complete job -l app=migrate --timeout=3m");
    enqueue(&ground, "a", 40).await;
    ground.suspend_of(DRAIN, false);
    fires(&ground, DRAIN);
    ground.suspend_of(DRAIN, true);
    let job = job_of(&ground, DRAIN);
    ground.complete(&job);
    let told = ground.finished(&job);
    assert_eq!((&told["outcome"], &told["changed"]), (&"done".into(), &200.into()), "{told}");
    assert_eq!((ground.number("SELECT count(*) FROM outbox_events").await, published(&ground).await), (0, 200));
    let pushed = |metric, labels: &[(&str, &str)]| ground.pushed_by(DRAIN, metric, labels);
    assert_eq!(pushed("rollcall_outbox_published_total", &[("sink", "redis")]), Some(200.0));
    assert_eq!(pushed("rollcall_outbox_backlog_events", &[]), Some(0.0));
    assert!(pushed("rollcall_job_last_success_timestamp_seconds", &[]).is_some_and(|time| time > 0.0));
    assert_eq!(owners(&ground).await, BTreeSet::new(), "the partitions were given up");
    let sql = "SELECT count(*) FROM job_runs WHERE job = 'outbox-drain' AND trigger = 'schedule' AND outcome = 'done'";
    assert_eq!(ground.number(sql).await, 1);
}

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn of_two_workers_that_share_the_outbox_one_is_killed_and_the_other_takes_over() {
    let ground = Ground::with("worker", &["outbox-worker"]).await;
    ground.bash("kubectl -n rollcall wait --for=condition=Complete job -l app=migrate --timeout=3m");
    ground.bash(&format!("kubectl -n rollcall rollout status deployment/{DRAIN} --timeout=3m"));
    assert_eq!(ground.object(&format!("cronjob/{DRAIN}"))["spec"]["suspend"], true);
    let uids = workers(&ground);
    assert_eq!(uids.len(), 2);
    wait_until(START, "both hold partitions", async || owners(&ground).await == uids).await;
    enqueue(&ground, "a", 40).await;
    wait_until(LIMIT, "all are on the stream", async || published(&ground).await == 200).await;
    wait_until(LIMIT, "a worker tells that all is well", async || {
        ground.pushed_by(DRAIN, "rollcall_job_last_success_timestamp_seconds", &[]).is_some()
    })
    .await;

    let victim = uids.first().unwrap();
    if !kill(victim, DRAIN).await {
        say("SKIPPED: a worker killed by SIGKILL: its node is not this machine");
        return;
    }
    enqueue(&ground, "b", 40).await;
    // The container of a pod that is restarted is the same run, and would take its partitions up again.
    let other: BTreeSet<String> = uids.iter().skip(1).cloned().collect();
    wait_until(LIMIT, "the other one holds all", async || {
        strike(victim, DRAIN);
        owners(&ground).await == other
    })
    .await;
    wait_until(LIMIT, "all are on the stream again", async || published(&ground).await == 400).await;
    let stream: redis::streams::StreamRangeReply = ground.stage.db.redis().xrange_all(STREAM).await.unwrap();
    let ids = stream.ids.iter().map(|entry| entry.get::<String>("event_id").unwrap());
    assert_eq!(ids.collect::<BTreeSet<_>>().len(), 400, "each once");
    // A worker publishes first and deletes then.
    wait_until(LIMIT, "none is left in the outbox", async || {
        ground.number("SELECT count(*) FROM outbox_events").await == 0
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn an_apply_with_another_setting_starts_workers_anew_and_an_apply_without_one_does_not() {
    let ground = Ground::with("worker-settings", &["outbox-worker"]).await;
    let rolled_out = format!("kubectl -n rollcall rollout status deployment/{DRAIN} --timeout=3m");
    ground.bash("kubectl -n rollcall wait --for=condition=Complete job -l app=migrate --timeout=3m");
    ground.bash(&rolled_out);
    assert_eq!(changed(&ground.apply()), Vec::<&str>::new());
    let before = workers(&ground);

    // A patch beside the component, and the line that the documentation asks for there.
    let path = "overlays/this/kustomization.yaml";
    let patched = ground.overlay.read(path)
        + "patches:\n  - patch: |-\n      \
           {apiVersion: v1, kind: ConfigMap, metadata: {name: outbox-drain-config}, data: {LOG_FORMAT: text}}\n\
           transformers: [../../components/outbox-worker/settings]\n";
    ground.overlay.write(path, &patched);
    assert_eq!(
        changed(&ground.apply()),
        ["configmap/outbox-drain-config configured", "deployment.apps/outbox-drain configured"]
    );
    ground.bash(&rolled_out);
    wait_until(START, "the workers of before are gone", async || {
        let now = workers(&ground);
        now.len() == 2 && now.is_disjoint(&before)
    })
    .await;
    let log = ground.bash(&format!("kubectl -n rollcall logs -l app={DRAIN} --tail=-1"));
    assert!(!log.is_empty() && !log.lines().any(|line| line.starts_with('{')), "it is no text:\n{log}");
}
