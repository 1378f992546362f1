//! Which aggregates are held back, in memory. Of each only a hash is kept: a million of them must fit. Two aggregates with
//! one hash would share their fate until both are free.

use std::collections::HashMap;

use store::outbox::held::Held;

/// How a held aggregate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    /// As in `outbox_events`.
    pub bucket: i16,
    /// The event to go on with, as it was loaded.
    pub seq: i64,
    /// It may be tried.
    pub is_due: bool,
    /// Its event was met in this pass.
    pub is_met: bool,
}

/// All that are held back, by the hash of the aggregate.
#[derive(Debug, Default)]
pub(crate) struct HeldBack(HashMap<u64, State>);

impl HeldBack {
    /// Takes over what is in the database.
    pub(crate) fn replace(&mut self, held: &[Held]) {
        let state = |held: &Held| State { bucket: held.bucket, seq: held.seq, is_due: held.is_due, is_met: false };
        self.0 = held.iter().map(|held| (held.key, state(held))).collect();
    }

    /// Whether the aggregate must wait.
    pub(crate) fn waits(&self, key: u64) -> bool {
        self.0.get(&key).is_some_and(|state| !state.is_due)
    }

    /// A held aggregate that is tried in this pass.
    pub(crate) fn due(&mut self, key: u64) -> Option<&mut State> {
        self.0.get_mut(&key).filter(|state| state.is_due)
    }

    /// Its event was rejected: from now on it waits.
    pub(crate) fn reject(&mut self, key: u64, bucket: i16, seq: i64) {
        self.0.insert(key, State { bucket, seq, is_due: false, is_met: true });
    }

    /// It goes on.
    pub(crate) fn free(&mut self, key: u64) {
        self.0.remove(&key);
    }

    /// The lowest number to go on with in each bucket in which something is due.
    pub(crate) fn lowest_due(&self) -> HashMap<i16, i64> {
        let mut lowest = HashMap::new();
        for state in self.0.values().filter(|state| state.is_due) {
            let seq = lowest.entry(state.bucket).or_insert(state.seq);
            *seq = state.seq.min(*seq);
        }
        lowest
    }

    /// Those that are due and of which a whole pass has met no event: there is nothing to hold.
    pub(crate) fn take_empty(&mut self) -> Vec<(i16, i64)> {
        let empty = |state: &State| state.is_due && !state.is_met;
        let gone = self.0.values().filter(|state| empty(state)).map(|state| (state.bucket, state.seq)).collect();
        self.0.retain(|_, state| !empty(state));
        gone
    }
}
