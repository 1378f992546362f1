//! Ids that would fail a whole bulk call.

use sqlx::{PgConnection, query};
use time::Duration;

use crate::Result;

/// How long such an id is left out before it is asked again.
pub const LASTS: Duration = Duration::days(7);

/// Notes ids with their reasons (`not_found`, `deleted`, `affiliation_refuses`).
pub async fn note(db: &mut PgConnection, bad: &[(i64, &'static str)]) -> Result<()> {
    let ids: Vec<i64> = bad.iter().map(|(id, _)| *id).collect();
    let reasons: Vec<String> = bad.iter().map(|(_, reason)| (*reason).to_owned()).collect();
    query!(
        "/* unresolvable::note */
         INSERT INTO unresolvable_ids (eve_id, reason, expires_at)
         SELECT id, reason, now() + make_interval(secs => $3) FROM unnest($1::bigint[], $2::text[]) AS b (id, reason)
         ON CONFLICT (eve_id) DO UPDATE
         SET reason = excluded.reason, seen_at = now(), expires_at = excluded.expires_at",
        &ids,
        &reasons,
        LASTS.as_seconds_f64()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Forgets ids that have shown themselves again.
pub async fn forget(db: &mut PgConnection, ids: &[i64]) -> Result<()> {
    query!("/* unresolvable::forget */ DELETE FROM unresolvable_ids WHERE eve_id = ANY($1)", ids).execute(db).await?;
    Ok(())
}

/// Forgets what has expired.
pub async fn forget_expired(db: &mut PgConnection) -> Result<u64> {
    let done = query!(
        "/* unresolvable::forget_expired */ DELETE FROM unresolvable_ids WHERE eve_id IN (
             SELECT eve_id FROM unresolvable_ids WHERE expires_at <= now() FOR UPDATE SKIP LOCKED)"
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}
