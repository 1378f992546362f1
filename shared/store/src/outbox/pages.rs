//! Reading and deleting.
//!
//! Reading leaves nothing behind: what is read is in the drain's memory, and who owns a partition is the only one to read
//! it. It goes on from a place that is kept for each bucket; the floor below which nothing can appear any more comes from
//! [`look`].

use futures::TryStreamExt;
use sqlx::{PgConnection, Row, query, query_as};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Result, tid::Tid};

/// An event, as it lies in the outbox.
#[derive(Debug, Clone)]
pub struct Stored {
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
    /// The brand of the aggregate.
    pub brand_id: Uuid,
    /// What happened.
    pub event_type: String,
    /// When, by the database's clock.
    pub occurred_at: OffsetDateTime,
    /// The body, to the letter.
    pub payload: String,
    /// Where it lies.
    pub at: Tid,
}

impl Stored {
    /// About how much memory it takes, in bytes: that of its texts, and as much again as anything without any.
    pub fn size(&self) -> usize {
        let texts = [&self.aggregate_type, &self.aggregate_id, &self.event_type, &self.payload];
        texts.iter().map(|text| text.len()).sum::<usize>() + std::mem::size_of::<Self>()
    }
}

/// What may still be to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The database's clock.
    pub now: OffsetDateTime,
    /// The last number that was taken.
    pub last: i64,
    /// Transactions that may have taken a number up to that and not ended. A transaction that writes the outbox locks the
    /// table before it takes a number, and keeps the lock until its rows can be seen.
    pub open: Vec<Open>,
}

/// A transaction that may bring events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// As in `pg_locks`.
    pub transaction: String,
    /// Its id, where it has one by now; without, it has written nothing yet, or has just ended.
    pub id: Option<u32>,
}

/// Which transactions a snapshot does not see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unseen {
    /// None from this one on.
    next: u32,
    /// Nor these.
    running: Vec<u32>,
    /// Transactions that still wait for some lock, as in `pg_locks`.
    waiting: Vec<String>,
}

impl Unseen {
    /// Whether what the transaction wrote is hidden from the snapshot, because it had not ended when that was taken.
    pub fn hides(&self, transaction: u32) -> bool {
        // Ids are compared as PostgreSQL does, in a circle.
        transaction.wrapping_sub(self.next).cast_signed() >= 0 || self.running.contains(&transaction)
    }

    /// The same of one that has no id yet: whoever waits has not ended.
    pub fn hides_waiting(&self, transaction: &str) -> bool {
        self.waiting.iter().any(|waiting| waiting == transaction)
    }
}

/// Keeps the table as it is until the end of the transaction, which goes by the key as after [`by_the_key`].
pub const HOLD: &str = "/* outbox::hold */ SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; \
                        LOCK TABLE outbox_events IN ACCESS SHARE MODE";

/// Until the end of the transaction the table is read by its key: the statistics of one that is now empty and now full mislead
/// the planner.
///
/// # Errors
/// Those of the statement.
pub async fn by_the_key(tx: &mut PgConnection) -> Result<()> {
    let plan = "/* outbox::by_the_key */ SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off";
    sqlx::raw_sql(plan).execute(tx).await?;
    Ok(())
}

/// What the present snapshot does not see; within one that holds for several reads.
///
/// # Errors
/// Those of the statement.
pub async fn unseen(tx: &mut PgConnection) -> Result<Unseen> {
    let found = query!(
        r#"/* outbox::unseen */
        SELECT pg_snapshot_xmax(snapshot)::text::bigint AS "next!",
            ARRAY(SELECT id::text::bigint FROM pg_snapshot_xip(snapshot) AS id) AS "running!",
            ARRAY(SELECT virtualtransaction FROM pg_locks WHERE NOT granted) AS "waiting!"
        FROM pg_current_snapshot() AS snapshot"#
    )
    .fetch_one(tx)
    .await?;
    let running = found.running.into_iter().map(short).collect();
    Ok(Unseen { next: short(found.next), running, waiting: found.waiting })
}

/// Without the epoch, as locks have it.
fn short(id: i64) -> u32 {
    u32::try_from(id & i64::from(u32::MAX)).unwrap_or_default()
}

