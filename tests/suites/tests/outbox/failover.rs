//! Redis after a failover: the old server's connections stand, and lead nowhere; or it is gone, and its replica has what
//! had reached it.

use harness::{Fault, FaultProxy, Redis, TestDb, wait_until};
use redis::AsyncCommands;

use crate::{
    middle::{EVENTS, assert_complete, completed, counted, cut_off},
    reconcile::{counts, found},
    support::{Ground, LIMIT, STREAM, assert_ordered},
};

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

/// Gives a command to a server.
async fn tell(server: &Redis, words: &[&str]) {
    let () = redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connect(server).await).await.unwrap();
}

/// A line of a server's INFO about its replication.
async fn replication(server: &Redis, name: &str) -> String {
    let told: String = redis::cmd("INFO").arg("replication").query_async(&mut connect(server).await).await.unwrap();
    let value = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned());
    told.lines().find_map(value).unwrap_or_else(|| panic!("no {name}: {told}"))
}

/// A replica of `primary`, which it reaches at `address`.
async fn replica_of(primary: &Redis, address: &str) -> Redis {
    let replica = Redis::start();
    // Else it waits some seconds for others to come.
    tell(primary, &["CONFIG", "SET", "repl-diskless-sync-delay", "0"]).await;
    let (host, port) = address.split_once(':').unwrap();
    tell(&replica, &["REPLICAOF", host, port]).await;
    wait_until(LIMIT, "it follows", async || replication(&replica, "master_link_status").await == "up").await;
    replica
}

/// Waits until the replica has all that its primary has by now.
async fn in_step(primary: &Redis, replica: &Redis) {
    let all = offset(primary, "master_repl_offset").await;
    wait_until(LIMIT, "it is in step", async || offset(replica, "slave_repl_offset").await >= all).await;
}

async fn offset(server: &Redis, name: &str) -> u64 {
    replication(server, name).await.parse().unwrap()
}

/// The replica takes the place of its primary, which dies.
async fn takes_over(old: &Redis, new: &Redis, proxy: &FaultProxy) {
    old.stop();
    tell(new, &["REPLICAOF", "NO", "ONE"]).await;
    proxy.lead_to(&new.url(0));
    proxy.set(Fault::Pass);
}

/// A replica takes over while the drain is cut off from the primary, with all that this one had answered.
async fn a_replica_in_step_takes_over(words: &[&str], fault: Fault) {
    let old = Redis::start();
    let new = replica_of(&old, &old.address()).await;
    let ground = Ground::on(TestDb::new().await.with_redis(&old.url(0)).await);
    let proxy = FaultProxy::start(&old.url(0));
    let run = cut_off(&ground, words, &proxy, fault).await;
    // From here on the primary answers nothing to the drain.
    in_step(&old, &new).await;
    takes_over(&old, &new, &proxy).await;
    completed(&ground, run, words).await;
    let ground = Ground { db: ground.db.with_redis(&new.url(0)).await, ..ground };
    assert_complete(&ground, 1..=EVENTS).await;
    assert_eq!(counted(&ground, "rollcall_outbox_lost_events_total").await, 0);
}

#[tokio::test]
async fn a_run_publishes_to_the_replica_what_never_arrived_at_its_primary() {
    a_replica_in_step_takes_over(&["run"], Fault::Hang).await;
}

#[tokio::test]
async fn a_run_does_not_double_what_the_replica_has_and_its_primary_never_answered() {
    a_replica_in_step_takes_over(&["run"], Fault::CutAfter(0)).await;
}

#[tokio::test]
async fn a_worker_publishes_to_the_replica_what_never_arrived_at_its_primary() {
    a_replica_in_step_takes_over(&["worker"], Fault::Hang).await;
}

#[tokio::test]
async fn a_worker_does_not_double_what_the_replica_has_and_its_primary_never_answered() {
    a_replica_in_step_takes_over(&["worker"], Fault::CutAfter(0)).await;
}

#[tokio::test]
async fn what_was_answered_and_did_not_reach_the_replica_is_lost_and_counted_and_nothing_else_is() {
    let old = Redis::start();
    let link = FaultProxy::start(&old.address());
    let new = replica_of(&old, &link.address()).await;
    let ground = Ground::on(TestDb::new().await.with_redis(&old.url(0)).await);
    ground.fill(1000, 100).await;
    ground.run().await.expect_code(0);
    in_step(&old, &new).await;
    // From here on nothing reaches the replica any more.
    link.set(Fault::Hang);
    let proxy = FaultProxy::start(&old.url(0));
    let run = cut_off(&ground, &["run"], &proxy, Fault::Hang).await;
    takes_over(&old, &new, &proxy).await;
    let run = completed(&ground, run, &["run"]).await;
    let ground = Ground { db: ground.db.with_redis(&new.url(0)).await, ..ground };
    let stream = ground.stream().await;
    assert_ordered(&stream);
    let lost = 1000 + EVENTS - i64::try_from(stream.len()).unwrap();
    assert!(lost > 0 && run.stderr.contains("the stream has lost events"), "{lost} lost: {run}");
    assert_eq!(counted(&ground, "rollcall_outbox_lost_events_total").await, lost);
    let faults = found(&ground, 65).await;
    assert_eq!(counts(&faults), [lost.unsigned_abs(), 0, 0, 0], "{faults}");
    assert_eq!((ground.backlog().await, ground.remembered().await), (0, 0));
}
