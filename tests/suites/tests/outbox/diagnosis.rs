//! When it is slow, it says why.

use std::time::Duration;

use harness::{Fault, FaultProxy, Running, wait_until};
use serde_json::Value;
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};

use crate::support::{Ground, LIMIT};

/// A session of somebody else, and its process id.
async fn session(ground: &Ground, application: &str) -> (PgConnection, i32) {
    let options: PgConnectOptions = ground.db.url().parse().unwrap();
    let mut connection = PgConnection::connect_with(&options.application_name(application)).await.unwrap();
    let pid = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut connection).await.unwrap();
    (connection, pid)
}

/// The reasons of the first line that says that it is slow and names this one; on a busy machine there may be others too.
async fn reasons(run: &mut Running, wanted: &str) -> String {
    let names = |line: &Value| line["reasons"].as_str().is_some_and(|reasons| reasons.contains(wanted));
    let line = run.wait_for_log(LIMIT, |line| line["message"] == "slow" && names(line)).await;
    assert_eq!(line["level"], "WARN");
    line["reasons"].as_str().unwrap().to_owned()
}

/// What `status` tells of the present run.
async fn note(ground: &Ground) -> Option<String> {
    let status = ground.asked(&["status", "--output", "json"]).run().await.expect_code(0);
    let runs: Value = serde_json::from_str(&status.stdout).unwrap();
    runs[0]["note"].as_str().map(str::to_owned)
}

/// `status` says the same meanwhile.
async fn assert_noted(ground: &Ground, what: &str) {
    wait_until(LIMIT, "status tells it", async || {
        note(ground).await.is_some_and(|note| note.starts_with("slow: ") && note.contains(what))
    })
    .await;
}

/// A session that keeps many dead rows from being cleaned up, and its process id.
async fn keeps_dead_rows(ground: &Ground) -> (PgConnection, i32) {
    let (mut report, pid) = session(ground, "quarterly report").await;
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM outbox_events")
        .execute(&mut report)
        .await
        .unwrap();
    ground.fill(60_000, 100).await;
    let mut one = ground.db.pool().acquire().await.unwrap();
    // Statistics are told at once, not within seconds.
    sqlx::raw_sql("DELETE FROM outbox_events; SELECT pg_stat_force_next_flush()").execute(&mut *one).await.unwrap();
    (report, pid)
}

/// The reasons that a worker gives while it works: the line comes with work, as slowness does.
async fn reasons_at_work(ground: &Ground, worker: &mut Running) -> String {
    let mut mark = 0;
    let working = async {
        wait_until(LIMIT, "never", async || {
            mark += 1;
            ground.enqueue(&["a"], mark).await;
            false
        })
        .await;
    };
    tokio::select! {
        reasons = reasons(worker, "dead rows") => reasons,
        () = working => unreachable!("it waits for ever"),
    }
}

#[tokio::test]
async fn a_session_that_keeps_dead_rows_is_named_with_its_age() {
    let ground = Ground::new().await;
    let (_report, pid) = keeps_dead_rows(&ground).await;
    let mut worker = ground.asked(&["worker"]).start();
    let reasons = reasons_at_work(&ground, &mut worker).await;
    assert!(reasons.contains(&format!("session pid {pid} (quarterly report, open for ")), "{reasons}");
    assert!(reasons.contains(" dead rows of the outbox from being cleaned up: end it"), "{reasons}");
    assert_noted(&ground, &format!("session pid {pid} ")).await;
}

#[tokio::test]
async fn a_session_of_another_user_is_named_to_one_who_may_not_look_into_it() {
    let ground = Ground::new().await;
    let (_report, pid) = keeps_dead_rows(&ground).await;
    let role = format!("drain_{}", ground.brand.0.simple());
    ground
        .execute(&format!(
            "DO $$ BEGIN
                 CREATE ROLE {role} LOGIN;
                 GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};
                 GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role};
             END $$"
        ))
        .await;
    let url = ground.db.url().replacen("postgres@", &format!("{role}@"), 1);
    let mut worker = ground.asked(&["worker"]).env("DATABASE_URL", url).start();
    let reasons = reasons_at_work(&ground, &mut worker).await;
    assert!(reasons.contains(&format!("session pid {pid} (quarterly report) keeps ")), "{reasons}");
}

