//! Everything between a run and an operator.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    routing::{get, post},
};
use harness::{Alerting, Alertmanager, Prometheus, Pushgateway, wait_until};
use serde_json::Value;
use tokio::net::TcpListener;

use super::{JOB, PATIENCE, shortened};

/// How often targets are read and rules looked at.
const INTERVAL: Duration = Duration::from_millis(250);

/// An alert as the webhook was told of it.
#[derive(Debug, Clone)]
pub(crate) struct Word {
    pub(crate) alert: String,
    pub(crate) namespace: String,
    pub(crate) severity: String,
    pub(crate) is_firing: bool,
}

type Told = Arc<Mutex<Vec<Word>>>;

/// What kube-state-metrics would tell of.
#[derive(Default)]
struct Objects {
    /// Namespace and job → whether its CronJob is suspended.
    cronjobs: BTreeMap<(String, String), bool>,
    /// Namespace and job → how many workers its Deployment asks for, and how many of them are not ready.
    workers: BTreeMap<(String, String), (u8, u8)>,
    /// Migration Jobs, the eldest first: namespace, name, and whether it has failed.
    migrations: Vec<(String, String, bool)>,
}

type Cluster = Arc<Mutex<Objects>>;

/// Pushgateway, Prometheus with the shortened rules, Alertmanager, webhook, and a cluster's objects.
pub(crate) struct Stack {
    pub(crate) pushgateway: Pushgateway,
    pub(crate) prometheus: Prometheus,
    told: Told,
    cluster: Cluster,
    _alertmanager: Alertmanager,
    _rules: tempfile::TempDir,
}

impl Stack {
    pub(crate) async fn start() -> Self {
        let (told, cluster) = (Told::default(), Cluster::default());
        let webhook = serve(Router::new().route("/", post(tell)).with_state(told.clone())).await;
        let exporter = serve(Router::new().route("/metrics", get(show)).with_state(cluster.clone())).await;
        let pushgateway = Pushgateway::start();
        let alertmanager = Alertmanager::start(&format!("http://{webhook}/"));
        let (folder, rules) = shortened::rules();
        let alerting = Alerting { rules: &rules, alertmanager: &alertmanager.address() };
        let prometheus = Prometheus::alerting(&[&pushgateway.address(), &exporter], INTERVAL, alerting);
        let stack = Self { pushgateway, prometheus, told, cluster, _alertmanager: alertmanager, _rules: folder };
        stack.holds("pushgateway_build_info", "Prometheus reads the Pushgateway").await;
        stack
    }

    /// There is a CronJob of the verifier in this namespace.
    pub(crate) fn schedule(&self, namespace: &str, suspended: bool) {
        self.schedule_of(JOB, namespace, suspended);
    }

    /// There is a CronJob of this job in this namespace.
    pub(crate) fn schedule_of(&self, job: &str, namespace: &str, suspended: bool) {
        self.cluster().cronjobs.insert((namespace.to_owned(), job.to_owned()), suspended);
    }

    /// There is a Deployment of this job in this namespace, with so many workers, of which so many are not ready.
    pub(crate) fn employ(&self, job: &str, namespace: &str, workers: u8, unready: u8) {
        self.cluster().workers.insert((namespace.to_owned(), job.to_owned()), (workers, unready));
    }

    /// There is one more migration Job in this namespace, younger than all before, and it has ended.
    pub(crate) fn migrated(&self, namespace: &str, job: &str, failed: bool) {
        self.cluster().migrations.push((namespace.to_owned(), job.to_owned(), failed));
    }

    fn cluster(&self) -> std::sync::MutexGuard<'_, Objects> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until Prometheus finds something by this expression.
    pub(crate) async fn holds(&self, expression: &str, what: &str) {
        wait_until(PATIENCE, what, async || !self.prometheus.query(expression).is_empty()).await;
    }

    /// All that the webhook was told of an alert in a namespace.
    pub(crate) fn words(&self, alert: &str, namespace: &str) -> Vec<Word> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.iter().filter(|word| word.alert == alert && word.namespace == namespace).cloned().collect()
    }

    /// Waits until targets were read, and the rule was looked at after that.
    pub(crate) async fn comes_round(&self, rule: &str) {
        let now = || self.prometheus.query("time()")[0].value;
        let scraped = format!("min(timestamp(up)) > {}", now());
        self.holds(&scraped, "all targets are read once more").await;
        let scraped = now();
        let looked = async || self.prometheus.last_looked_at(rule) > scraped;
        wait_until(PATIENCE, &format!("{rule} is looked at once more"), looked).await;
    }
}

async fn tell(State(told): State<Told>, Json(message): Json<Value>) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let alerts = message["alerts"].as_array().into_iter().flatten();
    told.lock().unwrap_or_else(PoisonError::into_inner).extend(alerts.map(|alert| {
        let labels = &alert["labels"];
        Word {
            alert: text(&labels["alertname"]),
            namespace: text(&labels["namespace"]),
            severity: text(&labels["severity"]),
            is_firing: alert["status"] == "firing",
        }
    }));
}

async fn show(State(cluster): State<Cluster>) -> String {
    let objects = cluster.lock().unwrap_or_else(PoisonError::into_inner);
    let mut text = String::new();
    let mut line = |name: &str, namespace: &str, labels: &str, value: u8| {
        writeln!(text, "{name}{{namespace=\"{namespace}\",{labels}}} {value}").expect("a text can be written to");
    };
    for ((namespace, job), suspended) in &objects.cronjobs {
        line("kube_cronjob_info", namespace, &format!("cronjob=\"{job}\""), 1);
        line("kube_cronjob_spec_suspend", namespace, &format!("cronjob=\"{job}\""), (*suspended).into());
    }
    for ((namespace, job), (workers, unready)) in &objects.workers {
        let deployment = format!("deployment=\"{job}\"");
        line("kube_deployment_spec_replicas", namespace, &deployment, *workers);
        line("kube_deployment_status_replicas_available", namespace, &deployment, workers - unready);
        line("kube_deployment_status_replicas_unavailable", namespace, &deployment, *unready);
    }
    for (created, (namespace, job, failed)) in (0..).zip(&objects.migrations) {
        line("kube_job_created", namespace, &format!("job_name=\"{job}\""), created);
        // Only the one that it has ended by is there.
        let ended = if *failed { "kube_job_failed" } else { "kube_job_complete" };
        line(ended, namespace, &format!("job_name=\"{job}\",condition=\"true\""), 1);
        line(ended, namespace, &format!("job_name=\"{job}\",condition=\"false\""), 0);
    }
    text
}

/// Serves on a port of its own until the test ends.
async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound").to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}
