//! A PostgreSQL that has lost what it had committed: an older backup, or a standby that lagged.

use std::collections::HashMap;

use harness::wait_until;
use nix::sys::signal::Signal;
use redis::{AsyncCommands, streams::StreamRangeReply};

use crate::{
    reconcile::{counts, found},
    support::{Entry, Ground, LIMIT, STREAM},
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

/// Leaves so many entries of the stream.
async fn trim(ground: &Ground, left: usize) {
    let mut redis = ground.db.redis();
    let _: i64 = redis::cmd("XTRIM").arg(STREAM).arg("MAXLEN").arg(left).query_async(&mut redis).await.unwrap();
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

/// Events marked 1001 to 21,000, all published; the first of their batches are deleted and forgotten, the last ones in flight.
async fn killed_with_some_in_flight(ground: &Ground) {
    ground.fill(200, 20).await;
    ground.run().await.expect_code(0);
    let names: Vec<String> = (0..20_000).map(|place| format!("a{}", place % 20)).collect();
    ground.enqueue(&names.iter().map(String::as_str).collect::<Vec<_>>(), 1001).await;
    keep(ground).await;
    let keeper = ground.keep(20_990).await;
    let worker = ground.asked(&["worker"]).start();
    wait_until(LIMIT, "the last ones are published", async || ground.stream().await.len() == 20_200).await;
    wait_until(LIMIT, "somebody waits to delete them", async || ground.is_anybody_waiting().await).await;
    worker.signal(Signal::SIGKILL);
    worker.wait(LIMIT).await;
    keeper.rollback().await.unwrap();
    assert!(ground.remembered().await > 0, "nothing is in flight");
}

async fn drain_all(ground: &Ground) {
    wait_until(LIMIT, "all are gone", async || {
        ground.run().await.expect_code(0);
        ground.backlog().await == 0
    })
    .await;
}

/// The marks of each account, in the order of these entries.
fn marks(entries: &[Entry]) -> HashMap<&str, Vec<i64>> {
    let mut accounts: HashMap<&str, Vec<i64>> = HashMap::new();
    for entry in entries {
        accounts.entry(entry.text("aggregate_id")).or_default().push(entry.mark());
    }
    accounts
}

#[tokio::test]
async fn so_it_is_when_some_of_them_are_still_in_flight() {
    let ground = Ground::new().await;
    killed_with_some_in_flight(&ground).await;
    lose(&ground).await;
    drain_all(&ground).await;
    ground.assert_whole((1..=200).chain(1001..=21_000)).await;
}

#[tokio::test]
async fn those_in_flight_go_out_again_with_those_that_are_not_found() {
    let ground = Ground::new().await;
    killed_with_some_in_flight(&ground).await;
    let left = 100;
    trim(&ground, left).await;
    lose(&ground).await;
    drain_all(&ground).await;
    let stream = ground.stream().await;
    for (account, marks) in marks(&stream[left..]) {
        let first = 1001 + account[1..].parse::<i64>().unwrap();
        assert_eq!(marks, (first..=21_000).step_by(20).collect::<Vec<_>>(), "{account}");
    }
}

#[tokio::test]
async fn an_entry_that_was_deleted_from_the_stream_makes_its_whole_partition_go_out_again() {
    let ground = Ground::new().await;
    let names: Vec<String> = (0..200).map(|place| format!("a{}", place % 20)).collect();
    ground.enqueue(&names[..20].iter().map(String::as_str).collect::<Vec<_>>(), 1).await;
    ground.run().await.expect_code(0);
    ground.enqueue(&names.iter().map(String::as_str).collect::<Vec<_>>(), 1001).await;
    keep(&ground).await;
    ground.run().await.expect_code(0);
    let before = ground.stream().await;
    let middle = before.iter().find(|entry| entry.mark() == 1101).unwrap();
    let ids: StreamRangeReply = ground.db.redis().xrange_all(STREAM).await.unwrap();
    let place = before.iter().position(|entry| entry == middle).unwrap();
    let _: i64 = ground.db.redis().xdel(STREAM, &[&ids.ids[place].id]).await.unwrap();
    lose(&ground).await;

    ground.run().await.expect_code(0);

    assert_eq!(ground.backlog().await, 0);
    let stream = ground.stream().await;
    let of_it: Vec<Entry> = before
        .iter()
        .filter(|entry| entry.mark() > 1000 && entry.text("partition") == middle.text("partition"))
        .cloned()
        .collect();
    assert_eq!(marks(&stream[before.len() - 1..]), marks(&of_it));
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
    trim(&ground, left).await;
    lose(&ground).await;

    let run = ground.run().await.expect_code(0);

    assert!(run.stderr.contains("PostgreSQL has lost that events were published"), "{run}");
    assert_eq!(ground.backlog().await, 0);
    let stream = ground.stream().await;
    let again = &stream[left..];
    assert!(again.len() > 50, "some partition is not whole any more: {}", again.len());
    for (account, marks) in marks(again) {
        // Of an account of a partition that was found none, and else all: one in each twenty.
        let first = 1001 + account[1..].parse::<i64>().unwrap();
        assert_eq!(marks, [0, 20, 40, 60, 80].map(|more| first + more), "{account}");
    }
}
