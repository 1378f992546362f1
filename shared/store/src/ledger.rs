//! The ledger of runs: what ran, when, and what came of it.

use std::collections::BTreeMap;

use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;

use crate::lease::Slot;

/// What is known of a run when it starts.
#[derive(Debug, Clone, Copy)]
pub struct NewRun<'a> {
    /// Job and shard.
    pub slot: Slot<'a>,
    /// The tries of one Kubernetes Job share it.
    pub run_id: &'a str,
    /// `schedule`, `manual` or `local`.
    pub trigger: &'a str,
    /// Whether the run writes nothing but its row here.
    pub dry_run: bool,
    /// Version and revision of the binary.
    pub version: &'a str,
}

/// A run's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Order of starting.
    pub id: i64,
    /// By the database's clock.
    pub started_at: OffsetDateTime,
}

/// Numbers of a run, as increments or as totals.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Items looked at.
    pub scanned: u64,
    /// Items changed.
    pub changed: u64,
    /// Items left for the next run.
    pub skipped: u64,
    /// Items that are permanently bad.
    pub failed: u64,
}

impl std::ops::Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            scanned: self.scanned + other.scanned,
            changed: self.changed + other.changed,
            skipped: self.skipped + other.skipped,
            failed: self.failed + other.failed,
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy)]
pub struct Closing<'a> {
    /// Name of the outcome.
    pub outcome: &'a str,
    /// Items that were due and not reached.
    pub remaining: u64,
    /// What an operator should know or do next.
    pub note: Option<&'a str>,
    /// Why it failed.
    pub error: Option<&'a str>,
}

/// A run that died and was closed by a later one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Its id.
    pub run_id: String,
    /// Its split.
    pub shard_count: i32,
    /// Its shard.
    pub shard_index: i32,
    /// Whether it was a dry run.
    pub dry_run: bool,
}

/// A row of the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// The run's id.
    pub run_id: String,
    /// Name of the job.
    pub job: String,
    /// Into how many shards the run was split.
    pub shard_count: i32,
    /// Which shard, from 0.
    pub shard_index: i32,
    /// `schedule`, `manual` or `local`.
    pub trigger: String,
    /// Whether it wrote nothing but this row.
    pub dry_run: bool,
    /// Version and revision of the binary.
    pub version: String,
    /// By the database's clock.
    pub started_at: OffsetDateTime,
    /// How long it took, or for a running one how long it has been at it, in milliseconds.
    pub duration_ms: i64,
    /// Name of the outcome; none while it runs.
    pub outcome: Option<String>,
    /// Items looked at.
    pub scanned: i64,
    /// Items changed.
    pub changed: i64,
    /// Items left for the next run.
    pub skipped: i64,
    /// Items that are permanently bad.
    pub failed: i64,
    /// Items that were due and not reached.
    pub remaining: i64,
    /// Further counters.
    pub details: Json<BTreeMap<String, u64>>,
    /// What an operator should know or do next.
    pub note: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
}

/// The database's clock.
///
/// # Errors
/// Those of the statement.
pub async fn now(tx: &mut PgConnection) -> Result<OffsetDateTime, sqlx::Error> {
    sqlx::query_scalar!("-- ledger::now\nSELECT now() AS \"now!\"").fetch_one(tx).await
}

/// Writes the row of a run that starts.
///
/// # Errors
/// Those of the statement.
pub async fn open(tx: &mut PgConnection, run: NewRun<'_>) -> Result<Opened, sqlx::Error> {
    sqlx::query_as!(
        Opened,
        "-- ledger::open
        INSERT INTO job_runs (run_id, job, shard_count, shard_index, trigger, dry_run, version)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        RETURNING id, started_at",
        run.run_id,
        run.slot.job,
        run.slot.shard_count,
        run.slot.shard_index,
        run.trigger,
        run.dry_run,
        run.version,
    )
    .fetch_one(tx)
    .await
}

/// Closes the open rows of runs that died: real runs whose lease is gone, dry runs without a sign of life for two
/// minutes. Call it between [`crate::lease::enter`] and [`crate::lease::take`].
///
/// # Errors
/// Those of the statement.
pub async fn close_lost(tx: &mut PgConnection, job: &str) -> Result<Vec<Lost>, sqlx::Error> {
    sqlx::query_as!(
        Lost,
        "-- ledger::close_lost
        UPDATE job_runs AS run
        SET ended_at = heartbeat_at, outcome = 'lost', error = 'the process ended without a word; closed by the next run'
        WHERE job = $1 AND ended_at IS NULL AND CASE
            WHEN dry_run THEN heartbeat_at < now() - interval '2 minutes'
            ELSE NOT EXISTS (
                SELECT FROM job_leases AS lease
                WHERE lease.job = run.job AND lease.shard_count = run.shard_count
                    AND lease.shard_index = run.shard_index AND (NOT lease.shared OR lease.run_id = run.run_id)
                    AND lease.expires_at > clock_timestamp())
            END
        RETURNING run_id, shard_count, shard_index, dry_run",
        job,
    )
    .fetch_all(tx)
    .await
}

