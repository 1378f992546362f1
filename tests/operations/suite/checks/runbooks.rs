//! A runbook for each alert, and an alert for each runbook.

use std::collections::BTreeSet;

use crate::{
    findings::Findings,
    read::{alerts, files, markdown},
};

/// In this order, in each.
const HEADINGS: [&str; 5] = ["Meaning", "Impact", "How to see it", "What to do", "How to know it is over"];

#[test]
fn every_alert_has_its_runbook_and_every_runbook_its_alert() {
    let mut findings = Findings::default();
    let mut alerts = BTreeSet::new();
    for (path, rule) in alerts::rules() {
        let Some(alert) = rule.alert else { continue };
        let runbook = format!("runbooks/{alert}.md");
        findings.hold(files::root().join(&runbook).is_file(), &path, format_args!("{alert} has no {runbook}"));
        let url = rule.annotations.get("runbook_url").cloned().unwrap_or_default();
        findings.hold(
            url.ends_with(&format!("/{runbook}")),
            &path,
            format_args!("{alert}: runbook_url does not end in {runbook}: {url:?}"),
        );
        alerts.insert(alert);
    }
    for path in files::list("runbooks", ".md") {
        let name = files::stem(&path, ".md");
        if name == "README" {
            continue;
        }
        findings.hold(alerts.contains(name), &path, format_args!("no alert is called {name}"));
        let text = files::text(&path);
        findings.hold(text.starts_with(&format!("# {name}\n")), &path, format_args!("does not begin with `# {name}`"));
        let headings = markdown::document(&text).headings;
        findings.hold(headings == HEADINGS, &path, format_args!("its headings are {headings:?}, not {HEADINGS:?}"));
    }
    findings.end();
}

#[test]
fn every_link_of_a_document_leads_somewhere() {
    let mut findings = Findings::default();
    for path in files::documents() {
        let text = files::text(&path);
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.starts_with('#') {
                continue;
            }
            let file = link.split('#').next().unwrap_or(link);
            findings.hold(
                files::root().join(folder).join(file).exists(),
                &path,
                format_args!("links to {link}, which is not there"),
            );
        }
    }
    findings.end();
}
