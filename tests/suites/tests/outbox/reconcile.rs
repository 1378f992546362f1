//! What `reconcile` finds.

use redis::{
    AsyncCommands,
    streams::{StreamId, StreamRangeReply},
};
use serde_json::Value;

use crate::support::{Ground, STREAM};

pub(crate) async fn found(ground: &Ground, code: i32) -> Value {
    let finished = ground.asked(&["reconcile", "--output", "json"]).run().await;
    assert_eq!(finished.code, Some(code), "{finished}");
    serde_json::from_str(&finished.stdout).unwrap()
}

pub(crate) fn counts(found: &Value) -> [u64; 4] {
    ["missing_count", "doubled_count", "reordered_count", "published_and_waiting_count"]
        .map(|name| found[name].as_u64().unwrap())
}

/// Writes the stream anew from its entries, as `spoil` leaves them.
async fn rewrite(ground: &Ground, spoil: impl FnOnce(&mut Vec<Vec<(String, String)>>)) {
    let mut redis = ground.db.redis();
    let reply: StreamRangeReply = redis.xrange_all(STREAM).await.unwrap();
    let mut entries: Vec<Vec<(String, String)>> = Vec::new();
    for id in reply.ids {
        let text = |(name, value)| (name, redis::from_redis_value::<String>(value).unwrap());
        entries.push(id.map.into_iter().map(text).collect());
    }
    spoil(&mut entries);
    let () = redis.del(STREAM).await.unwrap();
    for entry in entries {
        let _: String = redis.xadd(STREAM, "*", &entry).await.unwrap();
    }
}

/// Everything in Redis, key by key.
pub(crate) async fn save(ground: &Ground) -> Vec<(String, Vec<u8>)> {
    let mut redis = ground.db.redis();
    let keys: Vec<String> = redis.keys("*").await.unwrap();
    let mut saved = Vec::new();
    for key in keys {
        let dump: Vec<u8> = redis::cmd("DUMP").arg(&key).query_async(&mut redis).await.unwrap();
        saved.push((key, dump));
    }
    saved
}

/// Makes what was saved what there is, under the same keys.
pub(crate) async fn restore(ground: &Ground, saved: Vec<(String, Vec<u8>)>) {
    let mut redis = ground.db.redis();
    for (key, dump) in saved {
        let () = redis::cmd("RESTORE").arg(key).arg(0).arg(dump).arg("REPLACE").query_async(&mut redis).await.unwrap();
    }
}

async fn drained() -> Ground {
    let ground = Ground::new().await;
    ground.fill(1500, 3).await;
    ground.run().await;
    ground
}

#[tokio::test]
async fn a_sound_stream_has_no_fault_also_beside_a_worker() {
    let ground = drained().await;
    assert_eq!(counts(&found(&ground, 0).await), [0; 4]);
    let _worker = ground.asked(&["worker"]).start();
    ground.fill(20_000, 100).await;
    assert_eq!(counts(&found(&ground, 0).await), [0; 4]);
}

#[tokio::test]
async fn lost_doubled_and_reordered_events_are_each_found_with_their_names() {
    let ground = drained().await;
    rewrite(&ground, |entries| drop(entries.remove(700))).await;
    let lost = found(&ground, 65).await;
    assert_eq!(counts(&lost), [1, 0, 0, 0], "{lost}");
    assert_eq!(lost["missing"][0]["first"], lost["missing"][0]["last"]);

    let ground = drained().await;
    rewrite(&ground, |entries| {
        let copy = entries[700].clone();
        entries.insert(900, copy);
    })
    .await;
    let doubled = found(&ground, 65).await;
    assert_eq!(doubled["doubled_count"], 1, "{doubled}");
    assert_eq!(doubled["missing_count"], 0, "{doubled}");
    assert!(doubled["doubled"][0]["aggregate_id"].as_str().unwrap().starts_with('a'), "{doubled}");

    let ground = drained().await;
    rewrite(&ground, |entries| {
        let account =
            |entry: &Vec<(String, String)>| entry.iter().find(|(name, _)| name == "aggregate_id").unwrap().1.clone();
        let second = (701..entries.len()).find(|&place| account(&entries[place]) == account(&entries[700])).unwrap();
        entries.swap(700, second);
    })
    .await;
    let reordered = found(&ground, 65).await;
    assert!(reordered["reordered_count"].as_u64() > Some(0), "{reordered}");
    assert_eq!((&reordered["missing_count"], &reordered["doubled_count"]), (&0.into(), &0.into()), "{reordered}");
}

