//! What a run does.

use redis::AsyncCommands;
use serde_json::{Value, json};
use store::outbox::enqueue;

use crate::support::{Ground, STREAM};

#[tokio::test]
async fn every_event_is_on_the_stream_once_and_in_order_and_nothing_is_left() {
    let ground = Ground::new().await;
    ground.fill(5000, 300).await;
    let finished = ground.run().await;
    assert_eq!(finished.code, Some(0), "{finished}");
    let last = finished.last();
    assert_eq!((last["outcome"].as_str(), last["changed"].as_u64()), (Some("done"), Some(5000)), "{last}");
    ground.assert_whole(1..=5000).await;
    assert_eq!((ground.backlog().await, ground.remembered().await), (0, 0));
    let acknowledged = ground.number("SELECT sum(acknowledged)::bigint FROM outbox_partitions").await;
    assert_eq!(acknowledged, 5000);

    let again = ground.run().await;
    assert_eq!(again.last()["outcome"], "nothing_to_do");
    ground.fill(10, 3).await;
    ground.run().await;
    ground.assert_whole((1..=5000).chain(1..=10)).await;
}

#[tokio::test]
async fn an_entry_has_the_fixed_fields_and_the_payload_to_the_letter() {
    let ground = Ground::new().await;
    let payloads = [
        json!(null),
        json!(7),
        json!({"big": serde_json::from_str::<Value>("9007199254740993").unwrap(), "ü": "\u{1f680} „Anführung“ \n"}),
        json!("x".repeat(1024 * 1024 - 2)),
    ];
    let events: Vec<_> = payloads.iter().map(|payload| ground.event("one", payload)).collect();
    let mut tx = ground.db.pool().begin().await.unwrap();
    enqueue(&mut tx, &events).await.unwrap();
    // Whoever enqueues by other means may write numbers that no program of ours could hold.
    sqlx::query(
        "INSERT INTO outbox_events (event_id, aggregate_type, aggregate_id, aggregate_hash, brand_id, event_type, payload)
         VALUES (gen_random_uuid(), 'account', 'one', hashtext('account:one'), gen_random_uuid(), 'TESTED',
             '{\"b\":123456789012345678901234567890.10,\"a\" : 1}')",
    )
    .execute(&mut *tx)
    .await
    .unwrap();
    tx.commit().await.unwrap();
    let finished = ground.run().await;
    assert_eq!(finished.code, Some(0), "{finished}");

    let stream = ground.stream().await;
    let found: Vec<&str> = stream.iter().map(|entry| entry.text("payload")).collect();
    let wanted: Vec<String> = payloads.iter().map(Value::to_string).collect();
    assert_eq!(found[..4], wanted);
    assert_eq!(found[4], r#"{"b":123456789012345678901234567890.10,"a" : 1}"#);
    let fields: Vec<&String> = stream[0].fields.keys().collect();
    let names = [
        "aggregate_id",
        "aggregate_type",
        "brand_id",
        "event_id",
        "event_type",
        "n",
        "occurred_at",
        "partition",
        "payload",
        "seq",
    ];
    assert_eq!(fields, names);
    assert_eq!(stream[0].text("brand_id"), ground.brand.to_string());
    let at = time::OffsetDateTime::parse(stream[0].text("occurred_at"), &time::format_description::well_known::Rfc3339);
    assert!(at.is_ok(), "{}", stream[0].text("occurred_at"));
}

#[tokio::test]
async fn max_events_bounds_a_run_and_the_next_goes_on() {
    let ground = Ground::new().await;
    ground.fill(100, 7).await;
    let finished = ground.drain().env("MAX_EVENTS", "30").run().await;
    let last = finished.last();
    assert_eq!((last["changed"].as_u64(), last["remaining"].as_u64()), (Some(30), Some(70)), "{finished}");
    assert_eq!((ground.stream().await.len(), ground.backlog().await), (30, 70));
    ground.run().await;
    ground.assert_whole(1..=100).await;
}

#[tokio::test]
async fn a_dry_run_says_what_it_would_publish_and_writes_nothing() {
    let ground = Ground::new().await;
    ground.fill(100, 7).await;
    let finished = ground.drain().env("DRY_RUN", "true").run().await;
    let last = finished.last();
    assert_eq!((finished.code, last["changed"].as_u64()), (Some(0), Some(100)), "{finished}");
    assert_eq!(last["note"], "would publish 100 TESTED");
    assert_eq!(ground.backlog().await, 100);
    let keys: Vec<String> = ground.db.redis().keys("*").await.unwrap();
    assert_eq!(keys, Vec::<String>::new());
    assert_eq!(ground.number("SELECT count(*) FROM outbox_partitions WHERE fencing_token > 0").await, 0);
}

#[tokio::test]
async fn a_stream_that_is_to_be_trimmed_is() {
    let ground = Ground::new().await;
    ground.fill(3000, 50).await;
    ground.drain().env("OUTBOX_STREAM_MAXLEN", "100").run().await;
    let length: usize = ground.db.redis().xlen(STREAM).await.unwrap();
    assert!((100..600).contains(&length), "{length}: about 100, in whole nodes");
    let reconciled = ground.asked(&["reconcile"]).run().await;
    assert_eq!(reconciled.code, Some(0), "what was trimmed is not missing: {reconciled}");
}

#[tokio::test]
async fn events_go_to_standard_output_a_json_object_a_line() {
    let ground = Ground::new().await;
    ground.enqueue(&["a", "b", "a"], 1).await;
    let finished = ground.drain().env("OUTBOX_SINK", "stdout").run().await;
    let lines: Vec<Value> = finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{finished}");
    let mut marks: Vec<i64> = lines.iter().map(|line| line["payload"]["mark"].as_i64().unwrap()).collect();
    marks.sort_unstable();
    assert_eq!((marks, ground.backlog().await), (vec![1, 2, 3], 0));
}

#[tokio::test]
async fn what_has_nothing_to_do_with_redis_works_without_it() {
    let ground = Ground::new().await;
    ground.enqueue(&["a", "b", "a"], 1).await;
    let without = |words: &[&str]| ground.asked(words).env("REDIS_URL", "redis://127.0.0.1:1");
    let finished = without(&[]).env("OUTBOX_SINK", "stdout").run().await.expect_code(0);
    assert_eq!((finished.stdout.lines().count(), ground.backlog().await), (3, 0), "{finished}");
    for words in [["dead-letters", "list"], ["partitions", "list"]] {
        without(&words).run().await.expect_code(0);
    }
}
