//! What enqueueing costs a transaction that updates one row and inserts one.

use std::time::{Duration, Instant};

use identity::ids::BrandId;
use serde_json::json;
use sqlx::Connection;
use store::outbox::{MAX_PAYLOAD_BYTES, NewEvent, enqueue};

use crate::{ground::connect, outbox::ground::Outbox, table::Table};

const CLIENTS: usize = 8;
const FOR: Duration = Duration::from_secs(5);
/// Turns of each; the best counts.
const TURNS: usize = 3;
/// The share that must be left.
const LEFT: f64 = 2.0 / 3.0;

/// What the transactions write.
pub(crate) async fn prepare(outbox: &Outbox) {
    outbox.execute("CREATE TABLE IF NOT EXISTS bench_rows (id bigint PRIMARY KEY, value bigint NOT NULL)").await;
    outbox
        .execute("CREATE TABLE IF NOT EXISTS bench_log (id bigint GENERATED ALWAYS AS IDENTITY, value bigint NOT NULL)")
        .await;
    outbox
        .execute("INSERT INTO bench_rows SELECT n, 0 FROM generate_series(1, 8000) AS n ON CONFLICT DO NOTHING")
        .await;
}

/// A platform that lives beside whatever else is measured: one client's transactions without an event, until dropped.
pub(crate) async fn live(url: String) {
    loop {
        transactions(&url, 0, false).await;
    }
}

pub(crate) async fn measure(outbox: &Outbox, table: &mut Table) {
    outbox.empty().await;
    prepare(outbox).await;
    outbox.checkpoint().await;
    let (mut without, mut with) = (0.0_f64, 0.0_f64);
    for _ in 0..TURNS {
        without = without.max(rate(outbox, false).await);
        with = with.max(rate(outbox, true).await);
    }
    table.row("outbox: transactions without an event", "", &format!("{without:.0}/s"), None);
    table.row("outbox: transactions with an event", "", &format!("{with:.0}/s"), None);
    table.at_least("outbox: with / without an event", LEFT, with / without);
}

/// Transactions a second of all clients.
async fn rate(outbox: &Outbox, with_event: bool) -> f64 {
    let clients = (0..CLIENTS).map(|client| {
        let url = outbox.url().to_owned();
        tokio::spawn(async move { transactions(&url, client, with_event).await })
    });
    let mut all = 0;
    for client in clients.collect::<Vec<_>>() {
        all += client.await.expect("a client does not panic");
    }
    all as f64 / FOR.as_secs_f64()
}

async fn transactions(url: &str, client: usize, with_event: bool) -> usize {
    let mut connection = connect(url).await;
    let brand = BrandId(uuid::Uuid::now_v7());
    let payload = json!({"filling": "x".repeat(180)});
    let began = Instant::now();
    let mut count = 0;
    while began.elapsed() < FOR {
        let row = i64::try_from(client * 1000 + count % 1000 + 1).expect("a small number");
        let mut tx = connection.begin().await.expect("PostgreSQL answers");
        sqlx::query("-- bench::enqueue\nUPDATE bench_rows SET value = value + 1 WHERE id = $1")
            .bind(row)
            .execute(&mut *tx)
            .await
            .expect("PostgreSQL answers");
        sqlx::query("-- bench::enqueue\nINSERT INTO bench_log (value) VALUES ($1)")
            .bind(row)
            .execute(&mut *tx)
            .await
            .expect("PostgreSQL answers");
        if with_event {
            let event =
                NewEvent::new("account", row, brand, "TESTED", &payload, MAX_PAYLOAD_BYTES).expect("it is small");
            enqueue(&mut tx, &[event]).await.expect("PostgreSQL answers");
        }
        tx.commit().await.expect("PostgreSQL answers");
        count += 1;
    }
    count
}
