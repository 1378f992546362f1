//! Reading the characters that are due, page by page.
//!
//! Pages follow `(sweep_key, eve_id)`. The key of a row that was dealt with lies after the run's start, so a row is
//! met once a run; and reading never depends on what the run has written, so it may run ahead.

use identity::{
    approval::{Organisation, Rule},
    ids::{AccountId, AllianceId, BrandId, CharacterId, CorporationId, EveCharacterId},
    verdict::Verdict,
};
use sqlx::{PgConnection, query, query_as, query_scalar};
use time::OffsetDateTime;

use crate::{Result, shard::Part};

/// A character to be checked, with what is known of it.
#[derive(Debug, Clone)]
pub struct Due {
    /// Its id in EVE Online.
    pub eve_id: EveCharacterId,
    /// Our character.
    pub character_id: CharacterId,
    /// Whose it is.
    pub account_id: AccountId,
    /// The brand of the account.
    pub brand_id: BrandId,
    /// Whether the account chose it to stand for itself.
    pub is_primary: bool,
    /// Where it stood at the last check.
    pub known: Option<Organisation>,
    /// What the last check found.
    pub stands: Option<(Verdict, Rule)>,
    /// Since when that verdict stands.
    pub verdict_since: Option<OffsetDateTime>,
    /// Why the bulk call must not be asked about it, while the note of that lasts.
    pub unresolvable: Option<String>,
    /// Its place in the sweep.
    pub place: Place,
}

/// A place in the sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The later of verified and attempted.
    pub key: OffsetDateTime,
    /// Breaks ties.
    pub eve_id: i64,
}

impl Place {
    /// Before everything.
    pub const START: Self = Self { key: OffsetDateTime::UNIX_EPOCH, eve_id: 0 };
}

/// What makes a character due.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// The run's start: rows touched since are done.
    pub started_at: OffsetDateTime,
    /// Verified before this moment is due.
    pub cutoff: OffsetDateTime,
    /// The run's part of the accounts.
    pub part: Part,
}

struct Row {
    eve_id: i64,
    character_id: uuid::Uuid,
    account_id: uuid::Uuid,
    brand_id: uuid::Uuid,
    is_primary: bool,
    corporation_id: Option<i64>,
    alliance_id: Option<i64>,
    verdict: Option<String>,
    rule: Option<String>,
    verdict_since: Option<OffsetDateTime>,
    sweep_key: OffsetDateTime,
    unresolvable: Option<String>,
    read_at: OffsetDateTime,
}

impl From<Row> for Due {
    fn from(row: Row) -> Self {
        Self {
            eve_id: EveCharacterId(row.eve_id),
            character_id: CharacterId(row.character_id),
            account_id: AccountId(row.account_id),
            brand_id: BrandId(row.brand_id),
            is_primary: row.is_primary,
            known: organisation(row.corporation_id, row.alliance_id),
            stands: row.verdict.and_then(|v| v.parse().ok()).zip(row.rule.and_then(|r| r.parse().ok())),
            verdict_since: row.verdict_since,
            unresolvable: row.unresolvable,
            place: Place { key: row.sweep_key, eve_id: row.eve_id },
        }
    }
}

/// An organisation from its two columns.
pub(crate) fn organisation(corporation: Option<i64>, alliance: Option<i64>) -> Option<Organisation> {
    Some(Organisation { corporation: CorporationId(corporation?), alliance: alliance.map(AllianceId) })
}

/// Reads a page: what is known of a character, and the rest of the statement.
macro_rules! page {
    ($db:ident, $name:tt, $rest:tt, $($argument:expr),* $(,)?) => {
        query_as!(
            Row,
            "/* sweep::" + $name + r#" */
            SELECT e.eve_id, e.character_id, a.id AS account_id, a.brand_id,
                   COALESCE(a.primary_character_id = e.character_id, false) AS "is_primary!",
                   e.corporation_id, e.alliance_id, e.verdict, e.rule, e.verdict_since, e.sweep_key AS "sweep_key!",
                   u.reason AS "unresolvable?", now() AS "read_at!""# + $rest,
            $($argument),*
        )
        .fetch_all(&mut *$db)
    };
}

