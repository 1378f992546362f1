//! Trying again, with growing pauses and jitter. The one place that knows the `backoff` crate.

use std::{future::Future, time::Duration};

pub use backoff::Error as Attempt;
use backoff::ExponentialBackoffBuilder;

/// How long to go on trying.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Pause after the first failure.
    pub first: Duration,
    /// Longest pause.
    pub longest: Duration,
    /// No new attempt starts this long after the first one.
    pub total: Duration,
}

/// Calls `operation` until it succeeds, fails for good ([`Attempt::Permanent`]) or the policy's time is over; a
/// transient failure may name its own pause (`retry_after`).
///
/// # Errors
/// The last failure.
pub async fn retry<T, E, F, W>(policy: Policy, operation: F) -> Result<T, E>
where
    F: FnMut() -> W,
    W: Future<Output = Result<T, Attempt<E>>>,
{
    let schedule = ExponentialBackoffBuilder::new()
        .with_initial_interval(policy.first)
        .with_max_interval(policy.longest)
        .with_max_elapsed_time(Some(policy.total))
        .build();
    backoff::future::retry(schedule, operation).await
}
