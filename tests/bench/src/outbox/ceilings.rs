//! What each half can do alone: PostgreSQL giving events away, and Redis taking them.

use std::time::{Duration, Instant};

use futures::future::join_all;
use sqlx::Row;

use crate::{ground::connect, outbox::ground::Outbox};

/// Events of a batch.
const BATCH: usize = 1000;
const PARTITIONS: usize = 16;
/// Batches on their way at a time.
const IN_FLIGHT: usize = 3;

/// Claims and deletes batch after batch in one statement each, with nothing done to the events but decoding them.
pub(crate) async fn claim_and_delete(outbox: &Outbox) -> Duration {
    let mut connection = connect(outbox.url()).await;
    sqlx::raw_sql(
        "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off",
    )
    .execute(&mut connection)
    .await
    .expect("PostgreSQL answers");
    // With statistics of an emptier table the planner may read the whole key for each batch.
    outbox.execute("ANALYZE outbox_events").await;
    let began = Instant::now();
    let mut after = vec![0_i64; 64];
    loop {
        let rows = sqlx::query(
            "-- bench::claim_and_delete
            WITH page AS MATERIALIZED (
                SELECT event.bucket, event.seq FROM unnest($1::bigint[]) WITH ORDINALITY AS place (after, bucket)
                CROSS JOIN LATERAL (
                    SELECT e.bucket, e.seq FROM outbox_events AS e
                    WHERE e.bucket = place.bucket - 1 AND e.seq > place.after ORDER BY e.bucket, e.seq LIMIT 16) AS event)
            DELETE FROM outbox_events AS e USING page WHERE e.bucket = page.bucket AND e.seq = page.seq
            RETURNING e.bucket, e.seq, e.event_id, e.aggregate_type, e.aggregate_id, e.brand_id, e.event_type,
                e.occurred_at, e.payload::text",
        )
        .bind(&after)
        .fetch_all(&mut connection)
        .await
        .expect("PostgreSQL answers");
        if rows.is_empty() {
            return began.elapsed();
        }
        for row in rows {
            let bucket: i16 = row.get(0);
            let place = &mut after[usize::from(bucket.unsigned_abs())];
            *place = row.get::<i64, _>(1).max(*place);
            std::hint::black_box((row.get::<uuid::Uuid, _>(2), row.get::<String, _>(4), row.get::<String, _>(8)));
        }
    }
}

/// Appends as many events by the shipped atomic step, batches of a thousand on their way at a time, each split over the
/// partitions.
pub(crate) async fn append(outbox: &Outbox, events: usize) -> Duration {
    let mut redis = outbox.redis();
    let () = redis::cmd("FLUSHDB").query_async(&mut redis).await.expect("Redis answers");
    let load = |script: &'static str| {
        let mut redis = outbox.redis();
        async move {
            redis::cmd("SCRIPT").arg("LOAD").arg(script).query_async::<String>(&mut redis).await.expect("Redis answers")
        }
    };
    let adopt = load(include_str!("../../../../shared/outbox/src/lua/adopt.lua")).await;
    let publish = load(include_str!("../../../../shared/outbox/src/lua/publish.lua")).await;
    for partition in 0..PARTITIONS {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&adopt).arg(1).arg(state(partition)).arg(1).arg(0);
        let _: redis::Value = command.query_async(&mut redis).await.expect("Redis answers");
    }
    let payload = format!("{{\"number\":1,\"filling\":\"{}\"}}", "x".repeat(165));
    let step = |partition: usize, batch: usize| {
        let size = BATCH / PARTITIONS;
        let seqs: Vec<String> = (0..size).map(|place| (16 * place).to_string()).collect();
        let mut command = redis::cmd("EVALSHA");
        command.arg(&publish).arg(2).arg("bench").arg(state(partition)).arg(1).arg(1).arg(batch).arg(partition);
        command.arg("").arg(seqs.join(",")).arg(usize::from(batch > 1));
        if batch > 1 {
            command.arg(format!("b:1:{}", batch - 1));
        }
        for place in 0..size {
            command.arg(16 * place).arg("01890000-0000-7000-8000-000000000000").arg("SESSION_INVALIDATED");
            command.arg("account").arg("01890000-0000-7000-8000-000000000000");
            command.arg("01890000-0000-7000-8000-000000000000").arg("2026-11-22T12:00:00.123456Z").arg(&payload);
        }
        let mut redis = outbox.redis();
        async move { command.query_async::<i64>(&mut redis).await.expect("Redis answers") }
    };
    let batches = events / BATCH;
    let began = Instant::now();
    for first in (1..=batches).step_by(IN_FLIGHT) {
        let last = (first + IN_FLIGHT - 1).min(batches);
        let steps = (first..=last).flat_map(|batch| (0..PARTITIONS).map(move |partition| (partition, batch)));
        join_all(steps.map(|(partition, batch)| step(partition, batch))).await;
    }
    // A thousand is not divisible by sixteen.
    let took = began.elapsed().mul_f64(BATCH as f64 / ((BATCH / PARTITIONS) * PARTITIONS) as f64);
    let () = redis::cmd("FLUSHDB").query_async(&mut redis).await.expect("Redis answers");
    took
}

fn state(partition: usize) -> String {
    format!("{{bench}}:drain:{partition}")
}
