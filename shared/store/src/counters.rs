//! Totals of the `…_total` metrics, which go on from run to run.

use sqlx::PgConnection;

/// One series of a counter and a number: an increment, or a total.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count {
    /// Metric name.
    pub metric: String,
    /// Label values in the metric's order, joined by commas; empty where it has no labels.
    pub labels: String,
    /// The number, never negative.
    pub value: i64,
}

/// Adds `increments`, at most one a series, to the totals of `job` and `shard` and returns the new totals of these
/// series.
///
/// # Errors
/// Those of the statement.
pub async fn add(
    tx: &mut PgConnection,
    job: &str,
    shard: &str,
    increments: &[Count],
) -> Result<Vec<Count>, sqlx::Error> {
    if increments.is_empty() {
        return Ok(Vec::new());
    }
    let metrics: Vec<String> = increments.iter().map(|count| count.metric.clone()).collect();
    let labels: Vec<String> = increments.iter().map(|count| count.labels.clone()).collect();
    let values: Vec<i64> = increments.iter().map(|count| count.value).collect();
    sqlx::query_as!(
        Count,
        "-- counters::add: in one order, so that two writers never wait for each other in a circle
        INSERT INTO job_counters AS total (job, shard, metric, labels, value)
        SELECT $1, $2, metric, labels, value
        FROM unnest($3::text[], $4::text[], $5::bigint[]) AS new (metric, labels, value)
        ORDER BY metric, labels
        ON CONFLICT (job, shard, metric, labels) DO UPDATE SET value = total.value + excluded.value
        RETURNING metric, labels, value",
        job,
        shard,
        &metrics,
        &labels,
        &values,
    )
    .fetch_all(tx)
    .await
}

/// All totals of `job` and `shard`.
///
/// # Errors
/// Those of the statement.
pub async fn totals(tx: &mut PgConnection, job: &str, shard: &str) -> Result<Vec<Count>, sqlx::Error> {
    sqlx::query_as!(
        Count,
        "-- counters::totals
        SELECT metric, labels, value FROM job_counters WHERE job = $1 AND shard = $2 ORDER BY metric, labels",
        job,
        shard,
    )
    .fetch_all(tx)
    .await
}
