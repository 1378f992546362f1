//! How the outbox stands, and what stands in its way.

use sqlx::{PgConnection, query, query_as, query_scalar};
use uuid::Uuid;

use super::pages::by_the_key;
use crate::Result;

/// Up to so many events are counted one by one while there is work to do, in some 30 ms; from there PostgreSQL's estimate will
/// do.
pub const AT_WORK: i32 = 10_000;
/// The same when a run ends, in some 0.3 s: up to here what it says remains is exact. Above, the estimate may lack what was
/// deleted in the last second or so.
pub const AT_THE_END: i32 = 100_000;
/// So it will for those of held aggregates while more dead rows than this lie among them.
const DEAD: i64 = 100_000;

/// A session whose age PostgreSQL does not tell (of another user, seen without `pg_read_all_stats`) is blamed once so many
/// transactions began since.
const LONG_HELD: i32 = 100;

/// How the outbox stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct State {
    /// Events that wait, those of held aggregates too; from where they were not counted any more an estimate
    /// (PostgreSQL's count of live rows).
    pub backlog: i64,
    /// Age of the oldest event that waits, or that keeps its aggregate waiting as a dead letter, in seconds; none when there
    /// is none.
    pub oldest_seconds: Option<f64>,
    /// Age of the oldest event above the floors, in seconds: no pass has met it, and whatever is held back has no part in it.
    pub unread_seconds: Option<f64>,
    /// Aggregates that are held back.
    pub held: i64,
    /// Events that were given up.
    pub dead_letters: i64,
}

/// How the outbox stands, with up to so many events `counted` one by one ([`AT_WORK`], [`AT_THE_END`]). Only what can hold
/// something is looked at: above the floors, and below them where an aggregate is held back. Dead rows elsewhere are many after a
/// drain; so each bucket has an order and a limit of its own, without which the planner reads the whole key.
///
/// # Errors
/// Those of the statements.
pub async fn state(tx: &mut PgConnection, counted: i32) -> Result<State> {
    by_the_key(tx).await?;
    query_as!(
        State,
        r#"/* outbox::state */
        WITH floors AS (
            SELECT bucket::smallint, floor FROM generate_series(0, 63) AS bucket, outbox_settings, outbox_partitions
            WHERE partition = bucket % partitions),
        above AS (
            SELECT count(*) AS events FROM (
                SELECT FROM floors CROSS JOIN LATERAL (
                    SELECT FROM outbox_events AS e WHERE e.bucket = floors.bucket AND e.seq > floors.floor
                    ORDER BY e.bucket, e.seq LIMIT $1 + 1) AS e
                LIMIT $1 + 1) AS first),
        below AS (
            SELECT CASE WHEN NOT EXISTS (SELECT FROM outbox_held) THEN 0
                WHEN pg_stat_get_dead_tuples('outbox_events'::regclass) > $2
                    THEN GREATEST(pg_stat_get_live_tuples('outbox_events'::regclass) - above.events, 0)
                ELSE (SELECT count(*) FROM (
                    SELECT FROM floors
                    JOIN (SELECT bucket, min(seq) AS seq FROM outbox_held GROUP BY bucket) AS held USING (bucket)
                    CROSS JOIN LATERAL (
                        SELECT FROM outbox_events AS e
                        WHERE e.bucket = floors.bucket AND e.seq >= held.seq AND e.seq <= floors.floor
                        ORDER BY e.bucket, e.seq LIMIT $1 + 1) AS e
                    LIMIT $1 + 1) AS first) END AS events FROM above),
        counted AS (SELECT above.events + below.events AS events FROM above, below),
        unread AS (
            -- PostgreSQL does not reckon with infinite times, and no metric is one.
            SELECT min(GREATEST(LEAST(first.occurred_at, '9999-12-31Z'), '0001-01-01Z')) AS since
            FROM floors CROSS JOIN LATERAL (
                SELECT occurred_at FROM outbox_events AS e WHERE e.bucket = floors.bucket AND e.seq > floors.floor
                ORDER BY e.bucket, e.seq LIMIT 1) AS first)
        SELECT
            CASE WHEN events <= $1 THEN events
                 ELSE GREATEST(events, pg_stat_get_live_tuples('outbox_events'::regclass))
            END AS "backlog!",
            extract(epoch FROM clock_timestamp() - unread.since)::float8 AS unread_seconds,
            extract(epoch FROM clock_timestamp() - LEAST(unread.since,
                (SELECT min(GREATEST(LEAST(first.occurred_at, '9999-12-31Z'), '0001-01-01Z'))
                 FROM outbox_held AS held CROSS JOIN LATERAL (
                    SELECT occurred_at FROM outbox_events AS e
                    WHERE e.bucket = held.bucket AND e.seq = held.seq ORDER BY e.bucket, e.seq LIMIT 1) AS first),
                (SELECT min(GREATEST(LEAST(dead.occurred_at, '9999-12-31Z'), '0001-01-01Z')) FROM outbox_held AS held
                 JOIN outbox_dead_letters AS dead USING (aggregate_type, aggregate_id, seq)
                 WHERE held.next_attempt_at IS NULL)))::float8 AS oldest_seconds,
            (SELECT count(*) FROM outbox_held) AS "held!",
            (SELECT count(*) FROM outbox_dead_letters) AS "dead_letters!"
        FROM counted, unread"#,
        counted,
        DEAD,
    )
    .fetch_one(tx)
    .await
}

