//! Names of organisations that could not be resolved when they were needed.

use sqlx::{PgConnection, query};

use crate::Result;

/// Ids of corporations and alliances whose names are missing at up to `limit` characters after `after`, and the last
/// character looked at.
pub async fn missing(db: &mut PgConnection, after: i64, limit: i64) -> Result<(Vec<i64>, Option<i64>)> {
    let rows = query!(
        r#"/* eve_names::missing */
        SELECT eve_id,
               CASE WHEN corporation_name IS NULL THEN corporation_id END AS corporation_id,
               CASE WHEN alliance_name IS NULL THEN alliance_id END AS alliance_id
        FROM eve_characters
        WHERE ((corporation_id IS NOT NULL AND corporation_name IS NULL) OR (alliance_id IS NOT NULL AND alliance_name IS NULL))
          AND eve_id > $1
        ORDER BY eve_id
        LIMIT $2"#,
        after,
        limit
    )
    .fetch_all(db)
    .await?;
    let last = rows.last().map(|row| row.eve_id);
    let mut ids: Vec<i64> = rows.into_iter().flat_map(|row| [row.corporation_id, row.alliance_id]).flatten().collect();
    ids.sort_unstable();
    ids.dedup();
    Ok((ids, last))
}

/// Fills in names, at the characters after `after` up to `last`, where they are still missing; rows that somebody else
/// is writing are left for the next time.
pub async fn fill(db: &mut PgConnection, after: i64, last: i64, names: Vec<(i64, String)>) -> Result<u64> {
    let (ids, texts): (Vec<i64>, Vec<String>) = names.into_iter().unzip();
    let done = query!(
        "/* eve_names::fill */
         WITH n AS (SELECT * FROM unnest($3::bigint[], $4::text[]) AS n (id, name))
         , free AS (SELECT eve_id FROM eve_characters
                   WHERE eve_id > $1 AND eve_id <= $2 AND (corporation_id = ANY($3) OR alliance_id = ANY($3))
                   ORDER BY eve_id FOR UPDATE SKIP LOCKED)
         UPDATE eve_characters e
         SET corporation_name = COALESCE(e.corporation_name, (SELECT name FROM n WHERE id = e.corporation_id)),
             alliance_name = COALESCE(e.alliance_name, (SELECT name FROM n WHERE id = e.alliance_id))
         WHERE ((corporation_id IS NOT NULL AND corporation_name IS NULL) OR (alliance_id IS NOT NULL AND alliance_name IS NULL))
           AND e.eve_id IN (SELECT eve_id FROM free)",
        after,
        last,
        &ids,
        &texts
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}
