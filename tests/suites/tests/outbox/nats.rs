//! NATS JetStream as the sink.

use std::collections::{HashMap, HashSet};

use async_nats::jetstream::{self, stream::Config};
use harness::{Binary, Certificates, Nats, NatsLimits, wait_until};
use serde_json::Value;

use crate::support::{Ground, LIMIT};

const SUBJECT: &str = "rollcall.events";

/// The drain, with this server as its sink.
fn drain(ground: &Ground, server: &Nats) -> Binary {
    to(ground.drain(), server)
}

fn to(binary: Binary, server: &Nats) -> Binary {
    binary.env("OUTBOX_SINK", "nats").env("NATS_URL", server.url())
}

async fn jetstream(server: &Nats) -> jetstream::Context {
    jetstream::new(async_nats::connect(server.address()).await.unwrap())
}

/// A server with a stream that takes the subject.
async fn with_stream() -> Nats {
    let server = Nats::start();
    make_stream(&server).await;
    server
}

async fn make_stream(server: &Nats) {
    jetstream(server).await.create_stream(config()).await.unwrap();
}

fn config() -> Config {
    Config { name: "EVENTS".to_owned(), subjects: vec![SUBJECT.to_owned()], ..Config::default() }
}

/// How many messages the stream has; none while the server is away.
async fn length(server: &Nats) -> u64 {
    let stream = jetstream(server).await.get_stream("EVENTS").await.unwrap();
    stream.cached_info().state.messages
}

/// The bodies on the stream, in its order.
async fn bodies(server: &Nats) -> Vec<Value> {
    let stream = jetstream(server).await.get_stream("EVENTS").await.unwrap();
    let last = stream.cached_info().state.last_sequence;
    let mut bodies = Vec::new();
    for sequence in 1..=last {
        let message = stream.get_raw_message(sequence).await.unwrap();
        let body: Value = serde_json::from_slice(&message.payload).unwrap();
        let id = message.headers.get("Nats-Msg-Id").unwrap().to_string();
        assert_eq!(body["event_id"], id, "by its id the server knows a repeat");
        bodies.push(body);
    }
    bodies
}

/// Each mark once, and each account in the order of its numbers.
async fn assert_whole(server: &Nats, marks: impl IntoIterator<Item = i64>) {
    let bodies = bodies(server).await;
    let (mut events, mut accounts) = (HashSet::new(), HashMap::<String, i64>::new());
    for body in &bodies {
        assert!(events.insert(body["event_id"].to_string()), "doubled: {body}");
        let (last, seq) =
            (accounts.entry(body["aggregate_id"].to_string()).or_default(), body["seq"].as_i64().unwrap());
        assert!(seq > *last, "overtaken: {body}");
        *last = seq;
    }
    let mut found: Vec<i64> = bodies.iter().map(|body| body["payload"]["mark"].as_i64().unwrap()).collect();
    found.sort_unstable();
    let wanted: Vec<i64> = marks.into_iter().collect();
    assert!(found == wanted, "{} on the stream, {} wanted", found.len(), wanted.len());
}

#[tokio::test]
async fn every_event_is_on_the_stream_once_and_in_order() {
    let (ground, server) = (Ground::new().await, with_stream().await);
    ground.fill(2000, 60).await;
    let finished = drain(&ground, &server).run().await.expect_code(0);
    assert_eq!(finished.last()["changed"], 2000, "{finished}");
    assert_whole(&server, 1..=2000).await;
    assert_eq!(ground.backlog().await, 0);
    let again = drain(&ground, &server).run().await.expect_code(0);
    assert_eq!(again.last()["outcome"], "nothing_to_do");
}

