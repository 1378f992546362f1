//! A server restored to an earlier state under a living worker.

use harness::{Durability, Fault, FaultProxy, Servers, TestDb, wait_until};
use nix::sys::signal::Signal;
use redis::AsyncCommands;
use serde_json::Value;

use crate::{
    reconcile::{counts, found, restore, save},
    support::{Ground, LIMIT, STREAM},
};

#[tokio::test]
async fn a_worker_notices_what_redis_has_lost_and_gives_no_number_twice() {
    let ground = Ground::new().await;
    let proxy = FaultProxy::start(ground.db.redis_url());
    let mut worker = ground.asked(&["worker"]).env("REDIS_URL", proxy.url()).start();
    ground.fill(100, 10).await;
    wait_until(LIMIT, "the first are out", async || ground.backlog().await == 0).await;
    let saved = save(&ground).await;
    ground.fill(50, 10).await;
    wait_until(LIMIT, "the second are out", async || ground.backlog().await == 0).await;
    restore(&ground, saved).await;
    proxy.cut();
    ground.fill(20, 10).await;
    wait_until(LIMIT, "the third are out", async || ground.backlog().await == 0).await;
    let lost = |text: &str| text.contains("the stream has lost events");
    worker.wait_for_log(LIMIT, |line| line["message"].as_str().is_some_and(lost)).await;
    let counted = "SELECT coalesce(sum(value), 0)::bigint FROM job_counters
        WHERE metric = 'rollcall_outbox_lost_events_total'";
    wait_until(LIMIT, "the loss is counted", async || ground.number(counted).await == 50).await;
    let faults = found(&ground, 65).await;
    assert_eq!(counts(&faults), [50, 0, 0, 0], "{faults}");
    assert_eq!(ground.stream().await.len(), 120);
}

/// What a restore leaves: nothing that was enqueued since, and a sequence that gives its numbers once more.
async fn go_back_to(ground: &Ground, number: i64) {
    ground.execute(&format!("SELECT setval('outbox_events_seq_seq', {number})")).await;
}

#[tokio::test]
async fn events_go_out_under_numbers_that_postgresql_gives_for_a_second_time() {
    let ground = Ground::new().await;
    let worker = ground.asked(&["worker"]).start();
    ground.fill(200, 10).await;
    wait_until(LIMIT, "the first are out", async || ground.backlog().await == 0).await;
    go_back_to(&ground, 50).await;
    ground.enqueue(&["later", "others", "later"], 1001).await;
    wait_until(LIMIT, "later ones are out too", async || ground.backlog().await == 0).await;
    worker.signal(Signal::SIGTERM);
    worker.wait(LIMIT).await.expect_code(143);

    // So it is when nobody was at work meanwhile.
    go_back_to(&ground, 20).await;
    ground.enqueue(&["third"], 2001).await;
    ground.run().await.expect_code(0);
    assert_eq!(ground.backlog().await, 0);
    ground.assert_whole((1..=200).chain([1001, 1002, 1003, 2001])).await;
    assert_eq!(counts(&found(&ground, 0).await), [0; 4]);
}

#[tokio::test]
async fn after_postgresql_was_away_its_own_floors_count_though_the_numbers_have_not_gone_back() {
    let ground = Ground::new().await;
    let proxy = FaultProxy::start(ground.db.url());
    let mut worker = ground.asked(&["worker"]).env("DATABASE_URL", proxy.url()).start();
    ground.fill(100, 10).await;
    wait_until(LIMIT, "the first are out", async || ground.backlog().await == 0).await;
    proxy.set(Fault::Refuse);
    proxy.cut();
    worker.wait_for_log(LIMIT, |line| line["message"] == "trying again").await;
    // Restored to before the first, and written since until the sequence was where it had been.
    ground.execute("UPDATE outbox_partitions SET floor = 0, acknowledged = 0").await;
    ground
        .execute(&format!(
            "INSERT INTO outbox_events (seq, event_id, aggregate_type, aggregate_id, aggregate_hash, brand_id, event_type,
                 payload)
             OVERRIDING SYSTEM VALUE
             SELECT n, gen_random_uuid(), 'account', 'b' || n, hashtext('account:b' || n), '{}', 'TESTED',
                 json_build_object('mark', 1000 + n)
             FROM generate_series(1, 20) AS n",
            ground.brand
        ))
        .await;
    proxy.set(Fault::Pass);
    wait_until(LIMIT, "those below the old floors are out", async || ground.backlog().await == 0).await;
    worker.signal(Signal::SIGTERM);
    worker.wait(LIMIT).await.expect_code(143);
    ground.assert_whole((1..=100).chain(1001..=1020)).await;
}

