//! Stored refresh tokens: looked after, and never a reason to lose a session but for a new owner.

use std::time::Duration;

use esi_simulator::{Fault, Kind, Route};
use harness::{ENCRYPTION_KEY, FaultProxy, Member, STRANGERS, newcomer};
use identity::approval::Rule;
use pii::envelope::Key;
use runtime::{Random, Secret};
use suites::{Stage, outcome, with_sso};

use crate::support::{PATIENCE, ended, ends, execute, lines, rule, standing, verify, waits_for_a_lock};

/// A member in good standing with a session, whose token the simulated SSO knows.
pub(crate) async fn holder(stage: &Stage, eve_id: i64) -> (Member, String) {
    let token = stage.sim.world(|world| world.issue_refresh_token(eve_id));
    let newcomer = newcomer(format!("{eve_id}")).eve_id(eve_id).verified_minutes_ago(60).session().token(&token);
    (stage.add(newcomer).await, token)
}

async fn counter(stage: &Stage, result: &str) -> i64 {
    let name = format!("rollcall_verifier_token_checks_total{{{result}}}");
    stage.community.counters("character-verifier").await.get(&name).copied().unwrap_or(0)
}

#[tokio::test]
async fn a_good_token_is_checked_and_its_owner_remembered() {
    let stage = Stage::new().await;
    let (member, token) = holder(&stage, 90_000_001).await;
    let run = ends(&with_sso(stage.verifier()), 0).await;
    let row = stage.community.token(member.eve_id).await.unwrap();
    assert_eq!(row.owner_hash.as_deref(), Some("owner-90000001"));
    assert!(row.checked_at.year() > 2000, "{:?}", row.checked_at);
    assert_eq!(stage.community.refresh_token(member.eve_id).await, token);
    assert_eq!(counter(&stage, "valid").await, 1);
    assert!(run.stderr.contains("\\\"tokens_checked\\\":1"), "{run}");
    assert!(!run.stderr.contains(&token) && !run.stderr.contains("sim-secret"), "no secret is told: {run}");
}

#[tokio::test]
async fn a_rotated_token_replaces_the_old_one() {
    let stage = Stage::new().await;
    let (member, old) = holder(&stage, 90_000_001).await;
    stage.sim.settings(|settings| settings.rotate_refresh_tokens = true);
    for _ in 0..2 {
        ends(&with_sso(stage.verifier()), 0).await;
        let stored = stage.community.refresh_token(member.eve_id).await;
        assert_ne!(stored, old);
        assert_eq!(stage.sim.world(|world| world.refresh_token_holder(&stored)), Some(member.eve_id));
        stage.later(60).await;
    }
    assert_eq!(counter(&stage, "rotated").await, 2);
    assert!(stage.community.has_session(member.session_token()).await);
}

#[tokio::test]
async fn a_rotated_token_whose_storing_fails_is_stored_again() {
    let stage = Stage::new().await;
    let (member, old) = holder(&stage, 90_000_001).await;
    stage.sim.settings(|settings| settings.rotate_refresh_tokens = true);
    let database = FaultProxy::start(stage.db.url());
    let mut gate = stage.db.pool().begin().await.unwrap();
    let close = "-- verifier::tokens\nSELECT FROM eve_tokens FOR UPDATE";
    sqlx::query(close).execute(&mut *gate).await.unwrap();
    let run = with_sso(stage.verifier()).env("DATABASE_URL", database.url()).start();
    let first = waits_for_a_lock(&stage, "eve_tokens::rotate", None).await;
    assert_eq!(stage.sim.world(|world| world.refresh_token_holder(&old)), None, "the old one is worthless");
    database.cut();
    waits_for_a_lock(&stage, "eve_tokens::rotate", Some(first)).await;
    gate.rollback().await.unwrap();
    let run = run.wait(PATIENCE).await.expect_code(0);
    let stored = stage.community.refresh_token(member.eve_id).await;
    assert_eq!(stage.sim.world(|world| world.refresh_token_holder(&stored)), Some(member.eve_id), "{run}");
    assert_eq!((counter(&stage, "rotated").await, stage.sim.counts().arrived(Route::Token)), (1, 1));
}

