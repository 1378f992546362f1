//! Redis after a failover: the old server's connections stand, and lead nowhere.

use harness::{FaultProxy, Redis, wait_until};
use redis::AsyncCommands;

use crate::support::{Ground, LIMIT, STREAM};

/// A worker that has written to one server goes on at another, once new connections lead there; `strike` ends what the old
/// one is good for.
async fn goes_on_elsewhere(strike: impl AsyncFnOnce(&Redis)) {
    let (ground, old, new) = (Ground::new().await, Redis::start(), Redis::start());
    let proxy = FaultProxy::start(&old.url(0));
    let mut worker = ground.asked(&["worker"]).env("REDIS_URL", proxy.url()).start();
    ground.fill(50, 5).await;
    wait_until(LIMIT, "the old server has them", async || ground.backlog().await == 0).await;
    strike(&old).await;
    proxy.lead_to(&new.url(0));
    ground.fill(40, 5).await;
    wait_until(LIMIT, "the new server has them", async || ground.backlog().await == 0).await;
    let length: usize = connect(&new).await.xlen(STREAM).await.unwrap();
    assert_eq!(length, 40);
    assert!(worker.is_running());
    assert_eq!(ground.number("SELECT count(*) FROM outbox_held").await, 0);
}

async fn connect(server: &Redis) -> redis::aio::MultiplexedConnection {
    redis::Client::open(server.url(0)).unwrap().get_multiplexed_async_connection().await.unwrap()
}

#[tokio::test]
async fn a_worker_leaves_a_server_that_has_become_a_replica() {
    goes_on_elsewhere(async |old| {
        let mut demote = redis::cmd("REPLICAOF");
        demote.arg("127.0.0.1").arg(1);
        let () = demote.query_async(&mut connect(old).await).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_worker_leaves_a_server_that_answers_no_more() {
    goes_on_elsewhere(async |old| old.freeze()).await;
}
