//! Webhooks: what is sent, to whom, and what cannot be sent.

use std::{fmt::Write, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures::future::join_all;
use harness::{Answer, Fault, FaultProxy, WebhookReceiver};
use outbox::{
    Event, Sink,
    sink::{Batch, Finding, Lane, Published, SinkError},
    webhook::{Endpoint, SigningKeys, WebhookSink},
};
use runtime::{Clock, Secret};
use sha2::{Digest, Sha256};
use time::{OffsetDateTime, macros::datetime};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::Instant,
};

use crate::events::{event, events, fates, id, is_refused, is_unavailable, publish, trouble};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NOW: OffsetDateTime = datetime!(2026-11-22 12:34:56 UTC);

pub(crate) fn sink(url: &str) -> WebhookSink {
    sink_with(url, true)
}

fn sink_with(url: &str, allow_private: bool) -> WebhookSink {
    let endpoint = Endpoint::parse(&Secret::new(url), allow_private).unwrap();
    WebhookSink::new(endpoint, SigningKeys::parse(&Secret::new(SECRET)).unwrap(), Clock::fixed(NOW))
}

/// HMAC-SHA256 from its definition (RFC 2104), so that the library under test does not judge itself.
fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    let pad = |with: u8| (0..64).map(|place| key.get(place).copied().unwrap_or(0) ^ with).collect::<Vec<u8>>();
    let inner = Sha256::digest([pad(0x36).as_slice(), message].concat());
    Sha256::digest([pad(0x5c).as_slice(), inner.as_slice()].concat()).to_vec()
}

