//! Every metric of the system, defined once, and the push.
//!
//! A job does not live long enough to be scraped, so its numbers go to a Pushgateway ([`Pusher`]) or to a file for
//! node-exporter ([`write_textfile`]). A metric that is not in [`catalogue`] does not exist: alert rules and dashboards
//! are checked against it.

mod definition;
mod group;
pub mod outbox;
mod push;
pub mod runner;
mod snapshot;
mod textfile;
mod transport;
pub mod verifier;

pub use definition::{Counter, Gauge, Kind, Metric, catalogue, counters};
pub use group::Group;
pub use push::Pusher;
pub use snapshot::{Snapshot, SnapshotError};
pub use textfile::{TextfileError, write_textfile};
pub use transport::PushError;
