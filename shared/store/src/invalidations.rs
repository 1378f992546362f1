//! Decided invalidations: recorded before Redis is touched, cleared together with their audit rows and events.

use identity::{
    approval::{Organisation, Rule},
    ids::{AccountId, BrandId, CharacterId, EveCharacterId},
    verdict::Verdict,
};
use serde_json::{Value, json};
use sqlx::{PgConnection, query, query_as, query_scalar};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Result,
    outbox::{self, MAX_PAYLOAD_BYTES, NewEvent},
    shard::Part,
    sweep::organisation,
};

/// A decided invalidation.
#[derive(Debug, Clone)]
pub struct Pending {
    /// Names the receipt in Redis.
    pub id: Uuid,
    /// The character in EVE Online.
    pub eve_id: EveCharacterId,
    /// Our character.
    pub character_id: CharacterId,
    /// Whose sessions go.
    pub account_id: AccountId,
    /// The account's brand.
    pub brand_id: BrandId,
    /// Which sessions (`acting`, `primary`, `any`).
    pub gate: String,
    /// The rule, and with it the verdict.
    pub rule: Rule,
    /// The new organisation.
    pub organisation: Option<Organisation>,
    /// Sessions approved before this moment go.
    pub observed_at: OffsetDateTime,
}

/// Records decisions before anything is done about them; returns the characters for which it did. The others have
/// changed hands or place since they were found (moved to another account, deleted, blocked, no longer primary): there
/// is nothing to take there.
pub async fn record(db: &mut PgConnection, run_id: &str, pending: &[Pending]) -> Result<Vec<i64>> {
    let ids: Vec<Uuid> = pending.iter().map(|p| p.id).collect();
    let eve_ids: Vec<i64> = pending.iter().map(|p| p.eve_id.0).collect();
    let characters: Vec<Uuid> = pending.iter().map(|p| p.character_id.0).collect();
    let accounts: Vec<Uuid> = pending.iter().map(|p| p.account_id.0).collect();
    let brands: Vec<Uuid> = pending.iter().map(|p| p.brand_id.0).collect();
    let gates: Vec<String> = pending.iter().map(|p| p.gate.clone()).collect();
    let verdicts: Vec<String> = pending.iter().map(|p| Verdict::of(p.rule).to_string()).collect();
    let rules: Vec<String> = pending.iter().map(|p| p.rule.to_string()).collect();
    let corporations: Vec<Option<i64>> = pending.iter().map(|p| p.organisation.map(|o| o.corporation.0)).collect();
    let alliances: Vec<Option<i64>> =
        pending.iter().map(|p| p.organisation.and_then(|o| o.alliance).map(|id| id.0)).collect();
    let observed: Vec<OffsetDateTime> = pending.iter().map(|p| p.observed_at).collect();
    query_scalar!(
        "/* invalidations::record */
         INSERT INTO pending_invalidations
             (id, eve_id, character_id, account_id, brand_id, gate, verdict, rule, corporation_id, alliance_id, observed_at, decided_by)
         SELECT p.id, p.eve_id, p.character_id, p.account_id, p.brand_id, gate, verdict, rule, corporation_id, alliance_id, observed_at, $12
         FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::text[], $8::text[], $9::bigint[], $10::bigint[], $11::timestamptz[])
              AS p (id, eve_id, character_id, account_id, brand_id, gate, verdict, rule, corporation_id, alliance_id, observed_at)
         JOIN characters c ON c.id = p.character_id AND c.account_id = p.account_id
         JOIN accounts a ON a.id = p.account_id
         WHERE a.deleted_at IS NULL AND NOT a.is_blocked
           AND (p.gate <> 'primary' OR a.primary_character_id = p.character_id)
         RETURNING eve_id",
        &ids,
        &eve_ids,
        &characters,
        &accounts,
        &brands,
        &gates,
        &verdicts,
        &rules,
        &corporations as &[Option<i64>],
        &alliances as &[Option<i64>],
        &observed,
        run_id,
    )
    .fetch_all(db)
    .await
}

/// How many decided invalidations of this part wait.
pub async fn count(db: &mut PgConnection, part: Part) -> Result<u64> {
    let count = query_scalar!(
        r#"/* invalidations::count */
        SELECT count(*) AS "count!" FROM pending_invalidations
        WHERE $1 = 1 OR abs(abs(uuid_hash_extended(account_id, 0) % $1) - $2) < 1"#,
        part.count,
        part.index,
    )
    .fetch_one(db)
    .await?;
    Ok(count.unsigned_abs())
}

