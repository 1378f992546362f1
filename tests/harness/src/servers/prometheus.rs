//! Prometheus.

use std::{collections::BTreeMap, path::PathBuf, process::Command, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;

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

impl Prometheus {
    /// Starts one that reads `targets` (`host:port`, for example [`Pushgateway::address`](crate::Pushgateway::address))
    /// every `interval` with `honor_labels`, as a Pushgateway is to be read.
    pub fn start(targets: &[&str], interval: Duration) -> Self {
        let folder = home().folder("prometheus");
        let port = Port::claim();
        let settings = folder.join("prometheus.yml");
        // JSON is YAML, and needs no care about quoting.
        let text = serde_json::json!({
            "global": { "scrape_interval": format!("{}ms", interval.as_millis()) },
            "scrape_configs": [{
                "job_name": "pushgateway",
                "honor_labels": true,
                "scrape_timeout": format!("{}ms", interval.as_millis()),
                "static_configs": [{ "targets": targets }],
            }],
        });
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
}

fn sample(series: &Value) -> Sample {
    let labels = series["metric"].as_object().expect("labels");
    let mut labels: BTreeMap<String, String> =
        labels.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect();
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
