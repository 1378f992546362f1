//! Sinks that do not take what they are given, and settings that cannot work.

use redis::AsyncCommands;
use store::outbox::{MAX_PAYLOAD_BYTES, NewEvent};

use crate::support::{Ground, LIMIT, STREAM};

#[tokio::test]
async fn a_key_that_is_no_stream_is_told_as_configuration_and_nothing_is_lost() {
    let ground = Ground::new().await;
    ground.fill(20, 4).await;
    let () = ground.db.redis().set(STREAM, "not a stream").await.unwrap();
    let finished = ground.run().await;
    assert_eq!(finished.code, Some(78), "{finished}");
    assert!(finished.last()["error"].as_str().unwrap().contains("OUTBOX_STREAM"), "{finished}");
    let checked = ground.asked(&["check"]).run().await;
    assert_eq!(checked.code, Some(78), "{checked}");
    let () = ground.db.redis().del(STREAM).await.unwrap();
    ground.run().await;
    ground.assert_whole(1..=20).await;
    assert_eq!(ground.number("SELECT count(*) FROM outbox_held").await, 0);
}

#[tokio::test]
async fn a_redis_that_is_full_or_read_only_is_an_outage_and_no_event_is_to_blame() {
    let servers = harness::Servers::start(harness::Durability::Off);
    for (fault, mend) in [
        (&["CONFIG", "SET", "maxmemory", "1"], &["CONFIG", "SET", "maxmemory", "0"][..]),
        (&["REPLICAOF", "127.0.0.1", "1", ""], &["REPLICAOF", "NO", "ONE"][..]),
    ] {
        let ground = Ground { db: harness::TestDb::on(&servers).await, ..Ground::new().await };
        ground.fill(50, 5).await;
        let command = |words: &[&str]| {
            let mut command = redis::cmd(words[0]);
            words[1..].iter().filter(|word| !word.is_empty()).for_each(|word| {
                command.arg(*word);
            });
            command
        };
        let mut redis = ground.db.redis();
        let () = command(fault).query_async(&mut redis).await.unwrap();
        let mut run = ground.drain().start();
        run.wait_for_log(LIMIT, |line| line["message"] == "the sink takes nothing").await;
        let () = command(mend).query_async(&mut redis).await.unwrap();
        let finished = run.wait(LIMIT).await;
        assert_eq!(finished.code, Some(0), "{finished}");
        ground.assert_whole(1..=50).await;
        assert_eq!(ground.number("SELECT count(*) FROM outbox_held").await, 0);
    }
}

#[tokio::test]
async fn a_sink_that_stays_away_ends_the_run_as_temporary_with_everything_kept() {
    let ground = Ground::new().await;
    ground.fill(50, 5).await;
    let proxy = harness::FaultProxy::start(ground.db.redis_url());
    // Until it is let go, it gets no further than some pages of one event.
    let first = ground.keep(1).await;
    let mut run = ground.drain().env("REDIS_URL", proxy.url()).env("MAX_RUNTIME", "12s").env("BATCH_SIZE", "1").start();
    run.wait_for_log(LIMIT, |line| line["message"] == "partitions changed hands").await;
    proxy.set(harness::Fault::Hang);
    first.rollback().await.unwrap();
    let finished = run.wait(LIMIT).await;
    assert_eq!(finished.code, Some(75), "{finished}");
    proxy.set(harness::Fault::Pass);
    ground.run().await;
    ground.assert_whole(1..=50).await;
}

#[tokio::test]
async fn a_payload_beyond_the_limit_is_refused_where_it_is_made() {
    let brand = identity::ids::BrandId(uuid::Uuid::now_v7());
    let payload = serde_json::Value::String("x".repeat(MAX_PAYLOAD_BYTES));
    let error = NewEvent::new("account", "a", brand, "TESTED", &payload, MAX_PAYLOAD_BYTES).unwrap_err();
    assert!(error.to_string().contains("1048578 bytes, 1048576 are allowed"), "{error}");
    assert!(NewEvent::new("account", "a", brand, "TESTED", &serde_json::json!("x"), 3).is_ok());
}

#[tokio::test]
async fn unknown_sinks_and_other_wrong_settings_are_all_told_at_once() {
    let ground = Ground::new().await;
    let finished = ground
        .drain()
        .env("OUTBOX_SINK", "kafka")
        .env("BATCH_SIZE", "0")
        .env("MAX_ATTEMPTS", "none")
        .env("OUTBOX_STREAM", "{x}")
        .env("OUTBOX_STREAM_MAXLEN", "9223372036854775808")
        .run()
        .await;
    assert_eq!(finished.code, Some(78), "{finished}");
    for name in ["OUTBOX_SINK", "BATCH_SIZE", "MAX_ATTEMPTS", "OUTBOX_STREAM", "OUTBOX_STREAM_MAXLEN"] {
        assert!(finished.stderr.contains(&format!("{name}: ")), "{name}: {finished}");
    }
}

