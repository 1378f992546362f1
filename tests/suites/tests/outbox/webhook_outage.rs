//! Webhooks: a receiver that is away, stops in the middle, or cannot be called at all.

use std::time::Duration;

use harness::{Answer, Certificates, TlsServer, WebhookReceiver, wait_until};
use nix::sys::signal::Signal;

use crate::{
    hook::{SECRET, assert_arrived, assert_nobody_is_blamed, drain, marks, posts_about, to},
    support::{Ground, LIMIT},
};

/// An answer that nobody waits for.
fn never() -> Answer {
    Answer::status(204).after(Duration::from_mins(5))
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
async fn so_it_is_when_each_partition_has_one_account_or_one_account_has_all_there_is() {
    for (events, accounts) in [(4, 4), (3, 2), (2, 1)] {
        let answer = |status| move |receiver: &WebhookReceiver| receiver.answer(Answer::status(status));
        outage(events, accounts, answer(500), answer(204)).await;
    }
}

#[tokio::test]
async fn a_receiver_that_is_not_there_burns_nobodys_attempt() {
    outage(60, 12, WebhookReceiver::stop, WebhookReceiver::start_again).await;
}

#[tokio::test]
async fn a_receiver_whose_certificate_nobody_vouches_for_is_one_that_is_not_there() {
    let (ground, receiver) = (Ground::new().await, WebhookReceiver::start());
    let certificates = Certificates::make();
    let server = TlsServer::start(&certificates);
    ground.fill(6, 3).await;
    let over_tls = |words: &[&str]| to(ground.asked(words), &receiver).env("WEBHOOK_URL", server.url());
    for binary in [over_tls(&[]).env("MAX_RUNTIME", "7s"), over_tls(&["check"])] {
        let told = binary.run().await.expect_code(75).to_string();
        assert!(told.contains("no TLS connection to the endpoint can be made: is its certificate valid?"), "{told}");
    }
    assert_eq!(ground.backlog().await, 6);
    assert_nobody_is_blamed(&ground).await;
}

#[tokio::test]
async fn a_limit_of_events_is_not_reached_by_what_nobody_took() {
    let (ground, receiver) = (Ground::new().await, WebhookReceiver::start());
    ground.fill(20, 5).await;
    receiver.stop();
    let run = drain(&ground, &receiver).env("MAX_EVENTS", "5");
    run.clone().env("MAX_RUNTIME", "7s").run().await.expect_code(75);
    assert_eq!(ground.backlog().await, 20);
    assert_nobody_is_blamed(&ground).await;
    receiver.start_again();
    let finished = run.run().await.expect_code(0);
    assert_eq!((finished.last()["changed"].as_u64(), ground.backlog().await), (Some(5), 15), "{finished}");
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
async fn a_receiver_that_leads_elsewhere_is_not_followed_and_told_as_configuration() {
    let (ground, receiver, elsewhere) = (Ground::new().await, WebhookReceiver::start(), WebhookReceiver::start());
    ground.fill(6, 2).await;
    receiver.answer(Answer::status(308).header("location", elsewhere.url()));
    let finished = drain(&ground, &receiver).run().await.expect_code(78);
    let error = finished.last()["error"].as_str().unwrap();
    assert!(error.contains("308, a redirect") && error.contains("WEBHOOK_URL"), "{finished}");
    assert!(elsewhere.received().is_empty(), "{finished}");
    assert_eq!(ground.backlog().await, 6);
    assert_nobody_is_blamed(&ground).await;
}

#[tokio::test]
async fn a_receiver_that_gives_no_event_an_answer_burns_nobodys_attempt() {
    let (ground, receiver) = (Ground::new().await, WebhookReceiver::start());
    ground.fill(6, 3).await;
    // It answers when it is asked whether it is there.
    for account in ["a0", "a1", "a2"] {
        receiver.answer_about(account, [never()]);
    }
    // Time for the ten seconds of one try, and not for those of a second.
    let finished = drain(&ground, &receiver).env("MAX_RUNTIME", "18s").run().await.expect_code(75);
    assert!(finished.last()["error"].as_str().unwrap().contains("did not answer within 10 s"), "{finished}");
    assert_eq!(ground.backlog().await, 6);
    assert_nobody_is_blamed(&ground).await;
    for account in ["a0", "a1", "a2"] {
        receiver.answer_about(account, [Answer::status(204)]);
    }
    drain(&ground, &receiver).run().await.expect_code(0);
    assert_arrived(&receiver, 1..=6);
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
    // One account is waited for in the middle.
    receiver.answer_about("a0", [vec![Answer::status(204); 3], vec![never()]].concat());
    let mut run = drain(&ground, &receiver).env("BATCH_SIZE", "200").start();
    wait_until(LIMIT, "it is in the middle", async || posts_about(&receiver, "a0") == 4).await;
    receiver.stop();
    run.wait_for_log(LIMIT, |line| line["message"] == "the sink takes nothing").await;
    receiver.answer_about("a0", [Answer::status(204)]);
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
    // One account is waited for in the middle of each round. It has 22 events, and these are at most 15 of them.
    let round = [vec![Answer::status(204); 5], vec![never()]].concat();
    receiver.answer_about("a0", [round.clone(), round.clone(), round, vec![Answer::status(204)]].concat());
    let binary = drain(&ground, &receiver).env("BATCH_SIZE", "200").env("RUN_ID", "tries-of-one-job");
    for posts in [6, 12, 18] {
        let run = binary.start();
        wait_until(LIMIT, "it is in the middle", async || posts_about(&receiver, "a0") == posts).await;
        run.signal(Signal::SIGKILL);
        assert_eq!(run.wait(LIMIT).await.signal, Some(9));
    }
    binary.run().await.expect_code(0);
    assert_arrived(&receiver, 1..=900);
    assert_eq!(ground.backlog().await, 0);
}
