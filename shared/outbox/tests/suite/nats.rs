//! NATS JetStream.

use std::{collections::HashMap, time::Duration};

use async_nats::jetstream::{
    self,
    stream::{Config, DiscardPolicy, StorageType},
};
use harness::{Fault, FaultProxy, Nats, NatsLimits};
use outbox::{
    Event, Sink,
    nats::{Address, NatsSink},
    sink::{Finding, SinkError},
};
use runtime::Secret;
use tokio::time::Instant;

use crate::events::{event, events, fates, id, is_refused, is_unavailable, publish, publish_all, trouble};

const SUBJECT: &str = "rollcall.events";
/// What a run may wait for a sink that is away.
const BOUND: Duration = Duration::from_secs(12);

fn sink(url: &str) -> NatsSink {
    NatsSink::new(Address::parse(&Secret::new(url)).unwrap(), SUBJECT.parse().unwrap())
}

async fn jetstream(server: &Nats) -> jetstream::Context {
    let url: url::Url = server.url().parse().unwrap();
    let (user, password) = (url.username().to_owned(), url.password().map(str::to_owned));
    let options = match password {
        Some(password) => async_nats::ConnectOptions::with_user_and_password(user, password),
        None if user.is_empty() => async_nats::ConnectOptions::new(),
        None => async_nats::ConnectOptions::with_token(user),
    };
    jetstream::new(options.connect(server.address()).await.unwrap())
}

fn config() -> Config {
    Config { name: "EVENTS".to_owned(), subjects: vec![SUBJECT.to_owned()], ..Config::default() }
}

/// A server with a stream that takes the subject.
async fn server_with(config: Config) -> Nats {
    let server = Nats::start();
    jetstream(&server).await.create_stream(config).await.unwrap();
    server
}

/// What the stream holds, in its order: each message's headers and body.
async fn messages(server: &Nats) -> Vec<(HashMap<String, String>, String)> {
    let mut stream = jetstream(server).await.get_stream("EVENTS").await.unwrap();
    let state = stream.info().await.unwrap().state.clone();
    let mut messages = Vec::new();
    for sequence in 1..=state.last_sequence {
        let message = stream.get_raw_message(sequence).await.unwrap();
        let headers = message.headers.iter().map(|(name, values)| (name.to_string(), values[0].to_string())).collect();
        messages.push((headers, String::from_utf8(message.payload.to_vec()).unwrap()));
    }
    messages
}

/// The numbers of an aggregate's events, in the stream's order.
async fn numbers(server: &Nats, aggregate: &str) -> Vec<i64> {
    let all = messages(server).await;
    let own = all.iter().filter(|(headers, _)| headers["aggregate_id"] == aggregate);
    own.map(|(headers, _)| headers["seq"].parse().unwrap()).collect()
}

#[tokio::test]
async fn an_event_arrives_with_its_headers_and_its_payload_to_the_letter() {
    let server = server_with(config()).await;
    let payload = "{\"name\":\"Zoë \\u00e9\",\"big\":12345678901234567890.10, \"none\":null}";
    let mut odd = event(7, "a\r\nNats-Msg-Id: stolen", payload);
    odd.event_type = "RENAMED".to_owned();
    let published = publish(&sink(&server.url()), &[odd]).await.unwrap();
    assert_eq!((fates(&published).as_str(), published.trouble), ("p", None));
    let (headers, body) = messages(&server).await.remove(0);
    let expected = [
        ("Nats-Msg-Id", id(7).to_string()),
        ("event_type", "RENAMED".to_owned()),
        ("aggregate_type", "account".to_owned()),
        ("aggregate_id", "a  Nats-Msg-Id: stolen".to_owned()),
        ("brand_id", "00000000-0000-0000-0000-00000000002a".to_owned()),
        ("seq", "7".to_owned()),
        ("occurred_at", "2026-11-22T11:00:00.5Z".to_owned()),
    ];
    for (name, value) in &expected {
        assert_eq!(headers.get(*name), Some(value), "{name}");
    }
    assert_eq!(headers.len(), expected.len());
    let id = id(7);
    assert_eq!(
        body,
        format!(
            r#"{{"seq":7,"event_id":"{id}","event_type":"RENAMED","aggregate_type":"account","aggregate_id":"a\r\nNats-Msg-Id: stolen","brand_id":"00000000-0000-0000-0000-00000000002a","occurred_at":"2026-11-22T11:00:00.5Z","payload":{payload}}}"#
        )
    );
}

/// 2,000 events of 20 aggregates and one of 300 others.
fn many() -> Vec<Event> {
    let name = |seq: i64| if seq % 8 == 0 { format!("single {seq}") } else { format!("busy {}", seq % 20) };
    (1..=2_400).map(|seq| event(seq, &name(seq), "1")).collect()
}

