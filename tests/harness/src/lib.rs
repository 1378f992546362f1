//! Private servers, databases, builders and process control for test suites, the demo and the bench.
//!
//! | need | here |
//! |---|---|
//! | PostgreSQL, PgBouncer, Redis shared by all tests of a process | [`servers`] |
//! | a database and a Redis index for one test | [`TestDb`] |
//! | accounts, characters, tokens, sessions; reading back what became of them | [`Community`], [`newcomer`] |
//! | a shipped binary as a process, also with a clock that is wrong | [`Binary`] |
//! | what was pushed, and what comes of it | [`Pushgateway`], [`Prometheus`], [`Alertmanager`] |
//! | where events go | [`Nats`], [`WebhookReceiver`], [`TlsServer`] |
//! | a dependency that fails in the middle of a run | [`FaultProxy`], or servers of one's own: [`Servers::start`] |
//! | waiting for something | [`wait_until`] |
//!
//! The engines are the real ones, as processes on free ports of the loopback interface, in one temporary folder that
//! is removed with them however the test process ends (`reaper.rs`). Nothing of the machine's own services is used.
//!
//! There is no error handling here: whatever goes wrong ends the test with a message that says what to do.

#![expect(clippy::missing_panics_doc, reason = "the harness reports every failure by panicking, as a test does")]

mod community;
mod daemon;
mod database;
mod http;
mod ports;
mod process;
mod programs;
mod proxy;
mod reaper;
mod servers;
mod wait;

pub use crate::{
    community::{
        ALLIANCE, AuditRow, CORPORATION, CandidateRow, Community, Crowd, ENCRYPTION_KEY, EveRow, EventRow, Fingerprint,
        Lists, Member, Newcomer, PendingRow, RunRow, STRANGERS, SessionRow, SessionSpec, TokenRow, newcomer,
        session_key,
    },
    database::TestDb,
    http::Sample,
    process::{Binary, Finished, Running},
    proxy::{Fault, FaultProxy},
    servers::{
        Servers,
        alertmanager::Alertmanager,
        nats::{Nats, NatsLimits},
        pgbouncer::PgBouncer,
        postgres::{Durability, Postgres},
        prometheus::{Alerting, Prometheus, Series},
        pushgateway::Pushgateway,
        redis::Redis,
        servers,
        tls::{Certificates, TlsServer},
        webhook::{Answer, Received, WebhookReceiver},
    },
    wait::wait_until,
};
