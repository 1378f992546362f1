//! `outbox-drain` as it ships: what leaves the outbox, in which order, and how often.

#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::print_stdout, reason = "the seed of a failed test is shown with it")]

mod clocks;
mod contract;
mod crash;
mod ddl;
mod dead_letters;
mod diagnosis;
mod drain;
mod failover;
mod given_back;
mod hook;
mod late;
mod metrics;
mod middle;
mod model;
mod nats;
mod pooled;
mod reconcile;
mod redis_check;
mod refusals;
mod remaining;
mod restarts;
mod restored;
mod secrets;
mod shares;
mod stdout;
mod support;
mod webhook;
mod webhook_blame;
mod webhook_limits;
mod webhook_outage;
mod webhook_slow;
mod worker;
