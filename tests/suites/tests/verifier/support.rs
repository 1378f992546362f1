//! What the tests of this suite ask again and again.

use std::time::Duration;

use esi_simulator::Route;
use harness::{Binary, Finished, Member, TestDb, wait_until};
use identity::{
    approval::Rule,
    ids::{AccountId, BrandId, CharacterId},
};
use serde_json::Value;
use sessions::{EpochMillis, Open, Sessions};
use suites::{Stage, message, outcome};
use uuid::Uuid;

/// Far beyond anything that is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// Runs this to its end, which is this exit code.
pub(crate) async fn ends(binary: &Binary, code: i32) -> Finished {
    binary.run().await.expect_code(code)
}

/// One run as production sets it, which must end well.
pub(crate) async fn verify(stage: &Stage) -> Finished {
    ends(&stage.verifier(), 0).await
}

/// The name of how a run ended.
pub(crate) fn ended(run: &Finished) -> &str {
    outcome(run)["outcome"].as_str().expect("the outcome is a name")
}

/// The log lines with this message.
pub(crate) fn lines<'a>(run: &'a Finished, wanted: &str) -> Vec<&'a Value> {
    run.log.iter().filter(|line| message(line) == Some(wanted)).collect()
}

/// The ids affiliation was asked about, in the order of the calls.
pub(crate) fn asked(stage: &Stage) -> Vec<i64> {
    let calls = stage.sim.requests();
    calls.into_iter().filter(|call| call.route == Route::Affiliation).flat_map(|call| call.ids).collect()
}

/// The rule stored for a character, and whether its first session lives.
pub(crate) async fn standing(stage: &Stage, member: &Member) -> (Option<String>, bool) {
    let row = stage.community.eve(member.eve_id).await;
    (row.rule, stage.community.has_session(member.session_token()).await)
}

/// [`standing`], to be compared with.
pub(crate) fn rule(rule: Rule, lives: bool) -> (Option<String>, bool) {
    (Some(rule.as_str().to_owned()), lives)
}

/// The database's clock, in epoch milliseconds.
pub(crate) async fn now(db: &TestDb) -> EpochMillis {
    let sql = "-- verifier::support::now\nSELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    EpochMillis(sqlx::query_scalar(sql).fetch_one(db.pool()).await.expect("PostgreSQL answers"))
}

/// Sessions as another service opens them.
pub(crate) async fn client(db: &TestDb) -> Sessions {
    let client = redis::Client::open(db.redis_url()).expect("our own address is one");
    Sessions::new(client.get_connection_manager().await.expect("Redis answers"), sessions::Settings::default())
}

/// A login as this character on an approval read at this moment.
pub(crate) fn login(member: &Member, approved_at: EpochMillis) -> Open {
    Open {
        account_id: AccountId(member.account_id),
        brand_id: BrandId(member.brand_id),
        character_id: Some(CharacterId(member.character_id)),
        approved_at,
        client_type: "web".to_owned(),
        role: "player".to_owned(),
    }
}

/// Runs a statement.
pub(crate) async fn execute(db: &TestDb, sql: &'static str) {
    sqlx::query(sql).execute(db.pool()).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// Moves a character to another account.
pub(crate) async fn move_to(stage: &Stage, character: Uuid, account: Uuid) {
    let sql = "-- verifier::support::move_to\nUPDATE characters SET account_id = $2 WHERE id = $1";
    let moved = sqlx::query(sql).bind(character).bind(account).execute(stage.db.pool()).await;
    assert_eq!(moved.expect("PostgreSQL answers").rows_affected(), 1, "there is no character {character}");
}

/// Waits until this statement, told by its comment, waits for a lock on a connection other than `known`; returns which.
pub(crate) async fn waits_for_a_lock(stage: &Stage, statement: &str, known: Option<i32>) -> i32 {
    let sql = "-- verifier::support::waits_for_a_lock
        SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND strpos(query, $1) > 0
            AND pid IS DISTINCT FROM $2";
    let mut pid = None;
    wait_until(PATIENCE, &format!("{statement} waits for a lock"), async || {
        let waiting = sqlx::query_scalar(sql).bind(statement).bind(known).fetch_optional(stage.db.pool()).await;
        pid = waiting.expect("PostgreSQL answers");
        pid.is_some()
    })
    .await;
    pid.expect("it was waited for")
}

/// A decided invalidation of this member, as a run leaves it that is killed right after deciding.
pub(crate) async fn decide(stage: &Stage, id: Uuid, member: &Member) {
    let sql = "-- verifier::support::decide
        INSERT INTO pending_invalidations (id, eve_id, character_id, account_id, brand_id, gate, verdict, rule,
            corporation_id, alliance_id, observed_at, decided_by)
        VALUES ($1, $2, $3, $4, $5, 'acting', 'disallowed', 'not_a_member', 98666001, NULL, now(), 'a run that died')";
    sqlx::query(sql)
        .bind(id)
        .bind(member.eve_id)
        .bind(member.character_id)
        .bind(member.account_id)
        .bind(member.brand_id)
        .execute(stage.db.pool())
        .await
        .expect("the row fits");
}
