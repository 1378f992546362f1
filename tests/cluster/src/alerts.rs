//! What a Prometheus with the shipped rules makes of what was pushed.

use std::{path::PathBuf, time::Duration};

use harness::{Alerting, Prometheus, wait_until};

use crate::{Ground, cluster::repository};

/// How often the Pushgateway is read and the rules are looked at.
const INTERVAL: Duration = Duration::from_millis(250);
/// For something that takes a few intervals.
const PATIENCE: Duration = Duration::from_secs(30);

/// A Prometheus that reads the Pushgateway of a ground.
#[derive(Debug)]
pub struct Alerts {
    prometheus: Prometheus,
    namespace: String,
}

impl Alerts {
    /// With the files of k8s/monitoring/rules as they are; nobody is told.
    pub fn of(ground: &Ground) -> Self {
        let rules = std::fs::read_dir(repository().join("k8s/monitoring/rules")).expect("rules are there");
        let rules: Vec<PathBuf> = rules.map(|entry| entry.expect("rules are readable").path()).collect();
        let alerting = Alerting { rules: &rules, alertmanager: "127.0.0.1:9" };
        let prometheus = Prometheus::alerting(&[&ground.pushgateway().address()], INTERVAL, alerting);
        Self { prometheus, namespace: ground.namespace.clone() }
    }

    /// Waits until the alert of this namespace fires, or no longer does.
    pub async fn wait(&self, alert: &str, fires: bool) {
        let what = format!("{alert} {}", if fires { "fires" } else { "is over" });
        let query = format!("ALERTS{{alertname=\"{alert}\",alertstate=\"firing\",namespace=\"{}\"}}", self.namespace);
        wait_until(PATIENCE, &what, async || self.prometheus.query(&query).is_empty() != fires).await;
    }
}
