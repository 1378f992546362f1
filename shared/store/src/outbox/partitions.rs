//! Who publishes which part of the outbox.
//!
//! A partition is held by an expiry by the database's clock and a fencing token from the sequence that leases take theirs
//! from. Every deletion checks the token ([`settle`]), and so does the sink where it can.

use sqlx::{PgConnection, query, query_as, query_scalar};
use time::OffsetDateTime;

use super::BUCKETS;
use crate::{Result, lease};

/// How long a partition is held without a sign of life, in seconds: one that dies gives its partitions back by then.
pub const LASTS_SECONDS: u32 = 10;

/// A run without a sign of life for so many seconds gets no share any more.
const SILENT_SECONDS: f64 = 6.0;

/// A partition that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// From 0.
    pub partition: i16,
    /// Greater than that of every earlier owner.
    pub fencing_token: i64,
    /// No event with this number or a lower one is to come or left, but of aggregates that are held.
    pub floor: i64,
    /// Number (`n`) of the last event of the stream whose publication was acknowledged; 0 for a stream that is new.
    pub acknowledged: i64,
    /// The number that is known counts the events of another stream.
    pub is_renamed: bool,
    /// When the server started: another one may be a standby that lacks the last transactions.
    pub server: OffsetDateTime,
}

/// How the outbox is split now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// Number of partitions.
    pub partitions: i16,
    /// The number is being changed: nobody may hold one.
    pub is_closed: bool,
    /// How many runs share them.
    pub runs: i64,
}

/// Which partitions a run may take: those with this remainder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// From 0.
    pub index: i16,
    /// 1 for all.
    pub count: i16,
}

