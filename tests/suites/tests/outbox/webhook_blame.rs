//! Webhooks: whom the drain blames, an event or the receiver.

use std::time::Duration;

use harness::{Answer, WebhookReceiver, wait_until};

use crate::{
    hook::{assert_arrived, drain, later, marks, no, posts_about, to},
    support::{Ground, LIMIT},
};

/// The most attempts of a held event, and how many are given up.
async fn counted(ground: &Ground) -> (i64, i64) {
    let attempts = ground.number("SELECT coalesce(max(attempts), 0)::bigint FROM outbox_held").await;
    (attempts, ground.number("SELECT count(*) FROM outbox_dead_letters").await)
}

#[tokio::test]
async fn a_call_that_ends_without_an_answer_strands_nobody() {
    let (ground, receiver) = (Ground::new().await, WebhookReceiver::start());
    to(ground.asked(&["partitions", "set", "1"]), &receiver).run().await.expect_code(0);
    ground.fill(40, 40).await;
    // The first call ends before any other is answered, and there are more accounts than are called at once.
    receiver.answer(Answer::status(204).after(Duration::from_millis(50)));
    receiver.answer_next([Answer::none()]);
    for _ in 0..3 {
        drain(&ground, &receiver).run().await;
        later(&ground).await;
    }
    assert_arrived(&receiver, 1..=40);
    assert_eq!((ground.backlog().await, ground.number("SELECT count(*) FROM outbox_held").await), (0, 0));
}

#[tokio::test]
async fn an_event_over_which_the_receiver_fails_while_it_takes_others_becomes_a_dead_letter_alone() {
    let (ground, receiver) = (Ground::new().await, WebhookReceiver::start());
    // A run must not come to its second try by itself.
    receiver.answer_about("poor", [Answer::status(503).header("retry-after", "60")]);
    ground.enqueue(&["poor", "poor"], 1).await;
    let run = drain(&ground, &receiver).env("MAX_ATTEMPTS", "3");
    for attempt in 1..=3 {
        ground.enqueue(&["rich", "fair"], 10 * attempt).await;
        later(&ground).await;
        let finished = run.run().await.expect_code(0);
        assert!(!finished.stderr.contains("the sink takes nothing"), "{finished}");
        assert_eq!(counted(&ground).await, (attempt, i64::from(attempt == 3)), "{finished}");
        assert_eq!(ground.number("SELECT count(*) FROM outbox_held").await, 1, "it alone is held back: {finished}");
    }
    let reason: String =
        sqlx::query_scalar("SELECT error FROM outbox_dead_letters").fetch_one(ground.db.pool()).await.unwrap();
    assert_eq!(reason, "the endpoint answered 503");
    assert_eq!(ground.backlog().await, 1, "the event behind it waits");
    assert_arrived(&receiver, [1, 10, 11, 20, 21, 30, 31]);
}

#[tokio::test]
async fn an_account_that_is_gone_while_others_are_taken_becomes_a_dead_letter_alone() {
    let (ground, receiver) = (Ground::new().await, WebhookReceiver::start());
    // A run must not come to its second try by itself.
    receiver.answer_about("poor", [Answer::status(410).header("retry-after", "60")]);
    ground.enqueue(&["poor", "rich", "poor", "fair"], 1).await;
    let run = drain(&ground, &receiver).env("MAX_ATTEMPTS", "2");
    let finished = run.run().await.expect_code(0);
    assert_eq!(counted(&ground).await, (1, 0), "{finished}");
    // It was refused while others were taken: from now on also where there are none.
    later(&ground).await;
    let finished = run.run().await.expect_code(0);
    assert_eq!(counted(&ground).await, (2, 1), "{finished}");
    assert_eq!(ground.backlog().await, 1, "the event behind it waits");
    assert_arrived(&receiver, [1, 2, 4]);
}

