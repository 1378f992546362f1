//! The end of every batch: the lease still stands, and the batch's numbers are written. One statement, since each costs
//! two round trips and a sweep writes a thousand batches.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use crate::{counters::Count, lease::Slot, ledger::Tally};

/// Whose batch it is.
#[derive(Debug, Clone, Copy)]
pub struct Holder<'a> {
    /// Job and shard.
    pub slot: Slot<'a>,
    /// As the lease was given.
    pub fencing_token: i64,
    /// The run's row in the ledger.
    pub row: i64,
}

/// What a batch adds.
#[derive(Debug, Clone, Copy)]
pub struct Numbers<'a> {
    /// To the ledger row.
    pub tally: Tally,
    /// To the further counters of the ledger row.
    pub details: &'a BTreeMap<&'static str, u64>,
    /// To the totals, at most one a series.
    pub counts: &'a [Count],
}

/// What stands after a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Batches of the run that are written.
    pub checkpoints: i64,
    /// The ledger row's numbers.
    pub tally: Tally,
    /// New totals of the series that were added to.
    pub totals: Vec<Count>,
}

/// Adds a batch's numbers to the ledger row and to the totals, if the lease is ours now; if so nobody can take it before
/// this transaction ends. The lock lets renewals pass and holds off whoever would clear the row. `None`: the lease is not
/// ours or the row is closed, nothing was added, and the transaction must be rolled back.
///
/// # Errors
/// Those of the statement.
pub async fn seal(
    tx: &mut PgConnection,
    holder: Holder<'_>,
    numbers: Numbers<'_>,
) -> Result<Option<Sealed>, sqlx::Error> {
    let Holder { slot, fencing_token, row } = holder;
    let Numbers { tally, details, counts } = numbers;
    let names: Vec<String> = details.keys().map(|&name| name.to_owned()).collect();
    let values: Vec<i64> = details.values().map(|&value| signed(value)).collect();
    let metrics: Vec<String> = counts.iter().map(|count| count.metric.clone()).collect();
    let labels: Vec<String> = counts.iter().map(|count| count.labels.clone()).collect();
    let increments: Vec<i64> = counts.iter().map(|count| count.value).collect();
    let found = sqlx::query!(
        r#"-- checkpoint::seal; the totals in one order, so that two writers never wait for each other in a circle
        WITH held AS MATERIALIZED (
            SELECT FROM job_leases
            WHERE job = $1 AND shard_count = $2 AND shard_index = $3 AND fencing_token = $4
                AND expires_at > clock_timestamp()
            FOR KEY SHARE),
        tally AS (
            UPDATE job_runs AS run
            SET heartbeat_at = now(), checkpoints = checkpoints + 1,
                scanned = scanned + $6, changed = changed + $7, skipped = skipped + $8, failed = failed + $9,
                details = run.details || (
                    SELECT coalesce(jsonb_object_agg(name, coalesce((run.details ->> name)::bigint, 0) + value), '{}')
                    FROM unnest($10::text[], $11::bigint[]) AS new (name, value))
            WHERE id = $5 AND ended_at IS NULL AND EXISTS (SELECT FROM held)
            RETURNING checkpoints, scanned, changed, skipped, failed),
        total AS (
            INSERT INTO job_counters AS total (job, shard, metric, labels, value)
            SELECT $1, $12, metric, labels, value
            FROM unnest($13::text[], $14::text[], $15::bigint[]) AS new (metric, labels, value)
            WHERE EXISTS (SELECT FROM tally)
            ORDER BY metric, labels
            ON CONFLICT (job, shard, metric, labels) DO UPDATE SET value = total.value + excluded.value
            RETURNING metric, labels, value)
        SELECT checkpoints, scanned, changed, skipped, failed,
            ARRAY(SELECT metric FROM total ORDER BY metric, labels) AS "metrics!",
            ARRAY(SELECT labels FROM total ORDER BY metric, labels) AS "labels!",
            ARRAY(SELECT value FROM total ORDER BY metric, labels) AS "totals!"
        FROM tally"#,
        slot.job,
        slot.shard_count,
        slot.shard_index,
        fencing_token,
        row,
        signed(tally.scanned),
        signed(tally.changed),
        signed(tally.skipped),
        signed(tally.failed),
        &names,
        &values,
        slot.label(),
        &metrics,
        &labels,
        &increments,
    )
    .fetch_optional(tx)
    .await?;
    Ok(found.map(|found| Sealed {
        checkpoints: found.checkpoints,
        tally: Tally {
            scanned: unsigned(found.scanned),
            changed: unsigned(found.changed),
            skipped: unsigned(found.skipped),
            failed: unsigned(found.failed),
        },
        totals: found
            .metrics
            .into_iter()
            .zip(found.labels)
            .zip(found.totals)
            .map(|((metric, labels), value)| Count { metric, labels, value })
            .collect(),
    }))
}

/// How many batches of the run are written; waits for one that is just being committed. `None`: there is no such row.
///
/// # Errors
/// Those of the statement.
pub async fn written(tx: &mut PgConnection, row: i64) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar!("-- checkpoint::written\nSELECT checkpoints FROM job_runs WHERE id = $1 FOR UPDATE", row)
        .fetch_optional(tx)
        .await
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
