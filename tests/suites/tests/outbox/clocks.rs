//! Clocks that disagree by minutes, as on machines that nobody keeps in time: whatever is compared is told by the database.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use harness::{Pushgateway, Running, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    middle::{assert_complete, completed, somebody_waits_for},
    support::{Ground, LIMIT},
};

/// Minutes by which a clock is wrong.
const OFF: i32 = 10;

/// When it started, by its own clock.
async fn started(run: &mut Running) -> OffsetDateTime {
    let line = run.wait_for_log(LIMIT, |line| line["message"] == "started").await;
    OffsetDateTime::parse(line["timestamp"].as_str().unwrap(), &Rfc3339).unwrap()
}

/// Waits until all partitions were renewed several times.
async fn several_renewals(ground: &Ground) {
    let next_end =
        "SELECT (extract(epoch FROM min(expires_at)) * 1000)::bigint FROM outbox_partitions WHERE partition < 16";
    let mut ends = BTreeSet::new();
    wait_until(LIMIT, "they are renewed", async || {
        ends.insert(ground.number(next_end).await);
        ends.len() > 3
    })
    .await;
}

#[tokio::test]
async fn workers_twenty_minutes_apart_share_the_work_and_one_takes_over_from_the_other_within_seconds() {
    let ground = Ground::new().await;
    let worker = |name: &str, minutes: i32| {
        let worker = ground.asked(&["worker"]).env("RUN_ID", name).env("BATCH_SIZE", "20");
        worker.with_clock_off_by(minutes).start()
    };
    let (mut fast, mut slow) = (worker("fast", OFF), worker("slow", -OFF));
    let apart = started(&mut fast).await - started(&mut slow).await;
    assert!(apart > time::Duration::minutes(19), "{apart}");

    let holds = async |name: &str| {
        let held = "SELECT count(*) FROM outbox_partitions WHERE expires_at > clock_timestamp() AND run_id";
        ground.number(&format!("{held} = '{name}'")).await
    };
    wait_until(LIMIT, "each has its half", async || holds("fast").await == 8 && holds("slow").await == 8).await;
    // With each partition that is taken it grows.
    let tokens = "SELECT sum(fencing_token)::bigint FROM outbox_partitions";
    let taken = ground.number(tokens).await;
    ground.fill(2000, 100).await;
    wait_until(LIMIT, "the first are out", async || ground.backlog().await == 0).await;
    several_renewals(&ground).await;
    assert_eq!(ground.number(tokens).await, taken, "nobody took what the other one held");

    // In the middle of its work: what it has published it cannot delete.
    for worker in [&fast, &slow] {
        worker.signal(Signal::SIGSTOP);
    }
    ground.fill(2000, 100).await;
    let of_fast =
        "SELECT (payload ->> 'mark')::bigint FROM outbox_events JOIN outbox_partitions ON partition = bucket % 16
        WHERE run_id = 'fast' ORDER BY seq OFFSET 200 LIMIT 1";
    let mut keeper = ground.keep(ground.number(of_fast).await).await;
    for worker in [&fast, &slow] {
        worker.signal(Signal::SIGCONT);
    }
    somebody_waits_for(&ground, &mut keeper).await;
    fast.kill();
    fast.wait(LIMIT).await;
    let killed_at = Instant::now();
    assert!(ground.remembered().await > 0, "published and not deleted");
    keeper.rollback().await.unwrap();

    completed(&ground, slow, &["worker"]).await;
    assert!(killed_at.elapsed() < Duration::from_secs(20), "{:?}", killed_at.elapsed());
    assert_complete(&ground, (1..=2000).chain(1..=2000)).await;
}

#[tokio::test]
async fn latency_age_and_status_go_by_the_clock_of_the_database() {
    for minutes in [-OFF, OFF] {
        let (ground, gateway) = (Ground::new().await, Pushgateway::start());
        ground.fill(20, 5).await;
        ground.execute("UPDATE outbox_events SET occurred_at = clock_timestamp() - interval '100 s'").await;
        let run = ground.drain().env("PUSHGATEWAY_URL", gateway.url()).env("MAX_EVENTS", "10");
        run.with_clock_off_by(minutes).run().await.expect_code(0);
        let told = |name: &str, labels: &[(&str, &str)]| {
            let labels: Vec<(&str, &str)> = labels.iter().copied().chain([("job", "outbox-drain")]).collect();
            gateway.value(name, &labels).unwrap_or_else(|| panic!("no {name}"))
        };
        let age = told("rollcall_outbox_oldest_event_age_seconds", &[]);
        assert!((100.0..130.0).contains(&age), "off by {minutes} min: {age}");
        for quantile in ["0.5", "0.99"] {
            let latency = told("rollcall_outbox_publish_latency_seconds", &[("quantile", quantile)]);
            // At most √2 too high.
            assert!((100.0..130.0 * 1.42).contains(&latency), "off by {minutes} min: {quantile}: {latency}");
        }

        let now = ground.number("SELECT extract(epoch FROM clock_timestamp())::bigint").await;
        let status = ground.asked(&["status", "--output", "json"]).with_clock_off_by(-minutes);
        let runs: Value = serde_json::from_str(&status.run().await.expect_code(0).stdout).unwrap();
        let started_at = OffsetDateTime::parse(runs[0]["started_at"].as_str().unwrap(), &Rfc3339).unwrap();
        assert!((0..60).contains(&(now - started_at.unix_timestamp())), "off by {minutes} min: {runs}");
        assert!((0..60_000).contains(&runs[0]["duration_ms"].as_i64().unwrap()), "off by {minutes} min: {runs}");
    }
}

#[tokio::test]
async fn a_worker_that_gets_on_says_so_by_the_clock_of_the_database() {
    let (ground, gateway) = (Ground::new().await, Pushgateway::start());
    let worker = ground.asked(&["worker"]).env("PUSHGATEWAY_URL", gateway.url()).env("METRICS_PUSH_INTERVAL", "1s");
    let worker = worker.with_clock_off_by(-OFF).start();
    let told = |name: &str| gateway.value(name, &[("job", "outbox-drain")]);
    let is_told = || ["success", "run"].map(|what| told(&format!("rollcall_job_last_{what}_timestamp_seconds")));
    wait_until(LIMIT, "both are told", async || is_told().iter().all(Option::is_some)).await;
    let now = ground.number("SELECT extract(epoch FROM clock_timestamp())::bigint").await as f64;
    for at in is_told() {
        assert!((now - 60.0..now + 5.0).contains(&at.unwrap()), "{at:?} at {now}");
    }
    worker.signal(Signal::SIGTERM);
    worker.wait(LIMIT).await.expect_code(143);
}
