//! Reading what became of the data.

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::{FromRow, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Community;

/// A row of `audit_logs`.
#[derive(Debug, Clone, PartialEq, FromRow)]
#[expect(missing_docs, reason = "the columns are documented in the schema")]
pub struct AuditRow {
    pub action: String,
    pub actor_id: Option<Uuid>,
    pub brand_id: Option<Uuid>,
    pub account_id: Option<Uuid>,
    pub character_id: Option<Uuid>,
    pub details: Value,
    pub occurred_at: OffsetDateTime,
}

/// A row of `outbox_events`.
#[derive(Debug, Clone, PartialEq, FromRow)]
#[expect(missing_docs, reason = "the columns are documented in the schema")]
pub struct EventRow {
    pub seq: i64,
    pub event_id: Uuid,
    pub aggregate_type: String,
    pub aggregate_id: String,
    pub brand_id: Uuid,
    pub event_type: String,
    pub payload: Value,
    pub occurred_at: OffsetDateTime,
}

/// A row of `job_runs`.
#[derive(Debug, Clone, PartialEq, FromRow)]
#[expect(missing_docs, reason = "the columns are documented in the schema")]
pub struct RunRow {
    pub run_id: String,
    pub job: String,
    pub shard_count: i32,
    pub shard_index: i32,
    pub trigger: String,
    pub dry_run: bool,
    pub version: String,
    pub started_at: OffsetDateTime,
    pub ended_at: Option<OffsetDateTime>,
    pub outcome: Option<String>,
    pub scanned: i64,
    pub changed: i64,
    pub skipped: i64,
    pub failed: i64,
    pub remaining: i64,
    pub details: Value,
    pub note: Option<String>,
    pub error: Option<String>,
}

/// A row of `pending_invalidations`.
#[derive(Debug, Clone, PartialEq, FromRow)]
#[expect(missing_docs, reason = "the columns are documented in the schema")]
pub struct PendingRow {
    pub id: Uuid,
    pub eve_id: i64,
    pub character_id: Uuid,
    pub account_id: Uuid,
    pub brand_id: Uuid,
    pub gate: String,
    pub verdict: String,
    pub rule: String,
    pub corporation_id: Option<i64>,
    pub alliance_id: Option<i64>,
    pub observed_at: OffsetDateTime,
    pub decided_by: String,
}

/// A row of `revocation_candidates`.
#[derive(Debug, Clone, PartialEq, FromRow)]
#[expect(missing_docs, reason = "the columns are documented in the schema")]
pub struct CandidateRow {
    pub eve_id: i64,
    pub character_id: Uuid,
    pub account_id: Uuid,
    pub brand_id: Uuid,
    pub state: String,
    pub live: bool,
    pub verdict: String,
    pub rule: String,
    pub corporation_id: Option<i64>,
    pub alliance_id: Option<i64>,
    pub confirmed: bool,
    pub observed_at: OffsetDateTime,
    pub found_by: String,
}

/// A row of `eve_characters`.
#[derive(Debug, Clone, PartialEq, FromRow)]
#[expect(missing_docs, reason = "the columns are documented in the schema")]
pub struct EveRow {
    pub eve_id: i64,
    pub character_id: Uuid,
    pub corporation_id: Option<i64>,
    pub alliance_id: Option<i64>,
    pub corporation_name: Option<String>,
    pub alliance_name: Option<String>,
    pub verdict: Option<String>,
    pub rule: Option<String>,
    pub verdict_since: Option<OffsetDateTime>,
    pub last_verified_at: Option<OffsetDateTime>,
    pub last_attempted_at: Option<OffsetDateTime>,
}

/// A row of `eve_tokens`.
#[derive(Debug, Clone, PartialEq, FromRow)]
#[expect(missing_docs, reason = "the columns are documented in the schema")]
pub struct TokenRow {
    pub eve_id: i64,
    /// As stored, sealed; see [`Community::refresh_token`].
    pub refresh_token: String,
    pub owner_hash: Option<String>,
    pub checked_at: OffsetDateTime,
    pub invalid_grant_count: i32,
    pub invalid_grant_since: Option<OffsetDateTime>,
    pub revoked_at: Option<OffsetDateTime>,
}

impl Community {
    /// The audit log, oldest first.
    pub async fn audit(&self) -> Vec<AuditRow> {
        self.rows("-- harness::community::audit\nSELECT * FROM audit_logs ORDER BY id").await
    }

    /// The outbox, oldest first.
    pub async fn events(&self) -> Vec<EventRow> {
        self.rows("-- harness::community::events\nSELECT * FROM outbox_events ORDER BY seq").await
    }

    /// The ledger, oldest first.
    pub async fn runs(&self) -> Vec<RunRow> {
        self.rows("-- harness::community::runs\nSELECT * FROM job_runs ORDER BY id").await
    }

    /// Invalidations that are decided and not yet carried out, by EVE id.
    pub async fn pending(&self) -> Vec<PendingRow> {
        self.rows("-- harness::community::pending\nSELECT * FROM pending_invalidations ORDER BY eve_id, id").await
    }

    /// Verdicts that would cost a session, by EVE id.
    pub async fn candidates(&self) -> Vec<CandidateRow> {
        self.rows("-- harness::community::candidates\nSELECT * FROM revocation_candidates ORDER BY eve_id").await
    }

    /// What is stored of a character.
    pub async fn eve(&self, eve_id: i64) -> EveRow {
        let sql = "-- harness::community::eve\nSELECT * FROM eve_characters WHERE eve_id = $1";
        let row = sqlx::query_as(sql).bind(eve_id).fetch_optional(&self.pool).await.expect("PostgreSQL answers");
        row.unwrap_or_else(|| panic!("there is no EVE character {eve_id}"))
    }

    /// What is stored of a character's token, if it has one.
    pub async fn token(&self, eve_id: i64) -> Option<TokenRow> {
        let sql = "-- harness::community::token\nSELECT * FROM eve_tokens WHERE eve_id = $1";
        sqlx::query_as(sql).bind(eve_id).fetch_optional(&self.pool).await.expect("PostgreSQL answers")
    }

    /// A character's refresh token, opened.
    ///
    /// # Panics
    /// It has none, or not one that opens under [`ENCRYPTION_KEY`](super::ENCRYPTION_KEY).
    pub async fn refresh_token(&self, eve_id: i64) -> String {
        let row = self.token(eve_id).await.unwrap_or_else(|| panic!("EVE character {eve_id} has no token"));
        self.key.open(&row.refresh_token).expect("the token opens").expose().to_owned()
    }

    /// The totals of a job over its shards, by metric name and label values as stored: `name{values}`.
    pub async fn counters(&self, job: &str) -> BTreeMap<String, i64> {
        let sql = "-- harness::community::counters
            SELECT metric || '{' || labels || '}', sum(value)::bigint FROM job_counters WHERE job = $1 GROUP BY 1";
        let rows: Vec<(String, i64)> =
            sqlx::query_as(sql).bind(job).fetch_all(&self.pool).await.expect("PostgreSQL answers");
        rows.into_iter().collect()
    }

    async fn rows<T>(&self, sql: &'static str) -> Vec<T>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        sqlx::query_as(sql).fetch_all(&self.pool).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }
}
