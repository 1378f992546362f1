//! Webhooks: a receiver that takes only so much at once.

use std::time::Duration;

use harness::{Answer, WebhookReceiver};

use crate::{
    hook::{assert_arrived, assert_nobody_is_blamed, drain, marks},
    support::Ground,
};

#[tokio::test]
async fn no_more_than_32_calls_are_open_over_all_sixteen_partitions() {
    let (ground, receiver) = (Ground::new().await, WebhookReceiver::start());
    // Accounts enough for every partition, and answers that are held until all calls that may be open have met.
    ground.fill(320, 320).await;
    receiver.answer(Answer::status(204).after(Duration::from_millis(100)));
    drain(&ground, &receiver).run().await.expect_code(0);
    assert_eq!(receiver.most_open(), 32);
    assert_arrived(&receiver, 1..=320);
}

#[tokio::test]
async fn a_limit_for_all_ends_the_run_and_burns_nobodys_attempt() {
    let (ground, receiver) = (Ground::new().await, WebhookReceiver::start());
    ground.fill(60, 12).await;
    receiver.answer(Answer::status(429).header("retry-after", "120"));
    let finished = drain(&ground, &receiver).run().await.expect_code(75);
    assert!(finished.last()["error"].as_str().unwrap().contains("answered 429"), "{finished}");
    assert!(marks(&receiver).len() <= 12, "no second try before the two minutes are over: {finished}");
    assert_eq!(ground.backlog().await, 60);
    assert_nobody_is_blamed(&ground).await;
    receiver.answer(Answer::status(204));
    drain(&ground, &receiver).run().await.expect_code(0);
    assert_arrived(&receiver, 1..=60);
}

#[tokio::test]
async fn a_limit_for_one_account_burns_no_attempt_and_all_others_are_out_in_the_same_run() {
    let (ground, receiver) = (Ground::new().await, WebhookReceiver::start());
    // More than the first page holds; the account's event is the first.
    ground.fill(100, 100).await;
    receiver.answer_about("a1", [Answer::status(429).header("retry-after", "120")]);
    let finished = drain(&ground, &receiver).run().await.expect_code(75);
    assert!(finished.last()["error"].as_str().unwrap().contains("answered 429"), "{finished}");
    assert_eq!(ground.backlog().await, 1, "the others are out: {finished}");
    assert_nobody_is_blamed(&ground).await;
    receiver.answer_about("a1", [Answer::status(204)]);
    drain(&ground, &receiver).run().await.expect_code(0);
    assert_arrived(&receiver, 1..=100);
    assert_eq!(ground.backlog().await, 0);
}
