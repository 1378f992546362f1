//! The seam between the two stores, hit on purpose: the sessions are gone from Redis, and PostgreSQL does not know yet.
//! Exactly one audit row and one event for each, whatever happens there.

use std::time::Duration;

use harness::{Fault, FaultProxy, Finished, Running, SessionSpec, wait_until};
use nix::sys::signal::Signal;
use sqlx::{AssertSqlSafe, Postgres, Transaction};
use suites::outcome;

use crate::cast::{Cast, Who};

const SOON: Duration = Duration::from_secs(20);

/// A run that has taken the leaver's session and cannot write it down.
struct Caught<'a> {
    cast: Cast,
    database: FaultProxy,
    run: Running,
    gate: Transaction<'a, Postgres>,
}

/// Lets a run go as far as the seam. Whatever `close` locks keeps the run from ending its transaction.
async fn caught_at_the_seam(cast: Cast, close: &'static str) -> Caught<'static> {
    let database = FaultProxy::start(cast.stage.db.url());
    let mut gate = cast.stage.db.pool().begin().await.unwrap();
    sqlx::query(close).execute(&mut *gate).await.unwrap();
    let run = cast.stage.verifier().env("DATABASE_URL", database.url()).start();
    wait_until(SOON, "the session is taken and leaves a receipt", async || receipts(&cast).await == 1).await;
    assert!(!cast.stage.community.has_session(cast.member(Who::Leaver).session_token()).await);
    assert_eq!(cast.stage.community.audit().await, []);
    assert_eq!(cast.stage.community.pending().await.len(), 1);
    Caught { cast, database, run, gate }
}

const WHILE_IT_WRITES: &str = "-- weather::caught_at_the_seam\nLOCK TABLE audit_logs IN EXCLUSIVE MODE";

async fn receipts(cast: &Cast) -> usize {
    cast.stage.community.fingerprint().await.redis.keys().filter(|key| key.contains(":receipt:")).count()
}

/// The next run tells of the one session, once.
async fn assert_completed_by_the_next(cast: &Cast) -> Finished {
    let sql = "-- weather::seams\nUPDATE job_leases SET expires_at = now() - interval '1 second'";
    sqlx::query(sql).execute(cast.stage.db.pool()).await.unwrap();
    let next = cast.stage.verify().await.expect_code(0);
    assert_eq!(cast.lost().await, [Who::Leaver], "{next}");
    assert_eq!(cast.stage.community.candidates().await, [], "{next}");
    cast.assert_whole().await;
    let counters = cast.stage.community.counters("character-verifier").await;
    assert_eq!(counters["battlescope_sessions_invalidated_total{disallowed}"], 1, "{next}");
    next
}

#[tokio::test]
async fn killed_between_redis_and_postgresql() {
    let caught = caught_at_the_seam(Cast::new(true).await, WHILE_IT_WRITES).await;
    caught.run.signal(Signal::SIGKILL);
    let killed = caught.run.wait(SOON).await;
    assert_eq!(killed.signal, Some(9), "{killed}");
    caught.gate.rollback().await.unwrap();
    let next = assert_completed_by_the_next(&caught.cast).await;
    // Everybody had been verified: the decision alone was left.
    assert_eq!(outcome(&next)["outcome"], "done", "{next}");
    let runs = caught.cast.stage.community.runs().await;
    assert_eq!(runs[0].outcome.as_deref(), Some("lost"), "{runs:#?}");
}

#[tokio::test]
async fn killed_while_postgresql_hangs_between_redis_and_its_commit() {
    let caught = caught_at_the_seam(Cast::new(true).await, WHILE_IT_WRITES).await;
    caught.database.set(Fault::Hang);
    caught.gate.rollback().await.unwrap();
    caught.run.signal(Signal::SIGKILL);
    let killed = caught.run.wait(SOON).await;
    assert_eq!(killed.signal, Some(9), "{killed}");
    caught.database.set(Fault::Pass);
    assert_completed_by_the_next(&caught.cast).await;
}

#[tokio::test]
async fn a_connection_cut_between_redis_and_the_commit() {
    let caught = caught_at_the_seam(Cast::new(true).await, WHILE_IT_WRITES).await;
    caught.database.cut();
    let cut = caught.run.wait(SOON).await;
    assert_eq!(cut.code, Some(75), "{cut}");
    caught.gate.rollback().await.unwrap();
    assert_completed_by_the_next(&caught.cast).await;
}

#[tokio::test]
async fn a_stop_between_redis_and_the_commit() {
    let caught = caught_at_the_seam(Cast::new(true).await, WHILE_IT_WRITES).await;
    caught.run.signal(Signal::SIGTERM);
    caught.gate.rollback().await.unwrap();
    let stopped = caught.run.wait(SOON).await;
    // What was in hand is finished.
    assert!(matches!(stopped.code, Some(0 | 143)), "{stopped}");
    assert_eq!(caught.cast.stage.community.pending().await, [], "{stopped}");
    assert_eq!(caught.cast.lost().await, [Who::Leaver], "{stopped}");
    assert_completed_by_the_next(&caught.cast).await;
}

/// A constraint that is checked at the commit waits for a lock that the test holds.
const AT_THE_COMMIT: &str = "-- weather::seams\nSELECT pg_advisory_xact_lock(42)";

async fn gate_commits_to(cast: &Cast, table: &str) {
    for sql in [
        "CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NULL; END'",
        &format!(
            "CREATE CONSTRAINT TRIGGER gate AFTER INSERT OR UPDATE ON {table} DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION gate()"
        ),
    ] {
        sqlx::query(AssertSqlSafe(sql)).execute(cast.stage.db.pool()).await.unwrap();
    }
}

async fn a_commit_waits(cast: &Cast) {
    let waiting = "-- weather::seams\nSELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 42
        AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))";
    wait_until(SOON, "the commit waits", async || {
        sqlx::query_scalar(waiting).fetch_one(cast.stage.db.pool()).await.unwrap()
    })
    .await;
}

