//! J4: everything also through PgBouncer in transaction mode, where no hint is ever heard.

use harness::{Binary, wait_until};
use nix::sys::signal::Signal;

use crate::support::{Ground, LIMIT};

fn pooled(ground: &Ground, words: &[&str]) -> Binary {
    ground.asked(words).env("DATABASE_URL", ground.db.pooled_url())
}

#[tokio::test]
async fn runs_share_the_work_and_every_subcommand_works() {
    let ground = Ground::new().await;
    ground.fill(4000, 100).await;
    let runs: Vec<_> = (0..3).map(|_| pooled(&ground, &[]).env("BATCH_SIZE", "100").start()).collect();
    for run in runs {
        run.wait(LIMIT).await.expect_code(0);
    }
    ground.assert_whole(1..=4000).await;
    assert_eq!(ground.backlog().await, 0);
    for words in [
        &["check"][..],
        &["status"],
        &["reconcile"],
        &["dead-letters", "list"],
        &["partitions", "list"],
        &["--dry-run"],
    ] {
        pooled(&ground, words).run().await.expect_code(0);
    }
}

#[tokio::test]
async fn a_worker_polls_and_needs_no_hints() {
    let ground = Ground::new().await;
    let worker = pooled(&ground, &["worker"]).start();
    for mark in 1..=3 {
        wait_until(LIMIT, "it sleeps as long as it may", async || {
            let sql = "SELECT count(*) FROM outbox_settings WHERE hints_until > clock_timestamp() + interval '0.8 s'";
            ground.number(sql).await == 1
        })
        .await;
        ground.enqueue(&["a"], mark).await;
        wait_until(LIMIT, "it is out", async || ground.backlog().await == 0).await;
    }
    worker.signal(Signal::SIGTERM);
    let finished = worker.wait(LIMIT).await.expect_code(143);
    assert_eq!(finished.last()["changed"], 3, "{finished}");
    assert_eq!(ground.number("SELECT count(*) FROM outbox_partitions WHERE run_id IS NOT NULL").await, 0);
    ground.assert_whole(1..=3).await;
}
