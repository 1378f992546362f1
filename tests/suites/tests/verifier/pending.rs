//! What a run that died has decided is completed by the next, first and once.

use harness::{Member, newcomer, session_key};
use serde_json::json;
use suites::Stage;
use uuid::Uuid;

use crate::support::{decide, ended, verify};

const ID: Uuid = Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_00ff);

/// The session was taken already, and the receipt says so.
async fn take(stage: &Stage, member: &Member) -> String {
    let key = session_key(member.session_token());
    let hash = key.rsplit(':').next().expect("a key has a last part").to_owned();
    let receipt = json!([{
        "hash": hash, "character_id": member.character_id, "client_type": "web", "approved_at": 1, "created_at": 1,
    }]);
    let mut redis = stage.db.redis();
    let prefix = format!("sess:{{{}}}:", member.account_id);
    redis::pipe()
        .del(&key)
        .zrem(format!("{prefix}index"), &hash)
        .set(format!("{prefix}receipt:{ID}"), receipt.to_string())
        .exec_async(&mut redis)
        .await
        .expect("Redis answers");
    hash
}

#[tokio::test]
async fn a_decision_not_carried_out_is_carried_out_first_though_nothing_is_due() {
    let stage = Stage::new().await;
    let member = stage.add(newcomer("Alice").verified_minutes_ago(1).session()).await;
    decide(&stage, ID, &member).await;
    let run = verify(&stage).await;
    assert_eq!(ended(&run), "done");
    assert!(!stage.community.has_session(member.session_token()).await);
    assert_eq!(stage.community.pending().await, []);
    let audit = stage.community.audit().await;
    assert_eq!((audit.len(), &audit[0].details["invalidation_id"]), (1, &json!(ID)));
    assert_eq!(stage.community.events().await.len(), 1);
    assert_eq!(stage.sim.counts().total(), 0);

    assert_eq!(ended(&verify(&stage).await), "nothing_to_do");
    assert_eq!(stage.community.audit().await, audit);
}

#[tokio::test]
async fn a_session_that_was_taken_and_not_told_is_told_from_its_receipt_once() {
    let stage = Stage::new().await;
    let member = stage.add(newcomer("Alice").verified_minutes_ago(1).session()).await;
    decide(&stage, ID, &member).await;
    let hash = take(&stage, &member).await;
    // Somebody logged in again meanwhile: that session is none of this decision's.
    let younger = harness::SessionSpec { approved_minutes_ago: 0, ..harness::SessionSpec::default() };
    let token = stage.community.open_session(&member, younger).await;
    verify(&stage).await;
    let audit = stage.community.audit().await;
    assert_eq!((audit.len(), &audit[0].details["session"]), (1, &json!(hash)));
    assert_eq!(stage.community.events().await.len(), 1);
    assert!(stage.community.has_session(&token).await);
    let receipts: Vec<String> =
        redis::cmd("KEYS").arg("*receipt*").query_async(&mut stage.db.redis()).await.expect("Redis answers");
    assert!(receipts.is_empty(), "a completed receipt is forgotten");
    verify(&stage).await;
    assert_eq!(stage.community.audit().await.len(), 1);
    let counters = stage.community.counters("character-verifier").await;
    assert_eq!(counters["battlescope_sessions_invalidated_total{disallowed}"], 1);
}

#[tokio::test]
async fn it_is_completed_though_esi_is_down() {
    let stage = Stage::new().await;
    stage.sim.settings(|settings| settings.vip = true);
    let member = stage.add(newcomer("Alice").verified_minutes_ago(60).session()).await;
    decide(&stage, ID, &member).await;
    assert_eq!(ended(&verify(&stage).await), "upstream_down");
    assert!(!stage.community.has_session(member.session_token()).await);
    assert_eq!(stage.community.audit().await.len(), 1);
}

#[tokio::test]
async fn a_decision_that_hits_no_session_any_more_is_cleared_without_a_trace() {
    let stage = Stage::new().await;
    let member = stage.add(newcomer("Alice").verified_minutes_ago(1)).await;
    decide(&stage, ID, &member).await;
    verify(&stage).await;
    assert_eq!(stage.community.pending().await, []);
    assert_eq!(stage.community.audit().await, []);
    assert!(stage.community.marks(member.account_id).await.contains_key(&member.character_id.to_string()));
}

#[tokio::test]
async fn a_candidate_of_a_try_that_died_is_not_acted_on_while_its_character_is_unknown() {
    use esi_simulator::{Fault, Kind, Route};

    let stage = Stage::new().await;
    let member = stage.add(newcomer("Alice").verified_minutes_ago(60).session()).await;
    stage.crowd(3, |place| (harness::CORPORATION, newcomer(format!("m{place}")))).await;
    // Another try of the same Kubernetes Job, whose run id it shares, found it disallowed for the second time.
    let sql = "-- verifier::pending
        INSERT INTO revocation_candidates (eve_id, character_id, account_id, brand_id, state, live, verdict, rule,
            corporation_id, confirmed, observed_at, found_at, found_by)
        VALUES ($1, $2, $3, $4, 'found', true, 'disallowed', 'not_a_member', 98666001, true, now(), now(), 'the-job')";
    sqlx::query(sql)
        .bind(member.eve_id)
        .bind(member.character_id)
        .bind(member.account_id)
        .bind(member.brand_id)
        .execute(stage.db.pool())
        .await
        .expect("the row fits");
    stage.sim.faults().add(Fault::on(Route::Affiliation, Kind::MissingRows { ids: vec![member.eve_id] }));
    crate::support::ends(&stage.verifier().env("RUN_ID", "the-job"), 0).await;
    assert!(stage.community.has_session(member.session_token()).await);
}
