//! What a dry run would do, kept in memory since it writes nothing.

use std::cell::{Cell, RefCell};

use store::candidates::Candidate;

/// Candidates and changes met so far. Only candidates with a live session are kept.
#[derive(Debug, Default)]
pub struct Preview {
    /// Verdicts that would cost a session.
    pub candidates: RefCell<Vec<Candidate>>,
    /// Characters whose organisation would be written.
    pub changes: Cell<usize>,
}

impl Preview {
    /// Adds a batch.
    pub fn add(&self, candidates: &[Candidate], changes: usize) {
        self.candidates.borrow_mut().extend(candidates.iter().filter(|c| c.live).cloned());
        self.changes.set(self.changes.get() + changes);
    }
}
