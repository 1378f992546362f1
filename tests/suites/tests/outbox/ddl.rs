//! Somebody changes the table while it is drained.

use harness::wait_until;
use nix::sys::signal::Signal;

use crate::support::{Ground, LIMIT};

#[tokio::test]
async fn a_worker_that_starts_while_the_table_is_rewritten_leaves_nothing_behind() {
    let ground = Ground::new().await;
    ground.fill(500, 50).await;
    let mut change = ground.db.pool().begin().await.unwrap();
    let rewriting = "ALTER TABLE outbox_events ALTER COLUMN event_type TYPE text USING event_type || ''";
    sqlx::query(rewriting).execute(&mut *change).await.unwrap();
    let worker = ground.asked(&["worker"]).start();
    wait_until(LIMIT, "it waits for the table", async || ground.is_anybody_waiting().await).await;
    change.commit().await.unwrap();
    wait_until(LIMIT, "all are out", async || ground.backlog().await == 0).await;
    worker.signal(Signal::SIGTERM);
    worker.wait(LIMIT).await.expect_code(143);
    ground.assert_whole(1..=500).await;
}

#[tokio::test]
async fn a_change_of_the_table_gets_in_between_two_passes() {
    let ground = Ground::new().await;
    ground.fill(5000, 50).await;
    let keeper = ground.keep(1).await;
    let run = ground.drain().env("BATCH_SIZE", "50").start();
    wait_until(LIMIT, "a page is being deleted", async || ground.is_anybody_waiting().await).await;
    let pool = ground.db.pool().clone();
    let change =
        tokio::spawn(async move { sqlx::query("ALTER TABLE outbox_events ADD COLUMN note text").execute(&pool).await });
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'ALTER TABLE%'";
    wait_until(LIMIT, "the change waits, too", async || ground.number(waiting).await == 1).await;
    keeper.rollback().await.unwrap();
    run.wait(LIMIT).await.expect_code(0);
    change.await.unwrap().unwrap();
    assert_eq!(ground.backlog().await, 0);
    ground.assert_whole(1..=5000).await;
}
