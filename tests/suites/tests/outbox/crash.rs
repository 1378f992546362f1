//! Killed at any moment, and run again.

use std::time::Duration;

use harness::{Pushgateway, wait_until};
use nix::sys::signal::Signal;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use redis::AsyncCommands;

use crate::support::{Ground, LIMIT, STREAM};

#[tokio::test]
async fn sigkill_at_any_moment_loses_nothing_and_doubles_nothing() {
    let rounds = if std::env::var_os("ROLLCALL_LONG").is_some() { 60 } else { 8 };
    let seed: u64 = std::env::var("ROLLCALL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("ROLLCALL_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let ground = Ground::new().await;
    let mut wanted = Vec::new();
    let drain = ground.drain().env("BATCH_SIZE", "100").env("RUN_ID", "tries-of-one-job");
    for _ in 0..rounds {
        ground.fill(3000, 80).await;
        wanted.extend(1..=3000);
        let run = drain.start();
        // The moment is what is tested: from before the first connection to after the last deletion.
        tokio::time::sleep(Duration::from_millis(random.random_range(10..400))).await;
        run.kill();
        run.wait(LIMIT).await;
    }
    let finished = drain.run().await;
    assert_eq!(finished.code, Some(0), "{finished}");
    ground.assert_whole(wanted).await;
    assert_eq!((ground.backlog().await, ground.remembered().await), (0, 0));
}

/// A run that published everything and was killed before it deleted anything.
async fn published_and_killed(ground: &Ground) {
    // Deleting waits for this lock, so what is published stays in the outbox.
    let mut lock = ground.db.pool().begin().await.unwrap();
    sqlx::query("LOCK TABLE outbox_events IN SHARE MODE").execute(&mut *lock).await.unwrap();
    let mut run = ground.drain().start();
    let published = async || ground.db.redis().xlen::<_, usize>(STREAM).await.unwrap();
    wait_until(LIMIT, "all is published", async || published().await == 300 || !run.is_running()).await;
    run.kill();
    let finished = run.wait(LIMIT).await;
    assert_eq!(published().await, 300, "{finished}");
    lock.rollback().await.unwrap();
    assert_eq!(ground.backlog().await, 300);
    assert!(ground.remembered().await > 0);
}

#[tokio::test]
async fn another_number_of_partitions_does_not_forget_what_was_published_and_not_deleted() {
    let ground = Ground::new().await;
    ground.fill(300, 30).await;
    published_and_killed(&ground).await;
    let set = ground.asked(&["partitions", "set", "5"]).run().await;
    assert_eq!(set.code, Some(0), "{set}");
    assert_eq!(ground.backlog().await, 0, "what is published is deleted before the buckets change hands");
    ground.fill(50, 30).await;
    ground.run().await;
    ground.assert_whole((1..=300).chain(1..=50)).await;
}

#[tokio::test]
async fn an_outage_between_publishing_and_deleting_does_not_double_however_long_it_was() {
    let ground = Ground::new().await;
    ground.fill(300, 30).await;
    published_and_killed(&ground).await;

    let finished = ground.run().await;
    assert_eq!(finished.code, Some(0), "{finished}");
    ground.assert_whole(1..=300).await;
    assert_eq!((ground.backlog().await, ground.remembered().await), (0, 0));
    assert_eq!(ground.number("SELECT sum(acknowledged)::bigint FROM outbox_partitions").await, 300);
}

#[tokio::test]
async fn sigterm_ends_a_run_after_the_page_in_hand() {
    let ground = Ground::new().await;
    ground.fill(10_000, 500).await;
    // It gets no further than some pages behind this one.
    let one = ground.keep(3000).await;
    let run = ground.drain().env("BATCH_SIZE", "20").start();
    wait_until(LIMIT, "it works", async || ground.db.redis().xlen::<_, usize>(STREAM).await.unwrap() > 100).await;
    run.signal(Signal::SIGTERM);
    one.rollback().await.unwrap();
    let finished = run.wait(LIMIT).await;
    assert_eq!((finished.code, finished.last()["outcome"].as_str()), (Some(143), Some("stopped")), "{finished}");
    assert_eq!(ground.number("SELECT count(*) FROM outbox_partitions WHERE run_id IS NOT NULL").await, 0);
    ground.run().await;
    ground.assert_whole(1..=10_000).await;
}

#[tokio::test]
async fn what_a_killed_run_had_published_is_counted_by_the_run_that_deletes_it() {
    let ground = Ground::new().await;
    ground.fill(300, 30).await;
    let last = ground.keep(300).await;
    let run = ground.drain().env("RUN_ID", "killed").start();
    wait_until(LIMIT, "all is published and cannot be deleted", async || {
        ground.db.redis().xlen::<_, usize>(STREAM).await.unwrap() == 300 && ground.is_anybody_waiting().await
    })
    .await;
    run.kill();
    run.wait(LIMIT).await;
    last.rollback().await.unwrap();
    // Nobody takes it for a live one.
    ground.execute("UPDATE job_leases SET expires_at = clock_timestamp() - interval '1 s'").await;
    ground.execute("UPDATE outbox_partitions SET expires_at = 'epoch'").await;
    let left = ground.backlog().await;
    assert!(left > 0);

    let finished = ground.drain().env("RUN_ID", "another").run().await.expect_code(0);
    let told = (finished.last()["outcome"].as_str(), finished.last()["changed"].as_i64());
    assert_eq!(told, (Some("done"), Some(left)), "{finished}");
    let counted = "SELECT coalesce(sum(value), 0)::bigint FROM job_counters
        WHERE metric = 'rollcall_outbox_published_total' AND labels = 'redis'";
    assert_eq!((ground.number(counted).await, ground.backlog().await), (300, 0));
    ground.assert_whole(1..=300).await;
}

/// A worker published ten events, was killed, and has not been heard of for so many seconds.
async fn killed_and_silent_for(ground: &Ground, seconds: u32) {
    let dead = ground.asked(&["worker"]).env("RUN_ID", "dead").start();
    ground.fill(10, 10).await;
    wait_until(LIMIT, "it works", async || ground.backlog().await == 0).await;
    dead.kill();
    dead.wait(LIMIT).await;
    // With each sign of life a lease lasts for 45 s.
    let silent = "UPDATE job_leases SET expires_at = clock_timestamp() + interval";
    ground.execute(&format!("{silent} '{} s'", 45 - seconds)).await;
    ground.execute("UPDATE outbox_partitions SET expires_at = 'epoch'").await;
}

#[tokio::test]
async fn a_run_that_died_keeps_the_next_one_from_telling_its_metrics_for_some_seconds_only() {
    let (ground, gateway) = (Ground::new().await, Pushgateway::start());
    killed_and_silent_for(&ground, 15).await;
    ground.fill(100, 10).await;
    ground.drain().env("PUSHGATEWAY_URL", gateway.url()).run().await.expect_code(0);
    let published = gateway.value("rollcall_outbox_published_total", &[("job", "outbox-drain"), ("sink", "redis")]);
    assert_eq!(published, Some(110.0));
}

#[tokio::test]
async fn a_run_that_died_is_closed_as_lost_by_the_next_one_before_its_lease_has_run_out() {
    let ground = Ground::new().await;
    killed_and_silent_for(&ground, 25).await;
    let lost = "SELECT count(*) FROM job_runs WHERE run_id = 'dead' AND outcome = 'lost'";
    assert_eq!(ground.number(lost).await, 0);
    ground.run().await.expect_code(0);
    assert_eq!(ground.number(lost).await, 1);
}
