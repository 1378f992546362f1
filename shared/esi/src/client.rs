//! The client as its owner sees it.

use std::{
    num::NonZeroU32,
    sync::{
        Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use runtime::{Clock, Stop};
use time::OffsetDateTime;
use tokio::sync::{Notify, OnceCell, Semaphore};

use crate::{
    board::Board,
    cache::Cache,
    counts::{Count, Counts},
    error::EsiError,
    jwks::KeySet,
    limits::Limits,
    settings::{Settings, Shared},
};

/// Longest time for one call to ESI, its body included.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How many calls may come at once after a quiet time: this many seconds' worth. Between a sweep's calls there is time; the
/// confirmations of a departure come together, and a session must not wait for the pace of a whole run.
const BURST: NonZeroU32 = NonZeroU32::new(10).expect("ten is not zero");

/// A client of ESI and SSO. Make one a process and lend it out: the limits hold per client, and per Redis.
#[derive(Debug)]
pub struct Esi {
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) stop: Stop,
    pub(crate) counts: Counts,
    pub(crate) limits: Mutex<Limits>,
    pub(crate) board: Board,
    pub(crate) cache: Cache,
    pub(crate) slots: Semaphore,
    /// Wakes those who wait for the end of a call.
    pub(crate) call_ended: Notify,
    pub(crate) pace: DefaultDirectRateLimiter,
    pub(crate) keys: KeySet,
    http: OnceCell<reqwest::Client>,
    /// Seconds by which ESI's clock is ahead of ours.
    ahead: AtomicI64,
}

impl Esi {
    /// A client that has not connected yet: the first call does.
    pub fn new(settings: Settings, clock: Clock, stop: Stop, shared: Shared) -> Self {
        let slots = settings.concurrency.clamp(1, Semaphore::MAX_PERMITS);
        let rate = NonZeroU32::new(settings.requests_per_second).unwrap_or(NonZeroU32::MIN);
        Self {
            settings,
            clock,
            stop,
            counts: Counts::default(),
            limits: Mutex::default(),
            board: Board::new(shared),
            cache: Cache::new(),
            slots: Semaphore::new(slots),
            call_ended: Notify::new(),
            pace: RateLimiter::direct(Quota::per_second(rate).allow_burst(rate.saturating_mul(BURST))),
            keys: KeySet::default(),
            http: OnceCell::new(),
            ahead: AtomicI64::new(0),
        }
    }

    /// Calls by route and outcome since they were last taken, for metrics.
    pub fn take_counts(&self) -> Vec<Count> {
        self.counts.take()
    }

    pub(crate) async fn http(&self) -> Result<&reqwest::Client, EsiError> {
        let build = async || {
            runtime::http::client(&user_agent(self.settings.user_agent_contact.as_deref()), TIMEOUT)
                .map_err(|_| EsiError::Misconfigured("the contact or TLS cannot be used for an HTTP client".to_owned()))
        };
        self.http.get_or_try_init(build).await
    }

    /// Takes ESI's clock from an answer.
    pub(crate) fn set_esi_clock(&self, date: OffsetDateTime) {
        self.ahead.store((date - self.clock.now()).whole_seconds(), Ordering::Relaxed);
    }

    /// Whether it is the daily downtime, 11:00 to 11:30 UTC, by ESI's clock as far as it is known.
    pub(crate) fn in_downtime(&self) -> bool {
        let now = self.clock.now() + time::Duration::seconds(self.ahead.load(Ordering::Relaxed));
        now.hour() == 11 && now.minute() < 30
    }
}

/// `Name/version (contact; +url)`, the form CCP asks for.
fn user_agent(contact: Option<&str>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    match contact.map(str::trim).filter(|contact| !contact.is_empty()) {
        Some(contact) => format!("Rollcall/{version} ({contact}; +https://github.com/rollcall-jobs/rollcall)"),
        None => format!("Rollcall/{version} (no contact given)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_agent_names_a_contact_or_says_there_is_none() {
        let named = user_agent(Some("ops@example.org"));
        assert!(named.starts_with("Rollcall/") && named.contains("(ops@example.org; +https://"), "{named}");
        for none in [None, Some(" ")] {
            assert!(user_agent(none).ends_with("(no contact given)"));
        }
    }
}
