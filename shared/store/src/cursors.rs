//! Where a pass over a table goes on in the next run.

use sqlx::{PgConnection, query, query_scalar};

use crate::Result;

/// The last id done by the pass `name` of `job`; 0 at its beginning.
pub async fn position(db: &mut PgConnection, job: &str, name: &str) -> Result<i64> {
    let position = query_scalar!(
        r#"/* cursors::position */ SELECT (position ->> 'id')::bigint AS "id!" FROM job_cursors WHERE job = $1 AND name = $2"#,
        job,
        name
    )
    .fetch_optional(db)
    .await?;
    Ok(position.unwrap_or(0))
}

/// Moves the pass; in the transaction of the batch it stands behind.
pub async fn save(db: &mut PgConnection, job: &str, name: &str, id: i64) -> Result<()> {
    query!(
        "/* cursors::save */
         INSERT INTO job_cursors (job, name, position) VALUES ($1, $2, jsonb_build_object('id', $3::bigint))
         ON CONFLICT (job, name) DO UPDATE SET position = excluded.position, updated_at = now()",
        job,
        name,
        id
    )
    .execute(db)
    .await?;
    Ok(())
}
