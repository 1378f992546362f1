//! A drain in the middle of its work, surely.

use harness::{Binary, Fault, FaultProxy, Finished, Running, wait_until};
use nix::sys::signal::Signal;
use sqlx::{PgConnection, Postgres, Transaction};

use crate::{
    reconcile::found,
    support::{Ground, LIMIT},
};

/// How many events a drain is to publish that is caught in the middle; marked from 1 on.
pub(crate) const EVENTS: i64 = 4000;

/// Fills the outbox and starts the drain. When this returns, it has deleted about a third, has published some pages
/// more, and waits to delete them until the keeper is rolled back; after 5 s it gives up.
pub(crate) async fn held_up(ground: &Ground, drain: &Binary) -> (Running, Transaction<'static, Postgres>) {
    ground.fill(EVENTS, 100).await;
    let mut keeper = ground.keep(500).await;
    let run = drain.clone().env("BATCH_SIZE", "20").start();
    somebody_waits_for(ground, &mut keeper).await;
    assert!(ground.remembered().await > 0, "published and not deleted");
    (run, keeper)
}

/// Waits until somebody waits for what this transaction holds.
pub(crate) async fn somebody_waits_for(ground: &Ground, keeper: &mut PgConnection) {
    let keeper: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(keeper).await.unwrap();
    let waiting = format!("SELECT count(*) FROM pg_locks WHERE NOT granted AND {keeper} = ANY (pg_blocking_pids(pid))");
    wait_until(LIMIT, "somebody waits", async || ground.number(&waiting).await > 0).await;
}

/// A drain that has published a part through `proxy`, and is cut off: with [`Fault::Hang`] batches are on their way and
/// have not arrived, with [`Fault::CutAfter`] they have arrived and their answers are lost.
pub(crate) async fn cut_off(ground: &Ground, words: &[&str], proxy: &FaultProxy, fault: Fault) -> Running {
    let before = ground.stream().await.len();
    let (mut run, keeper) = held_up(ground, &ground.asked(words).env("REDIS_URL", proxy.url())).await;
    proxy.set(fault);
    keeper.rollback().await.unwrap();
    if fault == Fault::Hang {
        wait_until(LIMIT, "a batch is on its way", async || proxy.held() > 0).await;
    } else {
        run.wait_for_log(LIMIT, |line| line["message"] == "the sink takes nothing").await;
        // On a busy machine it may have said so before, too.
        wait_until(LIMIT, "some have arrived, and nobody knows", async || {
            let deleted = EVENTS - ground.backlog().await;
            i64::try_from(ground.stream().await.len() - before).unwrap() > deleted
        })
        .await;
    }
    run
}

/// Lets it publish everything: a bounded run ends by itself, a worker when it is told to and nothing is left.
pub(crate) async fn completed(ground: &Ground, mut run: Running, words: &[&str]) -> Finished {
    if words != ["worker"] {
        return run.wait(LIMIT).await.expect_code(0);
    }
    wait_until(LIMIT, "all are out", async || ground.backlog().await == 0 || !run.is_running()).await;
    run.signal(Signal::SIGTERM);
    run.wait(LIMIT).await.expect_code(143)
}

/// Nothing is left or in flight; each of these is on the stream once, with its number and in its order; and `reconcile`
/// finds no fault.
pub(crate) async fn assert_complete(ground: &Ground, marks: impl IntoIterator<Item = i64>) {
    assert_eq!((ground.backlog().await, ground.remembered().await), (0, 0));
    ground.assert_whole(marks).await;
    found(ground, 0).await;
}

/// What the drains of this ground have counted.
pub(crate) async fn counted(ground: &Ground, metric: &str) -> i64 {
    let sum = format!("SELECT coalesce(sum(value), 0)::bigint FROM job_counters WHERE metric = '{metric}'");
    ground.number(&sum).await
}