#[tokio::test]
async fn an_aggregate_whose_name_no_key_would_hold_is_refused_at_enqueue_and_by_the_table() {
    let ground = Ground::new().await;
    let name = |length: usize| "x".repeat(length);
    let payload = serde_json::json!({"mark": 1});
    let new = |name: &str| NewEvent::new("account", name, ground.brand, "TESTED", &payload, MAX_PAYLOAD_BYTES);
    let error = new(&name(1018)).unwrap_err();
    assert_eq!(error.to_string(), "type and id of the aggregate of TESTED have 1025 bytes, 1024 are allowed",);
    let error = sqlx::query(
        "INSERT INTO outbox_events (event_id, aggregate_type, aggregate_id, aggregate_hash, brand_id, event_type, payload)
         VALUES (gen_random_uuid(), 'account', repeat('x', 1018), 0, gen_random_uuid(), 'TESTED', '{}')",
    );
    let error = error.execute(ground.db.pool()).await.unwrap_err().to_string();
    assert!(error.contains("outbox_events_aggregate"), "{error}");

    // What is taken is borne everywhere.
    ground.enqueue(&[&*name(1017)], 1).await;
    let receiver = harness::WebhookReceiver::start();
    receiver.answer(crate::hook::no());
    let run = crate::hook::drain(&ground, &receiver).env("MAX_ATTEMPTS", "1");
    ground.enqueue(&["b", "c", "d"], 2).await;
    for name in ["b", "c", "d"] {
        receiver.answer_about(name, [harness::Answer::status(204)]);
    }
    run.run().await.expect_code(0);
    assert_eq!(ground.number("SELECT count(*) FROM outbox_dead_letters").await, 1);
}

#[tokio::test]
async fn keys_beside_the_stream_that_are_spoilt_are_told_by_their_names() {
    let ground = Ground::new().await;
    ground.fill(20, 20).await;
    let key = format!("{{{STREAM}}}:drain:0");
    let mut redis = ground.db.redis();
    let () = redis.set(&key, "no hash").await.unwrap();
    let finished = ground.run().await.expect_code(78);
    assert!(finished.last()["error"].as_str().unwrap().contains(&key), "{finished}");
    let () = redis.del(&key).await.unwrap();
    let () = redis.hset(&key, "token", "no number").await.unwrap();
    ground.run().await.expect_code(78);
    let () = redis.del(&key).await.unwrap();
    ground.run().await.expect_code(0);
    ground.assert_whole(1..=20).await;
}

#[tokio::test]
async fn a_user_of_redis_that_may_not_append_is_told_as_configuration() {
    let server = harness::Redis::start();
    let ground = Ground::on(harness::TestDb::new().await.with_redis(&server.url(0)).await);
    ground.fill(20, 4).await;
    let mut redis = ground.db.redis();
    let user = |may: &str| {
        let mut command = redis::cmd("ACL");
        command.arg("SETUSER").arg("drain").arg("on").arg(">secret").arg("~*").arg("+@all").arg(may);
        command
    };
    let () = user("-xadd").query_async(&mut redis).await.unwrap();
    let run = ground.drain().env("REDIS_URL", server.url(0).replace("redis://", "redis://drain:secret@"));
    let finished = run.run().await.expect_code(78);
    assert!(finished.last()["error"].as_str().unwrap().starts_with("the sink refuses: Redis: "), "{finished}");
    let () = user("+xadd").query_async(&mut redis).await.unwrap();
    run.run().await.expect_code(0);
    ground.assert_whole(1..=20).await;
}

#[tokio::test]
async fn a_time_that_cannot_be_told_is_told_by_the_nearest_and_stops_nobody() {
    let ground = Ground::new().await;
    ground.fill(20, 20).await;
    for (mark, time) in [(1, "infinity"), (2, "-infinity"), (3, "20000-01-01"), (4, "0044-03-15 BC")] {
        ground
            .execute(&format!(
                "UPDATE outbox_events SET occurred_at = '{time}' WHERE (payload ->> 'mark')::int = {mark}"
            ))
            .await;
    }
    // While they wait the metrics are told all the same.
    let folder = tempfile::tempdir().unwrap();
    let metrics = folder.path().join("drain.prom");
    let mut redis = ground.db.redis();
    let () = redis.set(STREAM, "not a stream").await.unwrap();
    let waits = ground.drain().env("METRICS_TEXTFILE", &metrics).run().await.expect_code(78);
    let told = std::fs::read_to_string(&metrics).unwrap_or_else(|error| panic!("{error}: {waits}"));
    assert!(told.contains("rollcall_outbox_backlog_events") && !told.contains("Inf"), "{told}");
    let () = redis.del(STREAM).await.unwrap();

    let run = ground.run().await.expect_code(0);
    assert!(!run.stderr.contains("gauges could not be read"), "{run}");
    ground.assert_whole(1..=20).await;
    let stream = ground.stream().await;
    let time = |mark: i64| stream.iter().find(|entry| entry.mark() == mark).unwrap().text("occurred_at");
    assert_eq!((time(1), time(3)), ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"));
    assert_eq!((time(2), time(4)), ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"));
}