/// A sign of life of a run: those who count the live ones see it. It moves the run's lease on as well.
///
/// # Errors
/// Those of the statement.
pub async fn alive(tx: &mut PgConnection, job: &str, run_id: &str, share: Share) -> Result<()> {
    query!(
        "/* outbox::alive */
        UPDATE job_leases SET expires_at = clock_timestamp() + make_interval(secs => $3)
        WHERE job = $1 AND run_id = $2 AND shard_count = $4 AND shard_index = $5 AND expires_at > clock_timestamp()",
        job,
        run_id,
        lease::LASTS_SECONDS as f64,
        i32::from(share.count),
        i32::from(share.index),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// How the outbox is split, and among how many live runs of `job` with the same share: those with a sign of life
/// ([`alive`]) within the last seconds.
///
/// # Errors
/// Those of the statement.
pub async fn split(tx: &mut PgConnection, job: &str, share: Share) -> Result<Split> {
    query_as!(
        Split,
        r#"/* outbox::split */
        SELECT partitions, closed_until > clock_timestamp() AS "is_closed!",
            (SELECT count(*) FROM job_leases
             WHERE job = $1 AND expires_at > clock_timestamp() + make_interval(secs => $4)
                AND (shard_count <> $2 OR shard_index = $3)) AS "runs!"
        FROM outbox_settings"#,
        job,
        i32::from(share.count),
        i32::from(share.index),
        lease::LASTS_SECONDS as f64 - SILENT_SECONDS,
    )
    .fetch_one(tx)
    .await
}

/// Takes up to `most` partitions that nobody holds, or that an earlier try of this very run has left; not those of `held`.
/// `stream` is what the numbers count: under another one than before they begin again, as soon as one is written ([`settle`]).
/// `though_closed` is for whoever has closed them ([`close`]).
///
/// # Errors
/// Those of the statement.
pub async fn take(
    tx: &mut PgConnection,
    run_id: &str,
    share: Share,
    stream: Option<&str>,
    held: &[i16],
    most: i64,
    though_closed: bool,
) -> Result<Vec<Taken>> {
    query_as!(
        Taken,
        r#"/* outbox::take */
        UPDATE outbox_partitions AS taken
        SET run_id = $1, fencing_token = nextval('job_fencing_tokens'),
            expires_at = clock_timestamp() + make_interval(secs => $6)
        WHERE partition IN (
            SELECT partition FROM outbox_partitions, outbox_settings
            WHERE partition < partitions AND ($8 OR closed_until <= clock_timestamp()) AND partition % $2 = $3
                AND (expires_at <= clock_timestamp() OR run_id = $1) AND partition <> ALL($7)
            ORDER BY random() LIMIT $5 FOR UPDATE OF outbox_partitions SKIP LOCKED)
        RETURNING partition, fencing_token, floor,
            CASE WHEN stream IS NOT DISTINCT FROM coalesce($4, stream) THEN acknowledged ELSE 0 END AS "acknowledged!",
            stream IS NOT NULL AND stream IS DISTINCT FROM coalesce($4, stream) AS "is_renamed!",
            pg_postmaster_start_time() AS "server!""#,
        run_id,
        share.count,
        share.index,
        stream,
        most,
        f64::from(LASTS_SECONDS),
        held,
        though_closed,
    )
    .fetch_all(tx)
    .await
}

/// How many partitions of this share nobody holds.
///
/// # Errors
/// Those of the statement.
pub async fn free(tx: &mut PgConnection, share: Share) -> Result<i64> {
    query_scalar!(
        r#"/* outbox::free */
        SELECT count(*) AS "free!" FROM outbox_partitions, outbox_settings
        WHERE partition < partitions AND closed_until <= clock_timestamp() AND partition % $1 = $2
            AND expires_at <= clock_timestamp()"#,
        share.count,
        share.index,
    )
    .fetch_one(tx)
    .await
}

/// A partition that others hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Foreign {
    /// From 0.
    pub partition: i16,
    /// Its owner's fencing token.
    pub fencing_token: i64,
    /// Until when, unless the owner renews.
    pub expires_at: OffsetDateTime,
    /// As in [`Taken`].
    pub floor: i64,
}

/// The partitions of this share that are not among `held`, with their owners if they have any.
///
/// # Errors
/// Those of the statement.
pub async fn foreign(tx: &mut PgConnection, share: Share, held: &[i16]) -> Result<Vec<Foreign>> {
    query_as!(
        Foreign,
        "/* outbox::foreign */
        SELECT partition, fencing_token, expires_at, floor FROM outbox_partitions, outbox_settings
        WHERE partition < partitions AND partition % $1 = $2 AND partition <> ALL($3)",
        share.count,
        share.index,
        held,
    )
    .fetch_all(tx)
    .await
}

/// Partitions of one owner: what is to be written of each.
#[derive(Debug, Default, Clone)]
pub struct Owned {
    stream: Option<String>,
    partitions: Vec<i16>,
    tokens: Vec<i64>,
    servers: Vec<OffsetDateTime>,
    floors: Vec<i64>,
    acknowledged: Vec<i64>,
}

impl Owned {
    /// None yet, whose numbers count the events of `stream`; without one, of that which is known.
    pub fn of(stream: Option<&str>) -> Self {
        Self { stream: stream.map(str::to_owned), ..Self::default() }
    }

    /// Adds a partition, as it was [`Taken`]. Floor and number only ever grow, but for the first number of another stream; 0
    /// leaves them.
    pub fn add(&mut self, partition: i16, token: i64, server: OffsetDateTime, floor: i64, acknowledged: i64) {
        self.partitions.push(partition);
        self.tokens.push(token);
        self.servers.push(server);
        self.floors.push(floor);
        self.acknowledged.push(acknowledged);
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.partitions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }
}

/// Writes floors and numbers, and moves the expiries on; `false` when one of the partitions is not ours any more, and then
/// the transaction must be rolled back. Until it ends nobody can take them. To another server than that at which they were
/// taken none is ours: a floor that was true there may lie above events that this one has lost and numbered anew.
///
/// # Errors
/// Those of the statement.
pub async fn settle(tx: &mut PgConnection, owned: &Owned) -> Result<bool> {
    let settled = query!(
        r#"/* outbox::settle */
        UPDATE outbox_partitions AS p
        SET floor = GREATEST(p.floor, new.floor),
            acknowledged = CASE WHEN new.acknowledged = 0 THEN p.acknowledged
                WHEN p.stream IS NOT DISTINCT FROM coalesce($7, p.stream) THEN GREATEST(p.acknowledged, new.acknowledged)
                ELSE new.acknowledged END,
            stream = CASE WHEN new.acknowledged = 0 THEN p.stream ELSE coalesce($7, p.stream) END,
            expires_at = clock_timestamp() + make_interval(secs => $5)
        FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::bigint[], $6::timestamptz[])
            AS new (partition, fencing_token, floor, acknowledged, server)
        WHERE p.partition = new.partition AND p.fencing_token = new.fencing_token
            AND p.expires_at > clock_timestamp() AND new.server = pg_postmaster_start_time()"#,
        &owned.partitions,
        &owned.tokens,
        &owned.floors,
        &owned.acknowledged,
        f64::from(LASTS_SECONDS),
        &owned.servers,
        owned.stream.as_deref(),
    )
    .execute(tx)
    .await?;
    Ok(settled.rows_affected() == owned.len() as u64)
}

/// Gives fencing tokens away until they are greater than `token`, at most ten million. So that none is given to two, the sequence
/// goes on by itself.
///
/// # Errors
/// Those of the statement.
pub async fn raise_tokens(tx: &mut PgConnection, token: i64) -> Result<()> {
    query_scalar!(
        r#"/* outbox::raise_tokens */
        SELECT max(nextval('job_fencing_tokens')) AS "token!"
        FROM generate_series(1, LEAST(GREATEST($1 - (SELECT last_value FROM job_fencing_tokens), 1), 10000000))"#,
        token,
    )
    .fetch_one(tx)
    .await?;
    Ok(())
}

