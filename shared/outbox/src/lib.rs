//! Events on their way out: what an event is, and the sinks it can be published to.
//!
//! Enqueueing and everything else that PostgreSQL does for the outbox is in `store::outbox`; what is read when, and who
//! owns which partition, is the drain's (`jobs/outbox-drain`). A sink knows neither.

mod blame;
mod body;
mod causes;
mod chains;
mod event;
pub mod nats;
pub mod redis;
mod redis_check;
pub mod sink;
pub mod stdout;
pub mod stream;
pub mod webhook;

pub use blame::{judge, shows_life};
pub use body::Body;
pub use event::{Aggregate, Event};
pub use redis::RedisSink;
pub use sink::Sink;
pub use stdout::StdoutSink;
