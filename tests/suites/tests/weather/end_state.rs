//! What runs leave, so that it can be compared: everything but times, random ids and the runner's own rows.

use std::collections::BTreeMap;

use harness::Community;
use serde_json::Value;
use sqlx::PgPool;
use suites::Stage;

/// Everything that must be the same, however often the run was interrupted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EndState {
    /// Organisation, names, verdict, rule and whether it was verified within the hour, by EVE id.
    characters: Vec<String>,
    /// Refresh token, owner, failures, whether checked, by EVE id.
    tokens: Vec<String>,
    tombstones: Vec<String>,
    candidates: Vec<String>,
    pending: usize,
    /// Sorted; a session that is told twice is here twice.
    audit: Vec<String>,
    events: Vec<String>,
    /// Keys of sessions, indices and marks. Receipts expire by themselves.
    sessions: Vec<String>,
    marks: Vec<String>,
}

impl EndState {
    /// As it is now.
    pub(crate) async fn of(stage: &Stage) -> Self {
        let (pool, community) = (stage.db.pool(), &stage.community);
        let characters = texts(
            pool,
            "-- weather::end_state characters
            SELECT concat_ws(' ', eve_id, corporation_id, corporation_name, alliance_id, alliance_name, verdict, rule,
                last_verified_at > now() - interval '1 hour', last_attempted_at > now() - interval '1 hour')
            FROM eve_characters ORDER BY eve_id",
        )
        .await;
        let candidates = texts(
            pool,
            "-- weather::end_state candidates
            SELECT concat_ws(' ', eve_id, state, live, rule) FROM revocation_candidates ORDER BY eve_id",
        )
        .await;
        let tombstones = texts(
            pool,
            "-- weather::end_state tombstones\nSELECT concat_ws(' ', eve_id, reason) FROM unresolvable_ids ORDER BY eve_id",
        )
        .await;
        let mut audit: Vec<String> =
            community.audit().await.iter().map(|row| told(&row.action, &row.details)).collect();
        let mut events: Vec<String> =
            community.events().await.iter().map(|row| told(&row.event_type, &row.payload)).collect();
        audit.sort();
        events.sort();
        let keys = community.fingerprint().await.redis.into_keys().filter(|key| !key.contains(":receipt:"));
        let (marks, sessions): (Vec<String>, Vec<String>) = keys.partition(|key| key.ends_with(":denied"));
        Self {
            characters,
            tokens: tokens(pool, community).await,
            tombstones,
            candidates,
            pending: community.pending().await.len(),
            audit,
            events,
            sessions,
            marks,
        }
    }

    /// How many sessions were told of.
    pub(crate) fn removed(&self) -> usize {
        self.audit.len()
    }

    /// Fails with the first differences only, since the whole is long.
    pub(crate) fn assert_same(&self, expected: &Self, context: &str) {
        let parts = |state: &Self| -> BTreeMap<&'static str, Vec<String>> {
            [
                ("characters", state.characters.clone()),
                ("tokens", state.tokens.clone()),
                ("tombstones", state.tombstones.clone()),
                ("candidates", state.candidates.clone()),
                ("pending", vec![state.pending.to_string()]),
                ("audit", state.audit.clone()),
                ("events", state.events.clone()),
                ("sessions", state.sessions.clone()),
                ("marks", state.marks.clone()),
            ]
            .into()
        };
        let mut differences = Vec::new();
        for ((name, ours), (_, theirs)) in parts(self).into_iter().zip(parts(expected)) {
            let (extra, absent) = (without(&ours, &theirs), without(&theirs, &ours));
            if !extra.is_empty() || !absent.is_empty() {
                differences.push(format!("{name}: not expected {extra:?}; absent {absent:?}"));
            }
        }
        assert!(differences.is_empty(), "the end state is another: {}\n{context}", differences.join("\n"));
    }
}

/// What of `list` is not in `other`, each as often as it is missing there.
fn without(list: &[String], other: &[String]) -> Vec<String> {
    let mut left = other.to_vec();
    let mut extra = Vec::new();
    for entry in list {
        match left.iter().position(|found| found == entry) {
            Some(at) => drop(left.swap_remove(at)),
            None => extra.push(entry.clone()),
        }
    }
    extra.truncate(5);
    extra
}

/// The lines of a query with one text column.
async fn texts(pool: &PgPool, sql: &'static str) -> Vec<String> {
    sqlx::query_scalar(sql).fetch_all(pool).await.unwrap()
}

async fn tokens(pool: &PgPool, community: &Community) -> Vec<String> {
    let sql = "-- weather::end_state tokens
        SELECT eve_id, concat_ws(' ', owner_hash, invalid_grant_count, revoked_at IS NOT NULL,
            checked_at > now() - interval '1 hour')
        FROM eve_tokens ORDER BY eve_id";
    let rows: Vec<(i64, String)> = sqlx::query_as(sql).fetch_all(pool).await.unwrap();
    let mut tokens = Vec::new();
    for (eve_id, text) in rows {
        tokens.push(format!("{eve_id} {} {text}", community.refresh_token(eve_id).await));
    }
    tokens
}

/// An audit row or an event without what is random in it.
fn told(kind: &str, details: &Value) -> String {
    let field = |name: &str| details[name].to_string();
    let fields = ["eve_character_id", "corporation_id", "alliance_id", "rule", "reason", "session"].map(field);
    format!("{kind} {}", fields.join(" "))
}