#[tokio::test]
async fn a_character_that_changed_hands_loses_its_session_in_a_friendly_corporation() {
    let stage = Stage::new().await;
    let (member, _) = holder(&stage, 90_000_001).await;
    ends(&with_sso(stage.verifier()), 0).await;
    stage.later(60).await;
    stage.sim.world(|world| world.character_mut(member.eve_id).unwrap().owner_hash = "somebody else".to_owned());
    let run = ends(&with_sso(stage.verifier()), 0).await;
    assert_eq!(ended(&run), "done");
    assert_eq!(standing(&stage, &member).await, rule(Rule::OwnerChanged, false));
    let audit = stage.community.audit().await;
    assert_eq!(
        (&audit[0].details["reason"], &audit[0].details["rule"]),
        (&"transferred".into(), &"owner_changed".into())
    );
    assert_eq!(counter(&stage, "transferred").await, 1);
    assert_eq!(lines(&run, "character changed hands").len(), 1);

    // It stays transferred until a login says otherwise, and is not asked about again.
    stage.later(60).await;
    stage.sim.clear_requests();
    ends(&with_sso(stage.verifier()), 0).await;
    assert_eq!(stage.sim.counts().arrived(Route::Token), 0);
    assert_eq!(stage.community.eve(member.eve_id).await.verdict.as_deref(), Some("transferred"));
    assert_eq!(stage.community.audit().await.len(), 1);
}

#[tokio::test]
async fn a_transfer_is_acted_on_though_no_character_is_due() {
    let stage = Stage::new().await;
    let token = stage.sim.world(|world| world.issue_refresh_token(90_000_001));
    let newcomer = newcomer("sold").eve_id(90_000_001).verified_minutes_ago(10).session();
    let member = stage.add(newcomer.token(token).owner_hash("the seller")).await;
    let run = ends(&with_sso(stage.verifier()), 0).await;
    assert_eq!(ended(&run), "done", "{run}");
    assert_eq!(standing(&stage, &member).await, rule(Rule::OwnerChanged, false));
}

#[tokio::test]
async fn grace_holds_for_a_transfer_too() {
    let stage = Stage::new().await;
    let token = stage.sim.world(|world| world.issue_refresh_token(90_000_001));
    let newcomer = newcomer("sold").eve_id(90_000_001).verified_minutes_ago(60).session();
    let member = stage.add(newcomer.token(token).owner_hash("the seller")).await;
    let graceful = with_sso(stage.verifier()).env("REVOCATION_GRACE_MINUTES", "90");
    ends(&graceful, 0).await;
    assert_eq!(standing(&stage, &member).await, rule(Rule::OwnerChanged, true));
    stage.later(100).await;
    ends(&graceful, 0).await;
    assert_eq!(standing(&stage, &member).await, rule(Rule::OwnerChanged, false));
}

#[tokio::test]
async fn characters_with_live_sessions_are_first_when_not_all_can_be_checked() {
    let stage = Stage::new().await;
    let mut members = Vec::new();
    for (eve_id, lives, checked) in [(90_000_001, false, 9000), (90_000_002, true, 100), (90_000_003, false, 8000)] {
        let token = stage.sim.world(|world| world.issue_refresh_token(eve_id));
        let newcomer = newcomer(format!("{eve_id}")).eve_id(eve_id).token(token).token_checked_minutes_ago(checked);
        members.push(stage.add(if lives { newcomer.session() } else { newcomer }).await);
    }
    let two = with_sso(stage.verifier()).env("TOKEN_CHECKS_PER_RUN", "2");
    ends(&two, 0).await;
    let mut checked = Vec::new();
    for member in &members {
        checked.push(stage.community.token(member.eve_id).await.unwrap().owner_hash.is_some());
    }
    assert_eq!(checked, [true, true, false], "the live one, then the longest unchecked");
}