/// The commit is done and nobody learns of it.
#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_not_made_twice() {
    let cast = Cast::new(true).await;
    gate_commits_to(&cast, "audit_logs").await;
    let caught = caught_at_the_seam(cast, AT_THE_COMMIT).await;
    a_commit_waits(&caught.cast).await;
    caught.database.set(Fault::CutAfter(0));
    caught.gate.rollback().await.unwrap();
    let community = &caught.cast.stage.community;
    wait_until(SOON, "the commit is done", async || community.audit().await.len() == 1).await;
    caught.database.set(Fault::Pass);
    let cut = caught.run.wait(SOON).await;
    assert!(matches!(cut.code, Some(0 | 75)), "{cut}");
    assert_completed_by_the_next(&caught.cast).await;
}

#[tokio::test]
async fn calls_told_with_a_commit_whose_answer_is_lost_are_counted_once() {
    let cast = Cast::new(true).await;
    gate_commits_to(&cast, "eve_characters").await;
    let stage = &cast.stage;
    let database = FaultProxy::start(stage.db.url());
    let mut gate = stage.db.pool().begin().await.unwrap();
    sqlx::query(AT_THE_COMMIT).execute(&mut *gate).await.unwrap();
    let run = stage.verifier().env("DATABASE_URL", database.url()).start();
    a_commit_waits(&cast).await;
    // The answer is held back until the connection is cut, however late it comes.
    database.set(Fault::Hang);
    gate.rollback().await.unwrap();
    let stamped = async || stage.community.eve(cast.member(Who::Leaver).eve_id).await.last_attempted_at.is_some();
    wait_until(SOON, "the commit is done", stamped).await;
    database.cut();
    let gone = "-- weather::seams\nSELECT NOT EXISTS (SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'character-verifier')";
    wait_until(SOON, "its connections are cut", async || {
        sqlx::query_scalar(gone).fetch_one(stage.db.pool()).await.unwrap()
    })
    .await;
    database.set(Fault::Pass);
    let cut = run.wait(SOON).await.expect_code(75);
    let counters = stage.community.counters("character-verifier").await;
    let calls = counters.iter().filter(|(series, _)| series.starts_with("rollcall_esi_calls_total"));
    let calls: i64 = calls.map(|(_, n)| n).sum();
    assert_eq!(u64::try_from(calls).unwrap(), stage.sim.counts().total(), "{cut}");
    let run = stage.community.runs().await.pop().unwrap();
    assert_eq!((run.outcome.as_deref(), run.scanned), (Some("failed"), 5), "the batch was written: {cut}");
    assert_eq!(outcome(&cut)["scanned"], 5, "and the log line says so: {cut}");
}

#[tokio::test]
async fn a_login_after_the_observation_survives_the_completion() {
    let caught = caught_at_the_seam(Cast::new(true).await, WHILE_IT_WRITES).await;
    caught.run.signal(Signal::SIGKILL);
    caught.run.wait(SOON).await;
    caught.gate.rollback().await.unwrap();
    let leaver = caught.cast.member(Who::Leaver).clone();
    // Approved with younger knowledge: the leaver is back.
    let spec = SessionSpec { approved_minutes_ago: -1, ..SessionSpec::default() };
    let back = caught.cast.stage.community.open_session(&leaver, spec).await;
    assert_completed_by_the_next(&caught.cast).await;
    assert!(caught.cast.stage.community.has_session(&back).await, "the receipt tells what was taken, nothing more is");
}