/// The next page of due characters of accounts neither deleted nor blocked, oldest first, never verified before all;
/// candidates of earlier runs are read by [`kept`]. With it the moment of reading, of an empty page the run's start: what
/// is asked of ESI afterwards is at least as fresh.
pub async fn due(db: &mut PgConnection, terms: &Terms, after: Place, limit: i64) -> Result<(Vec<Due>, OffsetDateTime)> {
    // Every key before the cutoff is due, whatever made it.
    let mut rows = page!(
        db,
        "due",
        r#"
        FROM eve_characters e
        JOIN characters c ON c.id = e.character_id
        JOIN accounts a ON a.id = c.account_id
        LEFT JOIN unresolvable_ids u ON u.eve_id = e.eve_id AND u.expires_at > now()
        WHERE (e.sweep_key, e.eve_id) > ($1, $2) AND e.sweep_key < $4
          AND a.deleted_at IS NULL AND NOT a.is_blocked
          AND ($5 = 1 OR abs(abs(uuid_hash_extended(a.id, 0) % $5) - $6) < 1)
          AND NOT EXISTS (SELECT FROM revocation_candidates k WHERE k.eve_id = e.eve_id AND k.found_at < $3)
        ORDER BY e.sweep_key, e.eve_id
        LIMIT $7"#,
        after.key,
        after.eve_id,
        terms.started_at,
        terms.cutoff,
        terms.part.count,
        terms.part.index,
        limit,
    )
    .await?;
    let left = limit - i64::try_from(rows.len()).unwrap_or(limit);
    if left > 0 {
        // After them only those are due that were attempted since, in vain. They have an index of their own: reading
        // everybody else to find none costs half a second a million.
        let after = rows.last().map_or(after, |row| Place { key: row.sweep_key, eve_id: row.eve_id });
        let again = page!(
            db,
            "due_again",
            r#"
            FROM eve_characters e
            JOIN characters c ON c.id = e.character_id
            JOIN accounts a ON a.id = c.account_id
            LEFT JOIN unresolvable_ids u ON u.eve_id = e.eve_id AND u.expires_at > now()
            WHERE (e.last_verified_at IS NULL OR e.last_attempted_at > e.last_verified_at)
              AND (e.sweep_key, e.eve_id) > ($1, $2) AND e.sweep_key >= $4 AND e.sweep_key < $3
              AND (e.last_verified_at IS NULL OR e.last_verified_at < $4)
              AND a.deleted_at IS NULL AND NOT a.is_blocked
              AND ($5 = 1 OR abs(abs(uuid_hash_extended(a.id, 0) % $5) - $6) < 1)
              AND NOT EXISTS (SELECT FROM revocation_candidates k WHERE k.eve_id = e.eve_id AND k.found_at < $3)
            ORDER BY e.sweep_key, e.eve_id
            LIMIT $7"#,
            after.key,
            after.eve_id,
            terms.started_at,
            terms.cutoff,
            terms.part.count,
            terms.part.index,
            left,
        )
        .await?;
        rows.extend(again);
    }
    Ok(told(rows, terms))
}

/// The next page, by `eve_id`, of characters that earlier runs left as candidates: held by the circuit breaker,
/// disputed, or interrupted. They are checked again though not due.
pub async fn kept(db: &mut PgConnection, terms: &Terms, after: i64, limit: i64) -> Result<(Vec<Due>, OffsetDateTime)> {
    let rows = page!(
        db,
        "kept",
        r#"
        FROM revocation_candidates k
        JOIN eve_characters e ON e.eve_id = k.eve_id
        JOIN characters c ON c.id = e.character_id
        JOIN accounts a ON a.id = c.account_id
        LEFT JOIN unresolvable_ids u ON u.eve_id = e.eve_id AND u.expires_at > now()
        WHERE k.eve_id > $1
          AND k.found_at < $2
          AND a.deleted_at IS NULL AND NOT a.is_blocked
          AND ($3 = 1 OR abs(abs(uuid_hash_extended(a.id, 0) % $3) - $4) < 1)
        ORDER BY k.eve_id
        LIMIT $5"#,
        after,
        terms.started_at,
        terms.part.count,
        terms.part.index,
        limit,
    )
    .await?;
    Ok(told(rows, terms))
}

fn told(rows: Vec<Row>, terms: &Terms) -> (Vec<Due>, OffsetDateTime) {
    let read_at = rows.first().map_or(terms.started_at, |row| row.read_at);
    (rows.into_iter().map(Due::from).collect(), read_at)
}

/// How many characters are due.
pub async fn count_due(db: &mut PgConnection, terms: &Terms) -> Result<u64> {
    let count = query_scalar!(
        r#"/* sweep::count_due */
        SELECT count(*) AS "count!"
        FROM eve_characters e
        JOIN characters c ON c.id = e.character_id
        JOIN accounts a ON a.id = c.account_id
        WHERE e.sweep_key < $1
          AND (e.last_verified_at IS NULL OR e.last_verified_at < $2)
          AND a.deleted_at IS NULL AND NOT a.is_blocked
          AND ($3 = 1 OR abs(abs(uuid_hash_extended(a.id, 0) % $3) - $4) < 1)"#,
        terms.started_at,
        terms.cutoff,
        terms.part.count,
        terms.part.index,
    )
    .fetch_one(db)
    .await?;
    Ok(count.unsigned_abs())
}

