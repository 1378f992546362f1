//! What clients asked, bounded, and the rules they broke.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use time::OffsetDateTime;

use crate::route::Route;

/// Entries kept; older ones are forgotten, their counts are not.
const MAX_ENTRIES: usize = 100_000;
/// Violations kept, the earliest ones.
const MAX_VIOLATIONS: usize = 1000;

/// One request as it arrived, and how it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The route; its template is [`Route::template`].
    pub route: Route,
    /// HTTP method.
    pub method: String,
    /// Path without query.
    pub path: String,
    /// Status of the answer; `None` while there is none: in progress, hanging, cut, or the client left.
    pub status: Option<u16>,
    /// Ids in the body (affiliation, names).
    pub ids_count: usize,
    /// Those ids in the order they came; empty unless `record_ids` is set.
    pub ids: Vec<i64>,
    /// The `User-Agent` header.
    pub user_agent: Option<String>,
    /// When it arrived, by the simulated clock.
    pub arrived: OffsetDateTime,
    /// When it was answered, by the simulated clock.
    pub answered: Option<OffsetDateTime>,
}

/// Totals since the start or the last clearing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Per route that was called.
    pub routes: BTreeMap<Route, RouteCounts>,
}

/// Totals of one route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RouteCounts {
    /// Requests that arrived.
    pub arrived: u64,
    /// Ids in their bodies.
    pub ids: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Connections cut on purpose.
    pub cut: u64,
}

impl Counts {
    /// Requests that arrived on the route.
    pub fn arrived(&self, route: Route) -> u64 {
        self.routes.get(&route).map_or(0, |counts| counts.arrived)
    }

    /// Answers of the route with this status.
    pub fn answered(&self, route: Route, status: u16) -> u64 {
        self.routes.get(&route).and_then(|counts| counts.statuses.get(&status)).copied().unwrap_or(0)
    }

    /// Ids asked for on the route.
    pub fn ids(&self, route: Route) -> u64 {
        self.routes.get(&route).map_or(0, |counts| counts.ids)
    }

    /// Requests that arrived on any route.
    pub fn total(&self) -> u64 {
        self.routes.values().map(|counts| counts.arrived).sum()
    }
}

/// How a request ended.
pub(crate) enum End {
    Status(u16),
    Cut,
}

#[derive(Default)]
pub(crate) struct Log {
    entries: VecDeque<Recorded>,
    /// Number of the first entry kept; numbers go on over clearings, so that a late answer finds no stranger.
    first: u64,
    pub(crate) counts: Counts,
    pub(crate) violations: Vec<String>,
}

impl Log {
    pub(crate) fn arrived(&mut self, entry: Recorded) -> u64 {
        let counts = self.counts.routes.entry(entry.route).or_default();
        counts.arrived += 1;
        counts.ids += entry.ids_count as u64;
        if self.entries.len() == MAX_ENTRIES {
            self.entries.pop_front();
            self.first += 1;
        }
        self.entries.push_back(entry);
        self.first + self.entries.len() as u64 - 1
    }

    pub(crate) fn ended(&mut self, number: u64, end: &End, now: OffsetDateTime) {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        let Some(entry) = index.and_then(|index| self.entries.get_mut(index)) else { return };
        let counts = self.counts.routes.entry(entry.route).or_default();
        match end {
            End::Status(status) => {
                *counts.statuses.entry(*status).or_default() += 1;
                entry.status = Some(*status);
                entry.answered = Some(now);
            }
            End::Cut => counts.cut += 1,
        }
    }

    pub(crate) fn violation(&mut self, text: String) {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(text);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.first += self.entries.len() as u64;
        self.entries.clear();
        self.counts = Counts::default();
        self.violations.clear();
    }

    pub(crate) fn entries(&self) -> Vec<Recorded> {
        self.entries.iter().cloned().collect()
    }
}