/// Sets the floors of partitions back to the beginning, those that are still ours.
///
/// # Errors
/// Those of the statement.
pub async fn forget_floors(tx: &mut PgConnection, owned: &Owned) -> Result<()> {
    query!(
        "/* outbox::forget_floors */
        UPDATE outbox_partitions AS p SET floor = 0 FROM unnest($1::smallint[], $2::bigint[]) AS new (partition, fencing_token)
        WHERE p.partition = new.partition AND p.fencing_token = new.fencing_token",
        &owned.partitions,
        &owned.tokens,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Gives partitions up, those that are still ours.
///
/// # Errors
/// Those of the statement.
pub async fn leave(tx: &mut PgConnection, owned: &Owned) -> Result<()> {
    query!(
        r#"/* outbox::leave */
        UPDATE outbox_partitions AS p SET run_id = NULL, expires_at = 'epoch', floor = GREATEST(p.floor, new.floor)
        FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::timestamptz[])
            AS new (partition, fencing_token, floor, server)
        WHERE p.partition = new.partition AND p.fencing_token = new.fencing_token
            AND new.server = pg_postmaster_start_time()"#,
        &owned.partitions,
        &owned.tokens,
        &owned.floors,
        &owned.servers,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// A partition, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// From 0.
    pub partition: i16,
    /// Who holds it.
    pub run_id: Option<String>,
    /// The stream that the numbers belong to.
    pub stream: Option<String>,
    /// Number of the last acknowledged event.
    pub acknowledged: i64,
    /// As in [`Taken`].
    pub floor: i64,
    /// The outbox is split into more than its number.
    pub in_use: bool,
}

/// All partitions, those of an earlier split too.
///
/// # Errors
/// Those of the statement.
pub async fn all(tx: &mut PgConnection) -> Result<Vec<Partition>> {
    query_as!(
        Partition,
        r#"/* outbox::all */
        SELECT partition, CASE WHEN expires_at > clock_timestamp() THEN run_id END AS run_id, stream, acknowledged, floor,
            partition < partitions AS "in_use!"
        FROM outbox_partitions, outbox_settings ORDER BY partition"#,
    )
    .fetch_all(tx)
    .await
}

/// Keeps everybody from taking partitions for the next `seconds`, and tells how many are still held.
///
/// # Errors
/// Those of the statement.
pub async fn close(tx: &mut PgConnection, seconds: u32) -> Result<i64> {
    query!(
        "/* outbox::close */
        UPDATE outbox_settings SET closed_until = clock_timestamp() + make_interval(secs => $1)",
        f64::from(seconds),
    )
    .execute(&mut *tx)
    .await?;
    let held = query_scalar!(
        r#"/* outbox::close held */
        SELECT count(*) AS "held!" FROM outbox_partitions WHERE expires_at > clock_timestamp()"#,
    )
    .fetch_one(tx)
    .await?;
    Ok(held)
}

/// Lets partitions be taken again.
///
/// # Errors
/// Those of the statement.
pub async fn open(tx: &mut PgConnection) -> Result<()> {
    query!("/* outbox::open */ UPDATE outbox_settings SET closed_until = 'epoch'").execute(tx).await?;
    Ok(())
}

/// Changes the number of partitions, if nobody holds one and it is closed; `false` otherwise. An aggregate may come under
/// another floor, so all begin from the lowest.
///
/// # Errors
/// Those of the statements.
pub async fn set(tx: &mut PgConnection, partitions: i16) -> Result<bool> {
    debug_assert!((1..=BUCKETS).contains(&partitions), "clap has looked");
    if are_held(tx).await? {
        return Ok(false);
    }
    // Whoever was taking one when it was closed may not have committed yet. This waits for them.
    query!("/* outbox::set lock */ SELECT FROM outbox_partitions ORDER BY partition FOR UPDATE")
        .fetch_all(&mut *tx)
        .await?;
    if are_held(tx).await? {
        return Ok(false);
    }
    query!(
        "/* outbox::set floors */
        UPDATE outbox_partitions SET floor = lowest.floor
        FROM (SELECT min(floor) AS floor FROM outbox_partitions, outbox_settings WHERE partition < partitions) AS lowest",
    )
    .execute(&mut *tx)
    .await?;
    let set = query!(
        "/* outbox::set */
        UPDATE outbox_settings SET partitions = $1, closed_until = 'epoch' WHERE closed_until > clock_timestamp()",
        partitions,
    )
    .execute(tx)
    .await?;
    Ok(set.rows_affected() == 1)
}

async fn are_held(tx: &mut PgConnection) -> Result<bool> {
    let held = query_scalar!(
        r#"/* outbox::set held */
        SELECT partition FROM outbox_partitions WHERE expires_at > clock_timestamp() LIMIT 1"#,
    )
    .fetch_optional(tx)
    .await?;
    Ok(held.is_some())
}
