//! What one batch adds to a run's numbers.

use std::collections::BTreeMap;

use metrics::Counter;
use store::{counters::Count, ledger::Tally};

/// Numbers that are written with a checkpoint: all of them or, if it fails, none.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Delta {
    /// Items looked at.
    pub scanned: u64,
    /// Items changed.
    pub changed: u64,
    /// Items left for the next run.
    pub skipped: u64,
    /// Items that are permanently bad.
    pub failed: u64,
    details: BTreeMap<&'static str, u64>,
    counts: BTreeMap<(&'static str, String), u64>,
}

impl Delta {
    /// Counts `n` in the series of `counter` with these label values, in the order of its labels.
    pub fn add(&mut self, counter: &'static Counter, labels: &[&str], n: u64) {
        if n > 0 {
            *self.counts.entry((counter.name, labels.join(","))).or_default() += n;
        }
    }

    /// Adds `n` to the run's own number `name`, which the ledger and the last log line show.
    pub fn detail(&mut self, name: &'static str, n: u64) {
        *self.details.entry(name).or_default() += n;
    }

    pub(crate) fn tally(&self) -> Tally {
        Tally { scanned: self.scanned, changed: self.changed, skipped: self.skipped, failed: self.failed }
    }

    pub(crate) fn details(&self) -> &BTreeMap<&'static str, u64> {
        &self.details
    }

    pub(crate) fn counts(&self) -> Vec<Count> {
        let count = |((metric, labels), value): (&(&'static str, String), &u64)| Count {
            metric: (*metric).to_owned(),
            labels: labels.clone(),
            value: i64::try_from(*value).unwrap_or(i64::MAX),
        };
        self.counts.iter().map(count).collect()
    }

    /// Adds all numbers of `other`.
    pub(crate) fn merge(&mut self, other: Self) {
        self.scanned += other.scanned;
        self.changed += other.changed;
        self.skipped += other.skipped;
        self.failed += other.failed;
        for (name, n) in other.details {
            *self.details.entry(name).or_default() += n;
        }
        for (series, n) in other.counts {
            *self.counts.entry(series).or_default() += n;
        }
    }
}

#[cfg(test)]
mod tests {
    use metrics::runner::{PUSH_FAILURES, RUNS};

    use super::*;

    #[test]
    fn merging_adds_every_number() {
        let mut one = Delta { scanned: 3, ..Delta::default() };
        one.add(&RUNS, &["done"], 1);
        one.detail("pages", 2);
        let mut two = Delta { scanned: 4, failed: 1, ..Delta::default() };
        two.add(&RUNS, &["done"], 2);
        two.add(&PUSH_FAILURES, &[], 1);
        two.detail("pages", 5);
        one.merge(two);
        assert_eq!(one.tally(), Tally { scanned: 7, failed: 1, ..Tally::default() });
        assert_eq!(one.details()["pages"], 7);
        let counts: Vec<_> = one.counts().into_iter().map(|c| (c.metric, c.labels, c.value)).collect();
        assert_eq!(counts, [(RUNS.name.into(), "done".into(), 3), (PUSH_FAILURES.name.into(), String::new(), 1)]);
    }

    #[test]
    fn nothing_is_not_counted() {
        let mut delta = Delta::default();
        delta.add(&RUNS, &["done"], 0);
        assert!(delta.counts().is_empty());
    }
}