#[tokio::test]
async fn order_is_kept_per_aggregate_and_a_repeat_adds_nothing() {
    let server = server_with(config()).await;
    let (sink, events) = (sink(&server.url()), many());
    for _ in 0..2 {
        publish_all(&sink, &events).await;
    }
    let mut by_aggregate: HashMap<String, Vec<i64>> = HashMap::new();
    for (headers, _) in messages(&server).await {
        by_aggregate.entry(headers["aggregate_id"].clone()).or_default().push(headers["seq"].parse().unwrap());
    }
    let count: usize = by_aggregate.values().map(Vec::len).sum();
    assert_eq!(count, events.len());
    for (aggregate, numbers) in by_aggregate {
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{aggregate}: {numbers:?}");
    }
}

#[tokio::test]
async fn without_a_stream_it_says_what_to_create() {
    let server = Nats::start();
    let sink = sink(&server.url());
    let published = publish(&sink, &events("ab")).await.unwrap();
    assert_eq!(fates(&published), "--");
    let Some(SinkError::Refused(text)) = published.trouble else { panic!("{published:?}") };
    assert!(text.contains(SUBJECT) && text.contains("nats stream add"), "{text}");
    assert_eq!(sink.check().await, [Finding::Bad(SinkError::Refused(text))]);
    // Once it is there, the same sink goes on.
    jetstream(&server).await.create_stream(config()).await.unwrap();
    assert_eq!(fates(&publish(&sink, &events("ab")).await.unwrap()), "pp");
}

#[tokio::test]
async fn where_nobody_says_whether_there_is_a_stream_it_is_an_outage() {
    // So it is while the servers of a cluster have no leader, too.
    let server = Nats::start_with(NatsLimits { without_jetstream: true, ..NatsLimits::default() });
    let started = Instant::now();
    let error = trouble(publish(&sink(&server.url()), &events("ab")).await);
    assert!(is_unavailable(&error) && error.to_string().contains("it has no leader"), "{error:?}");
    assert!(started.elapsed() < BOUND);
}

#[tokio::test]
async fn a_server_that_stops_in_the_middle_loses_and_doubles_nothing() {
    let server = server_with(config()).await;
    let events = many();
    // Some acknowledgements pass, then the connection is cut; each costs about 40 bytes.
    let proxy = FaultProxy::start(&server.url());
    proxy.set(Fault::CutAfter(20_000));
    let sink = sink(&proxy.url());
    let published = publish(&sink, &events).await.unwrap();
    let first = fates(&published);
    assert!(first.contains('p') && first.contains('-') && !first.contains('r'), "{first}");
    assert!(is_unavailable(published.trouble.as_ref().unwrap()), "{published:?}");

    server.stop();
    let started = Instant::now();
    assert!(is_unavailable(&trouble(publish(&sink, &events).await)));
    assert!(started.elapsed() < BOUND);

    server.start_again();
    proxy.set(Fault::Pass);
    // What was not known to be published, as the drain would.
    let left: Vec<Event> =
        events.iter().zip(first.chars()).filter(|(_, fate)| *fate == '-').map(|(event, _)| event.clone()).collect();
    publish_all(&sink, &left).await;
    assert_eq!(messages(&server).await.len(), events.len());
    let busy = numbers(&server, "busy 1").await;
    assert!(busy.len() > 50 && busy.is_sorted(), "{busy:?}");
}

#[tokio::test]
async fn what_was_given_up_is_not_sent_later() {
    let server = server_with(config()).await;
    let sink = sink(&server.url());
    assert_eq!(fates(&publish(&sink, &events("a")).await.unwrap()), "p");
    // Nothing is awaited in between, so that the client takes the event before it knows that nobody is there.
    server.stop();
    let started = Instant::now();
    assert!(is_unavailable(&trouble(publish(&sink, &[event(2, "a", "1")]).await)));
    // The client has ended. One that went on trying by itself would keep the event until the acknowledgement is late.
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    server.start_again();
    assert_eq!(fates(&publish(&sink, &[event(3, "a", "1")]).await.unwrap()), "p");
    assert_eq!(numbers(&server, "a").await, [1, 3]);
}

#[tokio::test]
async fn a_server_that_hangs_is_waited_for_so_long_and_no_longer() {
    let server = server_with(config()).await;
    let sink = sink(&server.url());
    assert_eq!(fates(&publish(&sink, &events("ab")).await.unwrap()), "pp");
    server.freeze();
    let new = self::sink(&server.url());
    let started = Instant::now();
    let batch = [event(9, "a", "1")];
    let (old, new) = tokio::join!(publish(&sink, &batch), publish(&new, &batch));
    assert!(is_unavailable(&trouble(old)) && is_unavailable(&trouble(new)));
    assert!(started.elapsed() < BOUND);
    server.thaw();
    assert_eq!(fates(&publish(&sink, &[event(9, "a", "1")]).await.unwrap()), "p");
    assert_eq!(numbers(&server, "a").await, [1, 9]);
}