/// Looks at what may still be to come. Whatever is read by a statement that begins after all of [`Look::open`] have ended
/// holds every event up to [`Look::last`].
///
/// # Errors
/// Those of the statements.
pub async fn look(tx: &mut PgConnection) -> Result<Look> {
    // First the number: who has taken it holds the lock by now, or has ended.
    let number = query!(
        r#"/* outbox::look number */
        SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS "last!", clock_timestamp() AS "now!" FROM outbox_events_seq_seq"#
    )
    .fetch_one(&mut *tx)
    .await?;
    // A transaction holds its id's lock from the first write to its end, and those of its subtransactions, which are younger.
    let open = query!(
        r#"/* outbox::look open */
        WITH locks AS MATERIALIZED (
            SELECT virtualtransaction, locktype, mode, relation, database, pid, transactionid FROM pg_locks
            WHERE granted AND (locktype = 'relation' AND mode = 'RowExclusiveLock'
                OR locktype = 'transactionid' AND mode = 'ExclusiveLock'))
        SELECT virtualtransaction AS "transaction!",
            (SELECT own.transactionid::text::bigint FROM locks AS own
             WHERE own.virtualtransaction = writer.virtualtransaction AND own.locktype = 'transactionid'
             ORDER BY age(own.transactionid) DESC LIMIT 1) AS id
        FROM locks AS writer
        WHERE locktype = 'relation' AND relation = 'outbox_events'::regclass
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND pid IS DISTINCT FROM pg_backend_pid()"#,
    )
    .fetch_all(tx)
    .await?;
    let open = open.into_iter().map(|one| Open { transaction: one.transaction, id: one.id.map(short) });
    Ok(Look { now: number.now, last: number.last, open: open.collect() })
}

/// Where reading goes on: a bucket and the last number read in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The bucket.
    pub bucket: i16,
    /// The last number read.
    pub after: i64,
}

/// What was read.
#[derive(Debug, Clone)]
pub struct Page {
    /// Bucket by bucket in the order asked for, in the order of their numbers.
    pub events: Vec<Stored>,
    /// Not all of it was taken: `bytes` was reached.
    pub is_cut: bool,
}

/// Reads at most `each` events of every place, and no more once they take so many `bytes`, but at least one. In a
/// transaction that goes by the key ([`HOLD`], [`by_the_key`]). A time that RFC 3339 cannot tell (`infinity`) is told by the
/// nearest that it can.
///
/// # Errors
/// Those of the statements.
pub async fn read(tx: &mut PgConnection, places: &[Place], each: i64, bytes: usize) -> Result<Page> {
    let buckets: Vec<i16> = places.iter().map(|place| place.bucket).collect();
    let after: Vec<i64> = places.iter().map(|place| place.after).collect();
    // Not checked at compile time, since a stream of rows is decoded by position.
    let mut rows = query(
        "/* outbox::read */
        SELECT event.bucket, event.seq, event.event_id, event.aggregate_type, event.aggregate_id, event.brand_id,
            event.event_type, GREATEST(LEAST(event.occurred_at, '9999-12-31 23:59:59.999999Z'), '0001-01-01Z'),
            event.payload, event.ctid
        FROM unnest($1::smallint[], $2::bigint[]) AS place (bucket, after)
        CROSS JOIN LATERAL (
            SELECT e.*, e.ctid FROM outbox_events AS e WHERE e.bucket = place.bucket AND e.seq > place.after
            ORDER BY e.bucket, e.seq LIMIT $3) AS event",
    )
    .bind(&buckets)
    .bind(&after)
    .bind(each)
    .fetch(tx);
    let mut page = Page { events: Vec::new(), is_cut: false };
    let mut taken = 0;
    while let Some(row) = rows.try_next().await? {
        // `json` is sent as its text, which a cast would copy once more.
        let payload: String = row.try_get_unchecked(8)?;
        if page.is_cut {
            continue;
        }
        let stored = Stored {
            bucket: row.try_get(0)?,
            seq: row.try_get(1)?,
            event_id: row.try_get(2)?,
            aggregate_type: row.try_get(3)?,
            aggregate_id: row.try_get(4)?,
            brand_id: row.try_get(5)?,
            event_type: row.try_get(6)?,
            occurred_at: row.try_get(7)?,
            at: row.try_get_unchecked(9)?,
            payload,
        };
        if taken > 0 && taken + stored.size() > bytes {
            page.is_cut = true;
            continue;
        }
        taken += stored.size();
        page.events.push(stored);
    }
    Ok(page)
}

/// An event, without its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id {
    /// Cut of its aggregate's hash.
    pub bucket: i16,
    /// Order among the events of its aggregate.
    pub seq: i64,
    /// By which consumers recognise a repeat.
    pub event_id: Uuid,
}

