//! The values at one moment.

use std::collections::BTreeMap;

use prometheus::{GaugeVec, IntCounterVec, Opts, Registry, TextEncoder, proto::MetricFamily};

use crate::{Counter, Gauge};

/// Why a [`Snapshot`] cannot be told. Each is a mistake in this program.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A gauge was given NaN or an infinity.
    #[error("{0}: the value is not a finite number")]
    NotFinite(&'static str),
    /// A definition is wrong, or label values do not fit their labels.
    #[error("{metric}: {cause}")]
    Malformed {
        /// Name of the metric.
        metric: &'static str,
        /// What the registry says.
        cause: prometheus::Error,
    },
    /// The text form cannot be written.
    #[error("metrics cannot be encoded: {0}")]
    Encode(prometheus::Error),
}

/// Values of counters and gauges at one moment.
#[derive(Debug, Default, Clone)]
pub struct Snapshot {
    counters: Vec<(&'static Counter, Vec<String>, u64)>,
    gauges: Vec<(&'static Gauge, Vec<String>, f64)>,
}

impl Snapshot {
    /// A snapshot that holds every series of `counters` at 0. See [`counters`](crate::counters).
    pub fn of(counters: &[&'static Counter]) -> Self {
        let zero = |&counter: &&'static Counter| counter.series.iter().map(move |values| (counter, owned(values), 0));
        Self { counters: counters.iter().flat_map(zero).collect(), gauges: Vec::new() }
    }

    /// Sets the series of `counter` with these label `values`, in the order of its labels, to `total`. The counter's
    /// other series exist from then on.
    ///
    /// Totals outlive the version that wrote them, so a value outside the closed set is kept (a newer version knew it)
    /// and a total whose values do not fit the labels is left out with a warning, rather than failing each push.
    pub fn counter(&mut self, counter: &'static Counter, values: &[&str], total: u64) -> &mut Self {
        if !self.counters.iter().any(|(known, ..)| known.name == counter.name) {
            self.counters.append(&mut Self::of(&[counter]).counters);
        }
        if values.len() != counter.labels.len() {
            tracing::warn!(metric = counter.name, ?values, "a total does not fit its labels and is left out");
            return self;
        }
        let values = owned(values);
        let same = |(known, at, _): &&mut (&Counter, Vec<String>, u64)| known.name == counter.name && *at == values;
        match self.counters.iter_mut().find(same) {
            Some(series) => series.2 = total,
            None => self.counters.push((counter, values, total)),
        }
        self
    }

    /// Sets `gauge` with these label `values`, in the order of its labels, to `value`.
    pub fn gauge(&mut self, gauge: &'static Gauge, values: &[&str], value: f64) -> &mut Self {
        let values = owned(values);
        self.gauges.retain(|(known, at, _)| known.name != gauge.name || *at != values);
        self.gauges.push((gauge, values, value));
        self
    }

    /// The snapshot in the Prometheus text format, sorted by name.
    ///
    /// # Errors
    /// A gauge is NaN or infinite, or label values do not fit their labels.
    pub fn encode(&self) -> Result<String, SnapshotError> {
        self.encode_with(&[])
    }

    /// The same, with `constant` labels on every series.
    pub(crate) fn encode_with(&self, constant: &[(&'static str, String)]) -> Result<String, SnapshotError> {
        let families = self.families(constant)?;
        TextEncoder::new().encode_to_string(&families).map_err(SnapshotError::Encode)
    }

    /// The snapshot as the registry gathers it.
    pub(crate) fn families(&self, constant: &[(&'static str, String)]) -> Result<Vec<MetricFamily>, SnapshotError> {
        let registry = Registry::new();
        let options = |name: &str, help: &str| {
            let labels = constant.iter().map(|(label, value)| ((*label).to_owned(), value.clone())).collect();
            Opts::new(name, help).const_labels(labels)
        };

        let mut counters: BTreeMap<&str, IntCounterVec> = BTreeMap::new();
        for (counter, values, total) in &self.counters {
            let malformed = |cause| SnapshotError::Malformed { metric: counter.name, cause };
            if !counters.contains_key(counter.name) {
                let vector = IntCounterVec::new(options(counter.name, counter.help), counter.labels);
                let vector = vector.map_err(malformed)?;
                registry.register(Box::new(vector.clone())).map_err(malformed)?;
                counters.insert(counter.name, vector);
            }
            let series = counters[counter.name].get_metric_with_label_values(values).map_err(malformed)?;
            series.inc_by(*total);
        }

        let mut gauges: BTreeMap<&str, GaugeVec> = BTreeMap::new();
        for (gauge, values, value) in &self.gauges {
            let malformed = |cause| SnapshotError::Malformed { metric: gauge.name, cause };
            if !value.is_finite() {
                return Err(SnapshotError::NotFinite(gauge.name));
            }
            if !gauges.contains_key(gauge.name) {
                let vector = GaugeVec::new(options(gauge.name, gauge.help), gauge.labels).map_err(malformed)?;
                registry.register(Box::new(vector.clone())).map_err(malformed)?;
                gauges.insert(gauge.name, vector);
            }
            gauges[gauge.name].get_metric_with_label_values(values).map_err(malformed)?.set(*value);
        }
        Ok(registry.gather())
    }
}

fn owned(values: &[&str]) -> Vec<String> {
    values.iter().map(|&value| value.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{counters, runner, verifier};

    #[test]
    fn every_series_of_every_counter_exists_from_zero() {
        let all = counters("character-verifier");
        let text = Snapshot::of(&all).encode().unwrap();
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        assert!(samples.clone().all(|line| line.ends_with(" 0")), "{text}");
        assert_eq!(samples.count(), all.iter().map(|counter| counter.series.len()).sum::<usize>());
        assert!(text.contains("battlescope_characters_verified_total{status=\"skipped\"} 0\n"), "{text}");
        assert!(text.contains("\nrollcall_push_failures_total 0\n"), "{text}");
    }

    #[test]
    fn a_total_replaces_its_series_and_brings_the_others_at_zero() {
        let mut snapshot = Snapshot::default();
        snapshot.counter(&runner::RUNS, &["done"], 3).counter(&runner::RUNS, &["done"], 7);
        let text = snapshot.encode().unwrap();
        assert!(text.contains("# TYPE rollcall_job_runs_total counter\n"), "{text}");
        assert!(text.contains("rollcall_job_runs_total{outcome=\"done\"} 7\n"), "{text}");
        assert!(text.contains("rollcall_job_runs_total{outcome=\"lost\"} 0\n"), "{text}");
    }

    #[test]
    fn a_gauge_is_set_and_set_again() {
        let mut snapshot = Snapshot::default();
        snapshot.gauge(&runner::RECORDS, &["scanned"], 5.0).gauge(&runner::RECORDS, &["scanned"], 12.5);
        let text = snapshot.encode().unwrap();
        assert!(text.contains("# TYPE rollcall_job_records gauge\n"), "{text}");
        assert!(text.ends_with("\nrollcall_job_records{outcome=\"scanned\"} 12.5\n"), "{text}");
    }

    #[test]
    fn a_total_of_a_newer_version_is_kept() {
        let mut snapshot = Snapshot::of(&[&verifier::UNKNOWN]);
        snapshot.counter(&verifier::UNKNOWN, &["solar_flare"], 2);
        assert!(snapshot.encode().unwrap().contains("{reason=\"solar_flare\"} 2\n"));
    }

    #[test]
    fn a_total_that_does_not_fit_its_labels_spoils_no_other() {
        let mut snapshot = Snapshot::default();
        snapshot.counter(&runner::RUNS, &["done", "7"], 9).counter(&runner::RUNS, &["done"], 2);
        let text = snapshot.encode().unwrap();
        assert!(text.contains("{outcome=\"done\"} 2\n") && !text.contains(" 9\n"), "{text}");
    }

    #[test]
    fn label_values_are_escaped() {
        let mut snapshot = Snapshot::default();
        snapshot.gauge(&runner::RECORDS, &["a\"b\\c\nd"], 1.0);
        assert!(snapshot.encode().unwrap().contains(r#"{outcome="a\"b\\c\nd"} 1"#));
    }

    #[test]
    fn a_value_that_is_no_number_is_refused_by_name() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut snapshot = Snapshot::default();
            snapshot.gauge(&runner::DURATION, &[], value);
            let error = snapshot.encode().unwrap_err();
            assert!(matches!(error, SnapshotError::NotFinite(name) if name == runner::DURATION.name), "{error}");
        }
    }

    #[test]
    fn label_values_that_do_not_fit_are_refused_by_name() {
        let mut snapshot = Snapshot::default();
        snapshot.gauge(&runner::RECORDS, &[], 1.0);
        let error = snapshot.encode().unwrap_err().to_string();
        assert!(error.starts_with("rollcall_job_records: "), "{error}");
    }

    #[test]
    fn constant_labels_are_on_every_series() {
        let mut snapshot = Snapshot::of(&[&runner::PUSH_FAILURES]);
        snapshot.gauge(&runner::RECORDS, &["failed"], 1.0);
        let text = snapshot.encode_with(&[("job", "migrate".to_owned()), ("shard", "3".to_owned())]).unwrap();
        assert!(text.contains("rollcall_push_failures_total{job=\"migrate\",shard=\"3\"} 0\n"), "{text}");
        assert!(text.contains("rollcall_job_records{job=\"migrate\",outcome=\"failed\",shard=\"3\"} 1\n"), "{text}");
    }
}
