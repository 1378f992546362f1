//! What every job promises, where this one has something of its own to show.

use harness::{Answer, Binary, Finished, Nats, Pushgateway, WebhookReceiver, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    hook::{SECRET, to},
    support::{Ground, LIMIT},
};

/// The lines of `check`: name, and what it says after `ok` or `FAILED`.
fn lines(finished: &Finished) -> Vec<(String, bool, String)> {
    let lines: Vec<Value> = serde_json::from_str(&finished.stdout).unwrap_or_else(|_| panic!("{finished}"));
    let text = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
    lines.iter().map(|line| (text(line, "name"), line["ok"].as_bool().unwrap(), text(line, "detail"))).collect()
}

async fn check(binary: Binary, code: i32) -> Vec<(String, bool, String)> {
    lines(&binary.arg("--output").arg("json").run().await.expect_code(code))
}

/// The lines about the sink.
fn of_sink(lines: &[(String, bool, String)]) -> Vec<(bool, &str)> {
    lines.iter().filter(|(name, ..)| name.starts_with("sink ")).map(|(_, ok, detail)| (*ok, &**detail)).collect()
}

#[tokio::test]
async fn check_reaches_every_dependency_and_changes_nothing() {
    let (ground, gateway) = (Ground::new().await, Pushgateway::start());
    ground.fill(10, 3).await;
    let lines = check(ground.asked(&["check"]).env("PUSHGATEWAY_URL", gateway.url()), 0).await;
    let mut names: Vec<&str> = lines.iter().map(|(name, ..)| &**name).collect();
    names.dedup();
    assert_eq!(names, ["configuration", "database", "schema", "redis", "pushgateway", "sink redis"], "{lines:?}");
    assert!(lines.iter().all(|(_, ok, _)| *ok), "{lines:?}");
    let text = ground.asked(&["check"]).run().await.expect_code(0).stdout;
    assert!(text.lines().count() >= 6 && text.lines().all(|line| line.starts_with("ok ")), "{text}");
    assert_eq!((ground.backlog().await, ground.stream().await.len()), (10, 0));
    assert_eq!(ground.number("SELECT count(*) FROM job_runs").await, 0);
    assert_eq!(ground.number("SELECT count(*) FROM outbox_partitions WHERE fencing_token > 0").await, 0);
}

#[tokio::test]
async fn check_tells_of_each_sink_whether_it_would_take_events() {
    let (ground, receiver, server) = (Ground::new().await, WebhookReceiver::start(), Nats::start());
    let sink = |name: &str| ground.asked(&["check"]).env("OUTBOX_SINK", name);
    assert_eq!(of_sink(&check(sink("stdout"), 0).await).len(), 1);

    let webhook = to(ground.asked(&["check"]), &receiver);
    assert_eq!(of_sink(&check(webhook.clone(), 0).await), [(true, "the endpoint answers (HEAD: 204)")]);
    receiver.answer(Answer::status(500));
    let ill = check(webhook.clone(), 0).await;
    assert_eq!(of_sink(&ill), [(true, "warning: the endpoint answers (HEAD: 500): it may be ill")]);
    receiver.answer(Answer::status(410));
    let gone = check(webhook.clone(), 78).await;
    assert!(of_sink(&gone)[0].1.contains("change WEBHOOK_URL"), "{gone:?}");
    receiver.stop();
    let away = check(webhook, 75).await;
    assert!(of_sink(&away)[0].1.contains("cannot be reached"), "{away:?}");
    assert!(receiver.received().iter().all(|request| request.method == "HEAD"), "nothing is posted");

    let nats = sink("nats").env("NATS_URL", server.url());
    assert!(!of_sink(&check(nats.clone(), 78).await)[0].0, "there is no stream");
    server.stop();
    let away = check(nats, 75).await;
    assert!(of_sink(&away)[0].1.contains("NATS cannot be reached"), "{away:?}");

    // The other lines are looked at all the same, and the first that failed decides.
    let both = check(sink("redis").env("REDIS_URL", "redis://127.0.0.1:1"), 75).await;
    let failed: Vec<&str> = both.iter().filter(|(_, ok, _)| !ok).map(|(name, ..)| &**name).collect();
    assert_eq!(failed, ["redis", "sink redis"], "{both:?}");
}

