//! How long a run may take, with a reserve kept for finishing.

use std::time::Duration;

use runtime::Stop;
use tokio::time::Instant;

/// The time a run has. The reserve is a tenth of it, at least 5 s and at most 60 s.
#[derive(Debug, Clone)]
pub struct Budget {
    ends_at: Instant,
    reserve: Duration,
    stop: Stop,
}

impl Budget {
    /// Starts now and lasts `max_runtime`; a stop ends the work early.
    pub fn start(max_runtime: Duration, stop: Stop) -> Self {
        Self { ends_at: Instant::now() + max_runtime, reserve: reserve(max_runtime), stop }
    }

    /// For work that ends only by a stop.
    pub fn endless(stop: Stop) -> Self {
        Self::start(ENDLESS, stop)
    }

    /// When the whole run must be over.
    pub fn ends_at(&self) -> Instant {
        self.ends_at
    }

    /// When no new work may start, since what is left is for finishing.
    pub fn work_ends_at(&self) -> Instant {
        self.ends_at.checked_sub(self.reserve).unwrap_or(self.ends_at)
    }

    /// When nothing outside is waited for any more: half of the reserve is left, to write down what is known by then.
    pub fn answers_end_at(&self) -> Instant {
        self.ends_at.checked_sub(self.reserve / 2).unwrap_or(self.ends_at)
    }

    /// Whether new work may start: no stop was asked for, and the reserve is not reached.
    pub fn working(&self) -> bool {
        !self.stop.is_stopped() && Instant::now() < self.work_ends_at()
    }

    /// Time left for new work; nothing after a stop.
    pub fn remaining(&self) -> Duration {
        if self.stop.is_stopped() {
            return Duration::ZERO;
        }
        self.work_ends_at().saturating_duration_since(Instant::now())
    }
}

/// Longer than any process lives, and far from the end of the clock.
const ENDLESS: Duration = Duration::from_hours(24 * 3650);

fn reserve(max_runtime: Duration) -> Duration {
    (max_runtime / 10).clamp(Duration::from_secs(5), Duration::from_mins(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_a_tenth_between_five_and_sixty_seconds() {
        let seconds = |s| reserve(Duration::from_secs(s)).as_secs();
        assert_eq!((seconds(10), seconds(100), seconds(2700)), (5, 10, 60));
    }

    #[tokio::test(start_paused = true)]
    async fn work_ends_before_the_run_does() {
        let budget = Budget::start(Duration::from_secs(100), Stop::never());
        assert!(budget.working());
        assert_eq!(budget.remaining(), Duration::from_secs(90));
        tokio::time::advance(Duration::from_secs(90)).await;
        assert!(!budget.working());
        assert_eq!(budget.remaining(), Duration::ZERO);
        assert_eq!(budget.ends_at() - Instant::now(), Duration::from_secs(10));
        assert_eq!(budget.ends_at() - budget.answers_end_at(), Duration::from_secs(5));
    }
}
