//! What is held back, and what people do with dead letters.

use serde_json::Value;

use crate::support::{Entry, Ground};

/// Gives up the event with this mark, as the drain does after its last try.
async fn kill(ground: &Ground, mark: i64, holds: bool) -> uuid::Uuid {
    ground
        .execute(&format!(
            "WITH gone AS (DELETE FROM outbox_events WHERE (payload ->> 'mark')::bigint = {mark} RETURNING *),
             held AS (
                INSERT INTO outbox_held (aggregate_type, aggregate_id, bucket, seq, attempts, error)
                SELECT aggregate_type, aggregate_id, bucket, seq, 10, 'refused' FROM gone WHERE {holds})
             INSERT INTO outbox_dead_letters (event_id, seq, aggregate_type, aggregate_id, aggregate_hash, brand_id,
                event_type, payload, occurred_at, attempts, error)
             SELECT event_id, seq, aggregate_type, aggregate_id, aggregate_hash, brand_id, event_type, payload,
                occurred_at, 10, 'refused' FROM gone"
        ))
        .await;
    sqlx::query_scalar("SELECT event_id FROM outbox_dead_letters WHERE (payload ->> 'mark')::bigint = $1")
        .bind(mark)
        .fetch_one(ground.db.pool())
        .await
        .unwrap()
}

async fn marks(ground: &Ground) -> Vec<i64> {
    ground.stream().await.iter().map(Entry::mark).collect()
}

#[tokio::test]
async fn a_redriven_event_goes_out_before_what_its_aggregate_has_held_back() {
    let ground = Ground::new().await;
    ground.enqueue(&["poor", "poor", "poor"], 1).await;
    ground.enqueue(&["rich"], 10).await;
    let event = kill(&ground, 2, true).await;
    // The first one is out already when the second dies.
    ground.execute("DELETE FROM outbox_events WHERE (payload ->> 'mark')::bigint = 1").await;
    let finished = ground.run().await;
    assert_eq!((marks(&ground).await, ground.backlog().await), (vec![10], 1), "{finished}");
    assert!(finished.last()["note"].as_str().unwrap().contains("1 aggregates are held back"), "{finished}");

    let listed = ground.asked(&["dead-letters", "list", "--output", "json"]).run().await;
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!((listed[0]["event_id"].as_str(), listed[0]["attempts"].as_i64()), (Some(&*event.to_string()), Some(10)));
    let shown = ground.asked(&["dead-letters", "show", &event.to_string()]).run().await;
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(shown["payload"]["mark"], 2, "{shown}");

    let redriven = ground.asked(&["dead-letters", "redrive", "--event", &event.to_string()]).run().await;
    assert_eq!(redriven.code, Some(0), "{redriven}");
    ground.run().await;
    assert_eq!(marks(&ground).await, [10, 2, 3]);
    assert_eq!((ground.backlog().await, ground.number("SELECT count(*) FROM outbox_held").await), (0, 0));
    let again = ground.asked(&["dead-letters", "redrive", "--event", &event.to_string()]).run().await;
    assert_eq!(again.code, Some(65), "{again}");
}

#[tokio::test]
async fn after_a_discard_the_rest_of_the_aggregate_goes_on() {
    let ground = Ground::new().await;
    ground.enqueue(&["poor", "poor", "poor"], 1).await;
    kill(&ground, 1, true).await;
    ground.run().await;
    assert_eq!(marks(&ground).await, Vec::<i64>::new());
    let discarded = ground.asked(&["dead-letters", "discard", "--aggregate", "account:poor"]).run().await;
    assert_eq!(discarded.code, Some(0), "{discarded}");
    ground.run().await;
    assert_eq!(marks(&ground).await, [2, 3]);
    let left = "SELECT (SELECT count(*) FROM outbox_held) + (SELECT count(*) FROM outbox_dead_letters)";
    assert_eq!(ground.number(left).await, 0);
}

#[tokio::test]
async fn a_discard_of_the_last_event_leaves_nothing_held() {
    let ground = Ground::new().await;
    ground.enqueue(&["poor"], 1).await;
    kill(&ground, 1, true).await;
    ground.asked(&["dead-letters", "discard", "--aggregate", "account:poor"]).run().await;
    let finished = ground.run().await;
    assert_eq!(finished.last()["outcome"], "nothing_to_do", "{finished}");
    assert_eq!(ground.number("SELECT count(*) FROM outbox_held").await, 0);
    ground.enqueue(&["poor"], 2).await;
    ground.run().await;
    assert_eq!(marks(&ground).await, [2]);
}

