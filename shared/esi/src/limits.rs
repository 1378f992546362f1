//! One process's view of ESI's limits, from headers alone. No I/O.
//!
//! The legacy error limit is one window for every route and address; newer routes draw from token buckets that are
//! known only by the group their headers name. Either way the client stops well before ESI would stop it.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    counts::Route,
    headers::{Bucket, ErrorLimit, Headers},
};

/// Errors left in the window at which calls end: other shards and calls in flight may need them.
pub(crate) const ERROR_FLOOR: u32 = 20;
/// Most tokens that one call costs (a 4xx), so many are kept in hand whatever the size of the bucket.
const DEAREST_CALL: u32 = 5;
/// Tokens that a call costs as a rule (a 2xx).
const USUAL_CALL: u32 = 2;
/// Two ends of an error window that differ by less are the same window.
const SAME_WINDOW: Duration = Duration::from_secs(2);
/// Pause after a 420 that does not say when its window ends: the length of a window.
const UNSAID_420: Duration = Duration::from_mins(1);
/// Pause after a 429 that does not say for how long.
const UNSAID_429: Duration = Duration::from_secs(30);
/// Spendings remembered per bucket.
const MAX_SPENT: usize = 4096;

/// What is known of the limits, by this process's monotonic clock.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    pause: Option<Instant>,
    errors: Option<Window>,
    groups: HashMap<Route, String>,
    buckets: HashMap<String, Spending>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    remain: u32,
    until: Instant,
}

#[derive(Debug, Default)]
struct Spending {
    spent: VecDeque<(Instant, u32)>,
    blocked: Option<Instant>,
}

/// What the other processes have to know of an answer, or what they said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Notice {
    /// Nobody calls any route for so long.
    pub(crate) pause: Option<Duration>,
    /// The error window.
    pub(crate) errors: Option<ErrorLimit>,
    /// The group that the route belongs to, if that is news.
    pub(crate) group: Option<String>,
    /// Nobody calls a route of this group for so long.
    pub(crate) blocked: Option<(String, Duration)>,
}

impl Limits {
    /// When the route may be called next; `None`: at once.
    pub(crate) fn free_at(&self, route: Route, now: Instant) -> Option<Instant> {
        let window = self.errors.filter(|window| window.remain <= ERROR_FLOOR).map(|window| window.until);
        let bucket = self.group(route).and_then(|group| self.buckets.get(group)).and_then(|bucket| bucket.blocked);
        [self.pause, window, bucket].into_iter().flatten().max().filter(|until| *until > now)
    }

    /// The group of a route, once a header named it.
    pub(crate) fn group(&self, route: Route) -> Option<&str> {
        self.groups.get(&route).map(String::as_str)
    }

    /// Takes in an answer. `others` calls are in flight whose cost no header shows yet.
    pub(crate) fn note(&mut self, route: Route, status: u16, headers: &Headers, others: u32, now: Instant) -> Notice {
        let mut notice = Notice::default();
        if let Some(limit) = headers.errors {
            self.window(limit, now);
            notice.errors = Some(limit).filter(|_| status >= 400);
        } else if status >= 400
            && headers.bucket.is_none()
            && let Some(window) = &mut self.errors
        {
            // From a box in front of ESI: it counts all the same.
            window.remain = window.remain.saturating_sub(1);
        }
        if let Some(bucket) = &headers.bucket {
            notice.group = self.join(route, &bucket.group);
            notice.blocked = self.spend(bucket, others, now).map(|wait| (bucket.group.clone(), wait));
        }
        let asked = match status {
            420 => headers.errors.map(|limit| limit.reset).or(headers.retry_after).or(Some(UNSAID_420)),
            429 => headers.retry_after.or(Some(UNSAID_429)),
            500.. => headers.retry_after,
            _ => None,
        };
        match (asked, self.groups.get(&route).filter(|_| status == 429).cloned()) {
            (Some(wait), Some(group)) => {
                self.block(&group, now + wait);
                notice.blocked = Some((group, wait));
            }
            (Some(wait), None) => {
                self.pause = self.pause.max(Some(now + wait));
                notice.pause = Some(wait);
            }
            (None, _) => {}
        }
        notice
    }

