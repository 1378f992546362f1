//! What `check` says of a Redis that would not keep the stream.

use harness::{Redis, TestDb};
use serde_json::Value;

use crate::support::Ground;

/// A ground with a Redis that nobody else configures.
async fn with(redis: &Redis) -> Ground {
    Ground::on(TestDb::new().await.with_redis(&redis.url(0)).await)
}

async fn set(ground: &Ground, name: &str, value: &str) {
    let mut set = redis::cmd("CONFIG");
    set.arg("SET").arg(name).arg(value);
    let () = set.query_async(&mut ground.db.redis()).await.unwrap();
}

/// The warnings about the sink, of a check that is well otherwise.
async fn warnings(ground: &Ground) -> Vec<String> {
    let checked = ground.asked(&["check", "--output", "json"]).run().await.expect_code(0);
    let lines: Vec<Value> = serde_json::from_str(&checked.stdout).unwrap_or_else(|_| panic!("{checked}"));
    assert!(lines.iter().all(|line| line["ok"] == true), "{checked}");
    let of_sink = lines.iter().filter(|line| line["name"] == "sink redis");
    of_sink.filter_map(|line| Some(line["detail"].as_str()?.strip_prefix("warning: ")?.to_owned())).collect()
}

const NONE: [&str; 0] = [];

#[tokio::test]
async fn a_redis_that_does_not_persist_or_by_snapshots_alone_is_named() {
    let redis = Redis::start();
    let ground = with(&redis).await;
    let nothing = "Redis does not persist: a restart loses the stream; set appendonly yes";
    assert_eq!(warnings(&ground).await, [nothing]);
    set(&ground, "save", "3600 1").await;
    let snapshots =
        "Redis persists by snapshots alone: a restart loses the events since the last one; set appendonly yes";
    assert_eq!(warnings(&ground).await, [snapshots]);
    set(&ground, "appendonly", "yes").await;
    assert_eq!(warnings(&ground).await, NONE);
}

#[tokio::test]
async fn a_redis_that_may_evict_the_stream_or_would_with_a_limit_is_named() {
    let redis = Redis::durable();
    let ground = with(&redis).await;
    assert_eq!(warnings(&ground).await, NONE);
    set(&ground, "maxmemory-policy", "allkeys-lru").await;
    let would = "maxmemory-policy is allkeys-lru: with a maxmemory Redis would evict the stream";
    assert_eq!(warnings(&ground).await, [would]);
    set(&ground, "maxmemory", "1gb").await;
    let may = "Redis may evict the stream (maxmemory-policy allkeys-lru): set noeviction";
    assert_eq!(warnings(&ground).await, [may]);
    // Full, it refuses; then events wait.
    set(&ground, "maxmemory-policy", "noeviction").await;
    assert_eq!(warnings(&ground).await, NONE);
}
