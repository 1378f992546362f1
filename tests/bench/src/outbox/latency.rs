//! From commit to stream, with a worker and a thousand events a second.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use harness::wait_until;
use redis::streams::StreamReadReply;
use sqlx::Connection;

use crate::{
    ground::connect,
    outbox::ground::Outbox,
    table::{Table, milliseconds},
};

const EVENTS: usize = 20_000;
/// Events of a transaction, one every ten milliseconds.
const TOGETHER: usize = 10;
const EVERY: Duration = Duration::from_millis(10);
const ASKED: Duration = Duration::from_millis(50);

pub(crate) async fn measure(outbox: &Outbox, table: &mut Table) {
    outbox.empty().await;
    let worker = outbox.drain_binary().arg("worker").start();
    let held = "SELECT count(*)::float8 FROM outbox_partitions WHERE expires_at > clock_timestamp()";
    wait_until(Duration::from_mins(1), "the worker has its partitions", async || outbox.number(held).await > 15.0)
        .await;
    let (committed, seen) = tokio::join!(write(outbox), read(outbox));
    drop(worker);
    let mut took: Vec<Duration> =
        seen.iter().filter_map(|(mark, at)| Some(at.saturating_duration_since(*committed.get(mark)?))).collect();
    took.sort_unstable();
    assert_eq!(took.len(), EVENTS, "every event came");
    let at = |share: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the list")]
        let place = (took.len() as f64 * share) as usize;
        took[place.min(took.len() - 1)]
    };
    table.row("outbox: worker at 1000 events/s, p50 from commit to stream", "", &milliseconds(at(0.5)), None);
    let p99 = at(0.99);
    let asked = format!("< {}", milliseconds(ASKED));
    table.row("outbox: worker at 1000 events/s, p99", &asked, &milliseconds(p99), Some(p99 < ASKED));
}

/// Writes them and tells when each was committed.
async fn write(outbox: &Outbox) -> HashMap<usize, Instant> {
    let mut connection = connect(outbox.url()).await;
    let mut committed = HashMap::new();
    let mut ticks = tokio::time::interval(EVERY);
    for first in (0..EVENTS).step_by(TOGETHER) {
        ticks.tick().await;
        let mut tx = connection.begin().await.expect("PostgreSQL answers");
        sqlx::query(
            "-- bench::outbox::write
            INSERT INTO outbox_events (event_id, aggregate_type, aggregate_id, aggregate_hash, brand_id, event_type, payload)
            SELECT gen_random_uuid(), 'account', n::text, hashtext('account:' || n), gen_random_uuid(), n::text, '{}'
            FROM generate_series($1::bigint, $1::bigint + $2 - 1) AS n",
        )
        .bind(i64::try_from(first).expect("a small number"))
        .bind(i64::try_from(TOGETHER).expect("a small number"))
        .execute(&mut *tx)
        .await
        .expect("PostgreSQL answers");
        tx.commit().await.expect("PostgreSQL answers");
        let now = Instant::now();
        committed.extend((first..first + TOGETHER).map(|mark| (mark, now)));
    }
    committed
}

/// Reads the stream as a consumer does and tells when each arrived.
async fn read(outbox: &Outbox) -> HashMap<usize, Instant> {
    let mut redis = outbox.redis();
    let mut seen = HashMap::new();
    let mut after = "0-0".to_owned();
    while seen.len() < EVENTS {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(1000).arg("BLOCK").arg(100).arg("STREAMS").arg("rollcall:events").arg(&after);
        let reply: Option<StreamReadReply> = command.query_async(&mut redis).await.expect("Redis answers");
        let now = Instant::now();
        for id in reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids) {
            let mark: Option<String> = id.get("event_type");
            if let Some(mark) = mark.and_then(|mark| mark.parse().ok()) {
                seen.insert(mark, now);
            }
            after = id.id;
        }
    }
    seen
}
