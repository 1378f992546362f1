//! The gate before every call: pauses and limits first, then the pace, then a place among the calls in flight.

use std::sync::PoisonError;

use tokio::{
    sync::SemaphorePermit,
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    board::millis,
    client::Esi,
    counts::Route,
    error::EsiError,
    limits::{Limits, Wait},
    settings::Deadline,
};

impl Esi {
    /// Waits until the route may be called; the call holds the slot while it lasts, and then says [`Esi::leave`].
    pub(crate) async fn admit(&self, route: Route, deadline: Deadline) -> Result<SemaphorePermit<'_>, EsiError> {
        loop {
            // Made before the look, so that no end of a call in between is missed.
            let a_call_ends = self.call_ended.notified();
            let group = self.limits().group(route).map(str::to_owned);
            let seen = self.board.look(route, group.as_deref()).await;
            let now = Instant::now();
            let wait = {
                let mut limits = self.limits();
                limits.absorb(route, seen, now);
                limits.wait(route, now)
            };
            match wait {
                Some(Wait::Until(until)) if until > deadline => return Err(self.out_of_time(until)),
                Some(Wait::Until(until)) => {
                    tracing::info!(
                        route = route.as_str(),
                        wait_ms = millis(until - now),
                        "waiting, as ESI asks for a pause or its limit is near"
                    );
                    sleep_until(until).await;
                }
                Some(Wait::Probe(until)) => {
                    // Whether it ended or its time did, the next look tells.
                    let _ = timeout_at(until.min(deadline), a_call_ends).await;
                    if Instant::now() >= deadline {
                        return Err(self.out_of_time(deadline));
                    }
                }
                None => {
                    let slot = self.slot(deadline).await.ok_or_else(|| self.out_of_time(Instant::now()))?;
                    // While it waited for the slot, another call may have met a limit.
                    if self.limits().enter(route, Instant::now()) {
                        return Ok(slot);
                    }
                }
            }
        }
    }

    /// The call has ended: whoever waits for it may look again.
    pub(crate) fn leave(&self, route: Route) {
        self.limits().leave(route);
        self.call_ended.notify_waiters();
    }

    /// A place among the calls in flight, at the permitted pace; `None`: not before the deadline.
    pub(crate) async fn slot(&self, deadline: Deadline) -> Option<SemaphorePermit<'_>> {
        if Instant::now() >= deadline {
            return None;
        }
        let turn = async {
            let slot = self.slots.acquire().await.ok()?;
            self.pace.until_ready().await;
            Some(slot)
        };
        timeout_at(deadline, turn).await.ok().flatten()
    }

    /// The answer when there is no time: `until` is when it would be worth asking.
    pub(crate) fn out_of_time(&self, until: Instant) -> EsiError {
        let wait = until.saturating_duration_since(Instant::now());
        EsiError::Budget { until: self.clock.now() + wait }
    }

    pub(crate) fn limits(&self) -> std::sync::MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
