//! Transactions that commit late, and rows that cannot be cleaned up.

use harness::wait_until;

use crate::support::{Ground, LIMIT};

#[tokio::test]
async fn an_event_that_is_committed_after_later_ones_went_out_goes_out_too() {
    let ground = Ground::new().await;
    let mut late = ground.db.pool().begin().await.unwrap();
    ground.enqueue_in(&mut late, &["late", "late"], 1).await;
    ground.fill(500, 20).await;
    let finished = ground.run().await;
    assert_eq!(finished.last()["changed"], 500, "{finished}");
    let floor = ground.number("SELECT max(floor) FROM outbox_partitions").await;
    assert!(floor < 3, "the floor waits for what may still come: {floor}");
    late.commit().await.unwrap();
    ground.run().await;
    ground.assert_whole((1..=2).chain(1..=500)).await;
    let floor = ground.number("SELECT min(floor) FROM outbox_partitions WHERE partition < 16").await;
    assert!(floor >= 502, "{floor}");
}

#[tokio::test]
async fn a_worker_finds_what_was_committed_late_while_it_was_at_work() {
    let ground = Ground::new().await;
    let mut late = ground.db.pool().begin().await.unwrap();
    ground.enqueue_in(&mut late, &["late"], 1).await;
    let mut worker = ground.asked(&["worker"]).start();
    for round in 0..20 {
        ground.enqueue(&["a", "b", "c"], 100 + 3 * round).await;
        wait_until(LIMIT, "the round is out", async || {
            ground.stream().await.len() == usize::try_from(3 * round + 3).unwrap()
        })
        .await;
    }
    assert!(worker.is_running());
    late.commit().await.unwrap();
    wait_until(LIMIT, "the late one is out", async || ground.stream().await.len() == 61).await;
    ground.assert_whole((100..160).chain([1])).await;
}

#[tokio::test]
async fn an_aggregate_keeps_its_order_though_its_first_events_are_committed_in_the_middle_of_a_pass() {
    let ground = Ground::new().await;
    let mut late = ground.db.pool().begin().await.unwrap();
    ground.enqueue_in(&mut late, &["late"], 10_001).await;
    ground.fill(3000, 300).await;
    ground.enqueue_in(&mut late, &["late"], 10_002).await;
    ground.fill(3000, 300).await;
    // The pass stands behind the first number of each bucket, and far from the last.
    let keeper = ground.keep(1).await;
    let run = ground.drain().env("BATCH_SIZE", "64").start();
    wait_until(LIMIT, "the first page waits", async || ground.is_anybody_waiting().await).await;
    late.commit().await.unwrap();
    ground.enqueue(&["late"], 10_003).await;
    keeper.rollback().await.unwrap();
    run.wait(LIMIT).await.expect_code(0);
    ground.run().await.expect_code(0);
    ground.assert_whole((1..=3000).chain(1..=3000).chain(10_001..=10_003)).await;
    assert_eq!(ground.backlog().await, 0);
}

#[tokio::test]
async fn what_is_rolled_back_leaves_no_gap_in_the_numbers() {
    let ground = Ground::new().await;
    for round in 0..10 {
        let mut tx = ground.db.pool().begin().await.unwrap();
        ground.enqueue_in(&mut tx, &["a", "b"], round * 2).await;
        if round % 2 == 0 {
            tx.rollback().await.unwrap();
        } else {
            tx.commit().await.unwrap();
        }
    }
    ground.run().await;
    ground.assert_whole((0..10).filter(|round| round % 2 == 1).flat_map(|round| [round * 2, round * 2 + 1])).await;
}

#[tokio::test]
async fn a_later_number_of_an_aggregate_waits_for_the_transaction_with_the_earlier_one() {
    let ground = Ground::new().await;
    let mut first = ground.db.pool().begin().await.unwrap();
    ground.enqueue_in(&mut first, &["a"], 1).await;
    let mut second = ground.db.pool().begin().await.unwrap();
    let events = [ground.event("a", &serde_json::json!({"mark": 2}))];
    let enqueued = store::outbox::enqueue(&mut second, &events);
    let early = tokio::time::timeout(std::time::Duration::from_millis(200), enqueued).await;
    assert!(early.is_err(), "it waits for the lock of the aggregate");
    drop(second);
    first.commit().await.unwrap();
    ground.enqueue(&["a"], 3).await;
    ground.run().await;
    let marks: Vec<i64> = ground.stream().await.iter().map(crate::support::Entry::mark).collect();
    assert_eq!(marks, [1, 3]);
}

#[tokio::test]
async fn a_number_is_taken_only_after_the_lock_of_the_aggregate_alone_or_among_several() {
    for several in [1, 2] {
        let ground = Ground::new().await;
        let mut first = ground.db.pool().begin().await.unwrap();
        ground.enqueue_in(&mut first, &["a"], 1).await;
        let later = async {
            let mut second = ground.db.pool().begin().await.unwrap();
            ground.enqueue_in(&mut second, &vec!["a"; several], 10).await;
            second.commit().await.unwrap();
        };
        let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let earlier = async {
            wait_until(LIMIT, "the other one waits", async || ground.number(waits).await == 1).await;
            ground.enqueue_in(&mut first, &["a"], 2).await;
            first.commit().await.unwrap();
        };
        tokio::join!(later, earlier);
        ground.run().await;
        let marks: Vec<i64> = ground.stream().await.iter().map(crate::support::Entry::mark).collect();
        assert_eq!(marks, [1, 2, 10, 11][..2 + several]);
    }
}
