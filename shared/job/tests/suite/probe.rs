//! The example job as a process.

use std::time::Duration;

use harness::{Binary, Running, TestDb};
use runtime::{Database, Secret};
use serde_json::Value;

/// Far beyond any run here.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The example job on `db`, through the pooler.
pub(crate) fn probe(db: &TestDb) -> Binary {
    bare().env("DATABASE_URL", db.pooled_url()).env("REDIS_URL", db.redis_url())
}

/// The example job without any setting.
pub(crate) fn bare() -> Binary {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().parent().unwrap().join("examples/probe");
    assert!(
        program.is_file(),
        "{} is missing: cargo test -p job builds it, so does cargo build --examples",
        program.display()
    );
    Binary::at(program)
}

/// A connection like the runner's, through the pooler.
pub(crate) fn pooled(db: &TestDb) -> Database {
    Database::new(runtime::db::options(&Secret::new(db.pooled_url()), "test").unwrap(), 4)
}

/// A real run that has written a batch and goes on until it is ended.
pub(crate) async fn busy(probe: Binary) -> Running {
    let mut running = probe.env("ITEMS", "1000000").env("BATCH_SIZE", "1").env("DELAY", "20").start();
    running.wait_for_log(PATIENCE, |line| message(line) == "counted a batch").await;
    running
}

/// Runs it and expects this exit code.
pub(crate) async fn ends(probe: Binary, code: i32) {
    let finished = probe.run().await;
    assert_eq!(finished.code, Some(code), "{finished}");
}

/// The message of a log line.
pub(crate) fn message(line: &Value) -> &str {
    line["message"].as_str().unwrap_or_default()
}

/// Makes every lease run out, as if time had passed.
pub(crate) async fn expire_leases(db: &TestDb) {
    execute(db, "UPDATE job_leases SET expires_at = now() - interval '1 second'").await;
}

/// Runs one statement.
pub(crate) async fn execute(db: &TestDb, sql: &'static str) {
    sqlx::query(sql).execute(db.pool()).await.unwrap();
}

/// The ledger, oldest first: outcome, scanned.
pub(crate) async fn ledger(db: &TestDb) -> Vec<(Option<String>, i64)> {
    sqlx::query_as("SELECT outcome, scanned FROM job_runs ORDER BY id").fetch_all(db.pool()).await.unwrap()
}

/// How many leases there are.
pub(crate) async fn leases(db: &TestDb) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM job_leases").fetch_one(db.pool()).await.unwrap()
}

/// How often a run ended so.
pub(crate) async fn runs(db: &TestDb, outcome: &str) -> i64 {
    let sql = "SELECT coalesce(sum(value), 0)::bigint FROM job_counters WHERE metric = 'rollcall_job_runs_total' AND labels = $1";
    sqlx::query_scalar(sql).bind(outcome).fetch_one(db.pool()).await.unwrap()
}
