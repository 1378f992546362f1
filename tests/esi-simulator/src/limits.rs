//! The two limits of ESI: the legacy error window and the token buckets of newer routes.

use std::collections::{HashMap, VecDeque};

use time::{Duration, OffsetDateTime};

use crate::settings::{Settings, TokenBucket};

/// Errors counted in fixed windows that follow one another.
pub(crate) struct ErrorWindow {
    started: OffsetDateTime,
    /// Set when a fault shortens the window.
    ends_early: Option<OffsetDateTime>,
    errors: u32,
}

impl ErrorWindow {
    pub(crate) fn starting(now: OffsetDateTime) -> Self {
        Self { started: now, ends_early: None, errors: 0 }
    }

    /// Opens the next window when this one is over.
    fn roll(&mut self, settings: &Settings, now: OffsetDateTime) {
        let ends = self.ends(settings);
        if self.ends_early.is_some_and(|early| now >= early) {
            *self = Self::starting(now);
        } else if now >= ends {
            let length = settings.error_window_seconds.max(1);
            let whole = (now - self.started).whole_seconds() / length * length;
            *self = Self::starting(self.started + Duration::seconds(whole));
        }
    }

    fn ends(&self, settings: &Settings) -> OffsetDateTime {
        let length = Duration::seconds(settings.error_window_seconds.max(1));
        self.ends_early.unwrap_or(self.started + length)
    }

    pub(crate) fn remaining(&mut self, settings: &Settings, now: OffsetDateTime) -> u32 {
        self.roll(settings, now);
        settings.error_limit.saturating_sub(self.errors)
    }

    /// Seconds until the window ends, rounded up, so that a client that waits them is never early.
    pub(crate) fn reset_seconds(&mut self, settings: &Settings, now: OffsetDateTime) -> i64 {
        self.roll(settings, now);
        ceil_seconds(self.ends(settings) - now)
    }

    pub(crate) fn count_error(&mut self, settings: &Settings, now: OffsetDateTime) {
        self.roll(settings, now);
        self.errors = self.errors.saturating_add(1);
    }

    /// Spends what is left, and ends the window in `reset_seconds` if given.
    pub(crate) fn exhaust(&mut self, settings: &Settings, now: OffsetDateTime, reset_seconds: Option<i64>) {
        self.roll(settings, now);
        self.errors = u32::MAX;
        if let Some(seconds) = reset_seconds {
            self.ends_early = Some(now + Duration::seconds(seconds));
        }
    }
}

/// Tokens spent per group, given back one window after they were spent.
#[derive(Default)]
pub(crate) struct Buckets {
    spent: HashMap<String, VecDeque<(OffsetDateTime, i64)>>,
}

impl Buckets {
    pub(crate) fn remaining(&mut self, bucket: &TokenBucket, now: OffsetDateTime) -> i64 {
        let spent = self.spent.entry(bucket.group.clone()).or_default();
        let window = Duration::seconds(bucket.window_seconds);
        spent.retain(|(when, _)| now - *when < window);
        (bucket.tokens - spent.iter().map(|(_, tokens)| tokens).sum::<i64>()).max(0)
    }

    pub(crate) fn spend(&mut self, bucket: &TokenBucket, now: OffsetDateTime, tokens: i64) {
        self.spent.entry(bucket.group.clone()).or_default().push_back((now, tokens));
    }

    /// Seconds until tokens come back, rounded up; 0 if none are spent.
    pub(crate) fn wait_seconds(&self, bucket: &TokenBucket, now: OffsetDateTime) -> i64 {
        let oldest = self.spent.get(&bucket.group).and_then(|spent| spent.iter().find(|(_, tokens)| *tokens > 0));
        oldest.map_or(0, |(when, _)| ceil_seconds(*when + Duration::seconds(bucket.window_seconds) - now))
    }
}

/// Tokens an answer costs.
pub(crate) fn cost(status: u16) -> i64 {
    match status {
        // A refused call must not push the end of the refusal further away.
        429 => 0,
        200..=299 => 2,
        300..=399 => 1,
        400..=499 => 5,
        _ => 0,
    }
}

/// `150/15m`, as `X-Ratelimit-Limit` writes it.
pub(crate) fn limit_text(bucket: &TokenBucket) -> String {
    if bucket.window_seconds % 60 == 0 {
        format!("{}/{}m", bucket.tokens, bucket.window_seconds / 60)
    } else {
        format!("{}/{}s", bucket.tokens, bucket.window_seconds)
    }
}

fn ceil_seconds(duration: Duration) -> i64 {
    duration.whole_seconds() + i64::from(duration.subsec_nanoseconds() > 0)
}
