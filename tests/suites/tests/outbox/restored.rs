//! A server restored to an earlier state under a living worker.

use harness::{FaultProxy, wait_until};
use nix::sys::signal::Signal;

use crate::{
    reconcile::{counts, found, restore, save},
    support::{Ground, LIMIT},
};

#[tokio::test]
async fn a_worker_notices_what_redis_has_lost_and_gives_no_number_twice() {
    let ground = Ground::new().await;
    let proxy = FaultProxy::start(ground.db.redis_url());
    let mut worker = ground.asked(&["worker"]).env("REDIS_URL", proxy.url()).start();
    ground.fill(100, 10).await;
    wait_until(LIMIT, "the first are out", async || ground.backlog().await == 0).await;
    let saved = save(&ground).await;
    ground.fill(50, 10).await;
    wait_until(LIMIT, "the second are out", async || ground.backlog().await == 0).await;
    restore(&ground, saved).await;
    proxy.cut();
    ground.fill(20, 10).await;
    wait_until(LIMIT, "the third are out", async || ground.backlog().await == 0).await;
    let lost = |text: &str| text.contains("the stream has lost events");
    worker.wait_for_log(LIMIT, |line| line["message"].as_str().is_some_and(lost)).await;
    let counted = "SELECT coalesce(sum(value), 0)::bigint FROM job_counters
        WHERE metric = 'rollcall_outbox_lost_events_total'";
    wait_until(LIMIT, "the loss is counted", async || ground.number(counted).await == 50).await;
    let faults = found(&ground, 65).await;
    assert_eq!(counts(&faults), [50, 0, 0, 0], "{faults}");
    assert_eq!(ground.stream().await.len(), 120);
}

/// What a restore leaves: nothing that was enqueued since, and a sequence that gives its numbers once more.
async fn go_back_to(ground: &Ground, number: i64) {
    ground.execute(&format!("SELECT setval('outbox_events_seq_seq', {number})")).await;
}

#[tokio::test]
async fn events_go_out_under_numbers_that_postgresql_gives_for_a_second_time() {
    let ground = Ground::new().await;
    let worker = ground.asked(&["worker"]).start();
    ground.fill(200, 10).await;
    wait_until(LIMIT, "the first are out", async || ground.backlog().await == 0).await;
    go_back_to(&ground, 50).await;
    ground.enqueue(&["later", "others", "later"], 1001).await;
    wait_until(LIMIT, "later ones are out too", async || ground.backlog().await == 0).await;
    worker.signal(Signal::SIGTERM);
    worker.wait(LIMIT).await.expect_code(143);

    // So it is when nobody was at work meanwhile.
    go_back_to(&ground, 20).await;
    ground.enqueue(&["third"], 2001).await;
    ground.run().await.expect_code(0);
    assert_eq!(ground.backlog().await, 0);
    ground.assert_whole((1..=200).chain([1001, 1002, 1003, 2001])).await;
    assert_eq!(counts(&found(&ground, 0).await), [0; 4]);
}
