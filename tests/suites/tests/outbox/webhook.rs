//! Webhooks: events that the receiver will not have.

use std::time::Duration;

use harness::{Answer, WebhookReceiver, wait_until};

use crate::{
    hook::{assert_arrived, drain, later, marks, no},
    support::{Ground, LIMIT},
};

/// Seconds until the held aggregate is tried again, by the database's clock; none: not before somebody decides.
async fn wait(ground: &Ground) -> Option<f64> {
    let sql = "SELECT extract(epoch FROM next_attempt_at - clock_timestamp())::float8 FROM outbox_held";
    sqlx::query_scalar(sql).fetch_one(ground.db.pool()).await.unwrap()
}

async fn attempts(ground: &Ground) -> i64 {
    ground.number("SELECT attempts::bigint FROM outbox_held").await
}

async fn dead(ground: &Ground) -> i64 {
    ground.number("SELECT count(*) FROM outbox_dead_letters").await
}

#[tokio::test]
async fn a_poison_event_holds_back_its_own_aggregate_until_it_is_redriven_and_order_is_kept() {
    let (ground, receiver) = (Ground::new().await, WebhookReceiver::start());
    receiver.answer_about("poor", [no().header("retry-after", "60"), no()]);
    ground.enqueue(&["poor", "rich", "poor", "fair", "rich"], 1).await;
    let run = drain(&ground, &receiver).env("MAX_ATTEMPTS", "9");
    let finished = run.run().await.expect_code(0);
    assert!(finished.last()["note"].as_str().unwrap().contains("1 aggregates are held back"), "{finished}");
    assert_eq!((finished.last()["changed"].as_u64(), finished.last()["skipped"].as_u64()), (Some(3), Some(1)));
    assert_arrived(&receiver, [1, 2, 4, 5]);
    assert_eq!((ground.backlog().await, attempts(&ground).await), (2, 1));
    let asked_for = wait(&ground).await.unwrap();
    assert!(asked_for > 40.0 && asked_for <= 60.0, "the receiver asked for 60 s: {asked_for}");

    // Not due: nothing is sent, and others are not kept waiting.
    ground.enqueue(&["rich"], 6).await;
    run.run().await.expect_code(0);
    assert_eq!(marks(&receiver).len(), 5);

    // From the sixth try on the pauses are so long that the run's own time does not matter beside them.
    ground.execute("UPDATE outbox_held SET attempts = 5").await;
    for (attempt, longest) in [(6, 32.0), (7, 64.0), (8, 128.0)] {
        later(&ground).await;
        run.run().await.expect_code(0);
        assert_eq!((attempts(&ground).await, dead(&ground).await), (attempt, 0));
        let pause = wait(&ground).await.unwrap();
        assert!(pause > longest / 2.0 - 10.0 && pause <= longest, "after try {attempt}: {pause} s");
    }

    later(&ground).await;
    let finished = run.run().await.expect_code(0);
    let told = finished.log.iter().find(|line| line["message"] == "event dead-lettered").unwrap();
    assert_eq!((told["aggregate_id"].as_str(), told["attempts"].as_i64()), (Some("poor"), Some(9)), "{finished}");
    assert_eq!((dead(&ground).await, ground.backlog().await, wait(&ground).await), (1, 1, None));
    let reason: String =
        sqlx::query_scalar("SELECT error FROM outbox_dead_letters").fetch_one(ground.db.pool()).await.unwrap();
    assert_eq!(reason, "the endpoint answered 422");

    // Mended or not, the aggregate waits for a person.
    receiver.answer_about("poor", [Answer::status(204)]);
    let before = marks(&receiver).len();
    run.run().await.expect_code(0);
    assert_eq!(marks(&receiver).len(), before);
    ground.asked(&["dead-letters", "redrive", "--aggregate", "account:poor"]).run().await.expect_code(0);
    run.run().await.expect_code(0);
    assert_eq!(marks(&receiver)[before..], [1, 3]);
    assert_arrived(&receiver, 1..=6);
    assert_eq!((ground.backlog().await, ground.number("SELECT count(*) FROM outbox_held").await), (0, 0));
}

