//! What a metric is, and the list of all of them.

use crate::{outbox, runner, verifier};

/// A total that only grows and goes on from run to run.
#[derive(Debug, PartialEq, Eq)]
pub struct Counter {
    /// Name, ending in `_total`.
    pub name: &'static str,
    /// One sentence for people who read the metric.
    pub help: &'static str,
    /// Label names.
    pub labels: &'static [&'static str],
    /// The closed set of label values, one entry per series, each in the order of `labels`. Every series exists from
    /// 0: one that first appears at 12 would read as no increase at all.
    pub series: &'static [&'static [&'static str]],
}

/// A value set anew by each run.
#[derive(Debug, PartialEq, Eq)]
pub struct Gauge {
    /// Name, with its unit where there is one.
    pub name: &'static str,
    /// One sentence for people who read the metric.
    pub help: &'static str,
    /// Label names.
    pub labels: &'static [&'static str],
}

/// The type of a metric, as Prometheus names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// See [`Counter`].
    Counter,
    /// See [`Gauge`].
    Gauge,
}

/// An entry of the [`catalogue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Name.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Label names, without those of the [`Group`](crate::Group).
    pub labels: &'static [&'static str],
    /// Counter or gauge.
    pub kind: Kind,
}

/// The counters that `job` pushes: the runner's, and the job's own.
pub fn counters(job: &str) -> Vec<&'static Counter> {
    let own = match job {
        verifier::JOB => verifier::COUNTERS,
        outbox::JOB => outbox::COUNTERS,
        _ => &[],
    };
    runner::COUNTERS.iter().chain(own).copied().collect()
}

/// All metrics of the system, sorted by name.
pub fn catalogue() -> Vec<Metric> {
    let counters = [runner::COUNTERS, verifier::COUNTERS, outbox::COUNTERS].concat();
    let gauges = [runner::GAUGES, verifier::GAUGES, outbox::GAUGES].concat();
    let mut all: Vec<Metric> = counters
        .iter()
        .map(|&&Counter { name, help, labels, .. }| Metric { name, help, labels, kind: Kind::Counter })
        .chain(gauges.iter().map(|&&Gauge { name, help, labels }| Metric { name, help, labels, kind: Kind::Gauge }))
        .collect();
    all.sort_unstable_by_key(|metric| metric.name);
    all
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_carry_the_prefix_of_the_system() {
        let all = catalogue();
        let names: HashSet<&str> = all.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), all.len());
        for name in names {
            assert!(name.starts_with("rollcall_") || name.starts_with("battlescope_"), "{name}");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
        }
    }

    #[test]
    fn counters_and_only_counters_end_in_total() {
        for metric in catalogue() {
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
        }
    }

    #[test]
    fn each_series_has_a_value_per_label_and_appears_once() {
        for counter in [runner::COUNTERS, verifier::COUNTERS, outbox::COUNTERS].concat() {
            assert!(!counter.series.is_empty(), "{}", counter.name);
            assert!(counter.series.iter().all(|values| values.len() == counter.labels.len()), "{}", counter.name);
            let unique: HashSet<_> = counter.series.iter().collect();
            assert_eq!(unique.len(), counter.series.len(), "{}", counter.name);
        }
    }

    #[test]
    fn no_metric_uses_a_label_of_the_group() {
        for metric in catalogue() {
            for label in ["job", "namespace", "shard", "instance"] {
                assert!(!metric.labels.contains(&label), "{} has the label {label}", metric.name);
            }
        }
    }

    #[test]
    fn help_is_a_sentence_on_one_line() {
        for metric in catalogue() {
            assert!(metric.help.ends_with('.') && !metric.help.contains('\n'), "{}: {}", metric.name, metric.help);
        }
    }

    #[test]
    fn a_job_counts_what_the_runner_counts_and_its_own() {
        let verifier = counters("character-verifier");
        assert!(verifier.contains(&&runner::RUNS) && verifier.contains(&&verifier::ESI_CALLS));
        assert_eq!(counters("migrate"), [&runner::RUNS, &runner::PUSH_FAILURES]);
    }
}