/// At most `each` events of every place, without their bodies.
///
/// # Errors
/// Those of the statements.
pub async fn ids(tx: &mut PgConnection, places: &[Place], each: i64) -> Result<Vec<Id>> {
    let buckets: Vec<i16> = places.iter().map(|place| place.bucket).collect();
    let after: Vec<i64> = places.iter().map(|place| place.after).collect();
    by_the_key(tx).await?;
    query_as!(
        Id,
        "/* outbox::ids */
        SELECT event.bucket, event.seq, event.event_id
        FROM unnest($1::smallint[], $2::bigint[]) AS place (bucket, after)
        CROSS JOIN LATERAL (
            SELECT e.bucket, e.seq, e.event_id FROM outbox_events AS e
            WHERE e.bucket = place.bucket AND e.seq > place.after ORDER BY e.bucket, e.seq LIMIT $3) AS event",
        &buckets,
        &after,
        each,
    )
    .fetch_all(tx)
    .await
}

/// Events that are to be deleted.
#[derive(Debug, Default)]
pub struct Done {
    buckets: Vec<i16>,
    seqs: Vec<i64>,
    at: Vec<Tid>,
}

impl Done {
    /// Adds one, by its key and by where it was read.
    pub fn add(&mut self, bucket: i16, seq: i64, at: Tid) {
        self.buckets.push(bucket);
        self.seqs.push(seq);
        self.at.push(at);
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.seqs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.seqs.is_empty()
    }
}

/// Deletes published events.
///
/// # Errors
/// Those of the statements.
pub async fn delete(tx: &mut PgConnection, done: &Done) -> Result<()> {
    if done.is_empty() {
        return Ok(());
    }
    let plan =
        "/* outbox::delete plan */ SET LOCAL enable_seqscan = off; SET LOCAL plan_cache_mode = force_custom_plan";
    sqlx::raw_sql(plan).execute(&mut *tx).await?;
    // Where they lie, in one go over the pages, which costs no look into the index; the numbers are hashed. Without the sum
    // the planner would look each number up in its statistics. Not checked at compile time, which knows no `tid`.
    let deleted = query(
        "/* outbox::delete */
        DELETE FROM outbox_events AS e WHERE e.ctid = ANY($1::tid[]) AND e.seq + 0 = ANY($2::bigint[])",
    )
    .bind(&done.at)
    .bind(&done.seqs)
    .execute(&mut *tx)
    .await?;
    if deleted.rows_affected() == done.len() as u64 {
        return Ok(());
    }
    // Somebody has rewritten the table since, and they lie elsewhere.
    by_the_key(tx).await?;
    // Look by look, whatever the planner thinks of a table whose statistics are of another time.
    query!(
        "/* outbox::delete by key */
        DELETE FROM outbox_events WHERE ctid = ANY(ARRAY(
            SELECT found.ctid FROM unnest($1::smallint[], $2::bigint[]) AS d (bucket, seq)
            CROSS JOIN LATERAL (
                SELECT e.ctid FROM outbox_events AS e WHERE e.bucket = d.bucket AND e.seq = d.seq
                ORDER BY e.bucket, e.seq LIMIT 1 FOR UPDATE) AS found))",
        &done.buckets,
        &done.seqs,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Deletes events of a partition that an earlier owner published, by their numbers and the ends of their ids: after a
/// restore of PostgreSQL a number may belong to another event. How many those were that were still there.
///
/// # Errors
/// Those of the statement.
pub async fn delete_adopted(tx: &mut PgConnection, buckets: &[i16], seqs: &[i64], tails: &[String]) -> Result<u64> {
    by_the_key(tx).await?;
    let deleted = query!(
        "/* outbox::delete_adopted */
        DELETE FROM outbox_events WHERE ctid = ANY(ARRAY(
            SELECT found.ctid FROM unnest($2::bigint[], $3::text[]) AS d (seq, tail)
            CROSS JOIN unnest($1::smallint[]) AS b (bucket)
            CROSS JOIN LATERAL (
                SELECT e.ctid, e.event_id FROM outbox_events AS e WHERE e.bucket = b.bucket AND e.seq = d.seq
                ORDER BY e.bucket, e.seq LIMIT 1 FOR UPDATE) AS found
            WHERE right(found.event_id::text, 8) = d.tail))",
        buckets,
        seqs,
        tails,
    )
    .execute(tx)
    .await?;
    Ok(deleted.rows_affected())
}