#[tokio::test]
async fn a_redis_restored_from_an_older_state_has_lost_what_was_acknowledged_since() {
    let ground = Ground::new().await;
    ground.fill(1000, 50).await;
    ground.run().await;
    let saved = save(&ground).await;
    ground.fill(200, 50).await;
    ground.run().await;
    restore(&ground, saved).await;
    let lost = found(&ground, 65).await;
    assert_eq!(counts(&lost), [200, 0, 0, 0], "{lost}");

    // The drain notices too, and gives no number twice.
    ground.fill(100, 50).await;
    let finished = ground.run().await;
    assert!(finished.stderr.contains("the stream has lost events"), "{finished}");
    let lost = found(&ground, 65).await;
    assert_eq!(counts(&lost), [200, 0, 0, 0], "{lost}");
}

#[tokio::test]
async fn an_event_that_was_published_and_is_still_in_the_outbox_is_told() {
    let ground = Ground::new().await;
    ground.enqueue(&["a"], 1).await;
    ground.execute("CREATE TABLE kept AS SELECT * FROM outbox_events").await;
    ground.run().await;
    ground
        .execute(
            "INSERT INTO outbox_events (seq, event_id, aggregate_type, aggregate_id, aggregate_hash, brand_id, event_type,
                payload) OVERRIDING SYSTEM VALUE
             SELECT seq, event_id, aggregate_type, aggregate_id, aggregate_hash, brand_id, event_type, payload FROM kept",
        )
        .await;
    assert_eq!(counts(&found(&ground, 65).await), [0, 0, 0, 1]);
}

#[tokio::test]
async fn an_event_that_no_run_reads_any_more_is_told_and_one_that_is_held_back_is_not() {
    let ground = Ground::new().await;
    ground.enqueue(&["a", "b", "c"], 1).await;
    ground.run().await;
    for (seq, account) in [(1, "stranded"), (2, "held")] {
        ground
            .execute(&format!(
                "INSERT INTO outbox_events (seq, event_id, aggregate_type, aggregate_id, aggregate_hash, brand_id,
                    event_type, payload) OVERRIDING SYSTEM VALUE
                 VALUES ({seq}, gen_random_uuid(), 'account', '{account}', hashtext('account:{account}'),
                    gen_random_uuid(), 'TESTED', '{{\"mark\": {account_mark}}}')",
                account_mark = seq + 10
            ))
            .await;
    }
    let hold = "INSERT INTO outbox_held (aggregate_type, aggregate_id, bucket, seq, next_attempt_at)
        SELECT aggregate_type, aggregate_id, bucket, seq, clock_timestamp() FROM outbox_events
        WHERE aggregate_id = 'held'";
    ground.execute(hold).await;
    let faults = found(&ground, 65).await;
    assert_eq!((counts(&faults), &faults["stranded_count"]), ([0; 4], &Value::from(1)), "{faults}");
    let stranded = &faults["stranded"][0];
    assert_eq!((&stranded["aggregate_id"], &stranded["seq"]), (&Value::from("stranded"), &Value::from(1)), "{faults}");
    let text = ground.asked(&["reconcile"]).run().await.expect_code(65).stdout;
    assert!(text.contains("seq 1 of account:stranded: waits below the floor") && text.contains("1 stranded"), "{text}");

    // The way out that the runbook shows.
    ground.execute(&hold.replace("'held'", "'stranded'")).await;
    ground.run().await.expect_code(0);
    assert_eq!(ground.backlog().await, 0);
    ground.assert_whole([1, 2, 3, 11, 12]).await;
    found(&ground, 0).await;
}

#[tokio::test]
async fn a_check_says_that_redis_does_not_persist() {
    let ground = drained().await;
    let _: usize = ground.db.redis().xlen(STREAM).await.unwrap();
    let checked = ground.asked(&["check"]).run().await;
    assert_eq!(checked.code, Some(0), "{checked}");
    assert!(checked.stdout.contains("Redis does not persist"), "{checked}");
    assert!(checked.stdout.contains("1500 entries"), "{checked}");
}

