//! Alerts from a run of the real binary to a webhook, through a real Pushgateway, Prometheus and Alertmanager.
//!
//! The rules are those of k8s/monitoring, but for the times for which an alert must hold. Time moves by pushing an
//! older time stamp over the one that a run has pushed.

use std::{path::PathBuf, sync::Arc, sync::Mutex, time::Duration};

use axum::{Json, Router, extract::State, routing::post};
use harness::{Alerting, Alertmanager, Prometheus, newcomer, wait_until};
use serde_json::Value;
use suites::{Stage, outcome};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::read::{alerts::RULES, files};

const JOB: &str = "character-verifier";
const STALE: &str = "CharacterVerifierStale";
const ABSENT: &str = "CharacterVerifierMetricsAbsent";
const LAST_RUN: &str = "battlescope_character_verification_last_run_timestamp";
/// How often targets are read and rules looked at.
const INTERVAL: Duration = Duration::from_millis(250);
/// For something that takes a few intervals.
const PATIENCE: Duration = Duration::from_secs(40);

/// What kube-state-metrics tells of two namespaces, one of them with its CronJob suspended.
const CRONJOBS: &str = "\
# TYPE kube_cronjob_info gauge
kube_cronjob_info{namespace=\"rollcall\",cronjob=\"character-verifier\"} 1
kube_cronjob_info{namespace=\"suspended\",cronjob=\"character-verifier\"} 1
# TYPE kube_cronjob_spec_suspend gauge
kube_cronjob_spec_suspend{namespace=\"rollcall\",cronjob=\"character-verifier\"} 0
kube_cronjob_spec_suspend{namespace=\"suspended\",cronjob=\"character-verifier\"} 1
";

/// Alerts as the webhook was told of them: name, namespace, whether firing.
type Told = Arc<Mutex<Vec<(String, String, bool)>>>;

async fn tell(State(told): State<Told>, Json(message): Json<Value>) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let alerts = message["alerts"].as_array().into_iter().flatten();
    told.lock().expect("nobody panics with it").extend(alerts.map(|alert| {
        let labels = &alert["labels"];
        (text(&labels["alertname"]), text(&labels["namespace"]), alert["status"] == "firing")
    }));
}

/// Serves on a port of its own until the test ends.
async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound").to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Everything between a run and an operator.
struct Watch {
    stage: Stage,
    prometheus: Prometheus,
    told: Told,
    _alertmanager: Alertmanager,
    _rules: tempfile::TempDir,
}

impl Watch {
    async fn start() -> Self {
        let stage = Stage::with_pushgateway().await;
        let told = Told::default();
        let webhook = serve(Router::new().route("/", post(tell)).with_state(told.clone())).await;
        let exporter = serve(Router::new().route("/metrics", axum::routing::get(async || CRONJOBS))).await;
        let alertmanager = Alertmanager::start(&format!("http://{webhook}/"));
        let (folder, rules) = shortened_rules();
        let pushgateway = stage.pushgateway.as_ref().expect("the stage has one").address();
        let alerting = Alerting { rules: &rules, alertmanager: &alertmanager.address() };
        let prometheus = Prometheus::alerting(&[&pushgateway, &exporter], INTERVAL, alerting);
        let watch = Self { stage, prometheus, told, _alertmanager: alertmanager, _rules: folder };
        watch.holds("rollcall:job_suspended{namespace=\"suspended\"} == 1", "the suspended CronJob is known").await;
        watch
    }

    /// Waits until Prometheus finds something by this expression.
    async fn holds(&self, expression: &str, what: &str) {
        wait_until(PATIENCE, what, async || !self.prometheus.query(expression).is_empty()).await;
    }

    /// Waits until the webhook's last word on the alert in `rollcall` is this.
    async fn webhook_says(&self, alert: &str, firing: bool) {
        let what = format!("the webhook is told that {alert} is {}", if firing { "firing" } else { "over" });
        wait_until(PATIENCE, &what, async || self.last_word(alert, "rollcall") == Some(firing)).await;
    }

    fn last_word(&self, alert: &str, namespace: &str) -> Option<bool> {
        let told = self.told.lock().expect("nobody panics with it");
        told.iter().rev().find(|(name, of, _)| name == alert && of == namespace).map(|(.., firing)| *firing)
    }

    /// Waits until targets were read, and the rule was looked at after that.
    async fn comes_round(&self, rule: &str) {
        let now = |prometheus: &Prometheus| prometheus.query("time()")[0].value;
        let start = now(&self.prometheus);
        let scraped = format!("min(timestamp(up)) > {start}");
        self.holds(&scraped, "all targets are read once more").await;
        let scraped = now(&self.prometheus);
        let looked = async || self.prometheus.last_looked_at(rule) > scraped;
        wait_until(PATIENCE, &format!("{rule} is looked at once more"), looked).await;
    }

    /// Pushes over the time stamp of a namespace's last run, as if it had ended so many minutes ago.
    async fn back_date(&self, namespace: &str, minutes: u32) {
        let age = f64::from(minutes) * 60.0;
        let then = self.prometheus.query("time()")[0].value - age;
        let body = format!("# TYPE {LAST_RUN} gauge\n{LAST_RUN} {then}\n");
        let address = self.stage.pushgateway.as_ref().expect("the stage has one").address();
        let mut stream = TcpStream::connect(&address).await.expect("the Pushgateway listens");
        let head = format!(
            "POST /metrics/job/{JOB}/namespace/{namespace} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).await.expect("the Pushgateway reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("the Pushgateway answers");
        assert!(answer.contains(" 200 "), "the push is refused: {answer}");
    }

    /// Lets everybody be due again, and runs the binary.
    async fn run(&self, namespace: &str, dry: bool) {
        self.stage.later(60).await;
        let verifier = self.stage.verifier().env("POD_NAMESPACE", namespace).env("DRY_RUN", dry.to_string());
        let finished = verifier.run().await.expect_code(0);
        assert_eq!(outcome(&finished)["outcome"], "done", "{finished}");
    }
}

/// The rule files; an alert that must hold for minutes does so for a second.
fn shortened_rules() -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().expect("temporary folders can be made");
    let short = |line: &str| {
        let bare = line.trim_start();
        let indent = &line[..line.len() - bare.len()];
        if bare.starts_with("for: ") { format!("{indent}for: 1s") } else { line.to_owned() }
    };
    let paths = files::list(RULES, ".yaml").into_iter().map(|path| {
        let text: Vec<String> = files::text(&path).lines().map(short).collect();
        let copy = folder.path().join(files::stem(&path, "")).with_extension("yaml");
        std::fs::write(&copy, text.join("\n") + "\n").expect("temporary folders are writable");
        copy
    });
    let paths = paths.collect();
    (folder, paths)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_run_raises_an_alert_that_only_a_real_run_ends() {
    let watch = Watch::start().await;
    watch.stage.add(newcomer("ann")).await;
    watch.run("suspended", false).await;
    watch.run("rollcall", false).await;

    // Both are stale; only one should run.
    watch.back_date("suspended", 120).await;
    watch.back_date("rollcall", 120).await;
    watch.webhook_says(STALE, true).await;
    watch.comes_round(STALE).await;
    let stale = watch.prometheus.query(&format!("time() - {LAST_RUN} > 5400"));
    assert_eq!(stale.len(), 2, "both namespaces are stale: {stale:#?}");

    watch.run("rollcall", true).await;
    watch.comes_round(STALE).await;
    assert_eq!(watch.last_word(STALE, "rollcall"), Some(true), "a dry run ends no alert");
    let alerts = watch.prometheus.query(&format!("ALERTS{{alertname=\"{STALE}\",alertstate=\"firing\"}}"));
    assert_eq!(alerts.len(), 1, "it still fires, and for one namespace alone: {alerts:#?}");

    watch.run("rollcall", false).await;
    watch.webhook_says(STALE, false).await;
    assert_eq!(watch.last_word(STALE, "suspended"), None, "a suspended CronJob stays quiet");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pushgateway_that_lost_its_data_raises_an_alert_until_the_next_run() {
    let watch = Watch::start().await;
    watch.stage.add(newcomer("ann")).await;
    watch.run("rollcall", false).await;
    watch.run("suspended", false).await;
    watch.holds("count(rollcall_job_last_run_timestamp_seconds) == 2", "both runs are known").await;
    watch.comes_round(ABSENT).await;
    // Until the first run of a namespace its metrics were absent, and a second is enough here.
    wait_until(PATIENCE, "the alert is over, or never was", async || watch.last_word(ABSENT, "rollcall") != Some(true))
        .await;

    let pushgateway = watch.stage.pushgateway.as_ref().expect("the stage has one");
    pushgateway.stop();
    pushgateway.start_again();
    watch.webhook_says(ABSENT, true).await;
    assert_eq!(watch.last_word(ABSENT, "suspended"), None, "a suspended CronJob stays quiet");

    watch.run("rollcall", false).await;
    watch.webhook_says(ABSENT, false).await;
    assert_eq!(watch.last_word(ABSENT, "suspended"), None, "a suspended CronJob stays quiet");
}
