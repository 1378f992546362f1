//! Against a real Pushgateway, which each test starts for itself.
#![cfg(test)]

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use metrics::{Group, PushError, Pusher, Snapshot, counters, runner, verifier};
use runtime::Secret;
use tempfile::TempDir;

/// The password `p@ss/w:rd`, hashed by bcrypt.
const WEB_CONFIG: &str = "basic_auth_users:\n  job: $2b$04$abcdefghijklmnopqrstuuZ5DJYZJfRWYXI9KJve4MeY3EpZwGcfK\n";

/// A Pushgateway in memory, killed when dropped.
struct Gateway {
    process: Child,
    host: String,
}

impl Gateway {
    fn start(arguments: &[&str]) -> Self {
        let mut process = ["prometheus-pushgateway", "pushgateway"]
            .into_iter()
            .find_map(|program| {
                Command::new(program)
                    .args(["--web.listen-address=127.0.0.1:0", "--persistence.file="])
                    .args(arguments)
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::piped())
                    .spawn()
                    .ok()
            })
            .expect("these tests need a Pushgateway in PATH (Debian: prometheus-pushgateway)");
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut gateway = Self { process, host: String::new() };
        let host = log.find_map(|line| {
            let line = line.unwrap();
            let (_, address) = line.contains("Listening on").then(|| line.split_once("address="))??;
            Some(address.trim().to_owned())
        });
        // Keeps its log from filling the pipe.
        std::thread::spawn(move || log.for_each(drop));
        gateway.host = host.expect("the Pushgateway says where it listens");
        gateway
    }

    fn pusher(&self, namespace: &str) -> Pusher {
        let group = Group { job: "character-verifier", namespace: Some(namespace.to_owned()), shard: Some(0) };
        Pusher::new(&Secret::new(format!("http://{}", self.host)), group).unwrap()
    }

    async fn scrape(&self) -> String {
        get(&format!("http://{}/metrics", self.host)).await
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn get(url: &str) -> String {
    let client = runtime::http::client("test", std::time::Duration::from_secs(10)).unwrap();
    client.get(url).send().await.unwrap().error_for_status().unwrap().text().await.unwrap()
}

fn full() -> Snapshot {
    let mut snapshot = Snapshot::of(&counters("character-verifier"));
    snapshot
        .counter(&verifier::VERIFIED, &["success"], 41)
        .gauge(&runner::LAST_SUCCESS, &[], 1_750_000_000.0)
        .gauge(&runner::EXIT_CODE, &[], 0.0)
        .gauge(&runner::RECORDS, &["scanned"], 1_234_567.0);
    snapshot
}

const LABELS: &str = r#"instance="",job="character-verifier",namespace="production""#;

#[tokio::test]
async fn a_push_arrives_with_its_group_and_every_series() {
    let gateway = Gateway::start(&[]);
    gateway.pusher("production").push(&full()).await.unwrap();

    let text = gateway.scrape().await;
    let line = |line: &str| assert!(text.lines().any(|at| at == line), "no {line} in:\n{text}");
    line("# TYPE battlescope_characters_verified_total counter");
    line(&format!(r#"battlescope_characters_verified_total{{{LABELS},shard="0",status="success"}} 41"#));
    line(&format!(r#"battlescope_characters_verified_total{{{LABELS},shard="0",status="failed"}} 0"#));
    line("# TYPE rollcall_job_records gauge");
    line(&format!(r#"rollcall_job_last_success_timestamp_seconds{{{LABELS},shard="0"}} 1.75e+09"#));
    for counter in counters("character-verifier") {
        let samples = text.lines().filter(|line| line.starts_with(&format!("{}{{", counter.name)));
        assert_eq!(samples.count(), counter.series.len(), "{}", counter.name);
    }
}

#[tokio::test]
async fn the_last_success_outlives_the_push_of_a_failed_run() {
    let gateway = Gateway::start(&[]);
    let pusher = gateway.pusher("production");
    pusher.push(&full()).await.unwrap();

    let mut failed = Snapshot::default();
    failed.gauge(&runner::EXIT_CODE, &[], 3.0);
    pusher.push(&failed).await.unwrap();

    let text = gateway.scrape().await;
    assert!(text.contains(&format!(r#"rollcall_job_last_exit_code{{{LABELS},shard="0"}} 3"#)), "{text}");
    assert!(text.contains(&format!(r#"rollcall_job_last_success_timestamp_seconds{{{LABELS},shard="0"}} 1.75e+09"#)));
}

#[tokio::test]
async fn groups_agree_on_types_and_do_not_touch_each_other() {
    let gateway = Gateway::start(&[]);
    for namespace in ["production", "staging"] {
        gateway.pusher(namespace).push(&full()).await.unwrap();
    }
    let bare = Group { job: "migrate", namespace: None, shard: None };
    let bare = Pusher::new(&Secret::new(format!("http://{}/", gateway.host)), bare).unwrap();
    let mut snapshot = Snapshot::of(&counters("migrate"));
    snapshot.gauge(&runner::RECORDS, &["changed"], 2.0);
    bare.push(&snapshot).await.unwrap();

    // The Pushgateway answers 500 here when the types of two groups do not agree.
    let text = gateway.scrape().await;
    let samples = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!(samples("rollcall_job_last_exit_code{"), 2, "{text}");
    assert_eq!(samples("rollcall_job_runs_total{"), 3 * runner::RUNS.series.len());
    assert!(text.contains(r#"rollcall_job_records{instance="",job="migrate",outcome="changed"} 2"#), "{text}");
}

#[tokio::test]
async fn a_refused_push_tells_why() {
    static WRONG_TYPE: metrics::Gauge =
        metrics::Gauge { name: "rollcall_push_failures_total", help: "Not a gauge elsewhere.", labels: &[] };
    let gateway = Gateway::start(&[]);
    gateway.pusher("production").push(&full()).await.unwrap();

    let mut wrong = Snapshot::default();
    wrong.gauge(&WRONG_TYPE, &[], 1.0);
    let error = gateway.pusher("staging").push(&wrong).await.unwrap_err();
    let PushError::Refused { status, body } = &error else { panic!("{error:?}") };
    assert_eq!(status.as_u16(), 400);
    assert!(body.contains("rollcall_push_failures_total") && body.chars().count() <= 300, "{body}");
    assert!(error.to_string().contains(body), "{error}");
}

#[tokio::test]
async fn an_address_with_a_path_and_a_password_is_followed_and_not_told() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("web.yml");
    std::fs::write(&config, WEB_CONFIG).unwrap();
    let config = format!("--web.config.file={}", config.display());
    let gateway = Gateway::start(&["--web.route-prefix=/push/gateway", &config]);
    let group = || Group { job: "character-verifier", namespace: None, shard: None };

    let address = format!("http://job:p%40ss%2Fw%3Ard@{}/push/gateway", gateway.host);
    let pusher = Pusher::new(&Secret::new(&address), group()).unwrap();
    pusher.check().await.unwrap();
    pusher.push(&full()).await.unwrap();
    let text = get(&format!("{address}/metrics")).await;
    assert!(text.contains("battlescope_characters_verified_total{"), "{text}");

    let wrong = format!("http://job:hunter2@{}/push/gateway", gateway.host);
    let wrong = Pusher::new(&Secret::new(wrong), group()).unwrap();
    for error in [wrong.check().await.unwrap_err(), wrong.push(&full()).await.unwrap_err()] {
        assert!(matches!(&error, PushError::Refused { status, .. } if status.as_u16() == 401), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test]
async fn a_check_tells_a_pushgateway_from_none() {
    let gateway = Gateway::start(&[]);
    gateway.pusher("production").check().await.unwrap();

    let lost = Group { job: "migrate", namespace: None, shard: None };
    let lost = Pusher::new(&Secret::new(format!("http://{}/elsewhere", gateway.host)), lost).unwrap();
    let error = lost.check().await.unwrap_err();
    assert!(matches!(&error, PushError::Refused { status, .. } if status.as_u16() == 404), "{error:?}");
}

#[test]
fn a_push_can_move_between_threads() {
    fn movable<T: Send>(_: &T) {}
    let group = Group { job: "migrate", namespace: None, shard: None };
    let pusher = Pusher::new(&Secret::new("http://127.0.0.1:1"), group).unwrap();
    let snapshot = Snapshot::default();
    movable(&pusher.push(&snapshot));
    movable(&pusher.check());
}
