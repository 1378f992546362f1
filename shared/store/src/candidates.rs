//! Verdicts that would cost a session, from the sweep that found them to the decision.

use identity::{
    approval::{Organisation, Rule},
    ids::{AccountId, BrandId, CharacterId, EveCharacterId},
    verdict::Verdict,
};
use sqlx::{PgConnection, query, query_as, query_scalar};
use time::OffsetDateTime;

use crate::{Result, shard::Part, sweep::organisation};

/// A verdict that would cost a session.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The character in EVE Online.
    pub eve_id: EveCharacterId,
    /// Our character.
    pub character_id: CharacterId,
    /// Whose session would go.
    pub account_id: AccountId,
    /// The account's brand.
    pub brand_id: BrandId,
    /// A live session would go; `false`: only the mark against a racing login is owed.
    pub live: bool,
    /// The rule, and with it the verdict.
    pub rule: Rule,
    /// The organisation it was found for.
    pub organisation: Option<Organisation>,
    /// No second source is needed.
    pub confirmed: bool,
    /// Found by the very source that would confirm it.
    pub single_source: bool,
    /// Since when it is known, by the database's clock.
    pub observed_at: OffsetDateTime,
}

/// Notes candidates found by `run_id`. A candidate that was disputed and is now found again for the same organisation
/// has confirmed itself; not so a deleted one, since that may be known from a note and not from an answer, and not
/// within one run (the tries of one Job share its id).
pub async fn note(db: &mut PgConnection, run_id: &str, candidates: &[Candidate]) -> Result<()> {
    let eve_ids: Vec<i64> = candidates.iter().map(|c| c.eve_id.0).collect();
    let characters: Vec<uuid::Uuid> = candidates.iter().map(|c| c.character_id.0).collect();
    let accounts: Vec<uuid::Uuid> = candidates.iter().map(|c| c.account_id.0).collect();
    let brands: Vec<uuid::Uuid> = candidates.iter().map(|c| c.brand_id.0).collect();
    let live: Vec<bool> = candidates.iter().map(|c| c.live).collect();
    let verdicts: Vec<String> = candidates.iter().map(|c| Verdict::of(c.rule).to_string()).collect();
    let rules: Vec<String> = candidates.iter().map(|c| c.rule.to_string()).collect();
    let corporations: Vec<Option<i64>> = candidates.iter().map(|c| c.organisation.map(|o| o.corporation.0)).collect();
    let alliances: Vec<Option<i64>> =
        candidates.iter().map(|c| c.organisation.and_then(|o| o.alliance).map(|id| id.0)).collect();
    let confirmed: Vec<bool> = candidates.iter().map(|c| c.confirmed).collect();
    let observed: Vec<OffsetDateTime> = candidates.iter().map(|c| c.observed_at).collect();
    let single: Vec<bool> = candidates.iter().map(|c| c.single_source).collect();
    query!(
        "/* candidates::note */
         INSERT INTO revocation_candidates AS k
             (eve_id, character_id, account_id, brand_id, state, live, verdict, rule, corporation_id, alliance_id, confirmed, observed_at, found_at, found_by, single_source)
         SELECT eve_id, character_id, account_id, brand_id, 'found', live, verdict, rule, corporation_id, alliance_id, confirmed, observed_at, clock_timestamp(), $12, single_source
         FROM unnest($1::bigint[], $2::uuid[], $3::uuid[], $4::uuid[], $5::boolean[], $6::text[], $7::text[], $8::bigint[], $9::bigint[], $10::boolean[], $11::timestamptz[], $13::boolean[])
              AS c (eve_id, character_id, account_id, brand_id, live, verdict, rule, corporation_id, alliance_id, confirmed, observed_at, single_source)
         ON CONFLICT (eve_id) DO UPDATE
         SET confirmed = excluded.confirmed
                 OR (k.state = 'disputed' AND k.found_by <> excluded.found_by AND excluded.verdict <> 'gone'
                     AND k.corporation_id IS NOT DISTINCT FROM excluded.corporation_id
                     AND k.alliance_id IS NOT DISTINCT FROM excluded.alliance_id),
             character_id = excluded.character_id, account_id = excluded.account_id, brand_id = excluded.brand_id,
             state = 'found', live = excluded.live, verdict = excluded.verdict, rule = excluded.rule,
             corporation_id = excluded.corporation_id, alliance_id = excluded.alliance_id,
             observed_at = excluded.observed_at, found_at = excluded.found_at, found_by = excluded.found_by,
             single_source = excluded.single_source",
        &eve_ids,
        &characters,
        &accounts,
        &brands,
        &live,
        &verdicts,
        &rules,
        &corporations as &[Option<i64>],
        &alliances as &[Option<i64>],
        &confirmed,
        &observed,
        run_id,
        &single,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Drops candidates: allowed again, decided, or nothing to take.
pub async fn drop(db: &mut PgConnection, ids: &[i64]) -> Result<()> {
    query!("/* candidates::drop */ DELETE FROM revocation_candidates WHERE eve_id = ANY($1)", ids).execute(db).await?;
    Ok(())
}

/// Drops candidates of this part whose character or account is gone, blocked or moved.
pub async fn drop_orphans(db: &mut PgConnection, part: Part) -> Result<u64> {
    let done = query!(
        "/* candidates::drop_orphans */
         DELETE FROM revocation_candidates k
         WHERE ($1 = 1 OR abs(abs(uuid_hash_extended(k.account_id, 0) % $1) - $2) < 1)
           AND NOT EXISTS (
             SELECT FROM eve_characters e JOIN characters c ON c.id = e.character_id JOIN accounts a ON a.id = c.account_id
             WHERE e.eve_id = k.eve_id AND a.id = k.account_id AND a.deleted_at IS NULL AND NOT a.is_blocked)",
        part.count,
        part.index,
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}

/// How many accounts would lose a live session, by brand.
#[derive(Debug, Clone, Copy)]
pub struct Losses {
    /// The brand.
    pub brand_id: BrandId,
    /// Distinct accounts.
    pub accounts: u64,
}

/// The accounts of this part that would lose a live session: found by this run, or held from an earlier one, so that a
/// run that meets fewer of them does not take them piecemeal. What is disputed waits for the next answer, and what no
/// run could find again for a day must not keep the breaker open for ever: neither is counted.
pub async fn losses(db: &mut PgConnection, part: Part) -> Result<Vec<Losses>> {
    let rows = query!(
        r#"/* candidates::losses */
        SELECT brand_id, count(DISTINCT account_id) AS "accounts!"
        FROM revocation_candidates
        WHERE live AND state IN ('found', 'held') AND found_at > now() - interval '1 day'
          AND ($1 = 1 OR abs(abs(uuid_hash_extended(account_id, 0) % $1) - $2) < 1)
        GROUP BY brand_id"#,
        part.count,
        part.index,
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|r| Losses { brand_id: BrandId(r.brand_id), accounts: r.accounts.unsigned_abs() })
        .collect())
}

/// The next page, by `eve_id`, of candidates found since the run's start, with or without a live session at stake. Not
/// told by the run's id, which the tries of one Kubernetes Job share: what an earlier try found is not found yet.
pub async fn found(
    db: &mut PgConnection,
    started_at: OffsetDateTime,
    part: Part,
    live: bool,
    after: i64,
    limit: i64,
) -> Result<Vec<Candidate>> {
    struct Row {
        eve_id: i64,
        character_id: uuid::Uuid,
        account_id: uuid::Uuid,
        brand_id: uuid::Uuid,
        live: bool,
        rule: String,
        corporation_id: Option<i64>,
        alliance_id: Option<i64>,
        confirmed: bool,
        single_source: bool,
        observed_at: OffsetDateTime,
    }
    let rows = query_as!(
        Row,
        "/* candidates::found */
         SELECT eve_id, character_id, account_id, brand_id, live, rule, corporation_id, alliance_id, confirmed, single_source, observed_at
         FROM revocation_candidates
         WHERE state = 'found' AND found_at >= $1 AND live = $2 AND eve_id > $3
           AND ($4 = 1 OR abs(abs(uuid_hash_extended(account_id, 0) % $4) - $5) < 1)
         ORDER BY eve_id
         LIMIT $6",
        started_at,
        live,
        after,
        part.count,
        part.index,
        limit,
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Candidate {
                eve_id: EveCharacterId(row.eve_id),
                character_id: CharacterId(row.character_id),
                account_id: AccountId(row.account_id),
                brand_id: BrandId(row.brand_id),
                live: row.live,
                rule: row.rule.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
                organisation: organisation(row.corporation_id, row.alliance_id),
                confirmed: row.confirmed,
                single_source: row.single_source,
                observed_at: row.observed_at,
            })
        })
        .collect()
}

