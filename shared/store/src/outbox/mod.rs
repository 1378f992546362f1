//! The transactional outbox: an event stands or falls with the effect it tells of, and is published afterwards.

pub mod dead_letters;
mod enqueue;
pub mod held;
pub mod pages;
pub mod partitions;
pub mod state;

pub use enqueue::{CHANNEL, MAX_AGGREGATE_BYTES, MAX_PAYLOAD_BYTES, NewEvent, Refused, enqueue};

/// Into how many buckets the hashes of aggregates are cut, once and for all; also the most partitions there can be.
pub const BUCKETS: i16 = 64;
