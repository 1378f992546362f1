//! What the tests of this suite share.

use std::time::Duration;

use esi_simulator::Route;
use harness::{Binary, FaultProxy, Finished, RunRow, Running, newcomer, wait_until};
use serde_json::Value;
use sqlx::AssertSqlSafe;
use suites::Stage;

/// Far beyond anything that is waited for.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);
/// Name of the binary under test.
pub(crate) const VERIFIER: &str = "character-verifier";
/// What the last log line, the summary and `status` must tell.
pub(crate) const FIXED: [&str; 10] =
    ["job", "run_id", "outcome", "dry_run", "scanned", "changed", "skipped", "failed", "remaining", "duration_ms"];

/// A run that takes its characters one by one, each call to ESI through `esi`.
pub(crate) fn one_by_one(stage: &Stage, esi: &FaultProxy) -> Binary {
    stage.verifier().env("ESI_BASE_URL", esi.url()).env("BATCH_SIZE", "1").env("ESI_CONCURRENCY", "1")
}

/// A proxy before ESI, by which a run can be held.
pub(crate) fn before_esi(stage: &Stage) -> FaultProxy {
    FaultProxy::start(&stage.sim.url())
}

/// Adds so many characters that are due, each with a session.
pub(crate) async fn people(stage: &Stage, count: usize) {
    stage
        .crowd(count, |place| {
            (harness::CORPORATION, newcomer(format!("pilot{place}")).verified_minutes_ago(90).session())
        })
        .await;
}

/// Waits until so many runs are under way, and at least one of them stands in its call to ESI, since `esi` hangs. Of several,
/// one asks for the status, and the others may be waiting for its answer.
pub(crate) async fn held(stage: &Stage, esi: &FaultProxy, runs: usize) {
    wait_until(LIMIT, "the run has its row and asks ESI", async || {
        esi.held() + esi.waiting() > 0
            && stage.community.runs().await.iter().filter(|run| run.ended_at.is_none()).count() == runs
    })
    .await;
}

/// Waits until the run under way has written so many characters.
pub(crate) async fn written(stage: &Stage, characters: i64) {
    wait_until(LIMIT, "characters are written", async || {
        last_run(stage).await.is_some_and(|run| run.ended_at.is_none() && run.scanned >= characters)
    })
    .await;
}

/// Holds a run in its next call to ESI: returns when it stands there, with no transaction open.
pub(crate) async fn hold(stage: &Stage, esi: &FaultProxy) {
    esi.set(harness::Fault::Hang);
    let mut before = None;
    wait_until(LIMIT, "the run stands still", async || {
        let now = (
            number(stage, "SELECT sum(scanned)::bigint FROM job_runs").await,
            number(
                stage,
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle'
                     AND pid <> pg_backend_pid()",
            )
            .await,
        );
        let stands = now.1 == 0 && before == Some(now);
        // A batch takes two dozen milliseconds, and this pause is longer.
        number(stage, "SELECT 1::bigint FROM pg_sleep(0.1)").await;
        before = Some(now);
        stands
    })
    .await;
}

/// The newest row of the ledger.
pub(crate) async fn last_run(stage: &Stage) -> Option<RunRow> {
    stage.community.runs().await.pop()
}

/// Outcomes of the ledger, oldest first; `-` while a run is open.
pub(crate) async fn outcomes(stage: &Stage) -> Vec<String> {
    stage.community.runs().await.into_iter().map(|run| run.outcome.unwrap_or_else(|| "-".to_owned())).collect()
}

/// Lets every lease run out, as if its time had passed.
pub(crate) async fn expire_leases(stage: &Stage) {
    execute(stage, "UPDATE job_leases SET expires_at = clock_timestamp() - interval '1 second'").await;
}

/// How many leases there are.
pub(crate) async fn leases(stage: &Stage) -> i64 {
    number(stage, "SELECT count(*) FROM job_leases").await
}

/// Characters that are still due: not verified within the last hour.
pub(crate) async fn due(stage: &Stage) -> i64 {
    number(
        stage,
        "SELECT count(*) FROM eve_characters
         WHERE last_verified_at IS NULL OR last_verified_at < now() - interval '1 hour'",
    )
    .await
}

/// A number from the database.
pub(crate) async fn number(stage: &Stage, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(format!("-- runner::number\n{sql}"))).fetch_one(stage.db.pool()).await.unwrap()
}

/// Changes something in the database.
pub(crate) async fn execute(stage: &Stage, sql: &str) {
    sqlx::query(AssertSqlSafe(format!("-- runner::execute\n{sql}"))).execute(stage.db.pool()).await.unwrap();
}

/// The summary that a run with OUTPUT=json prints, or what `status` and `check` print.
pub(crate) fn json(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout)
        .unwrap_or_else(|error| panic!("no JSON on standard output: {error}\n{finished}"))
}

/// A number of the last log line.
pub(crate) fn told(finished: &Finished, field: &str) -> i64 {
    suites::outcome(finished)[field].as_i64().unwrap_or_else(|| panic!("no number {field}:\n{finished}"))
}

/// The outcome told by the last log line.
pub(crate) fn ended(finished: &Finished) -> &str {
    suites::outcome(finished)["outcome"].as_str().unwrap()
}

/// Waits for the end, killing nothing.
pub(crate) async fn end(running: Running) -> Finished {
    running.wait(LIMIT).await
}

/// Waits until ESI was asked for so many pages.
pub(crate) async fn pages(stage: &Stage, count: u64) {
    assert!(stage.sim.wait_for(LIMIT, |counts| counts.arrived(Route::Affiliation) >= count).await, "no page {count}");
}