#[tokio::test]
async fn an_event_arrives_signed_and_to_the_letter() {
    let receiver = WebhookReceiver::start();
    let payload = "{\"name\":\"Zoë \\u00e9\",\"big\":12345678901234567890.10, \"none\":null}";
    let url = receiver.url().replace("http://", "http://user:word@");
    let published = publish(&sink(&format!("{url}?key=1")), &[event(7, "a", payload)]).await.unwrap();
    assert_eq!((fates(&published).as_str(), published.trouble), ("p", None));
    let request = receiver.received().remove(0);
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/hook?key=1"));
    let id = id(7);
    let body = format!(
        r#"{{"type":"SESSION_INVALIDATED","timestamp":"2026-11-22T11:00:00.5Z","data":{{"seq":7,"event_id":"{id}","event_type":"SESSION_INVALIDATED","aggregate_type":"account","aggregate_id":"a","brand_id":"00000000-0000-0000-0000-00000000002a","occurred_at":"2026-11-22T11:00:00.5Z","payload":{payload}}}}}"#
    );
    assert_eq!(String::from_utf8_lossy(&request.body), body);
    let stamp = NOW.unix_timestamp().to_string();
    let key = STANDARD.decode(SECRET.trim_start_matches("whsec_")).unwrap();
    let signature = STANDARD.encode(hmac_sha256(&key, format!("{id}.{stamp}.{body}").as_bytes()));
    for (name, value) in [
        ("content-type", "application/json"),
        ("webhook-id", &id.to_string()),
        ("webhook-timestamp", &stamp),
        ("webhook-signature", &format!("v1,{signature}")),
        ("authorization", "Basic dXNlcjp3b3Jk"),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    assert!(request.header("user-agent").unwrap().starts_with("Rollcall/"));
}

#[tokio::test]
async fn aggregates_go_beside_each_other_and_their_events_one_after_the_other() {
    let receiver = WebhookReceiver::start();
    // Long enough that 16 are open together.
    receiver.answer(Answer::status(200).after(Duration::from_millis(50)));
    let name = |seq: i64| format!("aggregate {}", seq % 40);
    let batch: Vec<_> = (1..=120).map(|seq| event(seq, &name(seq), "1")).collect();
    let published = publish(&sink(&receiver.url()), &batch).await.unwrap();
    assert_eq!((fates(&published), published.trouble), ("p".repeat(120), None));
    assert_eq!(receiver.most_open(), 16);
    let received = receiver.received();
    assert!(received.iter().all(|request| request.siblings == 0));
    for aggregate in (0..40).map(name) {
        let own = received.iter().filter(|request| request.data("aggregate_id") == aggregate.as_str());
        let numbers: Vec<i64> = own.map(|request| request.data("seq").as_i64().unwrap()).collect();
        assert!(numbers.len() == 3 && numbers.is_sorted(), "{aggregate}: {numbers:?}");
    }
}

/// So many partitions beside each other, with so many aggregates each.
async fn publish_beside(sink: &WebhookSink, partitions: u16, aggregates: i64) -> Vec<Published> {
    let of_one = |partition: u16| {
        let first = i64::from(partition) * aggregates;
        let events = (first..first + aggregates).map(|seq| event(seq, &seq.to_string(), "1")).collect();
        (Lane { partition, token: 1 }, events)
    };
    let all: Vec<(Lane, Vec<Event>)> = (0..partitions).map(of_one).collect();
    let publishing =
        all.iter().map(|(lane, events)| sink.publish(Batch { lane: *lane, number: 1, events, fresh: events.len() }));
    join_all(publishing).await.into_iter().map(Result::unwrap).collect()
}

#[tokio::test]
async fn no_more_than_32_calls_are_open_however_many_partitions_there_are() {
    let receiver = WebhookReceiver::start();
    receiver.answer(Answer::status(204).after(Duration::from_millis(50)));
    let published = publish_beside(&sink(&receiver.url()), 8, 20).await;
    assert_eq!(published.iter().map(fates).collect::<String>(), "p".repeat(160));
    assert_eq!(receiver.most_open(), 32);
}

#[tokio::test]
async fn a_call_that_would_have_to_wait_for_others_for_too_long_is_not_made() {
    let receiver = WebhookReceiver::start();
    receiver.answer(Answer::status(204).after(Duration::from_secs(3)));
    let published = publish_beside(&sink(&receiver.url()), 5, 16).await;
    // After a moment the first make room for as many.
    assert_eq!(published.iter().map(fates).collect::<String>(), "p".repeat(64) + &"-".repeat(16));
    assert!(published.iter().all(|one| one.trouble.is_none()), "{published:?}");
    assert_eq!(receiver.received().len(), 64);
}

#[tokio::test]
async fn a_name_that_resolves_to_a_private_address_is_refused() {
    let receiver = WebhookReceiver::start();
    let url = format!("https://localhost:{}/hook", receiver.port());
    let sink = sink_with(&url, false);
    let error = trouble(publish(&sink, &events("a")).await);
    assert!(is_refused(&error) && error.to_string().contains("WEBHOOK_ALLOW_PRIVATE"), "{error:?}");
    assert_eq!(sink.check().await, [Finding::Bad(error)]);
    // The same name is called when that is allowed.
    let allowed = self::sink(&url.replace("https", "http"));
    assert_eq!(fates(&publish(&allowed, &events("a")).await.unwrap()), "p");
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn an_endpoint_that_is_away_burns_nobodys_attempt_and_comes_back() {
    let receiver = WebhookReceiver::start();
    let sink = sink(&receiver.url());
    assert_eq!(fates(&publish(&sink, &events("ab")).await.unwrap()), "pp");
    receiver.stop();
    let published = publish(&sink, &events("ab")).await.unwrap();
    assert_eq!(fates(&published), "--");
    assert!(is_unavailable(published.trouble.as_ref().unwrap()));
    receiver.start_again();
    assert_eq!(fates(&publish(&sink, &events("ab")).await.unwrap()), "pp");
}

#[tokio::test]
async fn what_is_no_tls_is_an_outage() {
    let receiver = WebhookReceiver::start();
    let sink = sink(&receiver.url().replace("http://", "https://"));
    let published = publish(&sink, &events("ab")).await.unwrap();
    assert_eq!(fates(&published), "--");
    let error = published.trouble.unwrap();
    assert!(is_unavailable(&error) && error.to_string().contains("TLS"), "{error}");
    assert!(receiver.received().is_empty());
}

#[tokio::test]
async fn a_tls_handshake_that_does_not_end_is_no_connection() {
    // The system takes the connection, and nobody speaks.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sink = sink(&format!("https://{}/hook", listener.local_addr().unwrap()));
    let published = publish(&sink, &events("a")).await.unwrap();
    assert_eq!(fates(&published), "-");
    let error = published.trouble.unwrap();
    assert!(is_unavailable(&error) && error.to_string().contains("no connection"), "{error}");
}

#[tokio::test]
async fn an_event_for_which_no_connection_can_be_made_is_left_though_another_was_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let answering = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // When the first event is answered nobody listens any more.
        drop(listener);
        let mut request = vec![0; 64 * 1024];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await.unwrap();
        // Dropped only when the answer was read.
        stream
    });
    let published = publish(&sink(&url), &events("aa")).await.unwrap();
    assert_eq!(fates(&published), "p-");
    let error = published.trouble.unwrap();
    assert!(is_unavailable(&error) && error.to_string().contains("reached"), "{error}");
    answering.await.unwrap();
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_an_outage() {
    let error = trouble(publish(&sink("http://nowhere.invalid/hook"), &events("a")).await);
    assert!(is_unavailable(&error) && error.to_string().contains("resolved"), "{error}");
}