/// The next page, by id and so oldest first, of decided invalidations of this part; a nil id is before the first.
pub async fn pending(db: &mut PgConnection, part: Part, after: Uuid, limit: i64) -> Result<Vec<Pending>> {
    struct Row {
        id: Uuid,
        eve_id: i64,
        character_id: Uuid,
        account_id: Uuid,
        brand_id: Uuid,
        gate: String,
        rule: String,
        corporation_id: Option<i64>,
        alliance_id: Option<i64>,
        observed_at: OffsetDateTime,
    }
    let rows = query_as!(
        Row,
        "/* invalidations::pending */
         SELECT id, eve_id, character_id, account_id, brand_id, gate, rule, corporation_id, alliance_id, observed_at
         FROM pending_invalidations
         WHERE id > $3 AND ($1 = 1 OR abs(abs(uuid_hash_extended(account_id, 0) % $1) - $2) < 1)
         ORDER BY id
         LIMIT $4",
        part.count,
        part.index,
        after,
        limit,
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Pending {
                id: row.id,
                eve_id: EveCharacterId(row.eve_id),
                character_id: CharacterId(row.character_id),
                account_id: AccountId(row.account_id),
                brand_id: BrandId(row.brand_id),
                gate: row.gate,
                rule: row.rule.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
                organisation: organisation(row.corporation_id, row.alliance_id),
                observed_at: row.observed_at,
            })
        })
        .collect()
}

/// How many decided invalidations wait.
pub async fn count_pending(db: &mut PgConnection, part: Part) -> Result<u64> {
    let count = query_scalar!(
        r#"/* invalidations::count_pending */
        SELECT count(*) AS "count!" FROM pending_invalidations
        WHERE ($1 = 1 OR abs(abs(uuid_hash_extended(account_id, 0) % $1) - $2) < 1)"#,
        part.count,
        part.index,
    )
    .fetch_one(db)
    .await?;
    Ok(count.unsigned_abs())
}

/// A session that a decided invalidation removed.
#[derive(Debug, Clone)]
pub struct Removed {
    /// Hex SHA-256 of its token.
    pub session: String,
    /// As which character it acted.
    pub acted_as: Option<CharacterId>,
    /// The client it was opened by.
    pub client_type: String,
}

/// Clears decided invalidations together with one audit row and one event for each session really removed. A row that
/// somebody else has cleared meanwhile leaves no second trace. Returns the ids cleared here.
pub async fn complete(db: &mut PgConnection, done: &[(Pending, Vec<Removed>)]) -> Result<Vec<Uuid>> {
    let ids: Vec<Uuid> = done.iter().map(|(pending, _)| pending.id).collect();
    let cleared = query_scalar!(
        "/* invalidations::complete */ DELETE FROM pending_invalidations WHERE id = ANY($1) RETURNING id",
        &ids
    )
    .fetch_all(&mut *db)
    .await?;
    let sessions: Vec<(&Pending, Value)> = done
        .iter()
        .filter(|(pending, removed)| !removed.is_empty() && cleared.contains(&pending.id))
        .flat_map(|(pending, removed)| removed.iter().map(move |session| (pending, details(pending, session))))
        .collect();
    if sessions.is_empty() {
        return Ok(cleared);
    }
    let brands: Vec<Uuid> = sessions.iter().map(|(p, _)| p.brand_id.0).collect();
    let accounts: Vec<Uuid> = sessions.iter().map(|(p, _)| p.account_id.0).collect();
    let characters: Vec<Uuid> = sessions.iter().map(|(p, _)| p.character_id.0).collect();
    let details: Vec<Value> = sessions.iter().map(|(_, details)| details.clone()).collect();
    query!(
        "/* invalidations::complete audit */
         INSERT INTO audit_logs (action, brand_id, account_id, character_id, details)
         SELECT 'session.invalidated', brand, account, character, details
         FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::jsonb[]) AS a (brand, account, character, details)",
        &brands,
        &accounts,
        &characters,
        &details,
    )
    .execute(&mut *db)
    .await?;
    let event = |(pending, details): (&Pending, Value)| {
        let payload = with_ids(pending, details);
        let (account, brand) = (pending.account_id, pending.brand_id);
        NewEvent::new("account", account, brand, "SESSION_INVALIDATED", &payload, MAX_PAYLOAD_BYTES)
    };
    // A client's name is bounded where a session is opened; what is larger all the same must not be lost silently.
    let events = sessions.into_iter().map(event).collect::<std::result::Result<Vec<_>, _>>();
    let events = events.map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
    outbox::enqueue(db, &events).await?;
    Ok(cleared)
}

fn details(pending: &Pending, session: &Removed) -> Value {
    json!({
        "eve_character_id": pending.eve_id,
        "corporation_id": pending.organisation.map(|o| o.corporation),
        "alliance_id": pending.organisation.and_then(|o| o.alliance),
        "rule": pending.rule.as_str(),
        "reason": Verdict::of(pending.rule).as_str(),
        "session": session.session,
        "acted_as": session.acted_as,
        "client_type": session.client_type,
        "invalidation_id": pending.id,
    })
}

fn with_ids(pending: &Pending, mut details: Value) -> Value {
    if let Value::Object(fields) = &mut details {
        fields.insert("account_id".to_owned(), json!(pending.account_id));
        fields.insert("character_id".to_owned(), json!(pending.character_id));
        fields.insert("brand_id".to_owned(), json!(pending.brand_id));
    }
    details
}