#[tokio::test]
async fn a_run_with_another_sink_in_between_does_not_hide_that_the_stream_has_gone() {
    let ground = drained().await;
    let known = async || -> String {
        let sql = "SELECT json_agg(json_build_array(stream, acknowledged) ORDER BY partition)::text
            FROM outbox_partitions";
        sqlx::query_scalar(sql).fetch_one(ground.db.pool()).await.unwrap()
    };
    let before = known().await;
    ground.fill(20, 5).await;
    ground.drain().env("OUTBOX_SINK", "stdout").run().await.expect_code(0);
    assert_eq!((known().await, ground.backlog().await), (before, 0));
    let () = ground.db.redis().del(STREAM).await.unwrap();
    let lost = found(&ground, 65).await;
    assert_eq!(counts(&lost), [1500, 0, 0, 0], "{lost}");
}

#[tokio::test]
async fn an_entry_that_was_deleted_from_a_trimmed_stream_is_missing_and_what_was_trimmed_is_not() {
    let ground = Ground::new().await;
    ground.fill(3000, 50).await;
    ground.drain().env("OUTBOX_STREAM_MAXLEN", "500").run().await.expect_code(0);
    assert_eq!(counts(&found(&ground, 0).await), [0; 4]);
    let mut redis = ground.db.redis();
    let reply: StreamRangeReply = redis.xrange_all(STREAM).await.unwrap();
    assert!(reply.ids.len() < 3000, "it was trimmed");
    // Neither the first nor the last of its partition.
    let partition = |entry: &StreamId| entry.get::<u16>("partition").unwrap();
    let middle = partition(&reply.ids[reply.ids.len() / 2]);
    let ids: Vec<&str> =
        reply.ids.iter().filter(|entry| partition(entry) == middle).map(|entry| entry.id.as_str()).collect();
    assert!(ids.len() > 2, "{ids:?}");
    let deleted: usize = redis.xdel(STREAM, &[ids[ids.len() / 2]]).await.unwrap();
    assert_eq!(deleted, 1);
    let lost = found(&ground, 65).await;
    assert_eq!(counts(&lost), [1, 0, 0, 0], "{lost}");
}

#[tokio::test]
async fn a_stream_that_was_lost_is_no_trimmed_one_though_somebody_deleted_an_entry_since() {
    let ground = Ground::new().await;
    ground.fill(300, 60).await;
    ground.run().await.expect_code(0);
    let () = ground.db.redis().del(STREAM).await.unwrap();
    ground.fill(300, 60).await;
    ground.run().await.expect_code(0);
    let entry: redis::streams::StreamRangeReply = ground.db.redis().xrange_count(STREAM, "-", "+", 200).await.unwrap();
    let _: usize = ground.db.redis().xdel(STREAM, &[&entry.ids[199].id]).await.unwrap();
    let faults = found(&ground, 65).await;
    assert_eq!(counts(&faults), [301, 0, 0, 0], "{faults}");
}

#[tokio::test]
async fn a_run_under_another_name_that_publishes_nothing_makes_no_number_forgotten() {
    let ground = Ground::new().await;
    ground.fill(100, 10).await;
    ground.run().await.expect_code(0);
    let elsewhere = |words: &[&str]| ground.asked(words).env("OUTBOX_STREAM", "rolcall:events");
    assert_eq!(elsewhere(&["run"]).run().await.expect_code(0).last()["outcome"], "nothing_to_do");
    // Neither does one that cannot publish.
    ground.fill(1, 1).await;
    let mut redis = ground.db.redis();
    let () = redis.set("rolcall:events", "no stream").await.unwrap();
    elsewhere(&["run"]).run().await.expect_code(78);
    let () = redis.del("rolcall:events").await.unwrap();
    // Nor one under a name of long ago.
    assert_eq!(elsewhere(&["run"]).run().await.expect_code(0).last()["changed"], 1);
    ground.fill(100, 10).await;
    ground.run().await.expect_code(0);
    assert_eq!(elsewhere(&["run"]).run().await.expect_code(0).last()["outcome"], "nothing_to_do");
    let () = redis.del(STREAM).await.unwrap();
    let lost = found(&ground, 65).await;
    assert_eq!(counts(&lost), [200, 0, 0, 0], "{lost}");
}

#[tokio::test]
async fn a_stream_that_nothing_was_published_to_is_a_wrong_name() {
    let ground = drained().await;
    let wrong = ground.asked(&["reconcile"]).env("OUTBOX_STREAM", "rolcall:events").run().await.expect_code(78);
    assert!(wrong.stderr.contains(&format!("is on {STREAM}")), "{wrong}");
    let nothing_yet = Ground::new().await;
    nothing_yet.asked(&["reconcile"]).run().await.expect_code(0);
}
