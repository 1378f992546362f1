//! Servers that are restarted while a drain is in the middle of its work.

use harness::{Durability, Fault, FaultProxy, Redis, Servers, TestDb};

use crate::{
    middle::{EVENTS, assert_complete, completed, counted, cut_off, held_up},
    support::{Ground, LIMIT},
};

/// Redis is killed while the drain is cut off from it, and comes back with everything that it has written.
async fn redis_is_restarted(words: &[&str], fault: Fault) {
    let redis = Redis::durable();
    let ground = Ground::on(TestDb::new().await.with_redis(&redis.url(0)).await);
    let proxy = FaultProxy::start(&redis.url(0));
    let run = cut_off(&ground, words, &proxy, fault).await;
    redis.stop();
    // Whoever enqueues does not notice.
    ground.enqueue(&["a1", "new"], EVENTS + 1).await;
    redis.start_again();
    proxy.set(Fault::Pass);
    completed(&ground, run, words).await;
    let ground = Ground { db: ground.db.with_redis(&redis.url(0)).await, ..ground };
    assert_complete(&ground, 1..=EVENTS + 2).await;
    assert_eq!(counted(&ground, "rollcall_outbox_lost_events_total").await, 0);
    assert_eq!(counted(&ground, "rollcall_outbox_published_total").await, EVENTS + 2);
}

#[tokio::test]
async fn a_run_goes_on_after_redis_was_restarted_before_its_batches_arrived() {
    redis_is_restarted(&["run"], Fault::Hang).await;
}

#[tokio::test]
async fn a_run_goes_on_after_redis_was_restarted_before_it_could_answer() {
    redis_is_restarted(&["run"], Fault::CutAfter(0)).await;
}

#[tokio::test]
async fn a_worker_goes_on_after_redis_was_restarted_before_its_batches_arrived() {
    redis_is_restarted(&["worker"], Fault::Hang).await;
}

#[tokio::test]
async fn a_worker_goes_on_after_redis_was_restarted_before_it_could_answer() {
    redis_is_restarted(&["worker"], Fault::CutAfter(0)).await;
}

#[tokio::test]
async fn what_a_run_leaves_when_postgresql_is_restarted_the_next_one_completes() {
    let servers = Servers::start(Durability::Off);
    let ground = Ground::on(TestDb::on(&servers).await);
    let drain = ground.drain().env("RUN_ID", "tries-of-one-job");
    let (run, keeper) = held_up(&ground, &drain).await;
    servers.postgres.stop();
    drop(keeper);
    servers.postgres.start_again();
    let run = run.wait(LIMIT).await;
    assert!(matches!(run.code, Some(0 | 75)), "{run}");
    drain.run().await.expect_code(0);
    assert_complete(&ground, 1..=EVENTS).await;
    assert_eq!(counted(&ground, "rollcall_outbox_published_total").await, EVENTS, "each is counted once");
}

#[tokio::test]
async fn a_worker_begins_anew_when_postgresql_is_restarted() {
    let servers = Servers::start(Durability::Off);
    let ground = Ground::on(TestDb::on(&servers).await);
    let words = ["worker"];
    let (mut worker, keeper) = held_up(&ground, &ground.asked(&words)).await;
    servers.postgres.stop();
    drop(keeper);
    worker.wait_for_log(LIMIT, |line| line["message"] == "trying again").await;
    servers.postgres.start_again();
    ground.enqueue(&["a1", "new"], EVENTS + 1).await;
    completed(&ground, worker, &words).await;
    assert_complete(&ground, 1..=EVENTS + 2).await;
    assert_eq!(counted(&ground, "rollcall_outbox_published_total").await, EVENTS + 2, "each is counted once");
}
