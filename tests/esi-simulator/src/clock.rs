//! The simulated clock: set to any instant, it runs on from there.

use std::time::{Instant, SystemTime};

use time::{Duration, OffsetDateTime};

pub(crate) struct Clock {
    set_to: OffsetDateTime,
    set_at: Instant,
}

impl Clock {
    pub(crate) fn real() -> Self {
        Self { set_to: machine_time().into(), set_at: Instant::now() }
    }

    pub(crate) fn now(&self) -> OffsetDateTime {
        self.set_to + self.set_at.elapsed()
    }

    pub(crate) fn set(&mut self, to: OffsetDateTime) {
        *self = Self { set_to: to, set_at: Instant::now() };
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        self.set(self.now() + by);
    }
}

/// The machine's time: where the simulated clock starts, and the date of SSO's tokens.
#[expect(clippy::disallowed_methods, reason = "the simulator is itself the source of time for its clients")]
pub(crate) fn machine_time() -> SystemTime {
    SystemTime::now()
}
