//! Aggregates that are held back: one of their events was rejected, and the later ones must not overtake it.

use std::hash::{DefaultHasher, Hash, Hasher};

use futures::TryStreamExt;
use sqlx::{PgConnection, query, query_scalar};

use crate::Result;

/// An aggregate that is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Hash of the aggregate ([`key`]).
    pub key: u64,
    /// As in `outbox_events`.
    pub bucket: i16,
    /// The event to go on with: no earlier one of the aggregate is left.
    pub seq: i64,
    /// It may be tried now, by the database's clock.
    pub is_due: bool,
    /// Who wrote the row last (`xmin`): it is another once somebody has redriven, discarded or held again.
    pub version: u32,
}

/// By what a drain knows an aggregate. Only good within one process.
pub fn key(aggregate_type: &str, aggregate_id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (aggregate_type, aggregate_id).hash(&mut hasher);
    hasher.finish()
}

/// Hands over all held aggregates of these buckets, one by one: they may be many.
///
/// # Errors
/// Those of the statement.
pub async fn load(tx: &mut PgConnection, buckets: &[i16], mut each: impl FnMut(Held)) -> Result<()> {
    let mut rows = query!(
        r#"/* outbox::held::load */
        SELECT aggregate_type, aggregate_id, bucket, seq,
            coalesce(next_attempt_at <= clock_timestamp(), false) AS "is_due!", xmin::text::bigint AS "version!"
        FROM outbox_held WHERE bucket = ANY($1::smallint[])"#,
        buckets,
    )
    .fetch(tx);
    while let Some(row) = rows.try_next().await? {
        each(Held {
            key: key(&row.aggregate_type, &row.aggregate_id),
            bucket: row.bucket,
            seq: row.seq,
            is_due: row.is_due,
            version: u32::try_from(row.version).unwrap_or_default(),
        });
    }
    Ok(())
}

/// An event that was rejected.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejected<'a> {
    /// What kind of thing.
    pub aggregate_type: &'a str,
    /// Which one.
    pub aggregate_id: &'a str,
    /// As in `outbox_events`.
    pub bucket: i16,
    /// The event.
    pub seq: i64,
    /// [`Held::version`] when the aggregate was read; 0 if it was not held back.
    pub version: u32,
    /// Why, in a few words.
    pub reason: &'a str,
    /// Not before so many seconds.
    pub retry_after: f64,
}

/// Holds an aggregate back after a rejection and returns how often its event was tried by now; none when somebody has
/// decided about it meanwhile: an earlier event may have to go first. The next try is by the database's clock: after one
/// second, doubled each time up to ten minutes, half of it by chance.
///
/// # Errors
/// Those of the statement.
pub async fn hold(tx: &mut PgConnection, rejected: &Rejected<'_>) -> Result<Option<i32>> {
    query_scalar!(
        r#"/* outbox::held::hold */
        INSERT INTO outbox_held AS held (aggregate_type, aggregate_id, bucket, seq, attempts, next_attempt_at, error)
        VALUES ($1, $2, $3, $4, 1, clock_timestamp() + make_interval(secs => GREATEST($6, 0.5 + random() / 2)), $5)
        ON CONFLICT (aggregate_type, aggregate_id) DO UPDATE
        SET attempts = CASE WHEN held.seq = excluded.seq THEN held.attempts + 1 ELSE 1 END, seq = excluded.seq,
            error = excluded.error,
            next_attempt_at = clock_timestamp() + make_interval(secs => GREATEST($6,
                LEAST(600, 2 ^ LEAST(CASE WHEN held.seq = excluded.seq THEN held.attempts ELSE 0 END, 20))
                * (0.5 + random() / 2)))
        WHERE held.xmin::text::bigint = $7
        RETURNING attempts"#,
        rejected.aggregate_type,
        rejected.aggregate_id,
        rejected.bucket,
        rejected.seq,
        rejected.reason,
        rejected.retry_after,
        i64::from(rejected.version),
    )
    .fetch_optional(tx)
    .await
}

/// Moves an event that was given up to the dead letters. With `pass` its aggregate is due at once, to go on behind the
/// event, else it stays held until somebody redrives or discards the dead letter.
///
/// # Errors
/// Those of the statements.
pub async fn bury(tx: &mut PgConnection, rejected: &Rejected<'_>, attempts: i32, pass: bool) -> Result<()> {
    query!(
        "/* outbox::held::bury */
        WITH gone AS (DELETE FROM outbox_events WHERE bucket = $1 AND seq = $2 RETURNING *)
        INSERT INTO outbox_dead_letters
            (event_id, seq, aggregate_type, aggregate_id, aggregate_hash, brand_id, event_type, payload, occurred_at,
             attempts, error)
        SELECT event_id, seq, aggregate_type, aggregate_id, aggregate_hash, brand_id, event_type, payload,
            GREATEST(LEAST(occurred_at, '9999-12-31 23:59:59.999999Z'), '0001-01-01Z'), $3, $4
        FROM gone
        ON CONFLICT (event_id) DO NOTHING",
        rejected.bucket,
        rejected.seq,
        attempts,
        rejected.reason,
    )
    .execute(&mut *tx)
    .await?;
    query!(
        "/* outbox::held::bury its aggregate */
        UPDATE outbox_held SET next_attempt_at = CASE WHEN $4 THEN clock_timestamp() END
        WHERE aggregate_type = $1 AND aggregate_id = $2 AND seq = $3",
        rejected.aggregate_type,
        rejected.aggregate_id,
        rejected.seq,
        pass,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// An aggregate of which a whole pass from its held event on has left nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Free {
    /// As in [`Held`].
    pub bucket: i16,
    /// As in [`Held`].
    pub seq: i64,
    /// As in [`Held`].
    pub version: u32,
}

/// Lets aggregates go; one of which an event was redriven meanwhile stays.
///
/// # Errors
/// Those of the statement.
pub async fn free(tx: &mut PgConnection, aggregates: &[Free]) -> Result<()> {
    let buckets: Vec<i16> = aggregates.iter().map(|free| free.bucket).collect();
    let seqs: Vec<i64> = aggregates.iter().map(|free| free.seq).collect();
    let versions: Vec<i64> = aggregates.iter().map(|free| free.version.into()).collect();
    query!(
        "/* outbox::held::free */
        DELETE FROM outbox_held AS held
        USING unnest($1::smallint[], $2::bigint[], $3::bigint[]) AS out (bucket, seq, version)
        WHERE held.bucket = out.bucket AND held.seq = out.seq AND held.xmin::text::bigint = out.version",
        &buckets,
        &seqs,
        &versions,
    )
    .execute(tx)
    .await?;
    Ok(())
}
