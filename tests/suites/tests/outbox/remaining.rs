//! What a run says it leaves behind: operators repeat it until that is 0.

use redis::AsyncCommands;
use serde_json::Value;

use crate::support::{Ground, STREAM};

/// By the last log line, and by `status`.
async fn remaining(ground: &Ground, last: &Value) -> [i64; 2] {
    let status = ground.asked(&["status", "--output", "json"]).run().await.expect_code(0);
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    [last, &status[0]].map(|run| run["remaining"].as_i64().unwrap())
}

#[tokio::test]
async fn a_run_that_fails_says_what_it_has_not_reached() {
    let ground = Ground::new().await;
    ground.fill(20, 4).await;
    let () = ground.db.redis().set(STREAM, "not a stream").await.unwrap();
    let refused = ground.run().await.expect_code(78);
    assert_eq!(remaining(&ground, refused.last()).await, [20, 20]);
}

#[tokio::test]
async fn a_worker_that_ends_says_what_it_has_not_reached() {
    let ground = Ground::new().await;
    ground.fill(10, 4).await;
    let worker = ground.asked(&["worker"]).env("MAX_EVENTS", "3").run().await.expect_code(0);
    assert_eq!((worker.last()["changed"].as_i64(), ground.backlog().await), (Some(3), 7));
    assert_eq!(remaining(&ground, worker.last()).await, [7, 7]);
}
