//! What each job must be watched for, so that a new one is not forgotten: that it is late, unknown, failing, and that its
//! safety cap has tripped.

use std::collections::{BTreeMap, BTreeSet};

use identity::codes::ExitCode;

use super::measured;
use crate::{
    findings::Findings,
    read::{
        alerts::{self, RULES, Rule},
        files, manifests,
        promql::{self, Use},
    },
};

/// Rules that hold for every job.
const EVERY_JOB: &str = "k8s/monitoring/rules/jobs.yaml";
/// Alerts that go by the last exit code.
const FAILED: [&str; 2] = ["RollcallJobFailedPermanently", "RollcallJobFailing"];
const NEVER_SUCCEEDED: &str = "RollcallJobNeverSucceeded";

/// Alerts by name; one with two severities has two rules.
fn alerts() -> BTreeMap<String, Vec<(String, Rule)>> {
    let mut all: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for (path, rule) in alerts::rules() {
        if let Some(alert) = rule.alert.clone() {
            all.entry(alert).or_default().push((path, rule));
        }
    }
    all
}

/// `character-verifier` → `CharacterVerifier`.
fn camel(job: &str) -> String {
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    job.split('-').map(capital).collect()
}

/// Whether it looks at this metric of this job.
fn looks_at(uses: &[Use], metric: &str, label: &str, job: &str) -> bool {
    uses.iter().any(|one| {
        one.metric == metric && one.matchers.iter().any(|matcher| matcher.label == label && matcher.value == job)
    })
}

#[test]
fn every_scheduled_job_has_alerts_of_its_own_for_being_late_and_for_being_unknown() {
    let (alerts, mut findings) = (alerts(), Findings::default());
    let production = manifests::workloads().into_iter().filter(|workload| workload.build == "production");
    for workload in production {
        let job = &workload.program;
        let path = format!("{RULES}/{job}.yaml");
        if !manifests::is(workload.object, "CronJob") {
            let has = alerts.values().flatten().any(|(place, _)| *place == path);
            findings.hold(has, &path, format_args!("has no alert; {} of production", workload.place()));
            continue;
        }
        for ending in ["Stale", "MetricsAbsent"] {
            let name = format!("{}{ending}", camel(job));
            let rules = alerts.get(&name).map_or(&[][..], Vec::as_slice);
            findings.hold(!rules.is_empty(), &path, format_args!("lacks the alert {name}"));
            for (place, rule) in rules {
                let uses = promql::names(&rule.expr).uses;
                let is_its =
                    uses.iter().flat_map(|one| &one.matchers).any(|one| one.label == "job" && one.value == *job);
                findings.hold(*place == path && is_its, place, format_args!("{name} is not about {job}"));
                let is_quiet = uses.iter().any(|one| one.metric == "rollcall:job_suspended");
                findings.hold(is_quiet, place, format_args!("{name} fires for a suspended CronJob"));
                let asks = ending == "Stale" || looks_at(&uses, "kube_cronjob_info", "cronjob", job);
                findings.hold(asks, place, format_args!("{name} does not ask whether there is a CronJob {job}"));
            }
        }
    }
    findings.end();
}

#[test]
fn every_job_is_watched_for_failing_and_for_never_succeeding() {
    let (alerts, mut findings) = (alerts(), Findings::default());
    let mut told = Vec::new();
    for name in FAILED.into_iter().chain([NEVER_SUCCEEDED]) {
        let Some([(place, rule)]) = alerts.get(name).map(Vec::as_slice) else {
            findings.add(EVERY_JOB, format_args!("has not one alert {name}"));
            continue;
        };
        findings.hold(place == EVERY_JOB, place, format_args!("{name} belongs into {EVERY_JOB}"));
        let uses = promql::names(&rule.expr).uses;
        let narrowed = uses.iter().flat_map(|one| &one.matchers).any(|matcher| matcher.label == "job");
        findings.hold(!narrowed, place, format_args!("{name} leaves jobs out"));
        let codes = rule.expr.split("rollcall_job_last_exit_code == ").skip(1);
        told.extend(codes.filter_map(|rest| rest.split(')').next()?.trim().parse::<u8>().ok()));
    }
    told.sort_unstable();
    // The safety cap has an alert with each job that has one.
    let bad = ExitCode::ALL.iter().filter(|code| !matches!(code, ExitCode::Done | ExitCode::Capped));
    let mut expected: Vec<u8> = bad.map(|code| *code as u8).collect();
    expected.sort_unstable();
    findings.hold(told == expected, EVERY_JOB, format_args!("tells of {told:?}, and jobs end with {expected:?}"));
    findings.end();
}

/// The text of a job's source files.
fn source(job: &str) -> String {
    let (mut text, mut folders) = (String::new(), vec![format!("jobs/{job}/src")]);
    while let Some(folder) = folders.pop() {
        for path in files::list(&folder, "") {
            if files::root().join(&path).is_dir() { folders.push(path) } else { text.push_str(&files::text(&path)) }
        }
    }
    text
}

#[test]
fn every_job_with_a_safety_cap_has_an_alert_for_it() {
    let (alerts, mut findings) = (alerts(), Findings::default());
    let mut capped = 0;
    for job in files::list("jobs", "").iter().map(|path| files::stem(path, "")) {
        let has_cap = source(job).contains("Ending::Capped");
        capped += usize::from(has_cap);
        let name = format!("{}Capped", camel(job));
        let path = format!("{RULES}/{job}.yaml");
        let rules = alerts.get(&name).map_or(&[][..], Vec::as_slice);
        findings.hold(
            rules.is_empty() != has_cap,
            &path,
            format_args!("{job} ends capped: {has_cap}; {name} is {}", rules.len()),
        );
        for (place, rule) in rules {
            let is_its = looks_at(&promql::names(&rule.expr).uses, "rollcall_job_capped", "job", job);
            findings.hold(*place == path && is_its, place, format_args!("{name} does not look at {job}"));
        }
    }
    findings.hold(capped > 0, "jobs", "no safety cap was found: how is it called now?");
    findings.end();
}

#[test]
fn every_metric_is_used_by_a_rule_or_a_panel() {
    let operators_see = |place: &str| place.starts_with("k8s/monitoring/");
    let used: BTreeSet<String> = measured::expressions()
        .iter()
        .filter(|placed| operators_see(&placed.place))
        .flat_map(|placed| promql::names(&placed.expression).uses)
        .map(|one| one.metric)
        .collect();
    let mut findings = Findings::default();
    for metric in metrics::catalogue() {
        findings.hold(used.contains(metric.name), "k8s/monitoring", format_args!("uses {} nowhere", metric.name));
    }
    findings.end();
}