#[tokio::test]
async fn an_outage_burns_no_attempt_of_an_event_that_was_refused_before() {
    let (ground, receiver) = (Ground::new().await, WebhookReceiver::start());
    receiver.answer_about("poor", [no().header("retry-after", "60")]);
    ground.enqueue(&["poor", "rich"], 1).await;
    let run = drain(&ground, &receiver).env("MAX_ATTEMPTS", "3");
    run.run().await.expect_code(0);
    assert_eq!(counted(&ground).await, (1, 0));

    receiver.answer(Answer::status(500));
    receiver.answer_about("poor", [Answer::status(500)]);
    for round in 0..6 {
        // It is all there is at first; then others wait beside it.
        if round == 3 {
            ground.enqueue(&["fresh", "young"], 10).await;
        }
        later(&ground).await;
        let before = marks(&receiver).len();
        let finished = run.clone().env("MAX_RUNTIME", "7s").run().await.expect_code(75);
        assert!(marks(&receiver).len() > before, "it was tried: {finished}");
        assert_eq!(counted(&ground).await, (1, 0), "round {round}: {finished}");
    }

    receiver.answer(Answer::status(204));
    receiver.answer_about("poor", [Answer::status(204)]);
    later(&ground).await;
    run.run().await.expect_code(0);
    assert_arrived(&receiver, [1, 2, 10, 11]);
    assert_eq!((ground.backlog().await, ground.number("SELECT count(*) FROM outbox_held").await), (0, 0));
}

#[tokio::test]
async fn an_outage_that_begins_while_a_suspect_is_tried_again_burns_nobodys_attempt() {
    let (ground, receiver) = (Ground::new().await, WebhookReceiver::start());
    receiver.answer_about("poor", [Answer::status(503)]);
    receiver.answer_about("rich", [Answer::status(204).after(Duration::from_millis(500))]);
    receiver.answer_about("fresh", [Answer::status(503)]);
    ground.enqueue(&["poor"], 1).await;
    let run = drain(&ground, &receiver).env("MAX_RUNTIME", "12s").start();
    wait_until(LIMIT, "it is suspected", async || posts_about(&receiver, "poor") == 1).await;
    ground.enqueue(&["rich"], 2).await;
    wait_until(LIMIT, "another is being taken", async || posts_about(&receiver, "rich") == 1).await;
    assert_eq!(posts_about(&receiver, "poor"), 1, "it was left out meanwhile");
    // Read by the next pass, which tries the suspect.
    ground.enqueue(&["fresh"], 3).await;
    let finished = run.wait(LIMIT).await.expect_code(75);
    assert!(posts_about(&receiver, "poor") > 1 && posts_about(&receiver, "fresh") > 0, "{finished}");
    assert_eq!(counted(&ground).await, (0, 0), "{finished}");
    for account in ["poor", "fresh"] {
        receiver.answer_about(account, [Answer::status(204)]);
    }
    drain(&ground, &receiver).run().await.expect_code(0);
    assert_arrived(&receiver, 1..=3);
}

#[tokio::test]
async fn poison_in_more_aggregates_than_a_page_holds_keeps_nobody_waiting() {
    let (ground, receiver) = (Ground::new().await, WebhookReceiver::start());
    to(ground.asked(&["partitions", "set", "1"]), &receiver).run().await.expect_code(0);
    let poor: Vec<String> = (0..40).map(|place| format!("poor{place}")).collect();
    for name in &poor {
        receiver.answer_about(name, [Answer::status(500)]);
    }
    ground.enqueue(&poor.iter().map(String::as_str).collect::<Vec<_>>(), 1).await;
    ground.enqueue(&["rich", "fair"], 101).await;
    let mut worker = to(ground.asked(&["worker"]), &receiver).env("BATCH_SIZE", "16").start();
    wait_until(LIMIT, "the others are out", async || marks(&receiver).iter().filter(|mark| **mark > 100).count() == 2)
        .await;
    assert!(worker.is_running());
}
