//! Enqueueing, in the transaction of whoever has something to tell.

use std::fmt::Display;

use identity::ids::BrandId;
use serde_json::Value;
use sqlx::{PgConnection, query};
use uuid::Uuid;

use crate::Result;

/// Largest payload unless the caller says otherwise, in bytes of JSON text: what a stream and its readers bear.
pub const MAX_PAYLOAD_BYTES: usize = 1024 * 1024;

/// Longest type and id of an aggregate together, in bytes: both stand in keys, which PostgreSQL bounds. The table checks it, too.
pub const MAX_AGGREGATE_BYTES: usize = 1024;

/// Channel on which a sleeping worker is told that there is something.
pub const CHANNEL: &str = "rollcall_outbox";

/// An event that is to be enqueued.
#[derive(Debug, Clone)]
pub struct NewEvent {
    aggregate_type: &'static str,
    aggregate_id: String,
    brand_id: BrandId,
    event_type: &'static str,
    payload: String,
}

/// Why an event is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The payload.
    #[error(
        "the payload of {event_type} has {bytes} bytes, {limit} are allowed: put large things elsewhere and tell their id"
    )]
    PayloadTooLarge {
        /// What happened.
        event_type: &'static str,
        /// Size of the payload.
        bytes: usize,
        /// What was allowed.
        limit: usize,
    },
    /// Type and id of the aggregate.
    #[error("type and id of the aggregate of {event_type} have {bytes} bytes, {MAX_AGGREGATE_BYTES} are allowed")]
    AggregateTooLong {
        /// What happened.
        event_type: &'static str,
        /// Of both together.
        bytes: usize,
    },
}

impl NewEvent {
    /// An event about the aggregate `aggregate_type` `aggregate_id` of a brand, with a payload of at most `limit` bytes
    /// ([`MAX_PAYLOAD_BYTES`]).
    ///
    /// # Errors
    /// The payload is larger, or the aggregate's name longer than [`MAX_AGGREGATE_BYTES`].
    pub fn new(
        aggregate_type: &'static str,
        aggregate_id: impl Display,
        brand_id: BrandId,
        event_type: &'static str,
        payload: &Value,
        limit: usize,
    ) -> std::result::Result<Self, Refused> {
        let (payload, aggregate_id) = (payload.to_string(), aggregate_id.to_string());
        if payload.len() > limit {
            return Err(Refused::PayloadTooLarge { event_type, bytes: payload.len(), limit });
        }
        let bytes = aggregate_type.len() + aggregate_id.len();
        if bytes > MAX_AGGREGATE_BYTES {
            return Err(Refused::AggregateTooLong { event_type, bytes });
        }
        Ok(Self { aggregate_type, aggregate_id, brand_id, event_type, payload })
    }
}

/// Enqueues events in the caller's transaction. Numbers are taken under a transaction-level lock of each aggregate, so that
/// a later number of an aggregate cannot commit first. The locks of one call are taken in one order; who calls twice in one
/// transaction may meet another who does so the other way round, and one of the two is then rolled back by PostgreSQL.
/// A worker that sleeps is told, once a transaction however many events there are.
///
/// # Errors
/// Those of the statement.
pub async fn enqueue(db: &mut PgConnection, events: &[NewEvent]) -> Result<()> {
    match events {
        [] => return Ok(()),
        [event] => return enqueue_one(db, event).await,
        _ => {}
    }
    let event_ids: Vec<Uuid> = events.iter().map(|_| Uuid::now_v7()).collect();
    let kinds: Vec<&str> = events.iter().map(|e| e.aggregate_type).collect();
    let ids: Vec<&str> = events.iter().map(|e| &*e.aggregate_id).collect();
    let brands: Vec<Uuid> = events.iter().map(|e| e.brand_id.0).collect();
    let types: Vec<&str> = events.iter().map(|e| e.event_type).collect();
    let payloads: Vec<&str> = events.iter().map(|e| &*e.payload).collect();
    query!(
        r#"/* outbox::enqueue: the lock of the table, then those of the aggregates, then the numbers */
        WITH locked AS MATERIALIZED (
            SELECT count(pg_advisory_xact_lock(key)) AS aggregates
            FROM (SELECT DISTINCT hashtextextended(kind || ':' || id, 0) AS key
                  FROM unnest($2::text[], $3::text[]) AS about (kind, id) ORDER BY key) AS keys),
        inserted AS (
            INSERT INTO outbox_events
                (event_id, aggregate_type, aggregate_id, aggregate_hash, brand_id, event_type, payload)
            SELECT event_id, kind, id, hashtext(kind || ':' || id), brand, type, payload::json
            FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::text[]) WITH ORDINALITY
                AS event (event_id, kind, id, brand, type, payload, place), locked
            WHERE aggregates > 0 ORDER BY place)
        SELECT pg_notify($7, '') AS "told: ()" FROM outbox_settings WHERE hints_until > clock_timestamp()"#,
        &event_ids,
        &kinds as &[&str],
        &ids as &[&str],
        &brands,
        &types as &[&str],
        &payloads as &[&str],
        CHANNEL,
    )
    .fetch_all(db)
    .await?;
    Ok(())
}

/// What most transactions have to tell, without what it takes to put several in order: half the cost.
async fn enqueue_one(db: &mut PgConnection, event: &NewEvent) -> Result<()> {
    query!(
        r#"/* outbox::enqueue_one: the lock of the table, then that of the aggregate, then the number */
        WITH inserted AS (
            INSERT INTO outbox_events
                (event_id, aggregate_type, aggregate_id, aggregate_hash, brand_id, event_type, payload)
            SELECT $1, $2::text, $3::text, hashtext($2 || ':' || $3), $4, $5, $6::text::json
            FROM pg_advisory_xact_lock(hashtextextended($2 || ':' || $3, 0)))
        SELECT pg_notify($7, '') AS "told: ()" FROM outbox_settings WHERE hints_until > clock_timestamp()"#,
        Uuid::now_v7(),
        event.aggregate_type,
        &event.aggregate_id,
        event.brand_id.0,
        event.event_type,
        &event.payload,
        CHANNEL,
    )
    .fetch_all(db)
    .await?;
    Ok(())
}
