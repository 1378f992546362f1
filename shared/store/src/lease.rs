//! Who runs a job now.
//!
//! A lease is a row with an expiry by the database's clock, since nothing else is shared by all who might run: session
//! locks do not survive a transaction-mode pooler. Whoever takes it gets a number greater than all before it, and every
//! batch of the holder checks that the number still stands ([`crate::checkpoint::seal`]), so that a holder that slept
//! past its expiry writes nothing.

use sqlx::PgConnection;
use time::OffsetDateTime;

/// How long a lease lasts without a renewal, in seconds: a killed run's lease frees itself within a minute.
pub const LASTS_SECONDS: u64 = 45;
/// A holder of a shared slot that has not renewed for so many seconds does not speak for the others any more: it renews every ten.
const MUTE_SECONDS: u64 = 12;
/// And after so many it is dead to whoever enters: beside others nobody waits for its lease to run out.
const DEAD_SECONDS: u64 = 20;

/// The part of a job that one process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot<'a> {
    /// Name of the job.
    pub job: &'a str,
    /// Into how many shards the run is split; 1 for a whole run.
    pub shard_count: i32,
    /// Which shard, from 0.
    pub shard_index: i32,
    /// Other runs may hold the same slot beside it: they share the work in another way.
    pub shared: bool,
}

impl Slot<'_> {
    /// The shard label under which the run counts and pushes: empty for a whole run.
    pub fn label(self) -> String {
        shard_label(self.shard_count, self.shard_index)
    }
}

/// The shard label of a run of so many shards: empty for a whole run.
pub fn shard_label(shard_count: i32, shard_index: i32) -> String {
    if shard_count > 1 { shard_index.to_string() } else { String::new() }
}

/// A run that excludes ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Busy {
    /// Its id.
    pub run_id: String,
    /// Until when it holds its lease unless it renews it.
    pub expires_at: OffsetDateTime,
}

/// Clears expired leases of the job and tells who excludes `slot`: a run of the same shard, of another split, or of the
/// whole job. A lease that an earlier try of this very run (the same `run_id` and slot: Kubernetes starts the next try
/// only after the last one's end) has left is cleared too, since the retry would otherwise take its dead predecessor for
/// a live run. Nobody excludes a shared slot. Until this transaction ends nobody else can enter.
///
/// # Errors
/// Those of the statements.
pub async fn enter(tx: &mut PgConnection, slot: Slot<'_>, run_id: &str) -> Result<Option<Busy>, sqlx::Error> {
    sqlx::query!(
        "-- lease::enter: one at a time per job
        SELECT pg_advisory_xact_lock(hashtext('job_leases'), hashtext($1)) AS \"locked!: ()\"",
        slot.job,
    )
    .fetch_one(&mut *tx)
    .await?;
    // Waits for a batch that an expired holder is just committing (see [`crate::checkpoint::seal`]), whatever its shard.
    sqlx::query!(
        "-- lease::enter: clear expired leases
        DELETE FROM job_leases
        WHERE job = $1
            AND (expires_at <= clock_timestamp() + make_interval(secs => CASE WHEN shared THEN $5 ELSE 0 END)
                OR (run_id = $2 AND shard_count = $3 AND shard_index = $4))",
        slot.job,
        run_id,
        slot.shard_count,
        slot.shard_index,
        (LASTS_SECONDS - DEAD_SECONDS) as f64,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query_as!(
        Busy,
        "-- lease::enter: find who excludes us
        SELECT run_id, expires_at FROM job_leases
        WHERE job = $1 AND (shard_count <> $2 OR shard_index = $3) AND NOT $4
        LIMIT 1",
        slot.job,
        slot.shard_count,
        slot.shard_index,
        slot.shared,
    )
    .fetch_optional(tx)
    .await
}

/// Takes the lease, after [`enter`] found nobody in the same transaction. Returns the fencing token, which is greater
/// than that of every earlier holder.
///
/// # Errors
/// Those of the statement.
pub async fn take(tx: &mut PgConnection, slot: Slot<'_>, run_id: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        "-- lease::take
        INSERT INTO job_leases (job, shard_count, shard_index, run_id, fencing_token, expires_at, shared)
        VALUES ($1, $2, $3, $4, nextval('job_fencing_tokens'), clock_timestamp() + make_interval(secs => $5), $6)
        RETURNING fencing_token",
        slot.job,
        slot.shard_count,
        slot.shard_index,
        run_id,
        LASTS_SECONDS as f64,
        slot.shared,
    )
    .fetch_one(tx)
    .await
}

/// Moves the expiry on; `false` when the lease is no longer ours.
///
/// # Errors
/// Those of the statement.
pub async fn renew(tx: &mut PgConnection, slot: Slot<'_>, fencing_token: i64) -> Result<bool, sqlx::Error> {
    let renewed = sqlx::query!(
        "-- lease::renew
        UPDATE job_leases SET expires_at = clock_timestamp() + make_interval(secs => $5)
        WHERE job = $1 AND shard_count = $2 AND shard_index = $3 AND fencing_token = $4",
        slot.job,
        slot.shard_count,
        slot.shard_index,
        fencing_token,
        LASTS_SECONDS as f64,
    )
    .execute(tx)
    .await?;
    Ok(renewed.rows_affected() > 0)
}

/// Whether this is the eldest of the live leases that push to the same group: of runs that share a slot only one tells,
/// since totals from two mouths would go back and forth.
///
/// # Errors
/// Those of the statement.
pub async fn is_eldest(tx: &mut PgConnection, slot: Slot<'_>, fencing_token: i64) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        "-- lease::is_eldest
        SELECT NOT EXISTS (
            SELECT FROM job_leases
            WHERE job = $1 AND (shard_count = 1) = ($2 = 1) AND shard_index = $3 AND fencing_token < $4
                AND expires_at > clock_timestamp() + make_interval(secs => $5)) AS \"is_eldest!\"",
        slot.job,
        slot.shard_count,
        slot.shard_index,
        fencing_token,
        (LASTS_SECONDS - MUTE_SECONDS) as f64,
    )
    .fetch_one(tx)
    .await
}

/// Gives the lease back, if it is still ours.
///
/// # Errors
/// Those of the statement.
pub async fn release(tx: &mut PgConnection, slot: Slot<'_>, fencing_token: i64) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- lease::release
        DELETE FROM job_leases WHERE job = $1 AND shard_count = $2 AND shard_index = $3 AND fencing_token = $4",
        slot.job,
        slot.shard_count,
        slot.shard_index,
        fencing_token,
    )
    .execute(tx)
    .await?;
    Ok(())
}
