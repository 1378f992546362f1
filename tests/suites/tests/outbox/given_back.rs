//! A PostgreSQL that has lost what it had committed: an older backup, or a standby that lagged.

use std::collections::HashMap;

use harness::wait_until;
use nix::sys::signal::Signal;

use crate::{
    reconcile::{counts, found},
    support::{Ground, LIMIT, STREAM},
};

const COLUMNS: &str =
    "seq, event_id, aggregate_type, aggregate_id, aggregate_hash, brand_id, event_type, payload, occurred_at";

/// The outbox as it is now, for a later [`lose`].
async fn keep(ground: &Ground) {
    ground.execute("CREATE TABLE kept_events AS TABLE outbox_events").await;
    ground.execute("CREATE TABLE kept_partitions AS TABLE outbox_partitions").await;
}

/// What was committed since is lost.
async fn lose(ground: &Ground) {
    ground
        .execute(&format!(
            "INSERT INTO outbox_events ({COLUMNS}) OVERRIDING SYSTEM VALUE SELECT {COLUMNS} FROM kept_events
             ON CONFLICT DO NOTHING"
        ))
        .await;
    ground
        .execute(
            "UPDATE outbox_partitions AS p SET floor = kept.floor, acknowledged = kept.acknowledged
             FROM kept_partitions AS kept WHERE kept.partition = p.partition",
        )
        .await;
}

#[tokio::test]
async fn events_whose_deletion_was_lost_are_deleted_again_and_not_published_again() {
    let ground = Ground::new().await;
    ground.fill(200, 20).await;
    ground.run().await.expect_code(0);
    let names: Vec<String> = (0..4000).map(|place| format!("a{}", place % 20)).collect();
    ground.enqueue(&names.iter().map(String::as_str).collect::<Vec<_>>(), 1001).await;
    keep(&ground).await;
    ground.run().await.expect_code(0);
    assert_eq!(ground.remembered().await, 0, "nothing is in flight any more");
    lose(&ground).await;
    ground.enqueue(&["a1", "a2", "new"], 9001).await;

    let run = ground.run().await.expect_code(0);

    assert!(run.stderr.contains("PostgreSQL has lost that events were published"), "{run}");
    assert_eq!(ground.backlog().await, 0);
    ground.assert_whole((1..=200).chain(1001..=5000).chain(9001..=9003)).await;
    assert_eq!(counts(&found(&ground, 0).await), [0; 4]);
    // It is told once.
    let next = ground.run().await.expect_code(0);
    assert!(!next.stderr.contains("PostgreSQL has lost"), "{next}");
}

#[tokio::test]
async fn so_it_is_when_some_of_them_are_still_in_flight() {
    let ground = Ground::new().await;
    ground.fill(200, 20).await;
    ground.run().await.expect_code(0);
    let names: Vec<String> = (0..20_000).map(|place| format!("a{}", place % 20)).collect();
    ground.enqueue(&names.iter().map(String::as_str).collect::<Vec<_>>(), 1001).await;
    keep(&ground).await;
    // The first of its batches are deleted and forgotten, the last ones published alone.
    let keeper = ground.keep(20_990).await;
    let worker = ground.asked(&["worker"]).start();
    wait_until(LIMIT, "the last ones are published", async || ground.stream().await.len() == 20_200).await;
    wait_until(LIMIT, "somebody waits to delete them", async || ground.is_anybody_waiting().await).await;
    worker.signal(Signal::SIGKILL);
    worker.wait(LIMIT).await;
    keeper.rollback().await.unwrap();
    lose(&ground).await;

    wait_until(LIMIT, "all are gone", async || {
        ground.run().await.expect_code(0);
        ground.backlog().await == 0
    })
    .await;

    ground.assert_whole((1..=200).chain(1001..=21_000)).await;
}

#[tokio::test]
async fn where_not_all_are_found_they_go_out_again_together_and_in_order() {
    let ground = Ground::new().await;
    ground.fill(200, 20).await;
    ground.run().await.expect_code(0);
    let names: Vec<String> = (0..100).map(|place| format!("a{}", place % 20)).collect();
    ground.enqueue(&names.iter().map(String::as_str).collect::<Vec<_>>(), 1001).await;
    keep(&ground).await;
    ground.run().await.expect_code(0);
    let left = 50;
    let _: i64 =
        redis::cmd("XTRIM").arg(STREAM).arg("MAXLEN").arg(left).query_async(&mut ground.db.redis()).await.unwrap();
    lose(&ground).await;

    let run = ground.run().await.expect_code(0);

    assert!(run.stderr.contains("PostgreSQL has lost that events were published"), "{run}");
    assert_eq!(ground.backlog().await, 0);
    let stream = ground.stream().await;
    let again = &stream[left..];
    assert!(again.len() > 50, "some partition is not whole any more: {}", again.len());
    let mut accounts: HashMap<&str, Vec<i64>> = HashMap::new();
    for entry in again {
        accounts.entry(entry.text("aggregate_id")).or_default().push(entry.mark());
    }
    for (account, marks) in accounts {
        // Of an account of a partition that was found none, and else all: one in each twenty.
        let first = 1001 + account[1..].parse::<i64>().unwrap();
        assert_eq!(marks, [0, 20, 40, 60, 80].map(|more| first + more), "{account}");
    }
}
