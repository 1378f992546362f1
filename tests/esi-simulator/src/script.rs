//! The faults in force, and which of them hit a request.

use crate::fault::{Fault, Kind};
use crate::route::Route;

/// Names one added fault until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FaultId(u64);

/// A fault that hit a request.
#[derive(Clone, Debug)]
pub(crate) struct Hit {
    pub(crate) kind: Kind,
    /// How often the fault has hit, this time included.
    pub(crate) count: u64,
}

struct Entry {
    id: FaultId,
    fault: Fault,
    seen: u64,
    hits: u64,
}

#[derive(Default)]
pub(crate) struct Script {
    entries: Vec<Entry>,
    next: u64,
}

impl Script {
    pub(crate) fn add(&mut self, fault: Fault) -> FaultId {
        let id = FaultId(self.next);
        self.next += 1;
        self.entries.push(Entry { id, fault, seen: 0, hits: 0 });
        id
    }

    pub(crate) fn remove(&mut self, id: FaultId) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.id != id);
        self.entries.len() < before
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    pub(crate) fn hits(&self, id: FaultId) -> u64 {
        self.entries.iter().find(|entry| entry.id == id).map_or(0, |entry| entry.hits)
    }

    /// Counts the request with each fault that looks at it, and returns those that hit. `ids` are sorted.
    pub(crate) fn take(&mut self, route: Route, ids: &[i64]) -> Vec<Hit> {
        let mut hits = Vec::new();
        for entry in &mut self.entries {
            let fault = &entry.fault;
            let named = fault.ids.is_empty() || fault.ids.iter().any(|id| ids.binary_search(id).is_ok());
            if !(fault.on.covers(route) && named) {
                continue;
            }
            entry.seen += 1;
            if fault.when.hits(entry.seen) {
                entry.hits += 1;
                hits.push(Hit { kind: fault.what.clone(), count: entry.hits });
            }
        }
        hits
    }
}
