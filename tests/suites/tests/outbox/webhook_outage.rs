//! Webhooks: a receiver that is away, stops in the middle, or cannot be called at all.

use std::time::Duration;

use harness::{Answer, WebhookReceiver, wait_until};
use nix::sys::signal::Signal;

use crate::{
    hook::{SECRET, assert_arrived, drain, marks, to},
    support::{Ground, LIMIT},
};

/// Nothing is held back, and nobody's attempt is counted.
async fn assert_nobody_is_blamed(ground: &Ground) {
    let blamed = "SELECT (SELECT count(*) FROM outbox_held) + (SELECT count(*) FROM outbox_dead_letters)";
    assert_eq!(ground.number(blamed).await, 0, "no event is to blame");
    let retried =
        "SELECT coalesce(sum(value), 0)::bigint FROM job_counters WHERE metric = 'rollcall_outbox_retried_total'";
    assert_eq!(ground.number(retried).await, 0);
}

/// An outage ends a run as temporary, and after it everything goes out in order.
async fn outage(events: i64, accounts: i64, begin: impl Fn(&WebhookReceiver), end: impl Fn(&WebhookReceiver)) {
    let (ground, receiver) = (Ground::new().await, WebhookReceiver::start());
    ground.fill(events, accounts).await;
    begin(&receiver);
    let finished = drain(&ground, &receiver).env("MAX_RUNTIME", "8s").run().await.expect_code(75);
    assert!(finished.last()["error"].as_str().unwrap().contains("the sink is not available"), "{finished}");
    assert_eq!(ground.backlog().await, events);
    assert_nobody_is_blamed(&ground).await;
    let outages =
        "SELECT coalesce(sum(value), 0)::bigint FROM job_counters WHERE metric = 'rollcall_outbox_sink_outages_total'";
    assert_eq!(ground.number(outages).await, 1, "an outage is counted once, however often it is tried: {finished}");
    end(&receiver);
    drain(&ground, &receiver).run().await.expect_code(0);
    assert_arrived(&receiver, 1..=events);
    assert_eq!(ground.backlog().await, 0);
}

#[tokio::test]
async fn a_receiver_that_fails_for_everybody_burns_nobodys_attempt() {
    outage(60, 12, |receiver| receiver.answer(Answer::status(500)), |receiver| receiver.answer(Answer::status(204)))
        .await;
}

#[tokio::test]
async fn so_it_is_when_each_partition_has_one_account() {
    outage(4, 4, |receiver| receiver.answer(Answer::status(500)), |receiver| receiver.answer(Answer::status(204)))
        .await;
}

#[tokio::test]
async fn a_receiver_that_is_not_there_burns_nobodys_attempt() {
    outage(60, 12, WebhookReceiver::stop, WebhookReceiver::start_again).await;
}

#[tokio::test]
async fn a_pause_longer_than_a_run_may_wait_ends_it_at_once() {
    let (ground, receiver) = (Ground::new().await, WebhookReceiver::start());
    ground.fill(60, 12).await;
    receiver.answer(Answer::status(503).header("retry-after", "120"));
    let finished = drain(&ground, &receiver).run().await.expect_code(75);
    assert!(finished.duration < Duration::from_secs(20), "{finished}");
    assert!(marks(&receiver).len() <= 16 * 12, "no second try: {finished}");
    let before = marks(&receiver).len();
    assert_nobody_is_blamed(&ground).await;
    receiver.answer(Answer::status(204));
    drain(&ground, &receiver).run().await.expect_code(0);
    assert!(marks(&receiver).len() >= before + 60);
    assert_arrived(&receiver, 1..=60);
}

#[tokio::test]
async fn a_worker_leaves_the_receiver_alone_as_long_as_it_asks_whatever_comes_in() {
    let (ground, receiver) = (Ground::new().await, WebhookReceiver::start());
    receiver.answer(Answer::status(503).header("retry-after", "3"));
    ground.enqueue(&["a"], 1).await;
    let mut worker = to(ground.asked(&["worker"]), &receiver).start();
    let outage = worker.wait_for_log(LIMIT, |line| line["message"] == "the sink takes nothing").await;
    assert!(outage["pause_ms"].as_u64().unwrap() >= 3000, "{outage}");
    let began = std::time::Instant::now();
    // Hints of new events must not wake it.
    let mut mark = 2;
    wait_until(LIMIT, "it tries again", async || {
        ground.enqueue(&["b"], mark).await;
        mark += 1;
        marks(&receiver).len() > 1
    })
    .await;
    assert!(began.elapsed() > Duration::from_millis(2500), "tried again after {:?}", began.elapsed());
    receiver.answer(Answer::status(204));
    wait_until(LIMIT, "all are out", async || ground.backlog().await == 0).await;
    assert_arrived(&receiver, 1..mark);
}

