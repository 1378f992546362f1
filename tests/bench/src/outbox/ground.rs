//! An outbox to be filled, drained and looked at.

use std::time::Duration;

use harness::{Binary, Finished, Servers, TestDb, wait_until};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::ground::connect;

const NAME: &str = "outbox-drain";
const STREAM: &str = "rollcall:events";
/// Far beyond any run here.
const PATIENCE: Duration = Duration::from_mins(10);
/// Autovacuum looks every two seconds, once it was told to.
const CLEANED: Duration = Duration::from_mins(2);
/// PostgreSQL's statistics are as old as that at most.
const TOLD: Duration = Duration::from_secs(2);

pub(crate) struct Outbox {
    db: TestDb,
    admin: String,
}

impl Outbox {
    pub(crate) fn new(servers: &Servers, db: TestDb) -> Self {
        Self { db, admin: servers.postgres.url("postgres") }
    }

    pub(crate) fn url(&self) -> &str {
        self.db.url()
    }

    pub(crate) fn redis(&self) -> redis::aio::MultiplexedConnection {
        self.db.redis()
    }

    pub(crate) fn drain_binary(&self) -> Binary {
        Binary::new(NAME).env("DATABASE_URL", self.db.url()).env("REDIS_URL", self.db.redis_url())
    }

    /// One run, which must end well.
    pub(crate) async fn drain(&self, more: &[(&str, &str)]) -> Finished {
        let binary = more.iter().fold(self.drain_binary(), |binary, (name, value)| binary.env(*name, *value));
        binary.start().wait(PATIENCE).await.expect_code(0)
    }

    /// Nothing is left of earlier measurements, in the files neither.
    pub(crate) async fn empty(&self) {
        self.execute("TRUNCATE outbox_events, outbox_held, outbox_dead_letters").await;
        self.execute("UPDATE outbox_partitions SET acknowledged = 0, stream = NULL").await;
        let () = redis::cmd("FLUSHDB").query_async(&mut self.redis()).await.expect("Redis answers");
    }

    /// Events with payloads of 200 bytes, spread over the aggregates, as a checkpoint leaves them.
    pub(crate) async fn fill(&self, events: usize, aggregates: usize) {
        self.execute(&format!(
            "INSERT INTO outbox_events (event_id, aggregate_type, aggregate_id, aggregate_hash, brand_id, event_type, payload)
             SELECT gen_random_uuid(), 'account', id, hashtext('account:' || id), '01890000-0000-7000-8000-000000000000',
                 'SESSION_INVALIDATED', json_build_object('number', n, 'filling', repeat('x', 165))
             FROM (SELECT n, md5((n % {aggregates})::text)::uuid::text AS id FROM generate_series(1, {events}) AS n) AS e"
        ))
        .await;
        self.checkpoint().await;
    }

    /// What was written before is on disk, and no checkpoint falls into what is measured next.
    pub(crate) async fn checkpoint(&self) {
        let mut admin = connect(&self.admin).await;
        sqlx::query("CHECKPOINT").execute(&mut admin).await.expect("PostgreSQL answers");
    }

    /// Holds a share of the aggregates back; how many events that are.
    pub(crate) async fn poison(&self, percent: usize) -> usize {
        self.execute(&format!(
            "INSERT INTO outbox_held (aggregate_type, aggregate_id, bucket, seq, attempts, error)
             SELECT aggregate_type, aggregate_id, bucket, min(seq), 10, 'poisoned' FROM outbox_events
             WHERE abs(hashtext('poison' || aggregate_id)) % 100 < {percent} GROUP BY 1, 2, 3"
        ))
        .await;
        let held = self
            .number("SELECT count(*)::float8 FROM outbox_events JOIN outbox_held USING (aggregate_type, aggregate_id)")
            .await;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let held = held as usize;
        held
    }

    /// A session with a snapshot of now, until it is dropped.
    pub(crate) async fn snapshot(&self) -> PgConnection {
        let mut session = connect(self.db.url()).await;
        for sql in ["BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM outbox_settings"] {
            sqlx::query(sql).execute(&mut session).await.expect("PostgreSQL answers");
        }
        session
    }

    /// Write-ahead log so far, in bytes.
    pub(crate) async fn wal(&self) -> f64 {
        self.number("SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::float8").await
    }

    /// Table and indexes, in bytes.
    pub(crate) async fn bytes(&self) -> u64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size")]
        let bytes = self.number("SELECT pg_total_relation_size('outbox_events')::float8").await as u64;
        bytes
    }

    /// Lets autovacuum look every two seconds: by default it takes a minute, and the bench waits for it.
    pub(crate) async fn clean_often(&self) {
        let mut admin = connect(&self.admin).await;
        for sql in ["ALTER SYSTEM SET autovacuum_naptime = '2s'", "SELECT pg_reload_conf()"] {
            sqlx::query(sql).execute(&mut admin).await.expect("PostgreSQL answers");
        }
    }

    /// Autovacuum has come by: it leaves no more than the table's own threshold.
    pub(crate) async fn cleaned_up(&self) {
        tokio::time::sleep(TOLD).await;
        let waiting = "SELECT GREATEST(pg_stat_get_dead_tuples('outbox_events'::regclass) - 20000, 0)::float8
            + (SELECT count(*) FROM pg_stat_progress_vacuum WHERE relid = 'outbox_events'::regclass)";
        wait_until(CLEANED, "autovacuum has cleaned up", async || self.number(waiting).await < 1.0).await;
    }

    pub(crate) async fn assert_drained(&self, events: usize) {
        let length: usize = redis::cmd("XLEN").arg(STREAM).query_async(&mut self.redis()).await.expect("Redis answers");
        assert_eq!(length, events, "entries of the stream");
        let left = "SELECT count(*)::float8 FROM outbox_events
            WHERE NOT EXISTS (SELECT FROM outbox_held AS held WHERE held.aggregate_id = outbox_events.aggregate_id)";
        assert!(self.number(left).await < 1.0, "events are left");
    }

    pub(crate) async fn number(&self, sql: &str) -> f64 {
        let mut connection = connect(self.db.url()).await;
        let sql = AssertSqlSafe(format!("-- bench::outbox\n{sql}"));
        let number = sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect("a number can be read");
        connection.close().await.expect("the connection ends");
        number
    }

    pub(crate) async fn execute(&self, sql: &str) {
        let mut connection = connect(self.db.url()).await;
        let named = AssertSqlSafe(format!("-- bench::outbox\n{sql}"));
        sqlx::query(named).execute(&mut connection).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        connection.close().await.expect("the connection ends");
    }
}
