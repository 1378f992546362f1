//! A ground with an outbox, those who write it, and a consumer of its stream that believes nothing.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use harness::{Binary, Finished, TestDb};
use identity::ids::BrandId;
use redis::{AsyncCommands, streams::StreamRangeReply};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Transaction};
use store::outbox::{MAX_PAYLOAD_BYTES, NewEvent, enqueue};
use uuid::Uuid;

/// Far beyond anything that is waited for.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);
/// The default name.
pub(crate) const STREAM: &str = "rollcall:events";

/// An outbox and a Redis of the test's own.
pub(crate) struct Ground {
    pub(crate) db: TestDb,
    pub(crate) brand: BrandId,
}

/// An entry of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) fields: BTreeMap<String, String>,
}

impl Entry {
    pub(crate) fn number(&self, name: &str) -> i64 {
        self.fields[name].parse().unwrap()
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        &self.fields[name]
    }

    /// What the tests put into every payload.
    pub(crate) fn mark(&self) -> i64 {
        serde_json::from_str::<Value>(self.text("payload")).unwrap()["mark"].as_i64().unwrap()
    }
}

impl Ground {
    pub(crate) async fn new() -> Self {
        Self::on(TestDb::new().await)
    }

    pub(crate) fn on(db: TestDb) -> Self {
        Self { db, brand: BrandId(Uuid::now_v7()) }
    }

    /// The drain as it ships, that reaches everything here.
    pub(crate) fn drain(&self) -> Binary {
        Binary::new("outbox-drain")
            .env("DATABASE_URL", self.db.url())
            .env("REDIS_URL", self.db.redis_url())
            .env("LOG_FORMAT", "json")
    }

    /// A subcommand of it.
    pub(crate) fn asked(&self, words: &[&str]) -> Binary {
        words.iter().fold(self.drain(), |drain, word| drain.arg(*word))
    }

    /// One run.
    pub(crate) async fn run(&self) -> Finished {
        self.drain().run().await
    }

    /// Events of accounts named so, one after the other in one transaction, marked from `first` on.
    pub(crate) async fn enqueue(&self, accounts: &[&str], first: i64) {
        let mut tx = self.db.pool().begin().await.unwrap();
        self.enqueue_in(&mut tx, accounts, first).await;
        tx.commit().await.unwrap();
    }

    pub(crate) async fn enqueue_in(&self, tx: &mut PgConnection, accounts: &[&str], first: i64) {
        let events: Vec<NewEvent> =
            accounts.iter().zip(first..).map(|(account, mark)| self.event(account, &json!({"mark": mark}))).collect();
        enqueue(tx, &events).await.unwrap();
    }

    pub(crate) fn event(&self, account: &str, payload: &Value) -> NewEvent {
        NewEvent::new("account", account, self.brand, "TESTED", payload, MAX_PAYLOAD_BYTES).unwrap()
    }

    /// Many events, spread over so many accounts, with payloads of some 200 bytes; marks count from 1.
    pub(crate) async fn fill(&self, events: i64, accounts: i64) {
        self.execute(&format!(
            "INSERT INTO outbox_events (event_id, aggregate_type, aggregate_id, aggregate_hash, brand_id, event_type, payload)
             SELECT gen_random_uuid(), 'account', a, hashtext('account:' || a), '{}', 'TESTED',
                 json_build_object('mark', n, 'filling', repeat('x', 180))
             FROM (SELECT n, 'a' || n % {accounts} AS a FROM generate_series(1, {events}) AS n) AS e",
            self.brand
        ))
        .await;
    }

    /// Everything on the stream, in its order.
    pub(crate) async fn stream(&self) -> Vec<Entry> {
        self.stream_named(STREAM).await
    }

    pub(crate) async fn stream_named(&self, name: &str) -> Vec<Entry> {
        let reply: StreamRangeReply = self.db.redis().xrange_all(name).await.unwrap();
        let entry = |id: redis::streams::StreamId| {
            let text =
                |(name, value): (String, redis::Value)| (name, redis::from_redis_value::<String>(value).unwrap());
            Entry { fields: id.map.into_iter().map(text).collect() }
        };
        reply.ids.into_iter().map(entry).collect()
    }

    /// Each mark on the stream once, numbers of every partition without a gap from 1, and each account in the order of its
    /// numbers.
    pub(crate) async fn assert_whole(&self, marks: impl IntoIterator<Item = i64>) {
        let stream = self.stream().await;
        assert_sound(&stream);
        let mut found: Vec<i64> = stream.iter().map(Entry::mark).collect();
        found.sort_unstable();
        let mut wanted: Vec<i64> = marks.into_iter().collect();
        wanted.sort_unstable();
        assert!(found == wanted, "{} on the stream, {} wanted", found.len(), wanted.len());
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(self.db.pool()).await.unwrap()
    }

    pub(crate) async fn backlog(&self) -> i64 {
        self.number("SELECT count(*) FROM outbox_events").await
    }

    pub(crate) async fn execute(&self, sql: &str) {
        sqlx::query(AssertSqlSafe(sql.to_owned())).execute(self.db.pool()).await.unwrap();
    }

    /// Somebody who keeps the event with this mark from being deleted, and whatever would be deleted with it; until rolled
    /// back.
    pub(crate) async fn keep(&self, mark: i64) -> Transaction<'static, Postgres> {
        let mut keeper = self.db.pool().begin().await.unwrap();
        sqlx::query("SELECT FROM outbox_events WHERE (payload ->> 'mark')::bigint = $1 FOR UPDATE")
            .bind(mark)
            .execute(&mut *keeper)
            .await
            .unwrap();
        keeper
    }

    /// Whether somebody waits for a lock.
    pub(crate) async fn is_anybody_waiting(&self) -> bool {
        let waiting = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        self.number(waiting).await > 0
    }

    /// Batches that the drain remembers as published and not confirmed.
    pub(crate) async fn remembered(&self) -> usize {
        let mut redis = self.db.redis();
        let keys: Vec<String> = redis.keys(format!("{{{STREAM}}}:drain:*")).await.unwrap();
        let mut batches = 0;
        for key in keys {
            let fields: HashMap<String, String> = redis.hgetall(key).await.unwrap();
            batches += fields.keys().filter(|field| field.starts_with("b:")).count();
        }
        batches
    }
}

/// No event twice, numbers without a gap, accounts in order.
pub(crate) fn assert_sound(stream: &[Entry]) {
    assert_ordered(stream);
    let mut numbers: HashMap<&str, i64> = HashMap::new();
    for entry in stream {
        let last = numbers.entry(entry.text("partition")).or_default();
        assert_eq!(entry.number("n"), *last + 1, "{entry:?}");
        *last += 1;
    }
}

/// No event twice, accounts in order; where the stream has lost some.
pub(crate) fn assert_ordered(stream: &[Entry]) {
    let mut events = HashSet::new();
    let mut accounts: HashMap<&str, i64> = HashMap::new();
    for entry in stream {
        assert!(events.insert(entry.text("event_id")), "doubled: {entry:?}");
        let last = accounts.entry(entry.text("aggregate_id")).or_default();
        assert!(entry.number("seq") > *last, "overtaken: {entry:?}");
        *last = entry.number("seq");
    }
}