#[tokio::test]
async fn a_receiver_that_is_gone_for_good_is_told_as_configuration() {
    let (ground, receiver) = (Ground::new().await, WebhookReceiver::start());
    ground.fill(6, 2).await;
    receiver.answer(Answer::status(410));
    let finished = drain(&ground, &receiver).run().await.expect_code(78);
    assert!(finished.last()["error"].as_str().unwrap().contains("WEBHOOK_URL"), "{finished}");
    assert_eq!(ground.backlog().await, 6);
    assert_nobody_is_blamed(&ground).await;
}

#[tokio::test]
async fn wrong_keys_and_addresses_are_told_by_name_and_never_shown() {
    let (ground, receiver) = (Ground::new().await, WebhookReceiver::start());
    ground.enqueue(&["a"], 1).await;
    let port = receiver.port();
    for (name, value) in [
        ("WEBHOOK_SECRET", "hunter2".to_owned()),
        ("WEBHOOK_SECRET", "whsec_aHVudGVyMg==".to_owned()),
        ("WEBHOOK_SECRET", format!("{SECRET} hunter2")),
        ("WEBHOOK_SECRET", String::new()),
        ("WEBHOOK_URL", "hunter2".to_owned()),
        ("WEBHOOK_URL", "ftp://127.0.0.1/hunter2".to_owned()),
        ("WEBHOOK_URL", String::new()),
    ] {
        let finished = drain(&ground, &receiver).env(name, &value).run().await.expect_code(78);
        assert!(finished.stderr.contains(&format!("{name}: ")), "{finished}");
        for shown in ["hunter2", "aHVudGVyMg", &SECRET[6..]] {
            assert!(!finished.to_string().contains(shown), "{shown} in {finished}");
        }
    }
    // The machine's own network is out of reach, by number and by name, unless it is allowed.
    for url in [receiver.url(), format!("https://127.0.0.1:{port}/hook"), format!("https://localhost:{port}/hook")] {
        let finished =
            drain(&ground, &receiver).env("WEBHOOK_URL", &url).env("WEBHOOK_ALLOW_PRIVATE", "false").run().await;
        let finished = finished.expect_code(78);
        assert!(finished.stderr.contains("WEBHOOK_ALLOW_PRIVATE=true"), "{finished}");
    }
    assert_eq!(receiver.received().len(), 0);
    assert_eq!(ground.backlog().await, 1);
    assert_nobody_is_blamed(&ground).await;
}

#[tokio::test]
async fn a_receiver_that_stops_in_the_middle_and_comes_back_gets_everything_in_order() {
    let (ground, receiver) = (Ground::new().await, WebhookReceiver::start());
    ground.fill(1500, 60).await;
    receiver.answer(Answer::status(204).after(Duration::from_millis(2)));
    let mut run = drain(&ground, &receiver).env("BATCH_SIZE", "200").start();
    wait_until(LIMIT, "some have arrived", async || receiver.received().len() > 300).await;
    receiver.stop();
    run.wait_for_log(LIMIT, |line| line["message"] == "the sink takes nothing").await;
    assert!(receiver.received().len() < 1500, "it was in the middle");
    receiver.start_again();
    run.wait(LIMIT).await.expect_code(0);
    // Of a call that was cut off nobody knows: at most what was on its way is repeated.
    let repeated = assert_arrived(&receiver, 1..=1500);
    assert!(repeated <= 200 * 3, "{repeated} repeats");
    assert_eq!(ground.backlog().await, 0);
    assert_nobody_is_blamed(&ground).await;
}

#[tokio::test]
async fn sigkill_in_the_middle_loses_nothing_and_keeps_the_order() {
    let (ground, receiver) = (Ground::new().await, WebhookReceiver::start());
    ground.fill(900, 40).await;
    receiver.answer(Answer::status(204).after(Duration::from_millis(3)));
    let binary = drain(&ground, &receiver).env("BATCH_SIZE", "200").env("RUN_ID", "tries-of-one-job");
    for arrived in [100, 400, 700] {
        let run = binary.start();
        wait_until(LIMIT, "some have arrived", async || receiver.received().len() > arrived).await;
        run.signal(Signal::SIGKILL);
        assert_eq!(run.wait(LIMIT).await.signal, Some(9));
    }
    assert!(ground.backlog().await > 0, "it was in the middle");
    binary.run().await.expect_code(0);
    assert_arrived(&receiver, 1..=900);
    assert_eq!(ground.backlog().await, 0);
}
