//! Rule files, and that each alert was tried.

use crate::{
    findings::Findings,
    read::{
        alerts::{self, RULES, TESTS},
        files,
    },
};

#[test]
fn promtool_takes_every_rule_file() {
    let paths = files::list(RULES, ".yaml");
    assert!(!paths.is_empty());
    let arguments: Vec<&str> =
        ["check", "rules", "--lint-fatal"].into_iter().chain(paths.iter().map(String::as_str)).collect();
    alerts::promtool(&files::root(), &arguments).unwrap_or_else(|said| panic!("{said}"));
}

#[test]
fn the_tests_of_every_rule_file_pass() {
    let mut findings = Findings::default();
    for rules in files::list(RULES, ".yaml") {
        let tests = format!("{TESTS}/{}.yaml", files::stem(&rules, ".yaml"));
        findings.hold(files::root().join(&tests).is_file(), &rules, format_args!("has no tests: {tests}"));
    }
    for path in files::list(TESTS, ".yaml") {
        if let Err(said) = alerts::promtool(&files::root(), &["test", "rules", &path]) {
            findings.add(path, said);
        }
    }
    findings.end();
}

#[test]
fn every_alert_is_tried_firing_and_quiet() {
    let (expected, mut findings) = (alerts::expectations(), Findings::default());
    for (path, rule) in alerts::rules() {
        let Some(alert) = &rule.alert else { continue };
        let of = |fires: bool| expected.iter().any(|one| one.alertname == *alert && one.exp_alerts.is_empty() != fires);
        findings.hold(of(true), &path, format_args!("{alert} is never expected to fire in {TESTS}"));
        findings.hold(of(false), &path, format_args!("{alert} is never expected to be quiet in {TESTS}"));
    }
    for one in &expected {
        let exists = alerts::rules().iter().any(|(_, rule)| rule.alert.as_ref() == Some(&one.alertname));
        findings.hold(exists, TESTS, format_args!("expects something of {}, which is no alert", one.alertname));
    }
    findings.end();
}

#[test]
fn every_alert_says_how_bad_it_is_and_what_it_means() {
    let mut findings = Findings::default();
    for (path, rule) in alerts::rules() {
        let Some(alert) = &rule.alert else { continue };
        let severity = rule.labels.get("severity").map(String::as_str);
        let is_known = matches!(severity, Some("critical" | "warning" | "info"));
        findings.hold(
            is_known,
            &path,
            format_args!("{alert}: severity is critical, warning or info, not {severity:?}"),
        );
        let is_static = rule.annotations.get("summary").is_some_and(|summary| !summary.contains("{{"));
        findings.hold(is_static, &path, format_args!("{alert}: needs a summary without templates"));
        findings.hold(
            rule.annotations.contains_key("description"),
            &path,
            format_args!("{alert}: needs a description"),
        );
    }
    findings.end();
}
