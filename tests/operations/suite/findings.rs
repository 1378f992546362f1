//! What is wrong, all of it at once.

use std::fmt::Display;

/// Collects what is wrong. A test that stopped at the first would be run once for each.
#[derive(Default)]
pub(crate) struct Findings(Vec<String>);

impl Findings {
    /// Notes that something is wrong at `place`, a file mostly.
    pub(crate) fn add(&mut self, place: impl Display, what: impl Display) {
        let line = format!("{place}: {what}");
        if !self.0.contains(&line) {
            self.0.push(line);
        }
    }

    /// Notes it unless `holds`.
    pub(crate) fn hold(&mut self, holds: bool, place: impl Display, what: impl Display) {
        if !holds {
            self.add(place, what);
        }
    }

    /// Ends the test.
    #[track_caller]
    pub(crate) fn end(self) {
        assert!(self.0.is_empty(), "{} found:\n  {}\n", self.0.len(), self.0.join("\n  "));
    }
}