#[tokio::test]
async fn what_is_too_large_is_given_up_at_once_and_a_discard_lets_its_aggregate_go_on() {
    let (ground, receiver) = (Ground::new().await, WebhookReceiver::start());
    receiver.answer_about("poor", [Answer::status(204), Answer::status(413), Answer::status(204)]);
    ground.enqueue(&["poor", "poor", "poor", "rich"], 1).await;
    let finished = drain(&ground, &receiver).run().await.expect_code(0);
    assert_eq!(finished.last()["failed"], 1, "{finished}");
    assert_arrived(&receiver, [1, 2, 4]);
    assert_eq!((dead(&ground).await, ground.backlog().await), (1, 1));
    ground.asked(&["dead-letters", "discard", "--aggregate", "account:poor"]).run().await.expect_code(0);
    drain(&ground, &receiver).run().await.expect_code(0);
    assert_eq!(assert_arrived(&receiver, 1..=4), 0);
    assert_eq!((dead(&ground).await, ground.backlog().await), (0, 0));
}

#[tokio::test]
async fn with_pass_an_aggregate_goes_on_without_its_dead_letter_and_in_order() {
    let (ground, receiver) = (Ground::new().await, WebhookReceiver::start());
    receiver.answer_about("poor", [Answer::status(413), Answer::status(204)]);
    ground.enqueue(&["poor"; 9], 1).await;
    // Of a bucket two events to a page: the second is left when the first is given up, and further pages follow.
    let run = drain(&ground, &receiver).env("BATCH_SIZE", "128").env("DEAD_LETTER_POLICY", "pass");
    let finished = run.run().await.expect_code(0);
    assert_eq!((dead(&ground).await, ground.backlog().await), (1, 0), "{finished}");
    assert_eq!(assert_arrived(&receiver, 1..=9), 0);
    assert_eq!(ground.number("SELECT count(*) FROM outbox_held").await, 0);
}

#[tokio::test]
async fn a_redrive_under_pass_delivers_late_and_holds_nothing() {
    let (ground, receiver) = (Ground::new().await, WebhookReceiver::start());
    receiver.answer_about("poor", [Answer::status(413), Answer::status(204)]);
    ground.enqueue(&["poor", "poor"], 1).await;
    let run = drain(&ground, &receiver).env("DEAD_LETTER_POLICY", "pass");
    run.run().await.expect_code(0);
    ground.asked(&["dead-letters", "redrive", "--aggregate", "account:poor"]).run().await.expect_code(0);
    ground.enqueue(&["poor"], 3).await;
    run.run().await.expect_code(0);
    assert_eq!(marks(&receiver), [1, 2, 1, 3]);
    assert_eq!((ground.backlog().await, ground.number("SELECT count(*) FROM outbox_held").await), (0, 0));
}

#[tokio::test]
async fn a_redrive_under_pass_before_the_aggregate_is_let_go_loses_nothing() {
    let (ground, receiver) = (Ground::new().await, WebhookReceiver::start());
    // The aggregate goes on behind its dead letter for so long that there is time to redrive it.
    let slow = Answer::status(204).after(Duration::from_secs(3));
    receiver.answer_about("poor", [Answer::status(413), slow, Answer::status(204)]);
    ground.enqueue(&["poor", "poor"], 1).await;
    let binary = drain(&ground, &receiver).env("DEAD_LETTER_POLICY", "pass");
    let run = binary.start();
    wait_until(LIMIT, "the second event is on its way", async || marks(&receiver) == [1, 2]).await;
    assert_eq!(dead(&ground).await, 1);
    ground.asked(&["dead-letters", "redrive", "--aggregate", "account:poor"]).run().await.expect_code(0);
    run.wait(LIMIT).await.expect_code(0);
    binary.run().await.expect_code(0);
    assert_eq!(marks(&receiver), [1, 2, 1]);
    assert_eq!((ground.backlog().await, ground.number("SELECT count(*) FROM outbox_held").await), (0, 0));
}