/// An event that no run reads any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranded {
    /// Cut of its aggregate's hash.
    pub bucket: i16,
    /// Order among the events of its aggregate.
    pub seq: i64,
    /// By which consumers recognise a repeat.
    pub event_id: Uuid,
    /// What kind of thing changed.
    pub aggregate_type: String,
    /// Which one.
    pub aggregate_id: String,
}

/// Events of a bucket between `after` and the floor of its partition, that one too, whose aggregate is not held back; at most
/// `limit`, in their order. The floor is to be read before: where it lies, nothing can come any more.
///
/// # Errors
/// Those of the statements.
pub async fn stranded(tx: &mut PgConnection, bucket: i16, after: i64, floor: i64, limit: i64) -> Result<Vec<Stranded>> {
    by_the_key(tx).await?;
    query_as!(
        Stranded,
        "/* outbox::stranded */
        SELECT bucket, seq, event_id, aggregate_type, aggregate_id FROM outbox_events AS e
        WHERE bucket = $1 AND seq > $2 AND seq <= $3
            AND NOT EXISTS (
                SELECT FROM outbox_held AS held
                WHERE held.aggregate_type = e.aggregate_type AND held.aggregate_id = e.aggregate_id)
        ORDER BY bucket, seq LIMIT $4",
        bucket,
        after,
        floor,
        limit,
    )
    .fetch_all(tx)
    .await
}

