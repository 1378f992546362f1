//! Generated files are what their sources give.

use std::process::Command;

use crate::read::files;

#[test]
fn the_dashboards_are_what_their_descriptions_give() {
    let folder = files::root().join("k8s/monitoring/dashboards");
    let described = dashboards::read(&folder).unwrap_or_else(|error| panic!("{error}"));
    assert!(!described.is_empty(), "no description in {}", folder.display());
    for (path, dashboard) in &described {
        let json = path.with_extension("json");
        let fresh = serde_json::to_string_pretty(&dashboards::grafana(dashboard)).expect("JSON can be written") + "\n";
        let stands = std::fs::read_to_string(&json).unwrap_or_default();
        assert!(
            stands == fresh,
            "{} is out of date: run `cargo run -p dashboards -- k8s/monitoring/dashboards`",
            json.display()
        );
    }
    let files = files::list("k8s/monitoring/dashboards", ".json");
    assert_eq!(files.len(), described.len(), "a dashboard has no description: {files:?}");
}

#[test]
fn the_component_of_the_prometheus_operator_has_the_rules() {
    let output = Command::new(files::root().join("tools/prometheus-rule")).arg("--check").output();
    let output = output.expect("tools/prometheus-rule starts");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
}