    /// Takes in what other processes said.
    pub(crate) fn absorb(&mut self, route: Route, seen: Notice, now: Instant) {
        self.pause = self.pause.max(seen.pause.map(|wait| now + wait));
        if let Some(limit) = seen.errors {
            self.window(limit, now);
        }
        if let Some(group) = seen.group {
            self.join(route, &group);
        }
        if let Some((group, wait)) = seen.blocked {
            self.block(&group, now + wait);
        }
    }

    /// In one window the lowest number counts, whatever order the answers arrive in.
    fn window(&mut self, limit: ErrorLimit, now: Instant) {
        let new = Window { remain: limit.remain, until: now + limit.reset };
        let old = self.errors.filter(|old| old.until > now);
        if old.is_none_or(|old| new.remain < old.remain || new.until > old.until + SAME_WINDOW) {
            self.errors = Some(new);
        }
    }

    fn join(&mut self, route: Route, group: &str) -> Option<String> {
        if self.group(route) == Some(group) {
            return None;
        }
        self.groups.insert(route, group.to_owned());
        Some(group.to_owned())
    }

    fn block(&mut self, group: &str, until: Instant) {
        let bucket = self.buckets.entry(group.to_owned()).or_default();
        bucket.blocked = bucket.blocked.max(Some(until));
    }