#[tokio::test]
async fn without_a_stream_it_says_what_to_create_and_nothing_is_lost() {
    let (ground, server) = (Ground::new().await, Nats::start());
    ground.fill(20, 4).await;
    for finished in [drain(&ground, &server).run().await, to(ground.asked(&["check"]), &server).run().await] {
        let told = finished.expect_code(78).to_string();
        assert!(told.contains("nats stream add") && told.contains(SUBJECT), "{told}");
    }
    assert_eq!((ground.backlog().await, ground.number("SELECT count(*) FROM outbox_held").await), (20, 0));
    make_stream(&server).await;
    let checked = to(ground.asked(&["check"]), &server).run().await.expect_code(0);
    assert!(checked.stdout.contains("the stream EVENTS takes rollcall.events"), "{checked}");
    drain(&ground, &server).run().await.expect_code(0);
    assert_whole(&server, 1..=20).await;
}

#[tokio::test]
async fn over_tls_the_servers_certificate_must_be_one_that_is_trusted() {
    let (ground, certificates) = (Ground::new().await, Certificates::make());
    let tls = Some((certificates.certificate(), certificates.key()));
    let server = Nats::start_with(NatsLimits { tls, ..NatsLimits::default() });
    let options = async_nats::ConnectOptions::new().add_root_certificates(certificates.authority());
    let jetstream = jetstream::new(options.connect(server.url()).await.unwrap());
    jetstream.create_stream(config()).await.unwrap();
    ground.fill(20, 4).await;
    let told = drain(&ground, &server).env("MAX_RUNTIME", "7s").run().await.expect_code(75).to_string();
    assert!(told.contains("no TLS connection to NATS can be made: is its certificate valid?"), "{told}");
    assert_eq!((ground.backlog().await, ground.number("SELECT count(*) FROM outbox_held").await), (20, 0));
    // As an operator's own authority becomes one of the system's.
    let trusting = drain(&ground, &server).env("SSL_CERT_FILE", certificates.authority());
    trusting.run().await.expect_code(0);
    assert_eq!(ground.backlog().await, 0);
    let stream = jetstream.get_stream("EVENTS").await.unwrap();
    assert_eq!(stream.cached_info().state.messages, 20);
}

#[tokio::test]
async fn a_server_that_stops_in_the_middle_and_comes_back_has_everything_once() {
    let (ground, server) = (Ground::new().await, with_stream().await);
    ground.fill(6000, 100).await;
    // It gets no further than some pages behind this one.
    let one = ground.keep(1000).await;
    let mut run = drain(&ground, &server).env("BATCH_SIZE", "100").start();
    wait_until(LIMIT, "some are out", async || length(&server).await > 200).await;
    server.stop();
    one.rollback().await.unwrap();
    run.wait_for_log(LIMIT, |line| line["message"] == "the sink takes nothing").await;
    server.start_again();
    run.wait(LIMIT).await.expect_code(0);
    assert_whole(&server, 1..=6000).await;
    assert_eq!((ground.backlog().await, ground.number("SELECT count(*) FROM outbox_held").await), (0, 0));
}

#[tokio::test]
async fn what_a_killed_run_published_and_could_not_delete_is_not_doubled() {
    let (ground, server) = (Ground::new().await, with_stream().await);
    ground.fill(300, 30).await;
    // Deleting waits for this lock, so what is published stays in the outbox.
    let mut lock = ground.db.pool().begin().await.unwrap();
    sqlx::query("LOCK TABLE outbox_events IN SHARE MODE").execute(&mut *lock).await.unwrap();
    let binary = drain(&ground, &server).env("RUN_ID", "tries-of-one-job");
    let run = binary.start();
    wait_until(LIMIT, "all is published", async || length(&server).await == 300).await;
    run.kill();
    run.wait(LIMIT).await;
    lock.rollback().await.unwrap();
    assert_eq!(ground.backlog().await, 300);
    let finished = binary.run().await.expect_code(0);
    assert_eq!(finished.last()["changed"], 300, "all were sent once more: {finished}");
    assert_whole(&server, 1..=300).await;
    assert_eq!(ground.backlog().await, 0);
}
