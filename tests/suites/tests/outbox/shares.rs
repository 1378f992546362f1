//! Several at once.

use harness::{Fault, FaultProxy, wait_until};
use nix::sys::signal::Signal;
use redis::AsyncCommands;

use crate::support::{Ground, LIMIT, STREAM};

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
async fn shards_beside_a_worker_leave_no_partition_to_nobody() {
    let ground = Ground::new().await;
    let worker = ground.asked(&["worker"]).start();
    ground.fill(10, 10).await;
    wait_until(LIMIT, "the worker works", async || ground.backlog().await == 0).await;
    let shard = |index: usize| ground.drain().env("SHARD_COUNT", "4").env("JOB_COMPLETION_INDEX", index.to_string());
    let shards: Vec<_> = (0..4).map(|index| shard(index).arg("worker").start()).collect();
    let owners = "SELECT count(DISTINCT run_id) FROM outbox_partitions WHERE expires_at > clock_timestamp()";
    wait_until(LIMIT, "all five hold some", async || ground.number(owners).await == 5).await;
    ground.fill(2000, 200).await;
    wait_until(LIMIT, "all are out", async || ground.backlog().await == 0).await;
    for worker in shards.into_iter().chain([worker]) {
        worker.signal(Signal::SIGTERM);
        worker.wait(LIMIT).await.expect_code(143);
    }
    ground.assert_whole((1..=10).chain(1..=2000)).await;
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

/// A worker is frozen while what it sends to Redis is held back, and that arrives after another run has taken over. With
/// `forgets`, Redis has also lost what it knew of the drain by then, so that the batch looks like the next one: nothing but
/// the token tells whose it is.
async fn a_batch_comes_late(forgets: bool) {
    let ground = Ground::new().await;
    let proxy = FaultProxy::start(ground.db.redis_url());
    let mut frozen = ground.asked(&["worker"]).env("REDIS_URL", proxy.url()).start();
    ground.fill(10, 10).await;
    wait_until(LIMIT, "it works", async || ground.backlog().await == 0).await;
    proxy.set(Fault::Hang);
    ground.fill(10, 10).await;
    wait_until(LIMIT, "a batch is on its way", async || proxy.held() > 0).await;
    frozen.signal(Signal::SIGSTOP);
    if forgets {
        let mut redis = ground.db.redis();
        let states: Vec<String> = redis.keys(format!("{{{STREAM}}}:drain:*")).await.unwrap();
        let () = redis.del(states).await.unwrap();
    }
    let finished = ground.run().await;
    assert_eq!((finished.code, ground.backlog().await), (Some(0), 0), "{finished}");
    proxy.set(Fault::Pass);
    wait_until(LIMIT, "the batch has arrived", async || proxy.held() == 0).await;
    ground.fill(10, 10).await;
    frozen.signal(Signal::SIGCONT);
    wait_until(LIMIT, "it works again", async || ground.backlog().await == 0).await;
    assert!(frozen.is_running());
    ground.assert_whole((1..=10).chain(1..=10).chain(1..=10)).await;
}

#[tokio::test]
async fn what_a_frozen_worker_sent_is_refused_after_another_has_taken_over() {
    a_batch_comes_late(false).await;
}

#[tokio::test]
async fn so_it_is_where_redis_has_forgotten_everything_but_the_stream() {
    a_batch_comes_late(true).await;
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
async fn a_bounded_run_goes_on_after_the_number_of_partitions_was_changed_beside_it() {
    changed_beside_a_run(500).await;
}

#[tokio::test]
async fn so_it_does_when_all_that_is_left_comes_under_another_partition() {
    changed_beside_a_run(1).await;
}

async fn changed_beside_a_run(accounts: i64) {
    let ground = Ground::new().await;
    ground.fill(60_000, accounts).await;
    let apart = "SELECT count(*) FROM outbox_events WHERE bucket % 16 >= 3";
    assert!(ground.number(apart).await > 0, "the partition that they have is none afterwards");
    let keeper = ground.keep(30_000).await;
    // Slow enough to be in the middle when it sees that they are closed.
    let run = ground.drain().env("BATCH_SIZE", "20").start();
    wait_until(LIMIT, "it waits", async || ground.is_anybody_waiting().await).await;
    let set = ground.asked(&["partitions", "set", "3"]).start();
    let closed = "SELECT count(*) FROM outbox_settings WHERE closed_until > clock_timestamp()";
    wait_until(LIMIT, "the partitions are closed", async || ground.number(closed).await == 1).await;
    keeper.rollback().await.unwrap();
    set.wait(LIMIT).await.expect_code(0);
    let run = run.wait(LIMIT).await.expect_code(0);
    assert_eq!((ground.backlog().await, run.last()["remaining"].as_i64()), (0, Some(0)), "{run}");
    ground.assert_whole(1..=60_000).await;
}

#[tokio::test]
async fn the_number_of_partitions_does_not_change_under_somebody_who_was_just_taking_one() {
    let ground = Ground::new().await;
    let mut taking = ground.db.pool().begin().await.unwrap();
    let take = "UPDATE outbox_partitions SET run_id = 'elsewhere', expires_at = clock_timestamp() + interval '1 hour'
        WHERE partition = 3";
    sqlx::query(take).execute(&mut *taking).await.unwrap();
    // Who holds it cannot be seen yet, also not after everything was closed.
    let set = ground.asked(&["partitions", "set", "5"]).env("OUTBOX_SINK", "stdout").start();
    wait_until(LIMIT, "it waits for whoever is taking one", async || ground.is_anybody_waiting().await).await;
    let closed_until = "SELECT (extract(epoch FROM closed_until) * 1000)::bigint FROM outbox_settings";
    let before = ground.number(closed_until).await;
    taking.commit().await.unwrap();
    wait_until(LIMIT, "it has decided", async || ground.number(closed_until).await != before).await;
    assert_eq!(ground.number("SELECT partitions::bigint FROM outbox_settings").await, 16);
    ground.execute("UPDATE outbox_partitions SET expires_at = 'epoch', run_id = NULL WHERE partition = 3").await;
    set.wait(LIMIT).await.expect_code(0);
    assert_eq!(ground.number("SELECT partitions::bigint FROM outbox_settings").await, 5);
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

#[tokio::test]
async fn a_dry_run_of_another_number_of_partitions_changes_and_closes_nothing() {
    let ground = Ground::new().await;
    let set = ground.asked(&["partitions", "set", "8"]);
    for dry in [set.clone().arg("--dry-run"), set.env("DRY_RUN", "true")] {
        let finished = dry.run().await.expect_code(0);
        assert_eq!(finished.stdout.trim_end(), "the outbox would be split into 8 partitions", "{finished}");
        let as_before = "SELECT count(*) FROM outbox_settings WHERE partitions = 16 AND closed_until = 'epoch'";
        assert_eq!(ground.number(as_before).await, 1);
    }
}
