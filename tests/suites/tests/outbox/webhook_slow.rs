//! Webhooks: a receiver for which a run has too little time.

use std::{collections::BTreeSet, time::Duration};

use harness::{Answer, WebhookReceiver, wait_until};
use nix::sys::signal::Signal;

use crate::{
    hook::{assert_arrived, drain, marks},
    support::{Ground, LIMIT},
};

const ALL: usize = 60;

/// What has arrived is deleted, but for a call that was on its way at the end. How much is left.
async fn assert_settled(ground: &Ground, receiver: &WebhookReceiver) -> usize {
    let arrived: BTreeSet<i64> = marks(receiver).into_iter().collect();
    let left = usize::try_from(ground.backlog().await).unwrap();
    let undelivered = ALL - arrived.len();
    assert!(left == undelivered || left == undelivered + 1, "{left} are left, {} have arrived", arrived.len());
    left
}

#[tokio::test]
async fn what_was_delivered_before_the_end_is_deleted_and_hardly_anything_is_repeated() {
    let (ground, receiver) = (Ground::new().await, WebhookReceiver::start());
    ground.fill(60, 1).await;
    receiver.answer(Answer::status(204).after(Duration::from_millis(200)));
    // Three seconds for work and five for finishing, where all would take twelve.
    let finished = drain(&ground, &receiver).env("MAX_RUNTIME", "8s").run().await.expect_code(0);
    let left = assert_settled(&ground, &receiver).await;
    assert!((1..ALL).contains(&left), "{left} are left: {finished}");

    let run = drain(&ground, &receiver).start();
    let before = marks(&receiver).len();
    wait_until(LIMIT, "it goes on", async || marks(&receiver).len() >= before + 4).await;
    run.signal(Signal::SIGTERM);
    let finished = run.wait(LIMIT).await.expect_code(143);
    let left = assert_settled(&ground, &receiver).await;
    assert!(left > 0, "{finished}");

    receiver.answer(Answer::status(204));
    drain(&ground, &receiver).run().await.expect_code(0);
    let repeated = assert_arrived(&receiver, 1..=60);
    assert!(repeated <= 2, "{repeated} repeats");
    assert_eq!(ground.backlog().await, 0);
}

#[tokio::test]
async fn what_was_delivered_beside_the_failure_of_another_is_deleted_also_behind_a_page_that_is_still_written() {
    let (ground, receiver) = (Ground::new().await, WebhookReceiver::start());
    ground.enqueue(&["well", "ill", "well", "ill"], 1).await;
    receiver.answer_about("ill", [Answer::status(204), Answer::status(302).after(Duration::from_millis(300))]);
    // The first page cannot be deleted before the second has met its failure.
    let keeper = ground.keep(1).await;
    let run = drain(&ground, &receiver).env("BATCH_SIZE", "2").start();
    wait_until(LIMIT, "all four were posted", async || marks(&receiver).len() == 4).await;
    wait_until(LIMIT, "the first page is being deleted", async || ground.is_anybody_waiting().await).await;
    wait_until(LIMIT, "the failure is answered", async || receiver.open() == 0).await;
    keeper.rollback().await.unwrap();
    let finished = run.wait(LIMIT).await.expect_code(78);
    assert_eq!(ground.backlog().await, 1, "what was refused alone is left: {finished}");
    receiver.answer_about("ill", [Answer::status(204)]);
    drain(&ground, &receiver).run().await.expect_code(0);
    assert_eq!(assert_arrived(&receiver, 1..=4), 1, "that one alone was repeated");
}