    /// How long to leave the bucket alone, if little is left: until the first token of ours comes back.
    fn spend(&mut self, bucket: &Bucket, others: u32, now: Instant) -> Option<Duration> {
        let spending = self.buckets.entry(bucket.group.clone()).or_default();
        while spending.spent.front().is_some_and(|(when, _)| now - *when >= bucket.window)
            || spending.spent.len() >= MAX_SPENT
        {
            spending.spent.pop_front();
        }
        if bucket.used > 0 {
            spending.spent.push_back((now, bucket.used));
        }
        let in_hand = bucket.remaining.saturating_sub(others.saturating_mul(USUAL_CALL));
        if in_hand > (bucket.limit / 10).max(DEAREST_CALL) {
            return None;
        }
        // Tokens that others spent come back at a time unknown here: look again after a tenth of the window.
        let back = spending.spent.front().map_or(now, |(when, _)| *when + bucket.window);
        let until = back.max(now + bucket.window / 10);
        spending.blocked = spending.blocked.max(Some(until));
        Some(until - now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn errors(remain: u32, seconds: u32) -> Headers {
        Headers { errors: Some(ErrorLimit { remain, reset: SECOND * seconds }), ..Headers::default() }
    }

    fn bucket(remaining: u32) -> Headers {
        let bucket = Bucket { group: "g".into(), limit: 100, window: SECOND * 60, remaining, used: 2 };
        Headers { bucket: Some(bucket), ..Headers::default() }
    }

    #[test]
    fn the_floor_of_the_error_limit_stops_every_route_until_the_window_ends() {
        let (mut limits, now) = (Limits::default(), Instant::now());
        let notice = limits.note(Route::Affiliation, 404, &errors(21, 30), 0, now);
        assert_eq!(notice.errors, Some(ErrorLimit { remain: 21, reset: SECOND * 30 }));
        assert_eq!(limits.free_at(Route::Affiliation, now), None);
        limits.note(Route::Affiliation, 404, &errors(20, 30), 0, now);
        assert_eq!(limits.free_at(Route::Status, now), Some(now + SECOND * 30));
        assert_eq!(limits.free_at(Route::Status, now + SECOND * 30), None);
    }

    #[test]
    fn a_late_answer_does_not_raise_what_is_left_and_a_new_window_does() {
        let (mut limits, now) = (Limits::default(), Instant::now());
        limits.note(Route::Status, 500, &errors(10, 30), 0, now);
        limits.note(Route::Status, 200, &errors(90, 30), 0, now);
        assert_eq!(limits.free_at(Route::Status, now), Some(now + SECOND * 30));
        limits.note(Route::Status, 200, &errors(100, 60), 0, now + SECOND * 20);
        assert_eq!(limits.free_at(Route::Status, now + SECOND * 20), None);
    }

    #[test]
    fn errors_from_in_front_of_esi_are_counted_too() {
        let (mut limits, now) = (Limits::default(), Instant::now());
        limits.note(Route::Status, 200, &errors(22, 30), 0, now);
        for _ in 0..2 {
            assert_eq!(limits.free_at(Route::Status, now), None);
            limits.note(Route::Status, 502, &Headers::default(), 0, now);
        }
        assert!(limits.free_at(Route::Status, now).is_some());
    }

    #[test]
    fn a_success_tells_others_nothing() {
        let notice = Limits::default().note(Route::Status, 200, &errors(99, 30), 0, Instant::now());
        assert_eq!(notice, Notice::default());
    }

    #[test]
    fn four_twenty_pauses_everything_until_the_reset() {
        for (headers, wait) in [(errors(0, 7), SECOND * 7), (Headers::default(), UNSAID_420)] {
            let (mut limits, now) = (Limits::default(), Instant::now());
            assert_eq!(limits.note(Route::Names, 420, &headers, 0, now).pause, Some(wait));
            assert_eq!(limits.free_at(Route::Character, now), Some(now + wait));
        }
    }

    #[test]
    fn four_twenty_nine_stops_its_group_and_without_a_group_everything() {
        let (mut limits, now) = (Limits::default(), Instant::now());
        let wait = Headers { retry_after: Some(SECOND * 5), ..bucket(90) };
        limits.note(Route::Character, 429, &wait, 0, now);
        assert_eq!(limits.free_at(Route::Character, now), Some(now + SECOND * 5));
        assert_eq!(limits.free_at(Route::Names, now), None);
        limits.note(Route::Names, 429, &Headers::default(), 0, now);
        assert_eq!(limits.free_at(Route::Status, now), Some(now + UNSAID_429));
    }

    #[test]
    fn a_tenth_of_a_bucket_is_kept_until_our_first_token_comes_back() {
        let (mut limits, start) = (Limits::default(), Instant::now());
        let notice = limits.note(Route::Character, 200, &bucket(98), 0, start);
        assert_eq!((notice.group.as_deref(), notice.blocked), (Some("g"), None));
        let later = start + SECOND * 10;
        let notice = limits.note(Route::Character, 200, &bucket(10), 0, later);
        assert_eq!((notice.group, notice.blocked), (None, Some(("g".to_owned(), SECOND * 50))));
        assert_eq!(limits.free_at(Route::Character, later), Some(start + SECOND * 60));
        assert_eq!(limits.free_at(Route::Character, start + SECOND * 60), None);
    }

    #[test]
    fn calls_in_flight_count_as_spent() {
        let now = Instant::now();
        assert!(Limits::default().note(Route::Character, 200, &bucket(20), 4, now).blocked.is_none());
        assert!(Limits::default().note(Route::Character, 200, &bucket(20), 5, now).blocked.is_some());
    }

    #[test]
    fn what_another_process_saw_counts_here() {
        let (mut limits, now) = (Limits::default(), Instant::now());
        let seen = Notice {
            errors: Some(ErrorLimit { remain: 20, reset: SECOND }),
            group: Some("g".into()),
            blocked: Some(("g".into(), SECOND * 9)),
            ..Notice::default()
        };
        limits.absorb(Route::Character, seen, now);
        assert_eq!(limits.free_at(Route::Status, now), Some(now + SECOND));
        assert_eq!(limits.free_at(Route::Character, now), Some(now + SECOND * 9));
    }
}
