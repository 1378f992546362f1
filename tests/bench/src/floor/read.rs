//! Reading what is due, page after page.

use sqlx::{FromRow, PgConnection};
use time::{Duration, OffsetDateTime};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::sql;

/// The job's default threshold.
const THRESHOLD: Duration = Duration::minutes(55);

/// All that the job reads of a character, used or not.
#[derive(Debug, Clone, FromRow)]
#[expect(dead_code, reason = "the floor reads what the job reads, though it decides less")]
pub(super) struct Due {
    pub(super) eve_id: i64,
    pub(super) character_id: Uuid,
    pub(super) account_id: Uuid,
    pub(super) brand_id: Uuid,
    is_primary: bool,
    pub(super) corporation_id: Option<i64>,
    pub(super) alliance_id: Option<i64>,
    verdict: Option<String>,
    rule: Option<String>,
    verdict_since: Option<OffsetDateTime>,
    sweep_key: OffsetDateTime,
    unresolvable: Option<String>,
}

/// Sends every page there is.
pub(super) async fn pages(mut database: PgConnection, to: mpsc::Sender<Vec<Due>>) {
    let started: OffsetDateTime =
        sqlx::query_scalar("-- bench::floor::now\nSELECT now()").fetch_one(&mut database).await.expect("the time");
    let mut at = (OffsetDateTime::UNIX_EPOCH, 0);
    loop {
        let page: Vec<Due> = sqlx::query_as(sql::DUE)
            .bind(at.0)
            .bind(at.1)
            .bind(started)
            .bind(started - THRESHOLD)
            .fetch_all(&mut database)
            .await
            .expect("a page can be read");
        let Some(last) = page.last() else { return };
        at = (last.sweep_key, last.eve_id);
        to.send(page).await.expect("pages are asked about");
    }
}
