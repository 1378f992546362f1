//! What a run left behind: who lost a session, who is held, how many live sessions there are.

use std::collections::{HashMap, HashSet};

use harness::TestDb;
use sqlx::FromRow;

/// Where everybody stands: the name of the organisation by EVE id.
pub(crate) type Standing = HashMap<i64, String>;

/// A character that lost its session, or is about to.
#[derive(Debug, FromRow)]
pub(crate) struct Loss {
    /// In EVE.
    pub(crate) eve_id: i64,
    /// Its name.
    pub(crate) name: String,
    /// The organisation that the decision was about.
    pub(crate) organisation: String,
    /// By which rule.
    pub(crate) rule: String,
}

/// `corporation_name` with its alliance, where one is stored.
macro_rules! organisation {
    () => {
        "COALESCE(e.corporation_name, 'corporation ' || e.corporation_id, 'unknown')
            || COALESCE(' [' || COALESCE(e.alliance_name, 'alliance ' || e.alliance_id) || ']', '')"
    };
}

/// Where everybody stands by what is stored.
pub(crate) async fn standing(db: &TestDb) -> Standing {
    let sql = concat!("-- demo::standing\nSELECT e.eve_id, ", organisation!(), " FROM eve_characters e");
    let rows: Vec<(i64, String)> = sqlx::query_as(sql).fetch_all(db.pool()).await.expect("PostgreSQL answers");
    rows.into_iter().collect()
}

/// Verdict and rule of a character, as stored.
pub(crate) async fn verdict(db: &TestDb, eve_id: i64) -> String {
    let sql =
        "-- demo::verdict\nSELECT COALESCE(verdict || ' by ' || rule, 'none') FROM eve_characters WHERE eve_id = $1";
    sqlx::query_scalar(sql).bind(eve_id).fetch_one(db.pool()).await.expect("the character is stored")
}

/// The last entry of the audit log and of the outbox.
#[derive(Debug, Clone, Copy, Default, FromRow)]
pub(crate) struct Mark {
    audit: i64,
    event: i64,
}

/// Where audit log and outbox end now.
pub(crate) async fn mark(db: &TestDb) -> Mark {
    let sql = "-- demo::mark
        SELECT (SELECT COALESCE(max(id), 0) FROM audit_logs) AS audit,
            (SELECT COALESCE(max(seq), 0) FROM outbox_events) AS event";
    sqlx::query_as(sql).fetch_one(db.pool()).await.expect("PostgreSQL answers")
}

/// By the audit log since `mark`: who lost a session.
pub(crate) async fn losses(db: &TestDb, since: Mark) -> Vec<Loss> {
    let sql = concat!(
        "-- demo::losses\nSELECT e.eve_id, c.name, ",
        organisation!(),
        " AS organisation, a.details ->> 'rule' AS rule
        FROM audit_logs a JOIN characters c ON c.id = a.character_id JOIN eve_characters e ON e.character_id = c.id
        WHERE a.id > $1 AND a.action = 'session.invalidated' ORDER BY e.eve_id"
    );
    sqlx::query_as(sql).bind(since.audit).fetch_all(db.pool()).await.expect("PostgreSQL answers")
}

/// Verdicts that the circuit breaker holds.
pub(crate) async fn held(db: &TestDb) -> Vec<Loss> {
    let sql = concat!(
        "-- demo::held\nSELECT e.eve_id, c.name, ",
        organisation!(),
        " AS organisation, k.rule
        FROM revocation_candidates k JOIN eve_characters e USING (eve_id) JOIN characters c ON c.id = e.character_id
        WHERE k.state = 'held' AND k.live ORDER BY e.eve_id"
    );
    sqlx::query_as(sql).fetch_all(db.pool()).await.expect("PostgreSQL answers")
}

/// How many events of lost sessions the outbox got since `mark`.
pub(crate) async fn events(db: &TestDb, since: Mark) -> usize {
    let sql =
        "-- demo::events\nSELECT count(*) FROM outbox_events WHERE seq > $1 AND event_type = 'SESSION_INVALIDATED'";
    let count: i64 = sqlx::query_scalar(sql).bind(since.event).fetch_one(db.pool()).await.expect("PostgreSQL answers");
    usize::try_from(count).expect("a count")
}

/// How many live sessions Redis holds.
pub(crate) async fn live_sessions(db: &TestDb) -> usize {
    // The key of a session ends in a SHA-256 in hex.
    let pattern = format!("sess:{{*}}:{}", "?".repeat(64));
    let mut redis = db.redis();
    // A scan may name a key twice.
    let (mut cursor, mut found) = (0_u64, HashSet::new());
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(1000);
        let (next, keys): (u64, Vec<String>) = scan.query_async(&mut redis).await.expect("Redis answers");
        found.extend(keys);
        cursor = next;
        if cursor == 0 {
            return found.len();
        }
    }
}