#[tokio::test]
async fn a_worker_notices_a_redrive_by_itself() {
    let ground = Ground::new().await;
    ground.enqueue(&["poor", "poor"], 1001).await;
    let event = kill(&ground, 1001, true).await;
    let _worker = ground.asked(&["worker"]).start();
    ground.fill(500, 20).await;
    let out = async || ground.stream().await.len() == 500;
    harness::wait_until(crate::support::LIMIT, "the others are out", out).await;
    ground.asked(&["dead-letters", "redrive", "--event", &event.to_string()]).run().await;
    harness::wait_until(crate::support::LIMIT, "all are out", async || ground.backlog().await == 0).await;
    ground.assert_whole((1..=500).chain([1001, 1002])).await;
}

#[tokio::test]
async fn an_aggregate_that_goes_on_is_not_let_go_before_all_it_held_back_is_out() {
    let ground = Ground::new().await;
    ground.enqueue(&["poor", "poor", "poor", "poor"], 1001).await;
    let event = kill(&ground, 1001, true).await;
    ground.fill(500, 20).await;
    // The floor is above everything that is held back.
    ground.run().await;
    assert_eq!(ground.stream().await.len(), 500);
    ground.asked(&["dead-letters", "redrive", "--event", &event.to_string()]).run().await;
    for out in 1..=4 {
        // Each run ends after the first event that it meets.
        let finished = ground.drain().env("MAX_EVENTS", "1").run().await;
        assert_eq!(ground.stream().await.len(), 500 + out, "{finished}");
    }
    ground.run().await;
    ground.assert_whole((1..=500).chain(1001..=1004)).await;
    assert_eq!((ground.backlog().await, ground.number("SELECT count(*) FROM outbox_held").await), (0, 0));
}

#[tokio::test]
async fn a_redrive_beside_a_rejection_keeps_its_place() {
    let ground = Ground::new().await;
    ground.enqueue(&["poor", "poor"], 1).await;
    let event = kill(&ground, 1, false).await;
    let later = ground.number("SELECT max(seq) FROM outbox_events").await;
    let bucket = ground.number("SELECT max(bucket)::bigint FROM outbox_events").await;
    // A drain has read the later event, which nothing held back then; meanwhile the earlier one is redriven.
    ground.asked(&["dead-letters", "redrive", "--event", &event.to_string()]).run().await;
    let rejected = store::outbox::held::Rejected {
        aggregate_type: "account",
        aggregate_id: "poor",
        bucket: i16::try_from(bucket).unwrap(),
        seq: later,
        version: 0,
        reason: "refused",
        retry_after: 0.0,
    };
    let mut tx = ground.db.pool().begin().await.unwrap();
    assert_eq!(store::outbox::held::hold(&mut tx, &rejected).await.unwrap(), None);
    tx.commit().await.unwrap();
    ground.run().await;
    ground.assert_whole(1..=2).await;
}

#[tokio::test]
async fn of_two_who_decide_at_once_the_later_one_is_told_that_nothing_is_left() {
    let ground = Ground::new().await;
    for (mark, account, decision) in [(1, "poor", "redrive"), (2, "mean", "discard")] {
        ground.enqueue(&[account], mark).await;
        let event = kill(&ground, mark, true).await;
        let mut earlier = ground.db.pool().begin().await.unwrap();
        sqlx::query("DELETE FROM outbox_dead_letters WHERE event_id = $1")
            .bind(event)
            .execute(&mut *earlier)
            .await
            .unwrap();
        let later = ground.asked(&["dead-letters", decision, "--event", &event.to_string()]).start();
        let waiting = async || ground.is_anybody_waiting().await;
        harness::wait_until(crate::support::LIMIT, "it waits for the earlier one", waiting).await;
        earlier.commit().await.unwrap();
        let told = later.wait(crate::support::LIMIT).await.expect_code(65);
        assert!(!told.stdout.contains(&event.to_string()), "{told}");
    }
    assert_eq!(ground.backlog().await, 0);
}