#[tokio::test]
async fn a_login_that_stores_a_fresh_token_meanwhile_is_never_overwritten() {
    for what in [None, Some(Kind::InvalidGrant)] {
        let stage = Stage::new().await;
        let (member, _) = holder(&stage, 90_000_001).await;
        stage.sim.settings(|settings| settings.rotate_refresh_tokens = true);
        stage.sim.faults().add(Fault::on(Route::Token, Kind::Slow { ms: 1500 }));
        if let Some(kind) = what {
            stage.sim.faults().add(Fault::on(Route::Token, kind));
        }
        let running = with_sso(stage.verifier()).start();
        let patience = Duration::from_secs(20);
        assert!(stage.sim.wait_for(patience, |counts| counts.arrived(Route::Token) == 1).await);
        let fresh = stage.sim.world(|world| world.issue_refresh_token(member.eve_id));
        let key = Key::from_hex(&Secret::new(ENCRYPTION_KEY)).unwrap();
        let sealed = key.seal(&Random::system(), &fresh);
        let sql = "-- verifier::tokens\nUPDATE eve_tokens SET refresh_token = $1, invalid_grant_count = 0";
        sqlx::query(sql).bind(&sealed).execute(stage.db.pool()).await.unwrap();
        let _ = running.wait(patience).await.expect_code(0);
        let row = stage.community.token(member.eve_id).await.unwrap();
        assert_eq!((row.refresh_token, row.invalid_grant_count), (sealed, 0));
        assert!(stage.community.has_session(member.session_token()).await);
    }
}

#[tokio::test]
async fn without_a_client_of_sso_tokens_are_left_alone_and_the_start_says_so() {
    let stage = Stage::new().await;
    let (member, _) = holder(&stage, 90_000_001).await;
    let before = stage.community.token(member.eve_id).await;
    let run = verify(&stage).await;
    assert!(
        run.log.iter().any(|line| suites::message(line).is_some_and(|text| text.contains("EVE_CLIENT_ID is not set")))
    );
    assert_eq!(stage.community.token(member.eve_id).await, before);
    assert_eq!(stage.sim.counts().arrived(Route::Token), 0);

    // Nor are they with checks set to none.
    execute(&stage.db, "-- verifier::tokens\nUPDATE eve_characters SET last_verified_at = NULL").await;
    let run = ends(&with_sso(stage.verifier()).env("TOKEN_CHECKS_PER_RUN", "0"), 0).await;
    assert_eq!(outcome(&run)["scanned"], 1);
    assert_eq!(stage.sim.counts().arrived(Route::Token), 0);
}

#[tokio::test]
async fn a_revoked_token_costs_no_session_and_public_affiliation_decides() {
    let stage = Stage::new().await;
    let (member, token) = holder(&stage, 90_000_001).await;
    stage.sim.world(|world| world.revoke_refresh_token(&token));
    for count in 1..=3 {
        ends(&with_sso(stage.verifier()), 0).await;
        let row = stage.community.token(member.eve_id).await.unwrap();
        assert_eq!((row.invalid_grant_count, row.revoked_at.is_some()), (count, count == 3));
        assert!(stage.community.has_session(member.session_token()).await);
        stage.later(61).await;
    }
    assert_eq!((counter(&stage, "invalid_grant").await, counter(&stage, "revoked").await), (2, 1));

    stage.sim.clear_requests();
    stage.show(member.eve_id, STRANGERS);
    ends(&with_sso(stage.verifier()), 0).await;
    assert_eq!(stage.sim.counts().arrived(Route::Token), 0, "a revoked token is not tried again");
    assert_eq!(standing(&stage, &member).await, rule(Rule::NotAMember, false));
}
