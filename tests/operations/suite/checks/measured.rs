//! Metrics and labels, wherever they are used, exist in the code.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    findings::Findings,
    read::{alerts, files, markdown, programs, promql},
};

/// Labels of the group under which a job pushes.
const GROUP: [&str; 3] = ["job", "namespace", "shard"];

/// Metrics of others, their labels, and why they may be used.
const FOREIGN: [(&str, &[&str], &str); 11] = [
    ("kube_cronjob_info", &["namespace", "cronjob"], "kube-state-metrics: that there is a CronJob"),
    ("kube_cronjob_spec_suspend", &["namespace", "cronjob"], "kube-state-metrics: whether it is suspended"),
    ("kube_deployment_spec_replicas", &["namespace", "deployment"], "kube-state-metrics: whether workers do its work"),
    (
        "kube_deployment_status_replicas_available",
        &["namespace", "deployment"],
        "kube-state-metrics: whether all workers are there",
    ),
    (
        "kube_deployment_status_replicas_unavailable",
        &["namespace", "deployment"],
        "kube-state-metrics: whether one of them is not ready",
    ),
    ("kube_job_failed", &["namespace", "job_name", "condition"], "kube-state-metrics: migrate pushes nothing"),
    (
        "kube_job_complete",
        &["namespace", "job_name", "condition"],
        "kube-state-metrics: whether a later one is complete",
    ),
    ("kube_job_created", &["namespace", "job_name"], "kube-state-metrics: which is the later one"),
    ("push_time_seconds", &GROUP, "the Pushgateway, of each group: when it was last pushed to"),
    ("push_failure_time_seconds", &GROUP, "the Pushgateway, of each group: when it last refused a push"),
    ("pushgateway_build_info", &[], "the Pushgateway: that there is one"),
];

/// What may be said of a metric: its labels, and their values where these are a closed set.
#[derive(Default)]
struct Known {
    labels: BTreeSet<String>,
    values: BTreeMap<String, BTreeSet<String>>,
}

fn known() -> BTreeMap<String, Known> {
    let mut all = BTreeMap::new();
    for metric in metrics::catalogue() {
        let labels = metric.labels.iter().chain(&GROUP).map(|label| (*label).to_owned()).collect();
        all.insert(metric.name.to_owned(), Known { labels, values: BTreeMap::new() });
    }
    for counter in programs::programs().iter().flat_map(|program| metrics::counters(program.name)) {
        let values = &mut all.get_mut(counter.name).expect("counters are in the catalogue").values;
        for (place, label) in counter.labels.iter().enumerate() {
            values
                .entry((*label).to_owned())
                .or_default()
                .extend(counter.series.iter().map(|one| one[place].to_owned()));
        }
    }
    for (name, labels, _) in FOREIGN {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        all.insert(name.to_owned(), Known { labels, values: BTreeMap::new() });
    }
    for (_, rule) in alerts::rules() {
        if let Some(record) = rule.record {
            let names = promql::names(&rule.expr);
            all.insert(
                record,
                Known { labels: names.labels.into_iter().chain(names.made).collect(), values: BTreeMap::new() },
            );
        }
    }
    all
}

/// An expression, and where it stands.
pub(super) struct Placed {
    pub(super) place: String,
    pub(super) expression: String,
}

/// All expressions of rules, panels and documents.
pub(super) fn expressions() -> Vec<Placed> {
    let mut all: Vec<Placed> = alerts::rules()
        .into_iter()
        .map(|(path, rule)| Placed { place: format!("{path}: {}", rule.name()), expression: rule.expr })
        .collect();
    for (path, dashboard) in
        dashboards::read(&files::root().join("k8s/monitoring/dashboards")).expect("dashboards are read")
    {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for panel in dashboard.rows.iter().flat_map(|row| &row.panels) {
            all.extend(panel.series.iter().map(|series| Placed {
                place: format!("k8s/monitoring/dashboards/{file}: panel {:?}", panel.title),
                expression: series.expr.replace("$namespace", ".*"),
            }));
        }
    }
    for path in files::documents() {
        let blocks = markdown::document(&files::text(&path)).blocks.into_iter();
        all.extend(
            blocks
                .filter(|block| block.language == "promql")
                .map(|block| Placed { place: path.clone(), expression: block.text }),
        );
    }
    all
}

