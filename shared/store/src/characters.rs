//! One EVE character with everything stored of it, for people who ask why.

use identity::{
    approval::Organisation,
    ids::{AccountId, BrandId, CharacterId, EveCharacterId},
};
use sqlx::{PgConnection, query_as};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Result, sweep::organisation};

/// What is stored of an EVE character and its account.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "facts that people read, not states")]
pub struct Stored {
    /// Its id in EVE Online.
    pub eve_id: EveCharacterId,
    /// Our character.
    pub character_id: CharacterId,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub account_id: AccountId,
    /// The account's brand.
    pub brand_id: BrandId,
    /// Whether it stands for its account.
    pub is_primary: bool,
    /// The account was deleted.
    pub account_deleted: bool,
    /// The account is blocked.
    pub account_blocked: bool,
    /// Where it stood at the last check.
    pub organisation: Option<Organisation>,
    /// Name of that corporation.
    pub corporation_name: Option<String>,
    /// Name of that alliance.
    pub alliance_name: Option<String>,
    /// The verdict.
    pub verdict: Option<String>,
    /// The rule that gave it.
    pub rule: Option<String>,
    /// Since when the verdict stands.
    pub verdict_since: Option<OffsetDateTime>,
    /// Last complete check.
    pub last_verified_at: Option<OffsetDateTime>,
    /// Last check without a verdict.
    pub last_attempted_at: Option<OffsetDateTime>,
    /// Why the bulk call leaves it out, if it does.
    pub unresolvable: Option<String>,
    /// State of its candidate row, if there is one.
    pub candidate: Option<String>,
    /// A decided invalidation waits.
    pub pending: bool,
    /// A refresh token is stored, last checked then.
    pub token_checked_at: Option<OffsetDateTime>,
    /// The token counts as revoked.
    pub token_revoked: bool,
}

#[expect(clippy::struct_excessive_bools, reason = "a row as the statement gives it")]
struct Row {
    eve_id: i64,
    character_id: Uuid,
    name: String,
    account_id: Uuid,
    brand_id: Uuid,
    is_primary: bool,
    account_deleted: bool,
    account_blocked: bool,
    corporation_id: Option<i64>,
    alliance_id: Option<i64>,
    corporation_name: Option<String>,
    alliance_name: Option<String>,
    verdict: Option<String>,
    rule: Option<String>,
    verdict_since: Option<OffsetDateTime>,
    last_verified_at: Option<OffsetDateTime>,
    last_attempted_at: Option<OffsetDateTime>,
    unresolvable: Option<String>,
    candidate: Option<String>,
    pending: bool,
    token_checked_at: Option<OffsetDateTime>,
    token_revoked: bool,
}

/// The character with this EVE id.
pub async fn by_eve_id(db: &mut PgConnection, eve_id: EveCharacterId) -> Result<Option<Stored>> {
    find(db, Some(eve_id.0), None).await
}

/// The character with this id of ours.
pub async fn by_id(db: &mut PgConnection, id: CharacterId) -> Result<Option<Stored>> {
    find(db, None, Some(id.0)).await
}

async fn find(db: &mut PgConnection, eve_id: Option<i64>, id: Option<Uuid>) -> Result<Option<Stored>> {
    let row = query_as!(
        Row,
        r#"/* characters::find */
        SELECT e.eve_id, e.character_id, c.name, a.id AS account_id, a.brand_id,
               COALESCE(a.primary_character_id = c.id, false) AS "is_primary!",
               a.deleted_at IS NOT NULL AS "account_deleted!", a.is_blocked AS account_blocked,
               e.corporation_id, e.alliance_id, e.corporation_name, e.alliance_name, e.verdict, e.rule, e.verdict_since,
               e.last_verified_at, e.last_attempted_at,
               u.reason AS "unresolvable?", k.state AS "candidate?",
               EXISTS (SELECT FROM pending_invalidations p WHERE p.eve_id = e.eve_id) AS "pending!",
               t.checked_at AS "token_checked_at?", COALESCE(t.revoked_at IS NOT NULL, false) AS "token_revoked!"
        FROM eve_characters e
        JOIN characters c ON c.id = e.character_id
        JOIN accounts a ON a.id = c.account_id
        LEFT JOIN unresolvable_ids u ON u.eve_id = e.eve_id AND u.expires_at > now()
        LEFT JOIN revocation_candidates k ON k.eve_id = e.eve_id
        LEFT JOIN eve_tokens t ON t.eve_id = e.eve_id
        WHERE e.eve_id = $1 OR e.character_id = $2"#,
        eve_id,
        id,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Stored {
        eve_id: EveCharacterId(row.eve_id),
        character_id: CharacterId(row.character_id),
        name: row.name,
        account_id: AccountId(row.account_id),
        brand_id: BrandId(row.brand_id),
        is_primary: row.is_primary,
        account_deleted: row.account_deleted,
        account_blocked: row.account_blocked,
        organisation: organisation(row.corporation_id, row.alliance_id),
        corporation_name: row.corporation_name,
        alliance_name: row.alliance_name,
        verdict: row.verdict,
        rule: row.rule,
        verdict_since: row.verdict_since,
        last_verified_at: row.last_verified_at,
        last_attempted_at: row.last_attempted_at,
        unresolvable: row.unresolvable,
        candidate: row.candidate,
        pending: row.pending,
        token_checked_at: row.token_checked_at,
        token_revoked: row.token_revoked,
    }))
}
