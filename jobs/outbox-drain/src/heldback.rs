//! Which aggregates are held back, in memory. Of each only a hash is kept, some forty bytes in all: a million
//! of them must fit the limit of the manifests. Two aggregates with one hash would share their fate until both are free.

use std::collections::{BTreeMap, HashMap};

use store::outbox::held::{Free, Held};

/// How a held aggregate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    /// The event to go on with, as the database has it.
    from: i64,
    /// As in [`Held`].
    version: u32,
    /// As in `outbox_events`.
    bucket: i16,
    /// It may be tried.
    is_due: bool,
}

/// All that are held back, by the hash of the aggregate.
#[derive(Debug, Default)]
pub(crate) struct HeldBack(BTreeMap<u64, State>);

impl HeldBack {
    /// Begins anew.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Takes over what is in the database.
    pub(crate) fn add(&mut self, held: Held) {
        let Held { key, bucket, seq, is_due, version } = held;
        self.0.insert(key, State { from: seq, version, bucket, is_due });
    }

    /// Whether the aggregate must wait.
    pub(crate) fn waits(&self, key: u64) -> bool {
        self.0.get(&key).is_some_and(|state| !state.is_due)
    }

    /// Whether it was held back and is tried in this pass.
    pub(crate) fn is_due(&self, key: u64) -> bool {
        self.0.get(&key).is_some_and(|state| state.is_due)
    }

    /// The event that its aggregate goes on with, if it is held back.
    pub(crate) fn from(&self, key: u64) -> Option<i64> {
        self.0.get(&key).map(|state| state.from)
    }

    /// [`Held::version`] of its row; 0 when it was not held back.
    pub(crate) fn version(&self, key: u64) -> u32 {
        self.0.get(&key).map_or(0, |state| state.version)
    }

    /// One of its events was rejected, or left: from now on it waits.
    pub(crate) fn wait(&mut self, key: u64, bucket: i16, seq: i64) {
        self.0.entry(key).or_insert(State { bucket, from: seq, is_due: false, version: 0 }).is_due = false;
    }

    /// The lowest number to go on with in each bucket in which something is due.
    pub(crate) fn lowest_due(&self) -> HashMap<i16, i64> {
        let mut lowest = HashMap::new();
        for state in self.0.values().filter(|state| state.is_due) {
            let seq = lowest.entry(state.bucket).or_insert(state.from);
            *seq = state.from.min(*seq);
        }
        lowest
    }

    /// Those that are due, of buckets that a pass has read to the end: everything they held back is out. Not before: what
    /// lies below the floor is found from their event on alone.
    pub(crate) fn take_due(&mut self, is_read: impl Fn(i16) -> bool) -> Vec<Free> {
        let free = |state: &State| Free { bucket: state.bucket, seq: state.from, version: state.version };
        let goes = |state: &State| state.is_due && is_read(state.bucket);
        let gone = self.0.values().filter(|state| goes(state)).map(free).collect();
        self.0.retain(|_, state| !goes(state));
        gone
    }
}