#[test]
fn every_metric_and_label_of_a_rule_panel_or_runbook_exists() {
    let (known, mut findings) = (known(), Findings::default());
    for Placed { place, expression } in expressions() {
        let names = promql::names(&expression);
        let mut labels = names.made;
        for used in &names.uses {
            let Some(metric) = known.get(&used.metric) else {
                findings.add(&place, format_args!("no metric {}", used.metric));
                continue;
            };
            labels.extend(metric.labels.iter().cloned());
            for matcher in &used.matchers {
                let here = format!("{}{{{}=…}}", used.metric, matcher.label);
                findings.hold(metric.labels.contains(&matcher.label), &place, format_args!("no such label: {here}"));
                let values: Vec<&str> =
                    if matcher.is_pattern { matcher.value.split('|').collect() } else { vec![&matcher.value] };
                if matcher.label == "job" && !matcher.is_pattern {
                    let exists = programs::program(&matcher.value).is_some();
                    findings.hold(exists, &place, format_args!("{here} is no job: {}", matcher.value));
                }
                let Some(closed) = metric.values.get(&matcher.label) else { continue };
                // Other patterns than lists of values are not looked into.
                for value in values
                    .into_iter()
                    .filter(|value| value.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_'))
                {
                    findings.hold(closed.contains(value), &place, format_args!("{here} is never {value:?}"));
                }
            }
        }
        for label in names.labels.difference(&labels) {
            findings.add(&place, format_args!("groups by {label:?}, which no metric of the expression has"));
        }
    }
    findings.end();
}

#[test]
fn every_expression_of_a_panel_or_runbook_is_one() {
    let rules: Vec<_> = expressions()
        .iter()
        .enumerate()
        .map(|(number, placed)| serde_json::json!({ "record": format!("expression_{number}"), "expr": placed.expression, "labels": { "place": placed.place } }))
        .collect();
    assert!(rules.len() > 40, "only {} expressions were found", rules.len());
    let folder = tempfile::tempdir().expect("temporary folders can be made");
    // JSON is YAML.
    let file = serde_json::json!({ "groups": [{ "name": "expressions", "rules": rules }] });
    std::fs::write(folder.path().join("rules.json"), file.to_string()).expect("temporary folders are writable");
    if let Err(said) = alerts::promtool(folder.path(), &["check", "rules", "--lint=none", "rules.json"]) {
        let places: Vec<String> = expressions()
            .into_iter()
            .enumerate()
            .map(|(number, placed)| format!("expression_{number}: {}", placed.place))
            .collect();
        panic!("{said}\nwhere\n{}", places.join("\n"));
    }
}

#[test]
fn every_metric_that_a_text_names_exists() {
    let (known, mut findings) = (known(), Findings::default());
    // A stream is called as a recorded metric might be.
    let settings = programs::programs().iter().flat_map(|program| program.settings().into_values()).collect::<Vec<_>>();
    let is_default = |word: &str| settings.iter().any(|setting| setting.default.as_deref() == Some(word));
    let mut texts: Vec<(String, String)> =
        files::documents().into_iter().map(|path| (path.clone(), files::text(&path))).collect();
    for (path, rule) in alerts::rules() {
        texts.push((format!("{path}: {}", rule.name()), rule.annotations.into_values().collect::<Vec<_>>().join(" ")));
    }
    for (place, text) in texts {
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | ':');
        for word in text.split(|letter| !is_part(letter)).map(|word| word.trim_end_matches(':')) {
            let ours = ["rollcall_", "rollcall:", "battlescope_"].iter().any(|prefix| word.starts_with(prefix));
            findings.hold(
                !ours || known.contains_key(word) || is_default(word),
                &place,
                format_args!("no metric {word}"),
            );
        }
    }
    findings.end();
}

#[test]
fn an_alert_speaks_only_of_labels_that_it_has() {
    let mut findings = Findings::default();
    for (path, rule) in alerts::rules() {
        let names = promql::names(&rule.expr);
        let text: String = rule.annotations.into_values().collect();
        for label in text.split("$labels.").skip(1) {
            let label: String =
                label.chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect();
            let has = names.labels.contains(&label) || names.made.contains(&label);
            findings.hold(
                has,
                format_args!("{path}: {}", rule.alert.as_deref().unwrap_or_default()),
                format_args!("$labels.{label} is always empty"),
            );
        }
    }
    findings.end();
}

#[test]
fn a_metric_of_others_that_nobody_uses_is_not_allowed() {
    let used: BTreeSet<String> =
        expressions().iter().flat_map(|placed| promql::names(&placed.expression).uses).map(|one| one.metric).collect();
    let mut findings = Findings::default();
    for (name, _, reason) in FOREIGN {
        findings.hold(
            used.contains(name),
            "the list of others' metrics",
            format_args!("{name} ({reason}) is used nowhere"),
        );
    }
    findings.end();
}
