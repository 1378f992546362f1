//! The worker.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use harness::{Binary, wait_until};
use nix::sys::signal::Signal;

use crate::support::{Ground, LIMIT};

#[tokio::test]
async fn a_sleeping_worker_is_woken_by_a_hint_and_only_while_it_sleeps() {
    let ground = Ground::new().await;
    let mut worker = ground.asked(&["worker"]).start();
    let asleep = "SELECT count(*) FROM outbox_settings WHERE hints_until > clock_timestamp() + interval '0.8 s'";
    let is_quick = |took: &Duration| *took < Duration::from_millis(500);
    let mut times: Vec<Duration> = Vec::new();
    // Polling takes 0.8 s and more each time. On a busy machine a hint can take as long, but hardly ten times.
    while times.len() < 10 && !times.iter().any(is_quick) {
        wait_until(LIMIT, "it sleeps", async || ground.number(asleep).await == 1).await;
        let began = Instant::now();
        ground.enqueue(&["a"], 1).await;
        let out = times.len() + 1;
        wait_until(LIMIT, "it is out", async || ground.stream().await.len() == out).await;
        times.push(began.elapsed());
    }
    assert!(times.iter().any(is_quick), "polling alone would not have taken longer: {times:?}");
    assert!(worker.is_running());
}

#[tokio::test]
async fn the_heartbeat_is_written_when_all_is_done_and_health_reads_it() {
    let ground = Ground::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("beat");
    let health = |age: &str| {
        ground
            .asked(&["health", "--max-age", age])
            .env("WORKER_HEARTBEAT_FILE", &file)
            .env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/x")
    };
    let missing = health("1m").run().await;
    assert_eq!(missing.code, Some(75), "{missing}");
    let worker = ground.asked(&["worker"]).env("WORKER_HEARTBEAT_FILE", &file).start();
    wait_until(LIMIT, "it beats", async || file.exists()).await;
    let alive = health("1m").run().await;
    assert_eq!(alive.code, Some(0), "{alive}");
    worker.signal(Signal::SIGTERM);
    let finished = worker.wait(LIMIT).await;
    assert_eq!(finished.code, Some(143), "{finished}");
    let long_ago = file.metadata().unwrap().modified().unwrap() - Duration::from_secs(90);
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(long_ago).unwrap();
    let stale = health("1m").run().await;
    assert_eq!(stale.code, Some(75), "{stale}");
}

#[tokio::test]
async fn a_worker_whose_sink_is_away_does_not_beat_and_goes_on_when_it_is_back() {
    let ground = Ground::new().await;
    let proxy = harness::FaultProxy::start(ground.db.redis_url());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("beat");
    let url = proxy.url();
    let mut worker = ground.asked(&["worker"]).env("REDIS_URL", url).env("WORKER_HEARTBEAT_FILE", &file).start();
    wait_until(LIMIT, "it beats", async || file.exists()).await;
    proxy.set(harness::Fault::Refuse);
    proxy.cut();
    ground.fill(50, 5).await;
    worker.wait_for_log(LIMIT, |line| line["message"] == "the sink takes nothing").await;
    std::fs::remove_file(&file).unwrap();
    worker.wait_for_log(LIMIT, |line| line["message"] == "the sink takes nothing").await;
    assert!(!file.exists(), "nothing got on meanwhile");
    assert_eq!(ground.number("SELECT count(*) FROM outbox_held").await, 0, "no event is to blame");
    proxy.set(harness::Fault::Pass);
    wait_until(LIMIT, "all are out", async || ground.backlog().await == 0).await;
    wait_until(LIMIT, "it beats again", async || file.exists()).await;
    ground.assert_whole(1..=50).await;
}

#[tokio::test]
async fn a_worker_that_may_not_poll_refuses_to_start() {
    let ground = Ground::new().await;
    let finished = ground.asked(&["worker"]).env("ENABLE_OUTBOX_POLLER", "false").run().await;
    assert_eq!(finished.code, Some(78), "{finished}");
    assert!(finished.stderr.contains("ENABLE_OUTBOX_POLLER"), "{finished}");
}

