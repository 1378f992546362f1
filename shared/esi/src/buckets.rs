//! What one process knows of one token bucket. No I/O.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::headers::Bucket;

/// Most tokens that one call costs (a 4xx). So many are kept in hand whatever the size of the bucket, and so many are
/// expected of each call whose headers are not here yet.
const DEAREST_CALL: u32 = 5;
/// Spendings remembered per bucket.
const MAX_SPENT: usize = 4096;
/// The first call after a block is waited for no longer: it was lost.
const LONGEST_PROBE: Duration = Duration::from_secs(20);

/// A bucket by our own spendings.
#[derive(Debug, Default)]
pub(crate) struct Spending {
    spent: VecDeque<(Instant, u32)>,
    /// End of the last block; it stays, once it is past, until an answer has shown how the bucket stands.
    blocked: Option<Instant>,
    /// By when the first call after that block has ended; the others wait for it.
    probe: Option<Instant>,
}

impl Spending {
    /// Until when the bucket is left alone.
    pub(crate) fn blocked(&self, now: Instant) -> Option<Instant> {
        self.blocked.filter(|until| *until > now)
    }

    /// Until when to wait at most for the first call after a block.
    pub(crate) fn probed(&self, now: Instant) -> Option<Instant> {
        self.probe.filter(|until| *until > now)
    }

    /// A call begins; after a block it is the one that the others wait for.
    pub(crate) fn enter(&mut self, now: Instant) {
        if self.blocked.is_some() {
            self.probe = Some(now + LONGEST_PROBE);
        }
    }

    /// A call has ended, with an answer or not.
    pub(crate) fn leave(&mut self) {
        self.probe = None;
    }

    /// An answer has come that says how the bucket stands: a block that is over is forgotten.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.blocked = self.blocked(now);
    }

    /// Leaves the bucket alone, if it is not for longer already; returns for how long.
    pub(crate) fn block(&mut self, until: Instant, now: Instant) -> Duration {
        let until = self.blocked.map_or(until, |blocked| blocked.max(until));
        self.blocked = Some(until);
        until.saturating_duration_since(now)
    }

    /// Takes in what an answer said while `others` calls were in flight. How long to leave the bucket alone, if little
    /// is left: until the first token of ours comes back.
    pub(crate) fn spend(&mut self, bucket: &Bucket, others: u32, now: Instant) -> Option<Duration> {
        while self.spent.front().is_some_and(|(when, _)| now - *when >= bucket.window) || self.spent.len() >= MAX_SPENT
        {
            self.spent.pop_front();
        }
        if bucket.used > 0 {
            self.spent.push_back((now, bucket.used));
        }
        let in_hand = bucket.remaining.saturating_sub(others.saturating_mul(DEAREST_CALL));
        if in_hand > (bucket.limit / 10).max(DEAREST_CALL) {
            return None;
        }
        // Tokens that others spent come back at a time unknown here: look again after a tenth of the window.
        let back = self.spent.front().map_or(now, |(when, _)| *when + bucket.window);
        Some(self.block(back.max(now + bucket.window / 10), now))
    }
}
