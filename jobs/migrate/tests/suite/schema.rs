//! What becomes of a schema.

use std::time::Duration;

use harness::{Binary, Running, TestDb, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_mins(1);

fn migrate(db: &TestDb) -> Binary {
    Binary::at(env!("CARGO_BIN_EXE_migrate")).env("DATABASE_URL", db.pooled_url())
}

async fn execute(db: &TestDb, sql: &'static str) {
    sqlx::query(sql).execute(db.pool()).await.unwrap();
}

async fn empty() -> TestDb {
    let db = TestDb::new().await;
    execute(&db, "DROP SCHEMA public CASCADE").await;
    execute(&db, "CREATE SCHEMA public").await;
    db
}

async fn tables(db: &TestDb) -> i64 {
    let sql = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    sqlx::query_scalar(sql).fetch_one(db.pool()).await.unwrap()
}

async fn ends(migrate: Binary, code: i32) {
    let finished = migrate.run().await;
    assert_eq!(finished.code, Some(code), "{finished}");
}

/// Waits until a statement of this kind waits for a lock.
async fn waits_for_a_lock(db: &TestDb, pattern: &'static str) {
    let sql = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() \
               AND wait_event_type = 'Lock' AND query LIKE $1)";
    wait_until(PATIENCE, "a process that waits for a lock", async || {
        sqlx::query_scalar(sql).bind(pattern).fetch_one(db.pool()).await.unwrap()
    })
    .await;
}

/// Holds the lock under which migrations are applied, as another process that is at it.
async fn lock(db: &TestDb) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut tx = db.pool().begin().await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext('_sqlx_migrations'))").execute(&mut *tx).await.unwrap();
    tx
}

#[tokio::test]
async fn an_empty_database_gets_the_schema_once() {
    let db = empty().await;
    let finished = migrate(&db).arg("--output=json").run().await.expect_code(0);
    let told: Value = serde_json::from_str(finished.stdout.trim_end()).unwrap();
    assert_eq!((told["job"].as_str(), told["outcome"].as_str()), (Some("migrate"), Some("done")));
    assert_eq!((&finished.last()["message"], &finished.last()["outcome"]), (&"finished".into(), &"done".into()));
    let applied = finished.log.iter().filter(|line| line["message"] == "applied a migration").count();
    assert!(applied > 0 && finished.last()["changed"] == applied as u64, "{finished}");
    assert!(tables(&db).await > 1);
    let again = migrate(&db).run().await.expect_code(0);
    assert_eq!(again.last()["outcome"], "nothing_to_do");
}

#[tokio::test]
async fn of_several_at_once_one_applies_and_the_others_find_nothing_to_do() {
    let db = empty().await;
    let held = lock(&db).await;
    let started: Vec<Running> = (0..3).map(|_| migrate(&db).start()).collect();
    waits_for_a_lock(&db, "%schema::apply%").await;
    held.rollback().await.unwrap();
    let mut outcomes = Vec::new();
    for running in started {
        let finished = running.wait(PATIENCE).await.expect_code(0);
        outcomes.push(finished.last()["outcome"].as_str().unwrap().to_owned());
    }
    outcomes.sort();
    assert_eq!(outcomes, ["done", "nothing_to_do", "nothing_to_do"]);
}

#[tokio::test]
async fn a_stop_in_the_middle_leaves_nothing_behind() {
    let db = empty().await;
    // A table that the first migration refers to by name is held by somebody else's unfinished transaction.
    let mut other = db.pool().begin().await.unwrap();
    sqlx::query("CREATE TABLE accounts ()").execute(&mut *other).await.unwrap();
    let running = migrate(&db).start();
    waits_for_a_lock(&db, "%CREATE TABLE accounts%").await;
    running.signal(Signal::SIGTERM);
    let finished = running.wait(PATIENCE).await.expect_code(143);
    assert_eq!(finished.last()["outcome"], "stopped");
    other.rollback().await.unwrap();
    assert_eq!(tables(&db).await, 0);
    ends(migrate(&db), 0).await;
}

#[tokio::test]
async fn waiting_for_another_process_ends_with_75() {
    let db = empty().await;
    let _held = lock(&db).await;
    let finished = migrate(&db).env("MAX_RUNTIME", "1s").run().await.expect_code(75);
    assert!(finished.last()["error"].is_string(), "{finished}");
}

#[tokio::test]
async fn check_tells_whether_the_schema_fits_and_can_wait_for_it() {
    let db = empty().await;
    ends(migrate(&db).arg("check"), 75).await;
    let mut waiting = migrate(&db).arg("check").arg("--wait=1m").start();
    waiting.wait_for_log(PATIENCE, |line| line["message"].as_str().is_some_and(|m| m.starts_with("waiting"))).await;
    ends(migrate(&db), 0).await;
    let finished = waiting.wait(PATIENCE).await.expect_code(0);
    assert!(finished.stdout.starts_with("up to date, version "), "{finished}");

    execute(&db, "INSERT INTO _sqlx_migrations VALUES (99999999999999, 'next', now(), true, '', 0)").await;
    ends(migrate(&db).arg("check").arg("--wait=1m"), 78).await;
    ends(migrate(&db), 78).await;
    execute(&db, "UPDATE _sqlx_migrations SET checksum = 'x'").await;
    ends(migrate(&db), 65).await;
}

#[tokio::test]
async fn status_shows_what_is_applied_and_what_is_pending() {
    let db = TestDb::new().await;
    execute(&db, "DELETE FROM _sqlx_migrations WHERE version = (SELECT max(version) FROM _sqlx_migrations)").await;
    let finished = migrate(&db).arg("status").arg("--output=json").run().await.expect_code(0);
    let versions: Vec<Value> = serde_json::from_str(finished.stdout.trim_end()).unwrap();
    assert_eq!(versions.first().unwrap()["state"], "applied");
    assert_eq!(versions.last().unwrap()["state"], "pending");
    let text = migrate(&db).arg("status").run().await.expect_code(0).stdout;
    assert!(text.starts_with("VERSION") && text.lines().last().unwrap().contains("pending"), "{text}");
}

#[tokio::test]
async fn wrong_settings_and_lines_have_their_exit_codes() {
    let bare = || Binary::at(env!("CARGO_BIN_EXE_migrate"));
    let finished = bare().env("LOG_FORMAT", "loud").run().await.expect_code(78);
    for name in ["DATABASE_URL", "LOG_FORMAT"] {
        assert!(finished.stderr.contains(&format!("configuration: {name}: ")), "{finished}");
    }
    assert_eq!(finished.last()["outcome"], "failed");
    ends(bare().arg("--nonsense"), 64).await;
    ends(bare().env("DATABASE_URL", "postgres://127.0.0.1:1/none"), 75).await;
    let help = bare().arg("--help").run().await.expect_code(0).stdout;
    assert!(help.contains("Applies pending migrations") && help.contains("DATABASE_URL"), "{help}");
    assert!(bare().arg("--version").run().await.expect_code(0).stdout.starts_with("migrate 0.1.0"));
}