/// Adds to the numbers of a row that is about to be closed (batches add theirs by [`crate::checkpoint::seal`]); `false`
/// when it is closed already.
///
/// # Errors
/// Those of the statement.
pub async fn add(
    tx: &mut PgConnection,
    id: i64,
    tally: Tally,
    details: &BTreeMap<&'static str, u64>,
) -> Result<bool, sqlx::Error> {
    let names: Vec<String> = details.keys().map(|&name| name.to_owned()).collect();
    let values: Vec<i64> = details.values().map(|&value| signed(value)).collect();
    let added = sqlx::query!(
        "-- ledger::add
        UPDATE job_runs AS run
        SET scanned = scanned + $2, changed = changed + $3, skipped = skipped + $4, failed = failed + $5,
            details = run.details || (
                SELECT coalesce(jsonb_object_agg(name, coalesce((run.details ->> name)::bigint, 0) + value), '{}')
                FROM unnest($6::text[], $7::bigint[]) AS new (name, value))
        WHERE id = $1 AND ended_at IS NULL",
        id,
        signed(tally.scanned),
        signed(tally.changed),
        signed(tally.skipped),
        signed(tally.failed),
        &names,
        &values,
    )
    .execute(tx)
    .await?;
    Ok(added.rows_affected() > 0)
}

/// Gives a sign of life.
///
/// # Errors
/// Those of the statement.
pub async fn heartbeat(tx: &mut PgConnection, id: i64) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- ledger::heartbeat
        UPDATE job_runs SET heartbeat_at = now() WHERE id = $1 AND ended_at IS NULL",
        id,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Writes what an operator should know of a run while it goes on; none takes it back.
///
/// # Errors
/// Those of the statement.
pub async fn note(tx: &mut PgConnection, id: i64, note: Option<&str>) -> Result<(), sqlx::Error> {
    sqlx::query!("-- ledger::note\nUPDATE job_runs SET note = $2 WHERE id = $1 AND ended_at IS NULL", id, note)
        .execute(tx)
        .await?;
    Ok(())
}

/// Ends a row; `false` when somebody else has ended it (a later run took this one for dead).
///
/// # Errors
/// Those of the statement.
pub async fn close(tx: &mut PgConnection, id: i64, closing: Closing<'_>) -> Result<bool, sqlx::Error> {
    let closed = sqlx::query!(
        "-- ledger::close
        UPDATE job_runs
        SET ended_at = clock_timestamp(), heartbeat_at = now(), outcome = $2, remaining = $3, note = $4, error = $5
        WHERE id = $1 AND ended_at IS NULL",
        id,
        closing.outcome,
        signed(closing.remaining),
        closing.note,
        closing.error,
    )
    .execute(tx)
    .await?;
    Ok(closed.rows_affected() > 0)
}

/// The last `limit` runs of `job`, newest first.
///
/// # Errors
/// Those of the statement.
pub async fn latest(tx: &mut PgConnection, job: &str, limit: i64) -> Result<Vec<Run>, sqlx::Error> {
    sqlx::query_as!(
        Run,
        "-- ledger::latest
        SELECT run_id, job, shard_count, shard_index, trigger, dry_run, version, started_at,
            round(extract(epoch FROM coalesce(ended_at, clock_timestamp()) - started_at) * 1000)::bigint
                AS \"duration_ms!\",
            outcome, scanned, changed, skipped, failed, remaining,
            details AS \"details: Json<BTreeMap<String, u64>>\", note, error
        FROM job_runs WHERE job = $1 ORDER BY id DESC LIMIT $2",
        job,
        limit,
    )
    .fetch_all(tx)
    .await
}

/// When the last real run of this shard succeeded; shards of different splits with the same index count as the same,
/// as they push the same group.
///
/// # Errors
/// Those of the statement.
pub async fn last_success_at(tx: &mut PgConnection, slot: Slot<'_>) -> Result<Option<OffsetDateTime>, sqlx::Error> {
    let ended_at = sqlx::query_scalar!(
        "-- ledger::last_success_at
        SELECT ended_at AS \"ended_at!\" FROM job_runs
        WHERE job = $1 AND (shard_count = 1) = ($2 = 1) AND shard_index = $3
            AND outcome IN ('done', 'nothing_to_do') AND NOT dry_run
        ORDER BY ended_at DESC LIMIT 1",
        slot.job,
        slot.shard_count,
        slot.shard_index,
    )
    .fetch_optional(tx)
    .await?;
    Ok(ended_at)
}

/// When the run began that the next one goes on from: the first of the latest real runs of this shard that were
/// interrupted or held back one after the other, back to the last one that came to an end of its own. `None`: the latest
/// did.
///
/// # Errors
/// Those of the statement.
pub async fn goes_on_from(tx: &mut PgConnection, slot: Slot<'_>) -> Result<Option<OffsetDateTime>, sqlx::Error> {
    sqlx::query_scalar!(
        "-- ledger::goes_on_from
        SELECT min(started_at) FROM job_runs
        WHERE job = $1 AND shard_count = $2 AND shard_index = $3 AND NOT dry_run
            AND outcome IN ('lost', 'stopped', 'failed', 'capped')
            AND id > coalesce((
                SELECT max(id) FROM job_runs
                WHERE job = $1 AND shard_count = $2 AND shard_index = $3 AND NOT dry_run
                    AND outcome IN ('done', 'nothing_to_do', 'upstream_down')), 0)",
        slot.job,
        slot.shard_count,
        slot.shard_index,
    )
    .fetch_one(tx)
    .await
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
