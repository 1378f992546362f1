//! A PostgreSQL that has lost what it had committed: an older backup, or a standby that lagged.

use std::collections::HashMap;

use harness::wait_until;
use nix::sys::signal::Signal;
use redis::{AsyncCommands, streams::StreamRangeReply};
use serde_json::json;
use store::outbox::enqueue;

use crate::{
    reconcile::{counts, found},
    support::{Entry, Ground, LIMIT, STREAM, assert_ordered},
};

const COLUMNS: &str =
    "seq, event_id, aggregate_type, aggregate_id, aggregate_hash, brand_id, event_type, payload, occurred_at";

/// The outbox as it is now, for a later [`lose`].
async fn keep(ground: &Ground) {
    ground.execute("CREATE TABLE kept_events AS TABLE outbox_events").await;
    ground.execute("CREATE TABLE kept_partitions AS TABLE outbox_partitions").await;
}

/// What was committed since is lost; nobody holds anything any more.
async fn lose(ground: &Ground) {
    ground.execute("DELETE FROM job_leases").await;
    ground
        .execute(&format!(
            "INSERT INTO outbox_events ({COLUMNS}) OVERRIDING SYSTEM VALUE SELECT {COLUMNS} FROM kept_events
             ON CONFLICT DO NOTHING"
        ))
        .await;
    ground
        .execute(
            "UPDATE outbox_partitions AS p SET floor = kept.floor, acknowledged = kept.acknowledged, expires_at = 'epoch'
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

/// Events marked 1001 to 21,000, most of them published; the first batches are deleted and forgotten, later ones in flight.
async fn killed_with_some_in_flight(ground: &Ground) {
    let names: Vec<String> = (0..20_000).map(|place| format!("a{}", place % 20)).collect();
    ground.enqueue(&names.iter().map(String::as_str).collect::<Vec<_>>(), 1001).await;
    keep(ground).await;
    let keeper = ground.keep(20_990).await;
    let worker = ground.asked(&["worker"]).start();
    wait_until(LIMIT, "one of the last ones waits to be deleted", async || {
        ground.is_anybody_waiting().await && ground.backlog().await < 20_000
    })
    .await;
    worker.signal(Signal::SIGKILL);
    worker.wait(LIMIT).await;
    keeper.rollback().await.unwrap();
    assert!(ground.remembered().await > 0, "nothing is in flight");
}

/// Nothing but the last hundred entries is left on the stream; what was committed since [`keep`] is lost.
async fn trim_and_lose(ground: &Ground) {
    trim(ground, 100).await;
    lose(ground).await;
}

/// All events of [`killed_with_some_in_flight`] came once more, in order, behind those left by [`trim_and_lose`].
async fn assert_all_went_out_again(ground: &Ground) {
    let stream = ground.stream().await;
    let again = marks(&stream[100..]);
    assert_eq!(again.len(), 20);
    for (account, marks) in again {
        let first = 1001 + account[1..].parse::<i64>().unwrap();
        assert_eq!(marks, (first..=21_000).step_by(20).collect::<Vec<_>>(), "{account}");
    }
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
    ground.fill(200, 20).await;
    ground.run().await.expect_code(0);
    killed_with_some_in_flight(&ground).await;
    lose(&ground).await;
    drain_all(&ground).await;
    ground.assert_whole((1..=200).chain(1001..=21_000)).await;
}

#[tokio::test]
async fn those_in_flight_go_out_again_with_those_that_are_not_found() {
    let ground = Ground::new().await;
    ground.fill(200, 20).await;
    ground.run().await.expect_code(0);
    killed_with_some_in_flight(&ground).await;
    trim_and_lose(&ground).await;
    drain_all(&ground).await;
    assert_all_went_out_again(&ground).await;
}

#[tokio::test]
async fn so_it_is_when_the_run_loses_its_partitions_before_it_publishes() {
    let ground = Ground::new().await;
    ground.fill(200, 20).await;
    ground.run().await.expect_code(0);
    killed_with_some_in_flight(&ground).await;
    trim_and_lose(&ground).await;
    // One partition has an owner whom PostgreSQL does not know: the run asks all of them once more.
    let _: i64 = ground.db.redis().hincr(format!("{{{STREAM}}}:drain:3"), "token", 1000).await.unwrap();
    let run = ground.run().await.expect_code(0);
    assert!(run.stderr.contains("a fencing token that PostgreSQL has not given"), "{run}");
    drain_all(&ground).await;
    assert_all_went_out_again(&ground).await;
}

#[tokio::test]
async fn so_it_is_when_postgresql_knows_of_no_publication_at_all() {
    let ground = Ground::new().await;
    killed_with_some_in_flight(&ground).await;
    trim_and_lose(&ground).await;
    let run = ground.run().await.expect_code(0);
    assert!(run.stderr.contains("PostgreSQL has lost that events were published"), "{run}");
    drain_all(&ground).await;
    assert_all_went_out_again(&ground).await;
}

#[tokio::test]
async fn another_name_in_between_is_no_loss_and_doubles_nothing() {
    let ground = Ground::new().await;
    killed_with_some_in_flight(&ground).await;
    trim(&ground, 3000).await;
    ground.execute("DELETE FROM job_leases").await;
    ground.execute("UPDATE outbox_partitions SET expires_at = 'epoch'").await;
    let elsewhere =
        ground.drain().env("OUTBOX_STREAM", "elsewhere").env("MAX_EVENTS", "400").run().await.expect_code(0);
    assert_eq!(elsewhere.last()["changed"], 400, "{elsewhere}");

    let run = ground.run().await.expect_code(0);

    assert!(!run.stderr.contains("PostgreSQL has lost"), "{run}");
    assert_eq!(ground.backlog().await, 0);
    assert_ordered(&ground.stream().await);
}

#[tokio::test]
async fn what_others_wrote_to_the_stream_does_not_stop_the_search() {
    let ground = Ground::new().await;
    ground.fill(200, 20).await;
    keep(&ground).await;
    ground.run().await.expect_code(0);
    let bytes: &[u8] = b"\xff\xfe";
    let mut redis = ground.db.redis();
    let _: String = redis.xadd(STREAM, "*", &[("data", bytes)]).await.unwrap();
    let _: String = redis.xadd(STREAM, "*", &[("partition", bytes), ("n", bytes), ("seq", bytes)]).await.unwrap();
    lose(&ground).await;

    let run = ground.run().await.expect_code(0);

    assert!(run.stderr.contains("PostgreSQL has lost that events were published"), "{run}");
    assert_eq!(ground.backlog().await, 0);
    let found = found(&ground, 0).await;
    assert_eq!((&found["entries"], &found["foreign"]), (&200.into(), &2.into()), "{found}");
}

#[tokio::test]
async fn large_events_behind_small_ones_are_looked_for_in_little_memory() {
    let ground = Ground::new().await;
    let large = "x".repeat(256 * 1024);
    let mut tx = ground.db.pool().begin().await.unwrap();
    for place in 0..400 {
        let event = ground.event(&format!("a{}", place % 20), &json!({"mark": place, "filling": large}));
        enqueue(&mut tx, &[event]).await.unwrap();
    }
    tx.commit().await.unwrap();
    keep(&ground).await;
    ground.run().await.expect_code(0);
    ground.fill(400, 20).await;
    ground.run().await.expect_code(0);
    lose(&ground).await;

    let run = ground.run().await.expect_code(0);

    assert_eq!((ground.backlog().await, ground.stream().await.len()), (0, 800));
    assert!(run.peak_memory < 64 * 1024 * 1024, "{} bytes", run.peak_memory);
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
    let (before, again) = (marks(&stream[..left]), marks(again));
    for number in 0..20 {
        // Of an account of a partition that was found none, and else all: one in each twenty.
        let account = format!("a{number}");
        let all: Vec<i64> = (0..5).map(|turn| 1001 + number + 20 * turn).collect();
        assert_eq!(again.get(&*account).unwrap_or_else(|| &before[&*account]), &all, "{account}");
    }
}