#[tokio::test]
async fn many_partitions_wait_for_a_dead_server_together() {
    let server = Nats::start();
    server.freeze();
    let sink = sink(&server.url());
    let (batch, started) = (events("a"), Instant::now());
    let all = futures::future::join_all((0..16).map(|_| publish(&sink, &batch))).await;
    assert!(all.into_iter().all(|result| is_unavailable(&trouble(result))));
    assert!(started.elapsed() < BOUND);
}

#[tokio::test]
async fn what_is_too_large_is_given_up_and_the_rest_goes_on() {
    let large = format!("\"{}\"", "x".repeat(3000));
    let batch = [event(1, "a", "1"), event(2, "b", &large), event(3, "b", "1"), event(4, "c", "1")];
    let server = Nats::start_with(NatsLimits { max_payload: Some(2048), ..NatsLimits::default() });
    jetstream(&server).await.create_stream(config()).await.unwrap();
    let by_stream = server_with(Config { max_message_size: 2048, ..config() }).await;
    for server in [server, by_stream] {
        let published = publish(&sink(&server.url()), &batch).await.unwrap();
        assert_eq!((fates(&published).as_str(), &published.trouble), ("pg-p", &None), "{published:?}");
        assert!(format!("{published:?}").contains("larger than the s"), "{published:?}");
        assert_eq!(messages(&server).await.len(), 2);
    }
}

#[tokio::test]
async fn a_full_stream_is_an_outage() {
    let server = server_with(Config { max_messages: 3, discard: DiscardPolicy::New, ..config() }).await;
    let sink = sink(&server.url());
    let published = publish(&sink, &events("aaaaa")).await.unwrap();
    assert_eq!(fates(&published), "ppp--");
    assert!(is_unavailable(published.trouble.as_ref().unwrap()), "{published:?}");
    assert!(published.trouble.unwrap().to_string().contains("maximum messages"));
}

#[tokio::test]
async fn logging_in_works_and_a_wrong_login_is_refused_without_being_shown() {
    let password = NatsLimits { user: Some(("drain".to_owned(), "c0rrect".to_owned())), ..NatsLimits::default() };
    let token = NatsLimits { token: Some("c0rrect".to_owned()), ..NatsLimits::default() };
    for limits in [password, token] {
        let server = Nats::start_with(limits);
        jetstream(&server).await.create_stream(config()).await.unwrap();
        assert_eq!(fates(&publish(&sink(&server.url()), &events("a")).await.unwrap()), "p");
        for wrong in [server.url().replace("c0rrect", "hunter2"), format!("nats://{}", server.address())] {
            let sink = sink(&wrong);
            let error = trouble(publish(&sink, &events("a")).await);
            assert!(is_refused(&error), "{error:?}");
            let shown = format!("{error} {error:?} {sink:?} {:?}", sink.check().await);
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}

#[tokio::test]
async fn a_user_who_may_not_publish_is_told_so() {
    let user = Some(("drain".to_owned(), "word".to_owned()));
    let server = Nats::start_with(NatsLimits { user, denied: vec![SUBJECT.to_owned()], ..NatsLimits::default() });
    jetstream(&server).await.create_stream(config()).await.unwrap();
    let error = trouble(publish(&sink(&server.url()), &events("a")).await);
    assert!(is_refused(&error) && error.to_string().contains(SUBJECT), "{error:?}");
}

#[tokio::test]
async fn check_names_settings_that_lose_or_double_events() {
    let server = Nats::start_with(NatsLimits { max_payload: Some(2 * 1024 * 1024), ..NatsLimits::default() });
    jetstream(&server).await.create_stream(config()).await.unwrap();
    let good = Finding::Good(format!("NATS: the stream EVENTS takes {SUBJECT}"));
    assert_eq!(sink(&server.url()).check().await, std::slice::from_ref(&good));
    let by_default = server_with(config()).await;
    let small = "NATS: the stream EVENTS takes messages of 1048576 bytes only: larger events become dead letters; 1064960 would do \
                 for all";
    assert_eq!(sink(&by_default.url()).check().await, [good, Finding::Warning(small.to_owned())]);
    let careless = Config {
        storage: StorageType::Memory,
        duplicate_window: Duration::from_secs(10),
        max_messages: 100,
        ..config()
    };
    let server = server_with(careless).await;
    let findings = sink(&server.url()).check().await;
    let text = format!("{findings:?}");
    for part in ["memory", "10 s", "oldest", "1048576 bytes"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(findings.iter().filter(|finding| matches!(finding, Finding::Warning(_))).count(), 4);
    let server = server_with(Config { no_ack: true, ..config() }).await;
    let findings = sink(&server.url()).check().await;
    assert!(matches!(findings.as_slice(), [Finding::Bad(SinkError::Refused(_))]), "{findings:?}");
}
