//! Rule files of Prometheus, and `promtool`.

use std::{collections::BTreeMap, path::Path, process::Command};

use serde::Deserialize;

use super::files;

/// Where rules are.
pub(crate) const RULES: &str = "k8s/monitoring/rules";
/// Where their tests are.
pub(crate) const TESTS: &str = "k8s/monitoring/tests";

#[derive(Deserialize)]
struct RuleFile {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

/// An alert, or a recording rule.
#[derive(Deserialize)]
pub(crate) struct Rule {
    pub(crate) alert: Option<String>,
    pub(crate) record: Option<String>,
    pub(crate) expr: String,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Rule {
    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        self.alert.as_deref().or(self.record.as_deref()).unwrap_or_default()
    }
}

/// All rules, each with its file.
pub(crate) fn rules() -> Vec<(String, Rule)> {
    let mut all = Vec::new();
    for path in files::list(RULES, ".yaml") {
        let file: RuleFile =
            serde_saphyr::from_str(&files::text(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        all.extend(file.groups.into_iter().flat_map(|group| group.rules).map(|rule| (path.clone(), rule)));
    }
    all
}

#[derive(Deserialize)]
struct TestFile {
    tests: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    #[serde(default)]
    alert_rule_test: Vec<Expectation>,
}

/// What a test of a rule expects of an alert.
#[derive(Deserialize)]
pub(crate) struct Expectation {
    pub(crate) alertname: String,
    #[serde(default)]
    pub(crate) exp_alerts: Vec<serde_json::Value>,
}

/// All that the tests of the rules expect.
pub(crate) fn expectations() -> Vec<Expectation> {
    let mut all = Vec::new();
    for path in files::list(TESTS, ".yaml") {
        let file: TestFile =
            serde_saphyr::from_str(&files::text(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        all.extend(file.tests.into_iter().flat_map(|case| case.alert_rule_test));
    }
    all
}

/// Runs `promtool` in `folder`; what it says against it otherwise.
pub(crate) fn promtool(folder: &Path, arguments: &[&str]) -> Result<(), String> {
    let output =
        Command::new("promtool").args(arguments).current_dir(folder).output().unwrap_or_else(|error| {
            panic!("promtool does not start ({error}): install prometheus, to which it belongs")
        });
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(()) } else { Err(said) }
}
