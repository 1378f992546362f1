//! Events that were given up, and what people do with them.

use serde::Serialize;
use sqlx::{PgConnection, query, query_as, query_scalar};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::Result;

/// An event that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetter {
    /// By which consumers recognise a repeat.
    pub event_id: Uuid,
    /// Order among the events of its aggregate.
    pub seq: i64,
    /// What kind of thing changed.
    pub aggregate_type: String,
    /// Which one.
    pub aggregate_id: String,
    /// The brand of the aggregate.
    pub brand_id: Uuid,
    /// What happened.
    pub event_type: String,
    /// When it happened.
    #[serde(with = "time::serde::rfc3339")]
    pub occurred_at: OffsetDateTime,
    /// How often it was tried.
    pub attempts: i32,
    /// Why it was rejected last.
    pub error: String,
    /// When it was given up.
    #[serde(with = "time::serde::rfc3339")]
    pub dead_at: OffsetDateTime,
}

/// Which dead letters are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// One event.
    Event(Uuid),
    /// All of an aggregate.
    Aggregate {
        /// What kind of thing.
        kind: String,
        /// Which one.
        id: String,
    },
}

impl Which {
    fn parts(&self) -> (Option<Uuid>, Option<&str>, Option<&str>) {
        match self {
            Self::Event(event) => (Some(*event), None, None),
            Self::Aggregate { kind, id } => (None, Some(kind), Some(id)),
        }
    }
}

/// Dead letters, oldest first, at most `limit`.
///
/// # Errors
/// Those of the statement.
pub async fn list(tx: &mut PgConnection, which: Option<&Which>, limit: i64) -> Result<Vec<DeadLetter>> {
    let (event, kind, id) = which.map_or((None, None, None), Which::parts);
    query_as!(
        DeadLetter,
        "/* outbox::dead_letters::list */
        SELECT event_id, seq, aggregate_type, aggregate_id, brand_id, event_type, occurred_at, attempts, error, dead_at
        FROM outbox_dead_letters
        WHERE ($1::uuid IS NULL OR event_id = $1) AND ($2::text IS NULL OR (aggregate_type = $2 AND aggregate_id = $3))
        ORDER BY dead_at, seq LIMIT $4",
        event,
        kind,
        id,
        limit,
    )
    .fetch_all(tx)
    .await
}

/// The body of a dead letter.
///
/// # Errors
/// Those of the statement.
pub async fn payload(tx: &mut PgConnection, event_id: Uuid) -> Result<Option<String>> {
    query_scalar!(
        r#"/* outbox::dead_letters::payload */
        SELECT payload::text AS "payload!" FROM outbox_dead_letters WHERE event_id = $1"#,
        event_id,
    )
    .fetch_optional(tx)
    .await
}

/// Ids of dead letters behind `after`, in their order, at most `limit`.
///
/// # Errors
/// Those of the statement.
pub async fn ids(tx: &mut PgConnection, after: Option<Uuid>, limit: i64) -> Result<Vec<Uuid>> {
    query_scalar!(
        "/* outbox::dead_letters::ids */
        SELECT event_id FROM outbox_dead_letters WHERE $1::uuid IS NULL OR event_id > $1 ORDER BY event_id LIMIT $2",
        after,
        limit,
    )
    .fetch_all(tx)
    .await
}

/// The dead letter for which later events of the aggregate wait, if it is another than this one: they would overtake it if the
/// aggregate went on.
///
/// # Errors
/// Those of the statement.
pub async fn holder(tx: &mut PgConnection, which: &Which) -> Result<Option<Uuid>> {
    let Which::Event(event) = which else { return Ok(None) };
    lock(tx, which).await?;
    query_scalar!(
        "/* outbox::dead_letters::holder */
        SELECT holder.event_id FROM outbox_dead_letters AS chosen
        JOIN outbox_held AS held USING (aggregate_type, aggregate_id)
        JOIN outbox_dead_letters AS holder USING (aggregate_type, aggregate_id)
        WHERE chosen.event_id = $1 AND held.next_attempt_at IS NULL AND holder.seq = held.seq AND holder.event_id <> $1
        FOR UPDATE OF held",
        event,
    )
    .fetch_optional(tx)
    .await
}

