//! What is wrong with tokens, keys and clients, and whose fault it is.

use esi_simulator::{BadToken, Fault, Kind, Route};
use harness::newcomer;
use suites::{Stage, outcome, with_sso};

use crate::{
    support::{ends, execute, lines},
    tokens::holder,
};

#[tokio::test]
async fn three_refusals_within_two_hours_revoke_nothing() {
    let stage = Stage::new().await;
    let (member, token) = holder(&stage, 90_000_001).await;
    stage.sim.world(|world| world.revoke_refresh_token(&token));
    execute(
        &stage.db,
        "-- verifier::tokens_refused
        UPDATE eve_tokens SET invalid_grant_count = 2, invalid_grant_since = now() - interval '119 minutes'",
    )
    .await;
    ends(&with_sso(stage.verifier()), 0).await;
    let row = stage.community.token(member.eve_id).await.unwrap();
    assert_eq!((row.invalid_grant_count, row.revoked_at), (3, None));

    stage.later(60).await;
    ends(&with_sso(stage.verifier()), 0).await;
    assert!(stage.community.token(member.eve_id).await.unwrap().revoked_at.is_some());
}

#[tokio::test]
async fn a_token_that_works_again_starts_the_count_anew() {
    let stage = Stage::new().await;
    let (member, _) = holder(&stage, 90_000_001).await;
    stage.sim.faults().add(Fault::on(Route::Token, Kind::InvalidGrant).first(1));
    ends(&with_sso(stage.verifier()), 0).await;
    assert_eq!(stage.community.token(member.eve_id).await.unwrap().invalid_grant_count, 1);
    stage.later(60).await;
    ends(&with_sso(stage.verifier()), 0).await;
    let row = stage.community.token(member.eve_id).await.unwrap();
    assert_eq!((row.invalid_grant_count, row.invalid_grant_since), (0, None));
}

#[tokio::test]
async fn a_wrong_client_is_our_own_fault_and_nothing_is_stamped() {
    let stage = Stage::new().await;
    let (member, _) = holder(&stage, 90_000_001).await;
    let before = (stage.community.eve(member.eve_id).await, stage.community.token(member.eve_id).await);
    let wrong = with_sso(stage.verifier()).env("EVE_CLIENT_SECRET", "not-the-secret");
    let run = ends(&wrong, 78).await;
    let error = outcome(&run)["error"].as_str().unwrap();
    assert!(error.contains("EVE_CLIENT_ID") && error.contains("EVE_CLIENT_SECRET"), "{run}");
    assert!(!run.stderr.contains("not-the-secret"), "{run}");
    assert_eq!((stage.community.eve(member.eve_id).await, stage.community.token(member.eve_id).await), before);
    assert_eq!(stage.sim.counts().arrived(Route::Affiliation), 0);
}

#[tokio::test]
async fn a_key_that_opens_no_token_stops_the_run_before_anything_is_written() {
    let stage = Stage::new().await;
    let mut before = Vec::new();
    for eve_id in 90_000_001..90_000_004 {
        let (member, _) = holder(&stage, eve_id).await;
        before.push((stage.community.eve(member.eve_id).await, stage.community.token(member.eve_id).await));
    }
    // Whether tokens are to be checked or not.
    for verifier in [stage.verifier(), with_sso(stage.verifier())] {
        let run = ends(&verifier.env("ENCRYPTION_KEY", "f".repeat(64)), 78).await;
        assert!(outcome(&run)["error"].as_str().unwrap().contains("ENCRYPTION_KEY"), "{run}");
        assert!(!run.stderr.contains(&"f".repeat(64)), "{run}");
    }
    let mut after = Vec::new();
    for (row, _) in &before {
        after.push((stage.community.eve(row.eve_id).await, stage.community.token(row.eve_id).await));
    }
    assert_eq!(after, before);
    assert_eq!(stage.sim.counts().total(), 0);
}

#[tokio::test]
async fn one_token_that_cannot_be_opened_is_counted_and_the_others_are_checked() {
    let stage = Stage::new().await;
    let broken = newcomer("broken").verified_minutes_ago(60).stored_token("aesgcm:v1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    let broken = stage.add(broken.session()).await;
    let (good, _) = holder(&stage, 90_000_001).await;
    let run = ends(&with_sso(stage.verifier()), 0).await;
    assert_eq!(outcome(&run)["outcome"], "done");
    assert!(stage.community.token(good.eve_id).await.unwrap().owner_hash.is_some());
    let row = stage.community.token(broken.eve_id).await.unwrap();
    assert!(row.owner_hash.is_none() && row.invalid_grant_count == 0 && row.checked_at.year() > 2000);
    let counters = stage.community.counters("character-verifier").await;
    assert_eq!(counters["rollcall_verifier_token_checks_total{undecryptable}"], 1);
    assert_eq!(counters["rollcall_verifier_token_checks_total{valid}"], 1);
    assert!(stage.community.has_session(broken.session_token()).await);
    assert_eq!(lines(&run, "stored token cannot be opened with ENCRYPTION_KEY: skipped").len(), 1);
}

#[tokio::test]
async fn an_access_token_that_proves_nothing_changes_nothing() {
    for bad in [BadToken::WrongSignature, BadToken::WrongSubject, BadToken::WrongAudience, BadToken::Expired] {
        let stage = Stage::new().await;
        let (member, _) = holder(&stage, 90_000_001).await;
        execute(&stage.db, "-- verifier::tokens_refused\nUPDATE eve_tokens SET owner_hash = 'the seller'").await;
        stage.sim.faults().add(Fault::on(Route::Token, Kind::BadToken(bad)));
        ends(&with_sso(stage.verifier()), 0).await;
        assert_eq!(stage.community.token(member.eve_id).await.unwrap().owner_hash.as_deref(), Some("the seller"));
        assert!(stage.community.has_session(member.session_token()).await, "{bad:?}");
        let counters = stage.community.counters("character-verifier").await;
        assert_eq!(counters["rollcall_verifier_token_checks_total{unavailable}"], 1, "{bad:?}");
    }
}
