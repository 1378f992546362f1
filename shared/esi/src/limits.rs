//! One process's view of ESI's limits, from headers alone. No I/O.
//!
//! The legacy error limit is one window for every route and address; newer routes draw from token buckets that are
//! known only by the group their headers name. Either way the client stops well before ESI would stop it.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::{
    buckets::Spending,
    counts::Route,
    headers::{ERROR_WINDOW, ErrorLimit, Headers},
};

/// Errors left in the window at which calls end: other shards and calls in flight may need them.
pub(crate) const ERROR_FLOOR: u32 = 20;
/// Two ends of an error window that differ by less are the same window.
pub(crate) const SAME_WINDOW: Duration = Duration::from_secs(2);
/// Pause after a 429 that does not say for how long.
const UNSAID_429: Duration = Duration::from_secs(30);
/// Longest pause that is believed of a 429 without a bucket: the window of the buckets there are.
const USUAL_WINDOW: Duration = Duration::from_mins(15);
/// Longest pause that is believed of a 5xx: it stops every route of every shard, and a box in front of ESI may ask for
/// any time.
const LONGEST_5XX: Duration = Duration::from_mins(5);

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

/// What a call has to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// A moment.
    Until(Instant),
    /// The end of the first call after a block, which shows how the bucket stands; that moment at the latest.
    Probe(Instant),
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
    /// What a call of the route has to wait for; `None`: nothing.
    pub(crate) fn wait(&self, route: Route, now: Instant) -> Option<Wait> {
        let window = self.errors.filter(|window| window.remain <= ERROR_FLOOR).map(|window| window.until);
        let bucket = self.group(route).and_then(|group| self.buckets.get(group));
        let blocked = bucket.and_then(|bucket| bucket.blocked(now));
        let until = [self.pause, window, blocked].into_iter().flatten().max().filter(|until| *until > now);
        until.map(Wait::Until).or_else(|| bucket?.probed(now).map(Wait::Probe))
    }

    /// Begins a call of the route, unless it has to wait.
    pub(crate) fn enter(&mut self, route: Route, now: Instant) -> bool {
        let free = self.wait(route, now).is_none();
        if free && let Some(bucket) = self.bucket(route) {
            bucket.enter(now);
        }
        free
    }

    /// Ends a call of the route, answered or not.
    pub(crate) fn leave(&mut self, route: Route) {
        if let Some(bucket) = self.bucket(route) {
            bucket.leave();
        }
    }

    fn bucket(&mut self, route: Route) -> Option<&mut Spending> {
        self.buckets.get_mut(self.groups.get(&route)?)
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
        // A 5xx without its headers comes from a box in front of ESI, which knows nothing of the bucket.
        if (status < 500 || headers.bucket.is_some())
            && let Some(bucket) = self.bucket(route)
        {
            bucket.heard(now);
        }
        if let Some(bucket) = &headers.bucket {
            notice.group = self.join(route, &bucket.group);
            let spending = self.buckets.entry(bucket.group.clone()).or_default();
            notice.blocked = spending.spend(bucket, others, now).map(|wait| (bucket.group.clone(), wait));
        }
        match status {
            420 => {
                let asked = headers.errors.map(|limit| limit.reset).or(headers.retry_after);
                notice.pause = Some(self.pause_for(asked.unwrap_or(ERROR_WINDOW).min(ERROR_WINDOW), now));
            }
            429 => {
                let asked = self.throttled(route, headers, UNSAID_429, now);
                notice.pause = asked.pause;
                notice.blocked = asked.blocked.or(notice.blocked);
            }
            500.. => notice.pause = headers.retry_after.map(|wait| self.pause_for(wait.min(LONGEST_5XX), now)),
            _ => {}
        }
        notice
    }

    /// Takes in that the route is throttled: a pause for its group, for everything if that is unknown. `unsaid` is how
    /// long it lasts if the headers do not say.
    pub(crate) fn throttled(&mut self, route: Route, headers: &Headers, unsaid: Duration, now: Instant) -> Notice {
        let window = headers.bucket.as_ref().map_or(USUAL_WINDOW, |bucket| bucket.window);
        let wait = headers.retry_after.unwrap_or(unsaid).min(window);
        match self.groups.get(&route).cloned() {
            Some(group) => {
                let wait = self.block(&group, wait, now);
                Notice { blocked: Some((group, wait)), ..Notice::default() }
            }
            None => Notice { pause: Some(self.pause_for(wait, now)), ..Notice::default() },
        }
    }

    /// Takes in what other processes said.
    pub(crate) fn absorb(&mut self, route: Route, seen: Notice, now: Instant) {
        if let Some(wait) = seen.pause {
            self.pause_for(wait, now);
        }
        if let Some(limit) = seen.errors {
            self.window(limit, now);
        }
        if let Some(group) = seen.group {
            self.join(route, &group);
        }
        if let Some((group, wait)) = seen.blocked {
            self.block(&group, wait, now);
        }
    }

    /// Stops every route, if that is not so for longer already; returns for how long.
    fn pause_for(&mut self, wait: Duration, now: Instant) -> Duration {
        let until = self.pause.map_or(now + wait, |until| until.max(now + wait));
        self.pause = Some(until);
        until - now
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

    fn block(&mut self, group: &str, wait: Duration, now: Instant) -> Duration {
        self.buckets.entry(group.to_owned()).or_default().block(now + wait, now)
    }
}

#[cfg(test)]
mod tests;
