//! What the Pushgateway holds, a metric to a line.

use harness::{Pushgateway, Sample};

/// Labels of the group, the same in every line.
const GROUP: [&str; 2] = ["job", "instance"];

/// Metrics worth looking at after every run; all but the last two are totals over all runs.
const INTERESTING: [&str; 7] = [
    "battlescope_characters_verified_total",
    "battlescope_character_org_changes_total",
    "battlescope_sessions_invalidated_total",
    "rollcall_verifier_token_checks_total",
    "rollcall_verifier_confirmations_total",
    "rollcall_verifier_held_sessions",
    "rollcall_verifier_oldest_unverified_seconds",
];

/// Name with the names of its labels, and the values that are not zero.
pub(crate) fn interesting(pushgateway: &Pushgateway) -> Vec<Vec<String>> {
    let all = pushgateway.metrics();
    INTERESTING
        .iter()
        .map(|&name| {
            let series: Vec<&Sample> = all.iter().filter(|sample| sample.name == name).collect();
            vec![title(name, &series), values(&series)]
        })
        .collect()
}

fn title(name: &str, series: &[&Sample]) -> String {
    let labels: Vec<&str> =
        series.first().map_or_else(Vec::new, |sample| own_labels(sample).map(|(name, _)| name).collect());
    if labels.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", labels.join(",")) }
}

fn values(series: &[&Sample]) -> String {
    let told: Vec<String> = series
        .iter()
        .filter(|sample| sample.value != 0.0)
        .map(|sample| {
            let labels: Vec<&str> = own_labels(sample).map(|(_, value)| value).collect();
            format!("{} {}", labels.join(","), number(sample.value)).trim_start().to_owned()
        })
        .collect();
    match (series.len(), told.is_empty()) {
        (0, _) => "not there".to_owned(),
        (1, true) => "0".to_owned(),
        (_, true) => "all 0".to_owned(),
        _ => told.join(" · "),
    }
}

fn own_labels(sample: &Sample) -> impl Iterator<Item = (&str, &str)> {
    sample
        .labels
        .iter()
        .filter(|(name, _)| !GROUP.contains(&name.as_str()))
        .map(|(name, value)| (name.as_str(), value.as_str()))
}

fn number(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(result: &str, value: f64) -> Sample {
        let labels = [("job", "character-verifier"), ("result", result)];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Sample { name: "checks_total".to_owned(), labels, value }
    }

    #[test]
    fn a_metric_is_told_by_its_values_that_are_not_zero() {
        let (valid, revoked) = (sample("valid", 7.0), sample("revoked", 0.0));
        assert_eq!(title("checks_total", &[&valid, &revoked]), "checks_total{result}");
        assert_eq!(values(&[&valid, &revoked]), "valid 7");
        assert_eq!(values(&[&revoked, &revoked]), "all 0");
        assert_eq!(values(&[]), "not there");
    }
}
