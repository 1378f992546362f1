//! Several at once.

use harness::wait_until;
use nix::sys::signal::Signal;

use crate::support::{Ground, LIMIT};

#[tokio::test]
async fn four_runs_at_once_share_the_work_and_nothing_is_doubled() {
    let ground = Ground::new().await;
    ground.fill(20_000, 500).await;
    let runs: Vec<_> = (0..4).map(|_| ground.drain().env("BATCH_SIZE", "50").start()).collect();
    for run in runs {
        let finished = run.wait(LIMIT).await;
        assert_eq!(finished.code, Some(0), "{finished}");
    }
    ground.assert_whole(1..=20_000).await;
    assert_eq!(ground.backlog().await, 0);
}

#[tokio::test]
async fn shards_of_an_indexed_job_each_drain_their_partitions() {
    let ground = Ground::new().await;
    ground.fill(2000, 200).await;
    let shard = |index: &str| ground.drain().env("SHARD_COUNT", "3").env("JOB_COMPLETION_INDEX", index);
    shard("1").run().await;
    let partitions: std::collections::BTreeSet<i64> =
        ground.stream().await.iter().map(|entry| entry.number("partition") % 3).collect();
    assert_eq!(partitions.into_iter().collect::<Vec<_>>(), [1]);
    shard("0").run().await;
    shard("2").run().await;
    ground.assert_whole(1..=2000).await;
}

#[tokio::test]
async fn the_partitions_of_a_killed_worker_are_taken_within_seconds() {
    let ground = Ground::new().await;
    let dead = ground.asked(&["worker"]).start();
    ground.fill(10, 10).await;
    wait_until(LIMIT, "the first worker works", async || ground.backlog().await == 0).await;
    dead.kill();
    ground.fill(100, 10).await;
    let finished = ground.run().await;
    assert_eq!((finished.code, ground.backlog().await), (Some(0), 0), "{finished}");
    assert!(finished.duration.as_secs() < 15, "{:?}", finished.duration);
    ground.assert_whole((1..=10).chain(1..=100)).await;
}

#[tokio::test]
async fn a_frozen_worker_publishes_nothing_after_another_has_taken_over() {
    let ground = Ground::new().await;
    let mut frozen = ground.asked(&["worker"]).start();
    ground.fill(10, 10).await;
    wait_until(LIMIT, "it works", async || ground.backlog().await == 0).await;
    frozen.signal(Signal::SIGSTOP);
    ground.fill(1000, 100).await;
    let finished = ground.run().await;
    assert_eq!((finished.code, ground.backlog().await), (Some(0), 0), "{finished}");
    ground.fill(1000, 100).await;
    frozen.signal(Signal::SIGCONT);
    wait_until(LIMIT, "it works again", async || ground.backlog().await == 0).await;
    assert!(frozen.is_running());
    ground.assert_whole((1..=10).chain(1..=1000).chain(1..=1000)).await;
}

#[tokio::test]
async fn the_number_of_partitions_changes_under_a_worker_and_order_and_numbers_hold() {
    let ground = Ground::new().await;
    let mut worker = ground.asked(&["worker"]).start();
    ground.fill(3000, 100).await;
    let set = ground.asked(&["partitions", "set", "5"]).run().await;
    assert_eq!(set.code, Some(0), "{set}");
    ground.fill(3000, 100).await;
    wait_until(LIMIT, "all are out", async || ground.backlog().await == 0).await;
    assert!(worker.is_running());
    ground.assert_whole((1..=3000).chain(1..=3000)).await;
    let latest = ground.stream().await[3000..].iter().map(|entry| entry.number("partition")).max();
    assert_eq!(latest, Some(4));
    let wrong = ground.asked(&["partitions", "set", "65"]).run().await;
    assert_eq!(wrong.code, Some(64));
}

#[tokio::test]
async fn only_the_eldest_of_runs_at_the_same_time_tells_the_metrics() {
    let ground = Ground::new().await;
    let pushgateway = harness::Pushgateway::start();
    let binary =
        |binary: harness::Binary| binary.env("PUSHGATEWAY_URL", pushgateway.url()).env("METRICS_PUSH_INTERVAL", "1s");
    let worker = binary(ground.asked(&["worker"])).start();
    let published =
        || pushgateway.value("rollcall_outbox_published_total", &[("job", "outbox-drain"), ("sink", "redis")]);
    wait_until(LIMIT, "the worker tells", async || published().is_some()).await;
    ground.fill(100, 10).await;
    wait_until(LIMIT, "all are out", async || ground.backlog().await == 0).await;
    let beside = binary(ground.drain()).run().await;
    assert_eq!(beside.code, Some(0), "{beside}");
    let in_progress = pushgateway.value("rollcall_job_in_progress", &[("job", "outbox-drain")]);
    assert_eq!(in_progress, Some(1.0), "a run beside the worker says nothing over it");
    wait_until(LIMIT, "what all have counted is told", async || published() == Some(100.0)).await;
    let runs = || pushgateway.value("rollcall_job_runs_total", &[("outcome", "nothing_to_do")]);
    wait_until(LIMIT, "the other run too", async || runs() == Some(1.0)).await;
    worker.signal(Signal::SIGTERM);
    let finished = worker.wait(LIMIT).await;
    assert_eq!(finished.code, Some(143), "{finished}");
    assert_eq!(pushgateway.value("rollcall_job_in_progress", &[("job", "outbox-drain")]), Some(0.0));
}
