//! Every panel has data: the expressions of the dashboards' descriptions, asked of a real Prometheus after real runs.
//!
//! docs/panels shows them, drawn from such a test: `ROLLCALL_PANELS=1` draws them anew (`make panels`).

mod day;

use std::{fs, path::PathBuf, sync::Arc};

use dashboards::{Dashboard, Line, Panel, Row};
use harness::{Prometheus, Series};

use crate::{alerting::Stack, findings::Findings, read::files};

const FOLDER: &str = "docs/panels";
/// So many points has a line.
const POINTS: f64 = 80.0;
/// Nobody wants larger ones in a repository.
const LARGEST: usize = 30 * 1024;

/// The descriptions, each with the name of its file.
fn described() -> Vec<(String, Dashboard)> {
    let folder = files::root().join("k8s/monitoring/dashboards");
    let all = dashboards::read(&folder).unwrap_or_else(|error| panic!("{error}"));
    let name = |path: PathBuf| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    all.into_iter().map(|(path, dashboard)| (name(path), dashboard)).collect()
}

/// Where the picture of a row is.
fn path(dashboard: &str, row: &Row) -> String {
    let words: Vec<&str> = row.title.split(|letter: char| !letter.is_ascii_alphanumeric()).collect();
    format!("{FOLDER}/{dashboard}-{}.svg", words.join("-").to_lowercase())
}

/// A stretch of time, in seconds since 1970.
struct Window {
    start: f64,
    end: f64,
}

impl Window {
    /// What a panel's expressions give in it; `{{label}}` of the names filled in.
    fn lines(&self, prometheus: &Prometheus, panel: &Panel) -> Vec<Line> {
        let step = (self.end - self.start) / POINTS;
        let mut lines = Vec::new();
        for series in &panel.series {
            let expression = series.expr.replace("$namespace", ".*");
            for found in prometheus.range(&expression, self.start, self.end, step) {
                let points = found.points.iter().filter(|(_, value)| value.is_finite());
                let points = points.map(|(at, value)| (at - self.start, *value)).collect();
                lines.push(Line { name: name(&series.name, &found), points });
            }
        }
        lines
    }
}

fn name(template: &str, series: &Series) -> String {
    let mut name = template.to_owned();
    while let Some((before, rest)) = name.split_once("{{") {
        let (label, after) = rest.split_once("}}").expect("a name closes its brackets");
        name = format!("{before}{}{after}", series.labels.get(label).map_or("", String::as_str));
    }
    name
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_has_data_after_real_runs() {
    let stack = Arc::new(Stack::start().await);
    let now = || stack.prometheus.query("time()")[0].value;
    let start = now();
    day::pass(&stack).await;
    let window = Window { start, end: now() };

    let mut findings = Findings::default();
    let draws = std::env::var_os("ROLLCALL_PANELS").is_some();
    for (file, dashboard) in described() {
        for row in &dashboard.rows {
            let lines: Vec<Vec<Line>> = row.panels.iter().map(|panel| window.lines(&stack.prometheus, panel)).collect();
            for (panel, lines) in row.panels.iter().zip(&lines) {
                let place = format!("k8s/monitoring/dashboards/{file}.yaml: panel {:?}", panel.title);
                let has = |wanted: fn(f64) -> bool| lines.iter().flat_map(|line| &line.points).any(|one| wanted(one.1));
                findings.hold(has(f64::is_finite), &place, "has no data");
                // Something of each kind happens on this day: a line that never leaves 0 counts something else.
                findings.hold(has(|value| value != 0.0), &place, "has nothing but zeros");
            }
            let picture = dashboards::picture(row, &lines, window.end - window.start);
            let picture = picture.unwrap_or_else(|error| panic!("{file}: {error}"));
            if draws {
                let path = files::root().join(path(&file, row));
                fs::create_dir_all(path.parent().expect("it is in a folder")).expect("folders can be made");
                fs::write(path, picture).expect("the repository is writable");
            }
        }
    }
    findings.end();
}

#[test]
fn the_pictures_are_those_of_the_dashboards_and_small() {
    let mut findings = Findings::default();
    let mut expected = Vec::new();
    let pages = files::text("k8s/monitoring/README.md");
    for (file, dashboard) in described() {
        for row in &dashboard.rows {
            let path = path(&file, row);
            let text = fs::read_to_string(files::root().join(&path)).unwrap_or_default();
            for panel in &row.panels {
                let place = format!("{path}: panel {:?}", panel.title);
                findings.hold(text.contains(&panel.title), place, "is not drawn: run `make panels`");
            }
            findings.hold(text.len() < LARGEST, &path, format_args!("has {} bytes", text.len()));
            findings.hold(
                pages.contains(&format!("](../../{path})")),
                "k8s/monitoring/README.md",
                format_args!("does not show {path}"),
            );
            expected.push(path);
        }
    }
    for path in files::list(FOLDER, "") {
        findings.hold(expected.contains(&path), &path, "is of no row of a dashboard");
    }
    findings.end();
}
