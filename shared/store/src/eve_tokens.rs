//! Stored refresh tokens. Every write is a compare-and-swap on the stored envelope, so that a login that has just
//! stored a fresh token is never overwritten by what was found about the old one.

use identity::ids::{AccountId, CharacterId, EveCharacterId};
use sqlx::{PgConnection, query, query_as, query_scalar};
use time::{Duration, OffsetDateTime};

use crate::{Result, shard::Part};

/// `invalid_grant` is sometimes transient: it counts as revoked from this many times in a row …
pub const REVOKED_AFTER_TIMES: i32 = 3;
/// … over at least this long (what Wanderer, a public EVE tool, has found to work).
pub const REVOKED_AFTER: Duration = Duration::hours(2);

/// A token to be checked.
#[derive(Debug, Clone)]
pub struct StoredToken {
    /// Whose.
    pub eve_id: EveCharacterId,
    /// Our character.
    pub character_id: CharacterId,
    /// The account.
    pub account_id: AccountId,
    /// The envelope.
    pub sealed: String,
    /// The owner claim of the last check.
    pub owner_hash: Option<String>,
    /// When it was last checked; the epoch: never.
    pub checked_at: OffsetDateTime,
}

/// The first envelopes of the table, to see whether the key fits.
pub async fn sample(db: &mut PgConnection, limit: i64) -> Result<Vec<String>> {
    query_scalar!("/* eve_tokens::sample */ SELECT refresh_token FROM eve_tokens ORDER BY eve_id LIMIT $1", limit)
        .fetch_all(db)
        .await
}

/// The next page of tokens last checked before `cutoff`, longest unchecked first, after `(checked_at, eve_id)`.
pub async fn due(
    db: &mut PgConnection,
    part: Part,
    cutoff: OffsetDateTime,
    after: (OffsetDateTime, i64),
    limit: i64,
) -> Result<Vec<StoredToken>> {
    struct Row {
        eve_id: i64,
        character_id: uuid::Uuid,
        account_id: uuid::Uuid,
        refresh_token: String,
        owner_hash: Option<String>,
        checked_at: OffsetDateTime,
    }
    let rows = query_as!(
        Row,
        r#"/* eve_tokens::due */
        SELECT t.eve_id, c.id AS character_id, a.id AS account_id, t.refresh_token, t.owner_hash, t.checked_at
        FROM eve_tokens t
        JOIN eve_characters e ON e.eve_id = t.eve_id
        JOIN characters c ON c.id = e.character_id
        JOIN accounts a ON a.id = c.account_id
        WHERE t.revoked_at IS NULL
          AND t.checked_at < $1
          AND (t.checked_at, t.eve_id) > ($2, $3)
          AND e.verdict IS DISTINCT FROM 'transferred'
          AND a.deleted_at IS NULL AND NOT a.is_blocked
          AND ($4 = 1 OR abs(abs(uuid_hash_extended(a.id, 0) % $4) - $5) < 1)
        ORDER BY t.checked_at, t.eve_id
        LIMIT $6"#,
        cutoff,
        after.0,
        after.1,
        part.count,
        part.index,
        limit,
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| StoredToken {
            eve_id: EveCharacterId(row.eve_id),
            character_id: CharacterId(row.character_id),
            account_id: AccountId(row.account_id),
            sealed: row.refresh_token,
            owner_hash: row.owner_hash,
            checked_at: row.checked_at,
        })
        .collect())
}

/// Replaces a rotated token; `false` when a login has stored another one meanwhile. Harmless to repeat.
pub async fn rotate(db: &mut PgConnection, eve_id: EveCharacterId, old: &str, new: &str) -> Result<bool> {
    let done = query!(
        "/* eve_tokens::rotate */ UPDATE eve_tokens SET refresh_token = $3 WHERE eve_id = $1 AND refresh_token IN ($2, $3)",
        eve_id.0,
        old,
        new
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The token works and belongs to `owner`.
pub async fn valid(db: &mut PgConnection, eve_id: EveCharacterId, sealed: &str, owner: &str) -> Result<()> {
    query!(
        "/* eve_tokens::valid */
         UPDATE eve_tokens
         SET checked_at = now(), owner_hash = $3, invalid_grant_count = 0, invalid_grant_since = NULL
         WHERE eve_id = $1 AND refresh_token = $2",
        eve_id.0,
        sealed,
        owner
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The check could not be made or said nothing: next time.
pub async fn checked(db: &mut PgConnection, eve_id: EveCharacterId, sealed: &str) -> Result<()> {
    query!(
        "/* eve_tokens::checked */ UPDATE eve_tokens SET checked_at = now() WHERE eve_id = $1 AND refresh_token = $2",
        eve_id.0,
        sealed
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The SSO answered `invalid_grant`; `true` when that now counts as revoked.
pub async fn invalid_grant(db: &mut PgConnection, eve_id: EveCharacterId, sealed: &str) -> Result<bool> {
    let revoked = query_scalar!(
        r#"/* eve_tokens::invalid_grant */
        UPDATE eve_tokens
        SET checked_at = now(),
            invalid_grant_count = invalid_grant_count + 1,
            invalid_grant_since = COALESCE(invalid_grant_since, now()),
            revoked_at = CASE WHEN invalid_grant_count + 1 >= $3
                               AND now() - COALESCE(invalid_grant_since, now()) >= make_interval(secs => $4) THEN now() END
        WHERE eve_id = $1 AND refresh_token = $2
        RETURNING revoked_at IS NOT NULL AS "revoked!""#,
        eve_id.0,
        sealed,
        REVOKED_AFTER_TIMES,
        REVOKED_AFTER.as_seconds_f64(),
    )
    .fetch_optional(db)
    .await?;
    Ok(revoked.unwrap_or(false))
}

/// The character belongs to somebody else: says so in its verdict, unless a login has stored another token meanwhile.
pub async fn transferred(db: &mut PgConnection, eve_id: EveCharacterId, sealed: &str) -> Result<bool> {
    let done = query!(
        "/* eve_tokens::transferred */
         UPDATE eve_characters e
         SET verdict = 'transferred', rule = 'owner_changed', verdict_since = now(), last_attempted_at = now()
         FROM eve_tokens t
         WHERE e.eve_id = $1 AND t.eve_id = e.eve_id AND t.refresh_token = $2 AND e.verdict IS DISTINCT FROM 'transferred'",
        eve_id.0,
        sealed
    )
    .execute(&mut *db)
    .await?;
    checked(db, eve_id, sealed).await?;
    Ok(done.rows_affected() == 1)
}