#[tokio::test]
async fn silence_everywhere_is_an_outage_after_ten_seconds() {
    let receiver = WebhookReceiver::start();
    receiver.answer(Answer::status(200).after(Duration::from_mins(5)));
    let started = Instant::now();
    // More aggregates than go at once: nobody waits a second time.
    let batch: Vec<_> = (1..=40).map(|seq| event(seq, &seq.to_string(), "1")).collect();
    let published = publish(&sink(&receiver.url()), &batch).await.unwrap();
    assert_eq!(fates(&published), "-".repeat(40));
    let error = published.trouble.unwrap();
    assert!(is_unavailable(&error) && error.to_string().contains("within 10 s"), "{error}");
    assert!((9..14).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
}

#[tokio::test]
async fn an_event_alone_in_its_silence_is_rejected() {
    let receiver = WebhookReceiver::start();
    receiver.answer_about("b", [Answer::status(200).after(Duration::from_mins(5))]);
    let published = publish(&sink(&receiver.url()), &events("abcb")).await.unwrap();
    assert_eq!((fates(&published).as_str(), published.trouble), ("prp-", None));
}

#[tokio::test]
async fn an_answer_that_is_lost_is_no_publication() {
    let receiver = WebhookReceiver::start();
    let proxy = FaultProxy::start(&receiver.url());
    proxy.set(Fault::CutAfter(0));
    let published = publish(&sink(&proxy.url()), &events("a")).await.unwrap();
    assert_eq!(fates(&published), "-");
    assert!(is_unavailable(published.trouble.as_ref().unwrap()), "{published:?}");
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn no_text_shows_the_address_or_the_secret() {
    let receiver = WebhookReceiver::start();
    receiver.answer_about("a", [Answer::status(500).body("hunter2")]);
    receiver.answer_about("b", [Answer::status(302).header("location", "http://hunter2/")]);
    let port = receiver.port();
    let mut shown = String::new();
    for url in [
        format!("http://user:hunter2@127.0.0.1:{port}/hunter2?hunter2"),
        format!("https://user:hunter2@127.0.0.1:{port}/hunter2"),
        "http://hunter2.invalid/hunter2".to_owned(),
        "http://127.0.0.1:1/hunter2".to_owned(),
    ] {
        let sink = sink(&url);
        for batch in ["a", "b", "aab"] {
            write!(shown, "{:?}", publish(&sink, &events(batch)).await).unwrap();
        }
        write!(shown, "{sink:?} {:?}", sink.check().await).unwrap();
    }
    assert!(!shown.contains("hunter2") && !shown.contains(&SECRET[6..]), "{shown}");
    // It did go wrong in many ways.
    for part in ["answered 500", "redirect", "TLS", "resolved", "reached"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[tokio::test]
async fn check_says_whether_the_endpoint_is_there() {
    let receiver = WebhookReceiver::start();
    receiver.answer(Answer::status(405));
    let sink = sink(&receiver.url());
    let findings = sink.check().await;
    assert!(matches!(findings.as_slice(), [Finding::Good(_)]), "{findings:?}");
    assert_eq!(receiver.received()[0].method, "HEAD");
    receiver.stop();
    let findings = sink.check().await;
    assert!(matches!(findings.as_slice(), [Finding::Bad(SinkError::Unavailable { .. })]), "{findings:?}");
}

#[tokio::test]
async fn check_tells_an_endpoint_that_is_gone_and_one_that_takes_no_more_for_now() {
    let receiver = WebhookReceiver::start();
    let sink = sink(&receiver.url());
    receiver.answer(Answer::status(410));
    let findings = sink.check().await;
    assert!(matches!(findings.as_slice(), [Finding::Bad(SinkError::Refused(_))]), "{findings:?}");
    receiver.answer(Answer::status(429));
    let findings = sink.check().await;
    assert!(matches!(findings.as_slice(), [Finding::Bad(SinkError::Unavailable { .. })]), "{findings:?}");
}

#[tokio::test]
async fn check_warns_of_an_endpoint_that_fails_over_the_question_and_not_of_one_that_does_not_know_it() {
    let receiver = WebhookReceiver::start();
    let sink = sink(&receiver.url());
    for status in [500, 502, 503, 504] {
        receiver.answer(Answer::status(status));
        let findings = sink.check().await;
        let [Finding::Warning(text)] = findings.as_slice() else { panic!("{findings:?}") };
        assert!(text.contains(&status.to_string()), "{text}");
    }
    receiver.answer(Answer::status(501));
    let findings = sink.check().await;
    assert!(matches!(findings.as_slice(), [Finding::Good(_)]), "{findings:?}");
}

#[tokio::test]
async fn of_an_endless_answer_no_more_is_read_than_keeps_a_connection_usable() {
    const ALL: usize = 64 * 1024 * 1024;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let answering = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 64 * 1024];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {ALL}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let (chunk, mut written) = (vec![b'x'; 64 * 1024], 0);
        while written < ALL
            && let Ok(bytes @ 1..) = stream.write(&chunk).await
        {
            written += bytes;
        }
        written
    });
    assert_eq!(fates(&publish(&sink(&url), &events("a")).await.unwrap()), "p");
    // What was written and not read lies in the buffers of the two sockets: a few megabytes.
    let written = answering.await.unwrap();
    assert!(written < ALL / 2, "{written} bytes of the answer were taken");
}
