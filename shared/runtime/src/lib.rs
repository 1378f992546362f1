//! What every process needs before it can do its work: configuration and secrets, time and randomness, stopping,
//! logs, retry, and connections to PostgreSQL, Redis and HTTP servers. Nothing here knows what a job is.

pub mod cache;
pub mod clock;
pub mod config;
pub mod db;
pub mod http;
pub mod random;
pub mod redis;
pub mod retry;
pub mod secret;
pub mod stop;
pub mod telemetry;

pub use clock::Clock;
pub use db::{Database, DbError, Snapshot};
pub use random::Random;
pub use secret::Secret;
pub use stop::Stop;