#[tokio::test]
async fn a_server_that_was_replaced_between_two_looks_makes_its_floors_be_read_anew() {
    let servers = Servers::start(Durability::Off);
    let ground = Ground::on(TestDb::on(&servers).await);
    let worker = ground.asked(&["worker"]).start();
    ground.fill(100, 10).await;
    wait_until(LIMIT, "the first are out", async || ground.backlog().await == 0).await;
    worker.signal(Signal::SIGSTOP);
    servers.postgres.stop();
    servers.postgres.start_again();
    // One that lacks the last twenty numbers, and has given more than those since.
    go_back_to(&ground, 80).await;
    ground.execute("UPDATE outbox_partitions SET floor = LEAST(floor, 80)").await;
    let names: Vec<String> = (0..60).map(|place| format!("b{place}")).collect();
    ground.enqueue(&names.iter().map(String::as_str).collect::<Vec<_>>(), 1001).await;
    worker.signal(Signal::SIGCONT);
    wait_until(LIMIT, "those below the old floors are out, too", async || ground.backlog().await == 0).await;
    worker.signal(Signal::SIGTERM);
    worker.wait(LIMIT).await.expect_code(143);
    ground.assert_whole((1..=100).chain(1001..=1060)).await;
}

#[tokio::test]
async fn a_worker_names_a_rival_that_takes_the_stream_away_again_and_again() {
    let ground = Ground::new().await;
    let mut worker = ground.asked(&["worker"]).start();
    ground.fill(10, 1).await;
    wait_until(LIMIT, "the first are out", async || ground.backlog().await == 0).await;
    let key = format!("{{{STREAM}}}:drain:{}", ground.stream().await[0].text("partition"));
    let rival = async {
        loop {
            let _: i64 = ground.db.redis().hincr(&key, "token", 100).await.unwrap();
            ground.fill(10, 1).await;
            wait_until(LIMIT, "it is taken back", async || ground.backlog().await == 0).await;
        }
    };
    let says = |line: &Value, words: &str| line["message"].as_str().is_some_and(|text| text.contains(words));
    tokio::select! {
        () = rival => {}
        _ = worker.wait_for_log(LIMIT, |line| says(line, "does another database write to this stream?")) => {}
    }
    worker.signal(Signal::SIGTERM);
    let worker = worker.wait(LIMIT).await;
    // Eight times it may have been a restore.
    let caught_up = worker.log.iter().filter(|line| says(line, "PostgreSQL was restored")).count();
    assert_eq!(caught_up, 8, "{worker}");
}

/// Lets the next fencing token be another than it would be by so much.
async fn shift_tokens(ground: &Ground, by: i64) {
    ground.execute(&format!("SELECT setval('job_fencing_tokens', last_value + {by}) FROM job_fencing_tokens")).await;
}

#[tokio::test]
async fn a_run_goes_on_under_tokens_that_redis_has_not_seen_though_postgresql_gives_smaller_ones() {
    let ground = Ground::new().await;
    shift_tokens(&ground, 5000).await;
    ground.fill(100, 10).await;
    ground.run().await.expect_code(0);
    shift_tokens(&ground, -5000).await;
    ground.fill(50, 10).await;

    let run = ground.run().await.expect_code(0);

    assert_eq!(ground.backlog().await, 0);
    ground.assert_whole((1..=100).chain(1..=50)).await;
    assert_eq!(counts(&found(&ground, 0).await), [0; 4]);
    let warns = |line: &&Value| line["level"] == "WARN" && line.to_string().contains("fencing token");
    assert_eq!(run.log.iter().filter(warns).count(), 1, "{run}");
    // From here on nothing is to be made up for.
    ground.fill(10, 10).await;
    let next = ground.run().await.expect_code(0);
    assert!(!next.stderr.contains("fencing token"), "{next}");
    assert_eq!(ground.stream().await.len(), 160);
}
