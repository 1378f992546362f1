//! What the drain tells a Pushgateway.

use harness::{Answer, Pushgateway, WebhookReceiver, wait_until};

use crate::{
    hook::{drain, no},
    support::{Ground, LIMIT},
};

const JOB: (&str, &str) = ("job", "outbox-drain");

/// The value of a series of the job.
fn told(gateway: &Pushgateway, name: &str, labels: &[(&str, &str)]) -> f64 {
    let labels: Vec<(&str, &str)> = labels.iter().copied().chain([JOB]).collect();
    let name = format!("rollcall_outbox_{name}");
    gateway.value(&name, &labels).unwrap_or_else(|| panic!("no {name} with {labels:?}"))
}

/// The same of what is counted: a whole number.
fn count(gateway: &Pushgateway, name: &str, labels: &[(&str, &str)]) -> i64 {
    told(gateway, name, labels).to_string().parse().unwrap()
}

fn published(gateway: &Pushgateway) -> [i64; 4] {
    ["redis", "nats", "webhook", "stdout"].map(|sink| count(gateway, "published_total", &[("sink", sink)]))
}

/// Retried, dead-lettered, outages, lost.
fn troubles(gateway: &Pushgateway) -> [i64; 4] {
    ["retried_total", "dead_lettered_total", "sink_outages_total", "lost_events_total"]
        .map(|name| count(gateway, name, &[]))
}

/// Backlog, held aggregates, dead letters.
fn standing(gateway: &Pushgateway) -> [i64; 3] {
    ["backlog_events", "held_aggregates", "dead_letters"].map(|name| count(gateway, name, &[]))
}

#[tokio::test]
async fn the_figures_are_exact_and_counters_go_on_from_run_to_run() {
    let (ground, receiver, gateway) = (Ground::new().await, WebhookReceiver::start(), Pushgateway::start());
    receiver.answer_about("poor", [no()]);
    ground.fill(20, 5).await;
    ground.enqueue(&["poor", "poor", "poor"], 21).await;
    ground
        .execute(
            "UPDATE outbox_events SET occurred_at = clock_timestamp()
             - CASE aggregate_id WHEN 'poor' THEN interval '1 hour' ELSE interval '100 s' END",
        )
        .await;
    let run = drain(&ground, &receiver).env("PUSHGATEWAY_URL", gateway.url()).env("MAX_ATTEMPTS", "2");
    run.run().await.expect_code(0);
    assert_eq!(published(&gateway), [0, 0, 20, 0]);
    assert_eq!(troubles(&gateway), [1, 0, 0, 0]);
    assert_eq!(standing(&gateway), [3, 1, 0]);
    let assert_an_hour = || {
        let oldest = told(&gateway, "oldest_event_age_seconds", &[]);
        assert!((3600.0..3660.0).contains(&oldest), "{oldest}");
        assert_eq!(count(&gateway, "oldest_unread_event_age_seconds", &[]), 0, "it was met, and is held back");
    };
    assert_an_hour();
    for quantile in ["0.5", "0.99"] {
        let latency = told(&gateway, "publish_latency_seconds", &[("quantile", quantile)]);
        // At most √2 too high.
        assert!((100.0..130.0 * 1.42).contains(&latency), "{quantile}: {latency}");
    }

    ground.execute("UPDATE outbox_held SET next_attempt_at = clock_timestamp()").await;
    run.run().await.expect_code(0);
    assert_eq!((published(&gateway)[2], troubles(&gateway)), (20, [1, 1, 0, 0]));
    assert_eq!(standing(&gateway), [2, 1, 1]);
    // Those behind the dead letter wait for it.
    assert_an_hour();

    // Another sink counts for itself.
    ground.fill(7, 3).await;
    ground.drain().env("PUSHGATEWAY_URL", gateway.url()).run().await.expect_code(0);
    assert_eq!(published(&gateway), [7, 0, 20, 0]);

    receiver.answer_about("poor", [Answer::status(204)]);
    ground.asked(&["dead-letters", "redrive", "--aggregate", "account:poor"]).run().await.expect_code(0);
    run.run().await.expect_code(0);
    assert_eq!(published(&gateway), [7, 0, 23, 0]);
    assert_eq!(standing(&gateway), [0, 0, 0]);
    assert_eq!(count(&gateway, "oldest_event_age_seconds", &[]), 0);
}

#[tokio::test]
async fn an_outage_is_counted_though_nothing_else_happened() {
    let (ground, receiver, gateway) = (Ground::new().await, WebhookReceiver::start(), Pushgateway::start());
    ground.fill(10, 5).await;
    ground.execute("UPDATE outbox_events SET occurred_at = clock_timestamp() - interval '100 s'").await;
    receiver.answer(Answer::status(503).header("retry-after", "600"));
    let run = drain(&ground, &receiver).env("PUSHGATEWAY_URL", gateway.url());
    run.run().await.expect_code(75);
    run.run().await.expect_code(75);
    assert_eq!((published(&gateway), troubles(&gateway)), ([0; 4], [0, 0, 2, 0]));
    let unread = told(&gateway, "oldest_unread_event_age_seconds", &[]);
    assert!((100.0..160.0).contains(&unread), "{unread}");
    assert_eq!(standing(&gateway), [10, 0, 0]);
}

#[tokio::test]
async fn what_a_killed_run_did_is_counted_once() {
    let (ground, receiver, gateway) = (Ground::new().await, WebhookReceiver::start(), Pushgateway::start());
    ground.fill(600, 40).await;
    let binary = drain(&ground, &receiver)
        .env("PUSHGATEWAY_URL", gateway.url())
        .env("BATCH_SIZE", "100")
        .env("RUN_ID", "tries-of-one-job");
    let last = ground.keep(600).await;
    let run = binary.start();
    wait_until(LIMIT, "it has written some and cannot finish", async || {
        ground.backlog().await < 600 && ground.is_anybody_waiting().await
    })
    .await;
    run.kill();
    run.wait(LIMIT).await;
    last.rollback().await.unwrap();
    let left = ground.backlog().await;
    let finished = binary.run().await.expect_code(0);
    assert_eq!(finished.last()["changed"].as_i64(), Some(left), "{finished}");
    assert_eq!(published(&gateway)[2], 600);
}

#[tokio::test]
async fn a_bounded_run_tells_how_the_outbox_stands_while_it_runs() {
    let (ground, gateway) = (Ground::new().await, Pushgateway::start());
    ground.fill(300, 30).await;
    let last = ground.keep(300).await;
    let binary = ground.drain().env("PUSHGATEWAY_URL", gateway.url()).env("METRICS_PUSH_INTERVAL", "1s");
    let mut run = binary.start();
    let backlog = || gateway.value("rollcall_outbox_backlog_events", &[JOB]);
    wait_until(LIMIT, "the backlog is told", async || backlog().is_some_and(|events| events > 0.0)).await;
    assert!(run.is_running());
    last.rollback().await.unwrap();
    run.wait(LIMIT).await.expect_code(0);
    assert_eq!(backlog(), Some(0.0));
}
