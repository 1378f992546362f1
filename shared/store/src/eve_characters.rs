//! Writing what a check found.

use identity::{
    approval::{Organisation, Rule},
    ids::EveCharacterId,
    verdict::Verdict,
};
use sqlx::{PgConnection, query, query_scalar};

use crate::Result;

/// What is to be written about one character.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Which character.
    pub eve_id: EveCharacterId,
    /// Where it stood when it was read; if a login has written since, its knowledge is younger and stays.
    pub known: Option<Organisation>,
    /// The rule that stood when it was read, for the same purpose.
    pub stood: Option<Rule>,
    /// Where it stands now.
    pub organisation: Option<Organisation>,
    /// The corporation's name, if it could be had.
    pub corporation_name: Option<String>,
    /// The alliance's name, if it could be had.
    pub alliance_name: Option<String>,
    /// The verdict with its rule.
    pub rule: Rule,
    /// Whether the check is complete; `false` while a session is still to be taken.
    pub verified: bool,
}

/// Time stamps of characters about which nothing changed.
pub async fn stamp_verified(db: &mut PgConnection, ids: &[i64]) -> Result<()> {
    query!(
        "/* eve_characters::stamp_verified */
         UPDATE eve_characters SET last_verified_at = now() WHERE eve_id = ANY($1)",
        ids
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Time stamps of characters whose check ended without a verdict.
pub async fn stamp_attempted(db: &mut PgConnection, ids: &[i64]) -> Result<()> {
    query!(
        "/* eve_characters::stamp_attempted */
         UPDATE eve_characters SET last_attempted_at = now() WHERE eve_id = ANY($1)",
        ids
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Writes findings; returns the ids written. Those not returned were written by a login meanwhile.
pub async fn write(db: &mut PgConnection, findings: &[Finding]) -> Result<Vec<i64>> {
    if findings.is_empty() {
        return Ok(Vec::new());
    }
    let corporation = |o: Option<Organisation>| o.map(|o| o.corporation.0);
    let alliance = |o: Option<Organisation>| o.and_then(|o| o.alliance).map(|id| id.0);
    let ids: Vec<i64> = findings.iter().map(|f| f.eve_id.0).collect();
    let old_corporations: Vec<Option<i64>> = findings.iter().map(|f| corporation(f.known)).collect();
    let old_alliances: Vec<Option<i64>> = findings.iter().map(|f| alliance(f.known)).collect();
    let corporations: Vec<Option<i64>> = findings.iter().map(|f| corporation(f.organisation)).collect();
    let alliances: Vec<Option<i64>> = findings.iter().map(|f| alliance(f.organisation)).collect();
    let corporation_names: Vec<Option<String>> = findings.iter().map(|f| f.corporation_name.clone()).collect();
    let alliance_names: Vec<Option<String>> = findings.iter().map(|f| f.alliance_name.clone()).collect();
    let verdicts: Vec<String> = findings.iter().map(|f| Verdict::of(f.rule).to_string()).collect();
    let rules: Vec<String> = findings.iter().map(|f| f.rule.to_string()).collect();
    let verified: Vec<bool> = findings.iter().map(|f| f.verified).collect();
    let old_rules: Vec<Option<String>> = findings.iter().map(|f| f.stood.map(|rule| rule.to_string())).collect();
    query_scalar!(
        "/* eve_characters::write */
         UPDATE eve_characters e
         SET corporation_id = f.corporation_id,
             alliance_id = f.alliance_id,
             corporation_name = CASE WHEN e.corporation_id = f.corporation_id
                                     THEN COALESCE(f.corporation_name, e.corporation_name) ELSE f.corporation_name END,
             alliance_name = CASE WHEN e.alliance_id = f.alliance_id
                                  THEN COALESCE(f.alliance_name, e.alliance_name) ELSE f.alliance_name END,
             verdict = f.verdict,
             rule = f.rule,
             verdict_since = CASE WHEN e.verdict IS DISTINCT FROM f.verdict THEN now() ELSE e.verdict_since END,
             last_verified_at = CASE WHEN f.verified THEN now() ELSE e.last_verified_at END,
             last_attempted_at = CASE WHEN f.verified THEN e.last_attempted_at ELSE now() END
         FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::text[], $10::boolean[], $11::text[])
              AS f (eve_id, old_corporation_id, old_alliance_id, corporation_id, alliance_id, corporation_name, alliance_name, verdict, rule, verified, old_rule)
         WHERE e.eve_id = f.eve_id
           AND e.corporation_id IS NOT DISTINCT FROM f.old_corporation_id
           AND e.alliance_id IS NOT DISTINCT FROM f.old_alliance_id
           AND e.rule IS NOT DISTINCT FROM f.old_rule
         RETURNING e.eve_id",
        &ids,
        &old_corporations as &[Option<i64>],
        &old_alliances as &[Option<i64>],
        &corporations as &[Option<i64>],
        &alliances as &[Option<i64>],
        &corporation_names as &[Option<String>],
        &alliance_names as &[Option<String>],
        &verdicts,
        &rules,
        &verified,
        &old_rules as &[Option<String>],
    )
    .fetch_all(db)
    .await
}
