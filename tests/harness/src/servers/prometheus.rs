//! Prometheus.

use std::{collections::BTreeMap, path::PathBuf, process::Command, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    daemon::Daemon,
    http::{self, Sample},
    ports::Port,
    programs,
    reaper::home,
};

/// A private Prometheus. Ended and removed when dropped.
#[derive(Debug)]
pub struct Prometheus {
    folder: PathBuf,
    port: Port,
    process: Option<Daemon>,
}

/// Rules, and who is told of the alerts.
#[derive(Debug, Clone, Copy)]
pub struct Alerting<'a> {
    /// Rule files.
    pub rules: &'a [PathBuf],
    /// `host:port` of an [`Alertmanager`](crate::Alertmanager).
    pub alertmanager: &'a str,
}

/// A series over time.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// Seconds since 1970, and the value; not a number where a share is one of nothing.
    pub points: Vec<(f64, f64)>,
}

impl Prometheus {
    /// Starts one that reads `targets` (`host:port`, for example [`Pushgateway::address`](crate::Pushgateway::address))
    /// every `interval` with `honor_labels`, as a Pushgateway is to be read.
    pub fn start(targets: &[&str], interval: Duration) -> Self {
        Self::start_with(targets, interval, None)
    }

    /// [`Prometheus::start`], and rules are looked at as often as targets are read.
    pub fn alerting(targets: &[&str], interval: Duration, alerting: Alerting) -> Self {
        Self::start_with(targets, interval, Some(alerting))
    }

    fn start_with(targets: &[&str], interval: Duration, alerting: Option<Alerting>) -> Self {
        let folder = home().folder("prometheus");
        let port = Port::claim();
        let settings = folder.join("prometheus.yml");
        // JSON is YAML, and needs no care about quoting.
        let every = format!("{}ms", interval.as_millis());
        let mut text = serde_json::json!({
            "global": { "scrape_interval": every, "evaluation_interval": every },
            "scrape_configs": [{
                "job_name": "pushgateway",
                "honor_labels": true,
                "scrape_timeout": every,
                "static_configs": [{ "targets": targets }],
            }],
        });
        if let Some(Alerting { rules, alertmanager }) = alerting {
            text["rule_files"] = serde_json::json!(rules);
            text["alerting"] =
                serde_json::json!({ "alertmanagers": [{ "static_configs": [{ "targets": [alertmanager] }] }] });
        }
        std::fs::write(&settings, text.to_string()).expect("the folder is writable");
        let mut command = Command::new(programs::find("prometheus", "prometheus"));
        command
            .arg(format!("--config.file={}", settings.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{}", port.number()));
        let number = port.number();
        let ready = || http::get(number, "/-/ready").is_ok();
        let process = Daemon::start("Prometheus", &mut command, &folder, Signal::SIGKILL, ready);
        Self { folder, port, process: Some(process) }
    }

    /// The instant vector (or the scalar, as a sample without name and labels) that `expression` gives now.
    pub fn query(&self, expression: &str) -> Vec<Sample> {
        let path = format!("/api/v1/query?query={}", http::percent_encoded(expression));
        let answer = http::get(self.port.number(), &path).expect("Prometheus answers");
        let answer: Value = serde_json::from_str(&answer).expect("Prometheus answers in JSON");
        let data = &answer["data"];
        match data["resultType"].as_str() {
            Some("vector") => data["result"].as_array().expect("a list").iter().map(sample).collect(),
            Some("scalar") => {
                vec![Sample { name: String::new(), labels: BTreeMap::new(), value: number(&data["result"]) }]
            }
            _ => panic!("{expression} gives neither a vector nor a scalar: {answer}"),
        }
    }

    /// What `expression` gives from `start` to `end`, both in seconds since 1970, each `step` seconds: of each series its
    /// labels, and times with values.
    pub fn range(&self, expression: &str, start: f64, end: f64, step: f64) -> Vec<Series> {
        let expression = http::percent_encoded(expression);
        let path = format!("/api/v1/query_range?query={expression}&start={start}&end={end}&step={step}");
        let answer = http::get(self.port.number(), &path).expect("Prometheus answers");
        let answer: Value = serde_json::from_str(&answer).expect("Prometheus answers in JSON");
        let all = answer["data"]["result"].as_array().expect("a range gives a list").iter();
        all.map(|series| Series {
            labels: labels(series),
            points: series["values"]
                .as_array()
                .expect("a list of values")
                .iter()
                .map(|pair| (pair[0].as_f64().expect("a time"), number(pair)))
                .collect(),
        })
        .collect()
    }

    /// When the rule of this name was last looked at, in seconds since 1970: at 0 if it never was.
    ///
    /// # Panics
    /// There is no such rule.
    pub fn last_looked_at(&self, rule: &str) -> f64 {
        let answer = http::get(self.port.number(), "/api/v1/rules").expect("Prometheus answers");
        let answer: Value = serde_json::from_str(&answer).expect("Prometheus answers in JSON");
        let groups = answer["data"]["groups"].as_array().expect("a list");
        let mut rules = groups.iter().filter_map(|group| group["rules"].as_array()).flatten();
        let found = rules.find(|one| one["name"] == rule).unwrap_or_else(|| panic!("Prometheus has no rule {rule}"));
        assert_ne!(found["health"], "err", "the rule {rule} cannot be evaluated: {}", found["lastError"]);
        found["lastEvaluation"].as_str().map_or(0.0, |text| if text.starts_with("0001") { 0.0 } else { seconds(text) })
    }
}

/// Since 1970, in seconds.
fn seconds(text: &str) -> f64 {
    let time = OffsetDateTime::parse(text, &Rfc3339).expect("Prometheus tells times by RFC 3339");
    time.unix_timestamp_nanos() as f64 / 1e9
}

fn labels(series: &Value) -> BTreeMap<String, String> {
    let labels = series["metric"].as_object().expect("labels");
    labels.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

fn sample(series: &Value) -> Sample {
    let mut labels = labels(series);
    Sample { name: labels.remove("__name__").unwrap_or_default(), labels, value: number(&series["value"]) }
}

/// The second of `[time, "value"]`.
fn number(pair: &Value) -> f64 {
    pair[1].as_str().and_then(|value| value.parse().ok()).expect("a value")
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.process.take());
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
