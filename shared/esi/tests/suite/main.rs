//! The client against a simulated ESI over real sockets, and a Redis of its own.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

mod affiliation;
mod faults;
mod fresh;
mod limits;
mod sso;
mod support;