#[tokio::test]
async fn a_session_whose_lock_keeps_the_drain_waiting_is_named() {
    let ground = Ground::new().await;
    ground.fill(300, 30).await;
    let (mut locker, pid) = session(&ground, "nightly maintenance").await;
    sqlx::raw_sql("BEGIN; LOCK TABLE outbox_events IN SHARE MODE").execute(&mut locker).await.unwrap();
    let mut worker = ground.asked(&["worker"]).start();
    let reasons = reasons(&mut worker, "lock").await;
    assert!(reasons.contains(&format!("session pid {pid} (nightly maintenance, open for ")), "{reasons}");
    assert!(reasons.contains("holds a lock that 1 of the outbox's sessions wait for"), "{reasons}");
    assert_noted(&ground, &format!("session pid {pid} ")).await;
    locker.close().await.unwrap();
    wait_until(LIMIT, "all are out", async || ground.backlog().await == 0).await;
    wait_until(LIMIT, "the note goes, though nothing is to do", async || note(&ground).await.is_none()).await;
    assert!(worker.is_running());
    ground.assert_whole(1..=300).await;
}

#[tokio::test]
async fn a_row_that_somebody_has_locked_is_named_too() {
    let ground = Ground::new().await;
    ground.fill(300, 30).await;
    let (mut locker, pid) = session(&ground, "a curious person").await;
    sqlx::raw_sql("BEGIN; SELECT FROM outbox_events LIMIT 1 FOR UPDATE").execute(&mut locker).await.unwrap();
    let mut worker = ground.asked(&["worker"]).start();
    let reasons = reasons(&mut worker, "lock").await;
    assert!(reasons.contains(&format!("session pid {pid} (a curious person, open for ")), "{reasons}");
    locker.close().await.unwrap();
    wait_until(LIMIT, "all are out", async || ground.backlog().await == 0).await;
    ground.assert_whole(1..=300).await;
}

#[tokio::test]
async fn a_sink_that_is_slow_is_named() {
    let ground = Ground::new().await;
    ground.fill(4000, 50).await;
    let proxy = FaultProxy::start(ground.db.redis_url());
    proxy.set(Fault::Delay(Duration::from_millis(300)));
    let mut run = ground.drain().env("REDIS_URL", proxy.url()).env("BATCH_SIZE", "64").start();
    let reasons = reasons(&mut run, "publishing a page takes ").await;
    assert!(reasons.contains(" ms: look at the sink"), "{reasons}");
    assert_noted(&ground, "publishing a page takes ").await;
    proxy.set(Fault::Pass);
    run.wait(LIMIT).await.expect_code(0);
    ground.assert_whole(1..=4000).await;
}

#[tokio::test]
async fn a_bounded_run_that_was_slow_says_why_after_its_end() {
    let ground = Ground::new().await;
    ground.fill(300, 30).await;
    let (mut locker, pid) = session(&ground, "curious person").await;
    sqlx::raw_sql("BEGIN; SELECT FROM outbox_events LIMIT 1 FOR UPDATE").execute(&mut locker).await.unwrap();
    let mut run = ground.drain().start();
    reasons(&mut run, &format!("session pid {pid} (curious person, open for ")).await;
    sqlx::raw_sql("ROLLBACK").execute(&mut locker).await.unwrap();
    let finished = run.wait(LIMIT).await.expect_code(0);
    assert_eq!(finished.last()["outcome"], "done", "{finished}");
    let note = note(&ground).await.unwrap();
    assert!(note.starts_with("was slow: ") && note.contains(&format!("session pid {pid} ")), "{note}");
}

/// Somebody who has locked the partitions is named before any of them could be taken.
async fn a_lock_on_the_partitions_is_named(words: &[&str]) {
    let ground = Ground::new().await;
    ground.fill(300, 30).await;
    let (mut locker, pid) = session(&ground, "a careful person").await;
    sqlx::raw_sql("BEGIN; LOCK TABLE outbox_partitions IN EXCLUSIVE MODE").execute(&mut locker).await.unwrap();
    let mut run = ground.asked(words).start();
    let reasons = reasons(&mut run, &format!("session pid {pid} (a careful person, open for ")).await;
    assert!(reasons.contains("sharing the partitions"), "{reasons}");
    assert_eq!((ground.stream().await.len(), ground.backlog().await), (0, 300));
    locker.close().await.unwrap();
    wait_until(LIMIT, "all are out", async || ground.backlog().await == 0).await;
    ground.assert_whole(1..=300).await;
}

#[tokio::test]
async fn a_lock_that_keeps_a_worker_from_sharing_the_partitions_is_named() {
    a_lock_on_the_partitions_is_named(&["worker"]).await;
}

#[tokio::test]
async fn so_is_one_that_keeps_a_bounded_run_from_it() {
    a_lock_on_the_partitions_is_named(&["run"]).await;
}
