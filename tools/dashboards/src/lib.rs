//! Dashboards from one small description each: rows of panels, a panel being a title, a unit, what it tells, and its
//! expressions.
//!
//! Grafana's own format is long, changes with its version and cannot be reviewed. So what a person writes is the YAML;
//! the JSON beside it is generated and committed, for those who only import it. The same descriptions are what tests
//! read to find a panel's metrics in the code, and to draw it.
//!
//! What it refuses: fields it does not know, a panel without a sentence that says what it tells, a row that does not fit
//! the screen.

mod grafana;
mod picture;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

pub use grafana::grafana;
pub use picture::{Line, picture};

/// Most panels beside each other; more cannot be read.
const WIDEST: usize = 6;

/// A dashboard, as written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dashboard {
    /// What it is known by in Grafana, for ever: links contain it.
    pub uid: String,
    /// Heading.
    pub title: String,
    /// What it is for, in a sentence.
    pub tells: String,
    /// From top to bottom.
    pub rows: Vec<Row>,
}

/// Panels beside each other.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Heading.
    pub title: String,
    /// From left to right, equally wide.
    pub panels: Vec<Panel>,
}

/// One picture.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panel {
    /// Heading.
    pub title: String,
    /// Of all its series.
    pub unit: Unit,
    /// A line over time, unless it says otherwise.
    #[serde(default)]
    pub kind: Kind,
    /// What its reader learns, and what is normal.
    pub tells: String,
    /// From this value on it is shown in red.
    #[serde(default)]
    pub red_from: Option<i64>,
    /// What is drawn.
    pub series: Vec<Series>,
}

/// An expression, and what its lines are called.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// In the legend; `{{label}}` stands for the value of a label.
    pub name: String,
    /// PromQL; `$namespace` stands for the chosen namespaces.
    pub expr: String,
}

/// What the numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A number of things.
    Count,
    /// Seconds, shown as minutes or hours where that is shorter.
    Seconds,
    /// 0 to 1, shown in percent.
    Share,
}

/// How it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Over time.
    #[default]
    Lines,
    /// Over time, one on top of the other: parts of a whole.
    Stacked,
    /// The latest value alone.
    Number,
}

/// Why a description cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It, or its folder, cannot be read.
    #[error("{0}: {1}")]
    Read(PathBuf, std::io::Error),
    /// It does not have the form of a description.
    #[error("{0}: {1}")]
    Form(PathBuf, String),
}

/// The descriptions in `folder`, with their paths, sorted by these.
///
/// # Errors
/// The folder or a file cannot be read, or a description is wrong: which, and how.
pub fn read(folder: &Path) -> Result<Vec<(PathBuf, Dashboard)>, Error> {
    let unreadable = |error| Error::Read(folder.to_owned(), error);
    let entries = fs::read_dir(folder).map_err(unreadable)?.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).map_err(|error| Error::Read(path.clone(), error))?;
            match parse(&text) {
                Ok(dashboard) => Ok((path, dashboard)),
                Err(problem) => Err(Error::Form(path, problem)),
            }
        })
        .collect()
}

/// A description.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str) -> Result<Dashboard, String> {
    let dashboard: Dashboard = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    for row in &dashboard.rows {
        if row.panels.is_empty() || row.panels.len() > WIDEST {
            return Err(format!("row {:?}: has {} panels; give 1 to {WIDEST}", row.title, row.panels.len()));
        }
        for panel in &row.panels {
            if panel.tells.trim().is_empty() || panel.series.is_empty() {
                return Err(format!("panel {:?}: needs a sentence in `tells` and at least one series", panel.title));
            }
        }
    }
    Ok(dashboard)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALLEST: &str = "
uid: a
title: A
tells: Something.
rows:
  - title: Row
    panels:
      - {title: P, unit: share, kind: number, tells: All is well at 1., red_from: 2, series: [{name: x, expr: up}]}
";

    #[test]
    fn a_description_is_read() {
        let dashboard = parse(SMALLEST).unwrap();
        let panel = &dashboard.rows[0].panels[0];
        assert_eq!((panel.unit, panel.kind, panel.red_from), (Unit::Share, Kind::Number, Some(2)));
        assert_eq!(panel.series[0].expr, "up");
    }

    #[test]
    fn what_is_wrong_is_refused_by_name() {
        for (from, to, told) in [
            ("unit: share", "unit: furlongs", "furlongs"),
            ("kind: number", "colour: red", "colour"),
            ("tells: All is well at 1.", "tells: ''", "panel \"P\""),
            ("series: [{name: x, expr: up}]", "series: []", "panel \"P\""),
            ("      - {title: P", "      #", "row"),
        ] {
            let problem = parse(&SMALLEST.replace(from, to)).unwrap_err();
            assert!(problem.contains(told), "{to}: {problem}");
        }
    }
}