/// Asks for hints of new events for the next `seconds`; 0 ends it.
///
/// # Errors
/// Those of the statement.
pub async fn want_hints(tx: &mut PgConnection, seconds: f64) -> Result<()> {
    query!(
        "/* outbox::want_hints */
        UPDATE outbox_settings SET hints_until = clock_timestamp() + make_interval(secs => $1)",
        seconds,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// What slows a drain down, as far as PostgreSQL knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnosis {
    /// Dead rows of the outbox that cannot be or were not cleaned up, by PostgreSQL's statistics.
    pub dead_rows: i64,
    /// Who holds the horizon before which nothing can be cleaned up.
    pub holder: Option<Holder>,
    /// Who keeps sessions waiting for a lock.
    pub blocker: Option<Blocker>,
}

/// Who keeps sessions of the outbox waiting for a lock, for more than a second by now.
#[derive(Debug, Clone, PartialEq)]
pub struct Blocker {
    /// How many wait.
    pub waiting: i64,
    /// Process id; 0 for a prepared transaction.
    pub pid: i32,
    /// Application, or user.
    pub name: String,
    /// Age of its transaction in seconds, where it is known.
    pub age_seconds: Option<f64>,
}

/// Who holds the xmin horizon.
#[derive(Debug, Clone, PartialEq)]
pub struct Holder {
    /// Its process, a replication slot or a prepared transaction.
    pub kind: String,
    /// Process id; none for a slot or a prepared transaction.
    pub pid: Option<i32>,
    /// Application, or the name of the slot or transaction.
    pub name: String,
    /// Age of its transaction in seconds, where it is known.
    pub age_seconds: Option<f64>,
}

/// Looks for what slows a drain down.
///
/// # Errors
/// Those of the statements.
pub async fn diagnose(tx: &mut PgConnection) -> Result<Diagnosis> {
    let holder = query_as!(
        Holder,
        r#"/* outbox::diagnose holder */
        SELECT kind AS "kind!", pid, name AS "name!", age_seconds FROM (
            SELECT 'session' AS kind, pid, coalesce(nullif(application_name, ''), usename::text, backend_type, 'unknown') AS name,
                extract(epoch FROM clock_timestamp() - xact_start)::float8 AS age_seconds,
                greatest(age(backend_xmin), age(backend_xid)) AS held
            FROM pg_stat_activity
            WHERE pid <> pg_backend_pid() AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
                AND backend_type IS DISTINCT FROM 'autovacuum worker'
                -- So it looks to whoever may not see its type.
                AND (usesysid IS NOT NULL OR datid IS NULL)
                -- A session of another database keeps none of this one's rows; one of none (a standby's feedback) does.
                AND (datid IS NULL OR datname = current_database())
                -- A drain reads in a snapshot for some ten seconds.
                AND (application_name <> 'outbox-drain' OR xact_start < clock_timestamp() - interval '30 seconds')
            UNION ALL
            SELECT 'replication slot', active_pid, slot_name::text, NULL, greatest(age(xmin), age(catalog_xmin))
            FROM pg_replication_slots WHERE xmin IS NOT NULL
            UNION ALL
            SELECT 'prepared transaction', NULL, gid, extract(epoch FROM clock_timestamp() - prepared)::float8,
                age(transaction)
            FROM pg_prepared_xacts WHERE database = current_database()) AS holders
        WHERE held IS NOT NULL AND coalesce(age_seconds >= 5, kind <> 'session' OR held >= $1)
        ORDER BY held DESC LIMIT 1"#,
        LONG_HELD,
    )
    .fetch_optional(&mut *tx)
    .await?;
    let dead_rows = query_scalar!(
        r#"/* outbox::diagnose dead rows */
        SELECT coalesce(pg_stat_get_dead_tuples('outbox_events'::regclass), 0) AS "rows!""#,
    )
    .fetch_one(&mut *tx)
    .await?;
    let blocker = query_as!(
        Blocker,
        r#"/* outbox::diagnose blocker */
        SELECT count(DISTINCT waiting.pid) AS "waiting!", by.pid AS "pid!",
            coalesce(nullif(blocker.application_name, ''), blocker.usename::text, blocker.backend_type, 'a prepared transaction')
                AS "name!",
            extract(epoch FROM clock_timestamp() - blocker.xact_start)::float8 AS age_seconds
        FROM pg_locks AS waiting
        JOIN pg_stat_activity AS waiter ON waiter.pid = waiting.pid AND waiter.datname = current_database()
        CROSS JOIN LATERAL unnest(pg_blocking_pids(waiting.pid)) AS by (pid)
        LEFT JOIN pg_stat_activity AS blocker ON blocker.pid = by.pid
        WHERE NOT waiting.granted AND waiting.waitstart < clock_timestamp() - interval '1 s'
            AND waiter.query LIKE '%outbox%'
        GROUP BY by.pid, blocker.application_name, blocker.usename, blocker.backend_type, blocker.xact_start
        ORDER BY 1 DESC, blocker.xact_start LIMIT 1"#,
    )
    .fetch_optional(tx)
    .await?;
    Ok(Diagnosis { dead_rows, holder, blocker })
}