/// How many characters were verified since `since` (at most as long ago as the cutoff) and before the run's start.
pub async fn verified_since(db: &mut PgConnection, terms: &Terms, since: OffsetDateTime) -> Result<u64> {
    let count = query_scalar!(
        r#"/* sweep::verified_since */
        SELECT count(*) AS "count!"
        FROM eve_characters e
        JOIN characters c ON c.id = e.character_id
        WHERE e.sweep_key >= GREATEST($1::timestamptz, $2) AND e.sweep_key < $3 AND e.last_verified_at = e.sweep_key
          AND c.account_id IS NOT NULL
          AND ($4 = 1 OR abs(abs(uuid_hash_extended(c.account_id, 0) % $4) - $5) < 1)"#,
        since,
        terms.cutoff,
        terms.started_at,
        terms.part.count,
        terms.part.index,
    )
    .fetch_one(db)
    .await?;
    Ok(count.unsigned_abs())
}

/// The next page of accounts with a character that was dealt with since the cutoff, and the place to go on from: by this
/// run, or so lately that this run did not have to (an earlier one that was killed, stopped or capped).
pub async fn checked_accounts(
    db: &mut PgConnection,
    terms: &Terms,
    after: Place,
    limit: i64,
) -> Result<(Vec<AccountId>, Option<Place>)> {
    let rows = query!(
        r#"/* sweep::checked_accounts */
        SELECT e.sweep_key AS "sweep_key!", e.eve_id, c.account_id AS "account_id!"
        FROM eve_characters e
        JOIN characters c ON c.id = e.character_id
        WHERE (e.sweep_key, e.eve_id) > ($1, $2)
          AND e.sweep_key >= $3
          AND c.account_id IS NOT NULL
          AND ($4 = 1 OR abs(abs(uuid_hash_extended(c.account_id, 0) % $4) - $5) < 1)
        ORDER BY e.sweep_key, e.eve_id
        LIMIT $6"#,
        after.key,
        after.eve_id,
        terms.cutoff,
        terms.part.count,
        terms.part.index,
        limit,
    )
    .fetch_all(db)
    .await?;
    let next = rows.last().map(|row| Place { key: row.sweep_key, eve_id: row.eve_id });
    Ok((rows.into_iter().map(|row| AccountId(row.account_id)).collect(), next))
}

/// Seconds since the longest unverified active character was verified, or linked if it never was; 0 without any. Ids that
/// ESI does not know are left out: nobody can verify them, and they would hide everybody else.
///
/// `swept_to`: nobody active and not attempted since was verified before it; the epoch where that is not known. Right
/// after a sweep the index is full of dead entries before it, which would all be walked over.
pub async fn oldest_unverified_seconds(db: &mut PgConnection, swept_to: OffsetDateTime) -> Result<f64> {
    let seconds = query_scalar!(
        r#"/* sweep::oldest_unverified_seconds */
        SELECT GREATEST(0, EXTRACT(epoch FROM now() - LEAST(
            (SELECT COALESCE(e.last_verified_at, e.created_at)
             FROM eve_characters e JOIN characters c ON c.id = e.character_id JOIN accounts a ON a.id = c.account_id
             WHERE (e.last_verified_at IS NULL OR e.last_attempted_at > e.last_verified_at)
               AND a.deleted_at IS NULL AND NOT a.is_blocked
               AND NOT EXISTS (SELECT FROM unresolvable_ids u WHERE u.eve_id = e.eve_id AND u.reason = 'not_found'
                   AND u.expires_at > now())
             ORDER BY COALESCE(e.last_verified_at, e.created_at) LIMIT 1),
            (SELECT e.last_verified_at
             FROM eve_characters e JOIN characters c ON c.id = e.character_id JOIN accounts a ON a.id = c.account_id
             WHERE e.sweep_key >= $1 AND e.last_verified_at = e.sweep_key
               AND a.deleted_at IS NULL AND NOT a.is_blocked
             ORDER BY e.sweep_key LIMIT 1))))::float8 AS "seconds""#,
        swept_to,
    )
    .fetch_one(db)
    .await?;
    Ok(seconds.unwrap_or(0.0))
}

/// How many EVE characters there are of accounts neither deleted nor blocked. Counting a million takes as long as a whole
/// idle run several times over, so from a hundred thousand up it is the server's estimate of all, split evenly over the
/// parts.
pub async fn active_characters(db: &mut PgConnection, part: Part) -> Result<f64> {
    let count = query_scalar!(
        r#"/* sweep::active_characters */
        SELECT CASE WHEN t.reltuples >= 100000 THEN t.reltuples::float8 / $1::int4 ELSE (
            SELECT count(*)::float8
            FROM eve_characters e JOIN characters c ON c.id = e.character_id JOIN accounts a ON a.id = c.account_id
            WHERE a.deleted_at IS NULL AND NOT a.is_blocked
              AND ($1 = 1 OR abs(abs(uuid_hash_extended(a.id, 0) % $1) - $2) < 1)) END AS "count!"
        FROM pg_class t WHERE t.oid = 'eve_characters'::regclass"#,
        part.count,
        part.index,
    )
    .fetch_one(db)
    .await?;
    Ok(count)
}

/// The database's clock, now and not at the transaction's start.
pub async fn now(db: &mut PgConnection) -> Result<OffsetDateTime> {
    query_scalar!(r#"/* sweep::now */ SELECT clock_timestamp() AS "now!""#).fetch_one(db).await
}
