//! Life times.

use std::time::Duration;

/// Life times of what is kept in Redis. Each is held between 1 ms and 100 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// A session not seen for this long is over (7 days).
    pub idle: Duration,
    /// A session this old is over, however busy (30 days). Fixed for a session when it is opened.
    pub absolute: Duration,
    /// How long a mark refuses approvals older than its observation (24 h), and ends sessions with such an approval
    /// when they are used. Must exceed the time that can pass between reading an approval and opening a session with
    /// it.
    pub mark_ttl: Duration,
    /// How long a receipt that nobody forgets is kept (7 days). Must exceed the longest time a crashed caller may
    /// take to come back.
    pub receipt_ttl: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        const DAY: Duration = Duration::from_hours(24);
        Self { idle: 7 * DAY, absolute: 30 * DAY, mark_ttl: DAY, receipt_ttl: 7 * DAY }
    }
}

/// Milliseconds as Redis takes them; beyond a century its arithmetic would overflow before a session does.
pub(crate) fn millis(duration: Duration) -> u64 {
    const CENTURY: u64 = 100 * 365 * 24 * 60 * 60 * 1000;
    u64::try_from(duration.as_millis()).unwrap_or(CENTURY).clamp(1, CENTURY)
}
