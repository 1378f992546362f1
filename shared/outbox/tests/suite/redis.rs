//! Redis Streams: what no run of the drain can bring about at a given moment.

use harness::Redis;
use outbox::{
    RedisSink, Sink,
    sink::{Adopted, Gap, Lane, SinkError},
};
use runtime::Secret;

use crate::events::{events, is_unavailable, publish};

const STREAM: &str = "rollcall:events";
const LANE: Lane = Lane { partition: 0, token: 1 };
const GAP: Gap = Gap { partition: 0, after: 0, last: 2 };

async fn sink(server: &Redis) -> RedisSink {
    let url = Secret::new(server.url(0));
    RedisSink::new(runtime::redis::connect(&url).await.unwrap(), url, STREAM, None)
}

#[tokio::test]
async fn a_search_that_is_not_answered_is_no_search_that_found_nothing() {
    let server = Redis::start();
    let sink = sink(&server).await;
    assert_eq!(sink.find(&[GAP]).await.unwrap(), [], "there is no stream yet");
    sink.adopt(LANE, 0).await.unwrap();
    publish(&sink, &events("ab")).await.unwrap();
    assert_eq!(sink.find(&[GAP]).await.unwrap()[0].1.len(), 2);
    server.freeze();
    let error = sink.find(&[GAP]).await.unwrap_err();
    assert!(is_unavailable(&error), "{error:?}");
}

#[tokio::test]
async fn what_is_forgotten_is_not_adopted_by_the_next_owner() {
    let server = Redis::start();
    let earlier = sink(&server).await;
    earlier.adopt(LANE, 0).await.unwrap();
    publish(&earlier, &events("ab")).await.unwrap();
    let sink = sink(&server).await;
    assert_eq!(sink.adopt(LANE, 0).await.unwrap().published.len(), 2);
    sink.forget(LANE).await.unwrap();
    let expected = Adopted { published: Vec::new(), last_number: Some(2) };
    assert_eq!(sink.adopt(LANE, 0).await.unwrap(), expected);
}

#[tokio::test]
async fn an_earlier_owner_makes_nothing_forgotten() {
    let server = Redis::start();
    let first = sink(&server).await;
    first.adopt(LANE, 0).await.unwrap();
    publish(&first, &events("ab")).await.unwrap();
    let second = sink(&server).await;
    second.adopt(LANE, 0).await.unwrap();
    let younger = Lane { token: 2, ..LANE };
    sink(&server).await.adopt(younger, 0).await.unwrap();
    assert_eq!(second.forget(LANE).await, Err(SinkError::Fenced(None)));
    assert_eq!(first.adopt(younger, 0).await.unwrap().published.len(), 2);
}