/// A login slipped in: these candidates have a live session after all.
pub async fn set_live(db: &mut PgConnection, ids: &[i64]) -> Result<()> {
    query!("/* candidates::set_live */ UPDATE revocation_candidates SET live = true WHERE eve_id = ANY($1)", ids)
        .execute(db)
        .await?;
    Ok(())
}

/// The second source disagreed: the same answer of the first one in a later run confirms.
pub async fn dispute(db: &mut PgConnection, ids: &[i64]) -> Result<()> {
    query!("/* candidates::dispute */ UPDATE revocation_candidates SET state = 'disputed' WHERE eve_id = ANY($1)", ids)
        .execute(db)
        .await?;
    Ok(())
}

/// The circuit breaker refused: the verdicts of this part are kept for an operator.
pub async fn hold(db: &mut PgConnection, part: Part) -> Result<u64> {
    let done = query!(
        "/* candidates::hold */
         UPDATE revocation_candidates SET state = 'held'
         WHERE live AND state = 'found' AND ($1 = 1 OR abs(abs(uuid_hash_extended(account_id, 0) % $1) - $2) < 1)",
        part.count,
        part.index,
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}

/// How many candidates of this part are held.
pub async fn count_held(db: &mut PgConnection, part: Part) -> Result<u64> {
    let count = query_scalar!(
        r#"/* candidates::count_held */
        SELECT count(*) AS "count!" FROM revocation_candidates
        WHERE state = 'held' AND ($1 = 1 OR abs(abs(uuid_hash_extended(account_id, 0) % $1) - $2) < 1)"#,
        part.count,
        part.index,
    )
    .fetch_one(db)
    .await?;
    Ok(count.unsigned_abs())
}