/// Returns dead letters to the outbox, each under its own number, so that it goes out before what its aggregate has held
/// back. Those that were returned, oldest first: somebody else may have decided about others of them meanwhile.
///
/// # Errors
/// Those of the statements.
pub async fn redrive(tx: &mut PgConnection, which: &Which) -> Result<Vec<DeadLetter>> {
    let (event, kind, id) = which.parts();
    lock(tx, which).await?;
    query_as!(
        DeadLetter,
        r#"/* outbox::dead_letters::redrive */
        WITH back AS (
            DELETE FROM outbox_dead_letters
            WHERE event_id = $1 OR (aggregate_type = $2 AND aggregate_id = $3) RETURNING *),
        again AS (
            INSERT INTO outbox_events (seq, event_id, aggregate_type, aggregate_id, aggregate_hash, brand_id, event_type,
                payload, occurred_at)
            OVERRIDING SYSTEM VALUE
            SELECT seq, event_id, aggregate_type, aggregate_id, aggregate_hash, brand_id, event_type, payload, occurred_at
            FROM back),
        due AS (
            INSERT INTO outbox_held AS held (aggregate_type, aggregate_id, bucket, seq, next_attempt_at)
            SELECT aggregate_type, aggregate_id, min(aggregate_hash & 63)::smallint, min(seq), clock_timestamp()
            FROM back GROUP BY aggregate_type, aggregate_id
            ON CONFLICT (aggregate_type, aggregate_id) DO UPDATE
            SET seq = LEAST(held.seq, excluded.seq), attempts = 0, next_attempt_at = excluded.next_attempt_at)
        SELECT event_id AS "event_id!", seq AS "seq!", aggregate_type AS "aggregate_type!", aggregate_id AS "aggregate_id!",
            brand_id AS "brand_id!", event_type AS "event_type!", occurred_at AS "occurred_at!", attempts AS "attempts!",
            error AS "error!", dead_at AS "dead_at!"
        FROM back ORDER BY dead_at, seq"#,
        event,
        kind,
        id,
    )
    .fetch_all(tx)
    .await
}

/// Drops dead letters for good; what their aggregates have held back goes on. Those that were dropped, oldest first.
///
/// # Errors
/// Those of the statements.
pub async fn discard(tx: &mut PgConnection, which: &Which) -> Result<Vec<DeadLetter>> {
    let (event, kind, id) = which.parts();
    lock(tx, which).await?;
    query_as!(
        DeadLetter,
        r#"/* outbox::dead_letters::discard */
        WITH gone AS (
            DELETE FROM outbox_dead_letters
            WHERE event_id = $1 OR (aggregate_type = $2 AND aggregate_id = $3) RETURNING *),
        freed AS (
            UPDATE outbox_held AS held SET next_attempt_at = clock_timestamp(), attempts = 0
            FROM gone
            WHERE held.aggregate_type = gone.aggregate_type AND held.aggregate_id = gone.aggregate_id
                AND held.next_attempt_at IS NULL AND held.seq = gone.seq)
        SELECT event_id AS "event_id!", seq AS "seq!", aggregate_type AS "aggregate_type!", aggregate_id AS "aggregate_id!",
            brand_id AS "brand_id!", event_type AS "event_type!", occurred_at AS "occurred_at!", attempts AS "attempts!",
            error AS "error!", dead_at AS "dead_at!"
        FROM gone ORDER BY dead_at, seq"#,
        event,
        kind,
        id,
    )
    .fetch_all(tx)
    .await
}

/// Makes two people who decide about the same aggregate take turns.
async fn lock(tx: &mut PgConnection, which: &Which) -> Result<()> {
    let (event, kind, id) = which.parts();
    query!(
        r#"/* outbox::dead_letters::lock */
        SELECT FROM outbox_dead_letters
        WHERE event_id = $1 OR (aggregate_type = $2 AND aggregate_id = $3) ORDER BY event_id FOR UPDATE"#,
        event,
        kind,
        id,
    )
    .fetch_all(tx)
    .await?;
    Ok(())
}