#[tokio::test]
async fn a_worker_whose_database_is_away_begins_anew_until_it_is_back() {
    let ground = Ground::new().await;
    let proxy = harness::FaultProxy::start(ground.db.url());
    proxy.set(harness::Fault::Refuse);
    let mut worker = ground.asked(&["worker"]).env("DATABASE_URL", proxy.url()).start();
    let failed = worker.wait_for_log(LIMIT, |line| line["message"] == "finished").await;
    assert_eq!(failed["outcome"], "failed", "{failed}");
    ground.fill(50, 5).await;
    proxy.set(harness::Fault::Pass);
    wait_until(LIMIT, "all are out", async || ground.backlog().await == 0).await;
    ground.assert_whole(1..=50).await;

    proxy.set(harness::Fault::Refuse);
    proxy.cut();
    worker.wait_for_log(LIMIT, |line| line["message"] == "trying again").await;
    ground.fill(50, 5).await;
    proxy.set(harness::Fault::Pass);
    wait_until(LIMIT, "all are out again", async || ground.backlog().await == 0).await;
    worker.signal(Signal::SIGTERM);
    let finished = worker.wait(LIMIT).await;
    assert_eq!(finished.code, Some(143), "{finished}");
}

#[tokio::test]
async fn health_needs_nothing_but_the_file_and_goes_by_when_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("beat");
    let health = Binary::new("outbox-drain").arg("health").env("WORKER_HEARTBEAT_FILE", &file);
    let beat = std::fs::File::create(&file).unwrap();
    health.run().await.expect_code(0);
    let written = beat.metadata().unwrap().modified().unwrap();
    beat.set_modified(written - Duration::from_hours(1)).unwrap();
    let old = health.run().await.expect_code(75);
    assert!(old.stderr.contains("s old, 90 s are allowed"), "{old}");
}

#[tokio::test]
async fn a_heartbeat_file_in_no_folder_is_told_as_configuration() {
    let ground = Ground::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("missing").join("beat");
    for word in ["worker", "check"] {
        let told = ground.asked(&[word]).env("WORKER_HEARTBEAT_FILE", &file).run().await.expect_code(78);
        assert!(told.to_string().contains("WORKER_HEARTBEAT_FILE: "), "{told}");
    }
}

#[tokio::test]
async fn a_worker_that_is_stopped_while_the_outbox_is_locked_is_no_lost_run() {
    let ground = Ground::new().await;
    let worker = ground.asked(&["worker"]).start();
    ground.fill(10, 4).await;
    wait_until(LIMIT, "all are out", async || ground.backlog().await == 0).await;
    let mut migration = ground.db.pool().begin().await.unwrap();
    sqlx::query("LOCK TABLE outbox_events IN ACCESS EXCLUSIVE MODE").execute(&mut *migration).await.unwrap();
    wait_until(LIMIT, "it waits", async || ground.is_anybody_waiting().await).await;
    worker.signal(Signal::SIGTERM);
    worker.wait(LIMIT).await.expect_code(143);
    migration.rollback().await.unwrap();
    assert_eq!(ground.number("SELECT count(*) FROM job_runs WHERE outcome = 'stopped'").await, 1);
}

#[tokio::test]
async fn a_heartbeat_file_that_is_a_folder_is_told_as_configuration_and_is_no_life() {
    let ground = Ground::new().await;
    let folder = tempfile::tempdir().unwrap();
    for word in ["worker", "check", "health"] {
        let told = ground.asked(&[word]).env("WORKER_HEARTBEAT_FILE", folder.path()).run().await.expect_code(78);
        assert!(told.to_string().contains("is a folder; give a file in it"), "{told}");
    }
}

#[tokio::test]
async fn a_worker_that_gets_no_partition_does_not_beat_before_it_has_some() {
    let ground = Ground::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("beat");
    let hold = "UPDATE outbox_partitions SET run_id = 'elsewhere', expires_at = clock_timestamp() + interval '1 hour'";
    ground.execute(hold).await;
    ground.fill(50, 5).await;
    let mut worker = ground.asked(&["worker"]).env("WORKER_HEARTBEAT_FILE", &file).start();
    // With every look at the shares its lease moves on.
    let lease = "SELECT coalesce(max((extract(epoch FROM expires_at) * 1000)::bigint), 0) FROM job_leases";
    let mut looks = BTreeSet::new();
    wait_until(LIMIT, "it has looked for partitions several times", async || {
        let until = ground.number(lease).await;
        looks.insert(until);
        looks.len() > 4
    })
    .await;
    assert!(!file.exists(), "it gets nowhere");
    assert_eq!((ground.backlog().await, worker.is_running()), (50, true));
    ground.execute("UPDATE outbox_partitions SET run_id = NULL, expires_at = 'epoch'").await;
    wait_until(LIMIT, "all are out", async || ground.backlog().await == 0).await;
    wait_until(LIMIT, "it beats", async || file.exists()).await;
    ground.assert_whole(1..=50).await;
}
