//! The sinks against real servers.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

mod events;
mod nats;
mod redis;
mod webhook;
mod webhook_answers;
