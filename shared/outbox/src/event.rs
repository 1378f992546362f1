//! An event, as it leaves the outbox.

use serde_json::value::RawValue;
use time::OffsetDateTime;
use uuid::Uuid;

/// What kind of thing an event is about, and which one. Events of one aggregate are published in the order of their
/// numbers; nothing is promised between two aggregates.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Aggregate {
    /// For example `account`.
    pub kind: String,
    /// Which one.
    pub id: String,
}

/// An event, as it was enqueued.
#[derive(Debug, Clone)]
pub struct Event {
    /// Order among the events of its aggregate.
    pub seq: i64,
    /// UUIDv7, by which consumers recognise a repeat.
    pub event_id: Uuid,
    /// Whom it is about.
    pub aggregate: Aggregate,
    /// The brand of the aggregate.
    pub brand_id: Uuid,
    /// What happened, for example `SESSION_INVALIDATED`.
    pub event_type: String,
    /// When, by the database's clock.
    pub occurred_at: OffsetDateTime,
    /// The body: JSON, kept to the letter, so that numbers beyond 2^53 and the order of keys survive.
    pub payload: Box<RawValue>,
}