#[tokio::test]
async fn status_shows_a_worker_under_way_and_how_it_ended() {
    let ground = Ground::new().await;
    let status = async || -> Value {
        let finished = ground.asked(&["status", "--output", "json"]).run().await.expect_code(0);
        serde_json::from_str(&finished.stdout).unwrap()
    };
    let worker = ground.asked(&["worker"]).start();
    ground.fill(40, 5).await;
    wait_until(LIMIT, "all are out", async || ground.backlog().await == 0).await;
    let under_way = status().await;
    assert_eq!(
        (under_way[0]["outcome"].clone(), &under_way[0]["changed"]),
        (Value::Null, &Value::from(40)),
        "{under_way}"
    );
    assert_eq!(under_way[0]["job"], "outbox-drain");
    worker.signal(Signal::SIGTERM);
    worker.wait(LIMIT).await.expect_code(143);
    let ended = status().await;
    assert_eq!((&ended[0]["outcome"], &ended[0]["changed"]), (&Value::from("stopped"), &Value::from(40)), "{ended}");
    let text = ground.asked(&["status"]).run().await.expect_code(0).stdout;
    assert!(text.contains("stopped"), "{text}");
}

#[tokio::test]
async fn problems_of_the_runner_and_of_the_sink_are_told_together_and_no_value_is_shown() {
    let ground = Ground::new().await;
    let finished = ground
        .drain()
        .env("DATABASE_URL", "hunter2")
        .env("REDIS_URL", "hunter2")
        .env("PUSHGATEWAY_URL", "hunter2")
        .env("OUTBOX_SINK", "webhook")
        .env("WEBHOOK_URL", "hunter2")
        .env("WEBHOOK_SECRET", "hunter2")
        .run()
        .await
        .expect_code(78);
    for name in ["DATABASE_URL", "REDIS_URL", "PUSHGATEWAY_URL", "WEBHOOK_URL", "WEBHOOK_SECRET"] {
        assert!(finished.stderr.contains(&format!("{name}: ")), "{name}: {finished}");
    }
    assert!(!finished.to_string().contains("hunter2"), "{finished}");
    let missing = ground.drain().env("OUTBOX_SINK", "nats").env("SHARD_COUNT", "65").run().await.expect_code(78);
    for name in ["NATS_URL", "SHARD_COUNT"] {
        assert!(missing.stderr.contains(&format!("{name}: ")), "{name}: {missing}");
    }
}

#[tokio::test]
async fn a_secret_of_the_sink_comes_from_a_file_too() {
    let (ground, receiver) = (Ground::new().await, WebhookReceiver::start());
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("{text}\n")).unwrap();
        path
    };
    ground.enqueue(&["a"], 1).await;
    let binary = ground.drain().env("OUTBOX_SINK", "webhook").env("WEBHOOK_ALLOW_PRIVATE", "true");
    let binary =
        binary.env("WEBHOOK_URL_FILE", file("url", &receiver.url())).env("WEBHOOK_SECRET_FILE", file("key", SECRET));
    binary.run().await.expect_code(0);
    crate::hook::assert_arrived(&receiver, [1]);
}

#[tokio::test]
async fn a_lease_ends_by_the_clock_of_the_database() {
    let ground = Ground::new().await;
    ground.fill(400, 100).await;
    let even = "partition % 2 = 0";
    ground
        .execute(&format!(
            "UPDATE outbox_partitions SET run_id = 'elsewhere', fencing_token = nextval('job_fencing_tokens'),
                expires_at = clock_timestamp() + interval '1 hour' WHERE {even}"
        ))
        .await;
    let run = ground.drain().start();
    let of_others = "SELECT count(*) FROM outbox_events WHERE bucket % 2 = 0";
    let ours = "SELECT count(*) FROM outbox_events WHERE bucket % 2 = 1";
    assert!(ground.number(of_others).await > 0 && ground.number(of_others).await < 400);
    wait_until(LIMIT, "the free ones are drained", async || ground.number(ours).await == 0).await;
    let left = ground.number(of_others).await;
    assert_eq!(left + i64::try_from(ground.stream().await.len()).unwrap(), 400, "nobody else's were touched");
    // For the database an hour passes; for the process nothing does.
    ground
        .execute("UPDATE outbox_partitions SET expires_at = expires_at - interval '1 hour' WHERE run_id = 'elsewhere'")
        .await;
    let finished = run.wait(LIMIT).await.expect_code(0);
    ground.assert_whole(1..=400).await;
    assert_eq!(ground.backlog().await, 0, "{finished}");
}
