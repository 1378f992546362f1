//! SQL, one module per aggregate. No other crate writes SQL.
//!
//! Every function takes a connection that is inside a transaction of [`runtime::Database::transaction`], so that the
//! caller decides what stands or falls together. Each statement starts with a comment that names its function.

pub mod auth_config;
pub mod candidates;
pub mod characters;
pub mod checkpoint;
pub mod counters;
pub mod cursors;
pub mod eve_characters;
pub mod eve_names;
pub mod eve_tokens;
pub mod invalidations;
pub mod lease;
pub mod ledger;
pub mod outbox;
pub mod schema;
pub mod shard;
pub mod sweep;
pub mod tid;
pub mod unresolvable;

/// A failed statement; [`runtime::Database`] says what it means.
pub type Result<T> = std::result::Result<T, sqlx::Error>;
