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
        .run()
        .await;
    assert_eq!(finished.code, Some(78), "{finished}");
    for name in ["OUTBOX_SINK", "BATCH_SIZE", "MAX_ATTEMPTS", "OUTBOX_STREAM"] {
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

/// A script in which `$0` is the drain with standard output as its sink.
fn in_bash(ground: &Ground, script: &str) -> harness::Binary {
    let drain = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("outbox-drain");
    harness::Binary::at("/bin/bash")
        .arg("-c")
        .arg(script)
        .arg(drain)
        .env("DATABASE_URL", ground.db.url())
        .env("REDIS_URL", ground.db.redis_url())
        .env("LOG_FORMAT", "json")
        .env("OUTBOX_SINK", "stdout")
}

#[tokio::test]
async fn a_line_that_a_full_disk_cut_off_spoils_no_other() {
    let ground = Ground::new().await;
    ground.fill(300, 50).await;
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("events");
    // The limit of a file's size, in kilobytes; the signal that comes with it is ignored also by what bash becomes.
    let script = format!("trap '' XFSZ; ulimit -S -f 20; exec \"$0\" > '{}'", out.display());
    let mut run = in_bash(&ground, &script).env("BATCH_SIZE", "1").start();
    run.wait_for_log(LIMIT, |line| line["message"] == "the sink takes nothing").await;
    let freed = std::process::Command::new("prlimit")
        .args(["--pid", &run.pid().to_string(), "--fsize=unlimited:unlimited"])
        .status();
    assert!(freed.unwrap().success());
    run.wait(LIMIT).await.expect_code(0);
    let text = std::fs::read_to_string(out).unwrap();
    let lines: Vec<_> = text.lines().map(serde_json::from_str::<serde_json::Value>).collect();
    assert_eq!(lines.iter().filter(|line| line.is_err()).count(), 1, "the one that was cut off");
    let ids: std::collections::BTreeSet<_> =
        lines.iter().flatten().map(|line| line["event_id"].as_str().unwrap()).collect();
    assert_eq!((ids.len(), ground.backlog().await), (300, 0));
}

/// The ids of the events on standard output.
fn ids(finished: &harness::Finished) -> Vec<String> {
    let event = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    finished.stdout.lines().map(|line| event(line)["event_id"].as_str().unwrap().to_owned()).collect()
}

/// What it has written is deleted, and the rest is there for the next one.
async fn ends_well_when_its_reader_goes(word: &str) {
    let ground = Ground::new().await;
    // Several times what a pipe holds.
    ground.fill(1000, 50).await;
    let script = format!("\"$0\" {word} | head -n 3; exit \"${{PIPESTATUS[0]}}\"");
    let ended = in_bash(&ground, &script).run().await.expect_code(0);
    let (last, left) = (ended.last(), ground.backlog().await);
    let note = last["note"].as_str().unwrap_or_default();
    assert!(last["outcome"] == "done" && note.starts_with("whoever read standard output has gone"), "{ended}");
    assert_eq!((last["changed"].as_i64(), left > 0), (Some(1000 - left), true), "{ended}");
    assert_eq!(ground.number("SELECT count(*) FROM outbox_held").await, 0, "no event is to blame");
    let rest = ground.drain().env("OUTBOX_SINK", "stdout").run().await.expect_code(0);
    let (read, rest) = (ids(&ended), ids(&rest));
    assert_eq!((read.len(), i64::try_from(rest.len()).unwrap()), (3, left));
    assert!(!read.iter().any(|id| rest.contains(id)), "what was read is not written again");
    assert_eq!(ground.backlog().await, 0);
}

#[tokio::test]
async fn a_run_whose_reader_goes_away_ends_well_and_the_rest_stays() {
    ends_well_when_its_reader_goes("run").await;
}

#[tokio::test]
async fn so_does_a_worker_whose_reader_goes_away() {
    ends_well_when_its_reader_goes("worker").await;
}
