//! The circuit breaker: too many at once, and nobody loses a session.

use harness::{CORPORATION, Crowd, Lists, STRANGERS, newcomer};
use suites::{Stage, field, outcome};

use crate::support::{ended, ends, lines, verify};

/// Accounts with a live session each, of which the first `leavers` have left.
async fn crowd(stage: &Stage, leavers: usize, of: usize) -> Crowd {
    let corporation = |place| if place < leavers { STRANGERS } else { CORPORATION };
    let member = |place| newcomer(format!("m{place}")).verified_minutes_ago(60).session();
    stage.crowd(of, |place| (corporation(place), member(place))).await
}

/// How many of the crowd's sessions live.
pub(crate) async fn alive(stage: &Stage, crowd: &Crowd) -> usize {
    let mut alive = 0;
    for place in 0..crowd.len() {
        alive += usize::from(stage.community.has_session(&crowd.session_token(place)).await);
    }
    alive
}

#[tokio::test]
async fn as_many_accounts_as_the_cap_may_lose_a_session_and_one_more_stops_all() {
    for (leavers, code, left) in [(3, 0, 1), (4, 77, 4)] {
        let stage = Stage::new().await;
        let crowd = crowd(&stage, leavers, 4).await;
        let run = ends(&stage.verifier().env("MAX_INVALIDATIONS_PER_RUN", "3"), code).await;
        assert_eq!(alive(&stage, &crowd).await, left, "{run}");
        assert_eq!(ended(&run), if code == 0 { "done" } else { "capped" });
    }
}

#[tokio::test]
async fn the_cap_is_fifty_unless_set() {
    let stage = Stage::new().await;
    let crowd = crowd(&stage, 51, 51).await;
    let run = ends(&stage.verifier().env("MAX_INVALIDATION_RATIO", "1"), 77).await;
    assert_eq!(alive(&stage, &crowd).await, 51);
    let note = outcome(&run)["note"].as_str().unwrap();
    assert!(note.contains("51 accounts") && note.contains("MAX_INVALIDATIONS_PER_RUN allows 50"), "{note}");
}

#[tokio::test]
async fn from_ten_accounts_up_a_tenth_of_those_with_live_sessions_may_go() {
    for (leavers, of, code) in [(9, 9, 0), (10, 100, 0), (10, 99, 77)] {
        let stage = Stage::new().await;
        let crowd = crowd(&stage, leavers, of).await;
        let run = ends(&stage.verifier(), code).await;
        let left = if code == 0 { of - leavers } else { of };
        assert_eq!(alive(&stage, &crowd).await, left, "{leavers} of {of}: {run}");
    }
}

#[tokio::test]
async fn accounts_without_a_live_session_do_not_water_the_ratio_down() {
    let stage = Stage::new().await;
    let crowd = crowd(&stage, 10, 20).await;
    stage.crowd(200, |place| (CORPORATION, newcomer(format!("away{place}")).verified_minutes_ago(60))).await;
    let run = ends(&stage.verifier(), 77).await;
    assert!(outcome(&run)["note"].as_str().unwrap().contains("10 of 20 checked accounts"), "{run}");
    assert_eq!(alive(&stage, &crowd).await, 20);
}

#[tokio::test]
async fn two_characters_of_one_account_count_once() {
    let stage = Stage::new().await;
    let first = stage.add_in(STRANGERS, newcomer("first").verified_minutes_ago(60).session()).await;
    let alt = newcomer("alt").alt_of(&first).verified_minutes_ago(60).session();
    let alt = stage.add_in(STRANGERS, alt).await;
    ends(&stage.verifier().env("MAX_INVALIDATIONS_PER_RUN", "1"), 0).await;
    assert!(!stage.community.has_session(first.session_token()).await);
    assert!(!stage.community.has_session(alt.session_token()).await);
}

#[tokio::test]
async fn with_empty_allow_lists_the_first_account_stops_all() {
    let stage = Stage::new().await;
    let other = stage.community.brand("other", &Lists::default()).await;
    let crowd = crowd(&stage, 0, 1).await;
    let leaver = newcomer("leaver").brand(other).verified_minutes_ago(60).session();
    let leaver = stage.add_in(STRANGERS, leaver).await;
    stage.community.set_lists(stage.community.brand_id(), &Lists::empty()).await;
    let run = ends(&stage.verifier(), 77).await;
    assert_eq!(alive(&stage, &crowd).await, 1);
    assert!(stage.community.has_session(leaver.session_token()).await, "no session at all is taken");
    assert!(outcome(&run)["note"].as_str().unwrap().contains("allow lists are empty"), "{run}");
    let warned = run.log.iter().any(|line| suites::message(line).is_some_and(|text| text.contains("allows nobody")));
    assert!(warned, "the start says so too: {run}");
}

#[tokio::test]
async fn empty_allow_lists_stop_nothing_while_nobody_would_lose_a_session() {
    let stage = Stage::new().await;
    stage.add(newcomer("Alice").verified_minutes_ago(60)).await;
    stage.community.set_lists(stage.community.brand_id(), &Lists::empty()).await;
    assert_eq!(ended(&verify(&stage).await), "done");
}

#[tokio::test]
async fn lists_that_suddenly_deny_everybody_log_nobody_out() {
    let stage = Stage::new().await;
    let crowd = crowd(&stage, 0, 60).await;
    let lists = Lists { denied_corporations: vec![CORPORATION], ..Lists::default() };
    stage.community.set_lists(stage.community.brand_id(), &lists).await;
    let run = ends(&stage.verifier(), 77).await;
    assert_eq!(alive(&stage, &crowd).await, 60);
    assert_eq!(lines(&run, "session taken").len(), 0);

    // The lists are put right again: all is forgotten.
    stage.community.set_lists(stage.community.brand_id(), &Lists::default()).await;
    assert_eq!(ended(&verify(&stage).await), "done");
    assert_eq!(stage.community.candidates().await, []);
    assert_eq!(alive(&stage, &crowd).await, 60);
    assert_eq!(stage.community.eve(crowd.eve_id(0)).await.verdict.as_deref(), Some("allowed"));
}

#[tokio::test]
async fn log_and_status_say_why_and_how_to_approve() {
    let stage = Stage::new().await;
    crowd(&stage, 2, 2).await;
    let run = ends(&stage.verifier().env("MAX_INVALIDATIONS_PER_RUN", "1"), 77).await;
    let told = lines(&run, "circuit breaker open");
    let note = field(told[0], "note").and_then(serde_json::Value::as_str).unwrap();
    assert!(note.contains("APPROVE_MASS_INVALIDATION=true"), "{note}");
    let status = ends(&stage.binary("character-verifier").arg("status"), 0).await;
    assert!(status.stdout.contains("capped") && status.stdout.contains("APPROVE_MASS_INVALIDATION=true"), "{status}");
    assert_eq!(stage.sim.counts().arrived(esi_simulator::Route::Character), 0, "nobody was confirmed in vain");
}
