//! What is not known costs nobody a session.

use esi_simulator::{Fault, Kind, Route};
use harness::{CORPORATION, Lists, STRANGERS, newcomer};
use identity::approval::Rule;
use suites::{Stage, outcome};

use crate::support::{ended, ends, execute, rule, standing, verify};

const LAST_SUCCESS: &str = "rollcall_job_last_success_timestamp_seconds";

#[tokio::test]
async fn a_character_missing_from_the_answer_is_unknown_and_has_not_left() {
    let stage = Stage::new().await;
    let missing = stage.add_in(STRANGERS, newcomer("missing").verified_minutes_ago(60).session()).await;
    stage.crowd(3, |place| (CORPORATION, newcomer(format!("m{place}")))).await;
    stage.sim.faults().add(Fault::on(Route::Affiliation, Kind::MissingRows { ids: vec![missing.eve_id] }));
    let before = stage.community.eve(missing.eve_id).await;
    let run = verify(&stage).await;
    assert_eq!((ended(&run), &outcome(&run)["skipped"]), ("done", &1.into()));
    assert_eq!(standing(&stage, &missing).await, rule(Rule::AllowedCorporation, true));
    let after = stage.community.eve(missing.eve_id).await;
    assert!(after.last_attempted_at.is_some());
    assert_eq!((after.last_verified_at, after.corporation_id), (before.last_verified_at, before.corporation_id));
    let counters = stage.community.counters("character-verifier").await;
    assert_eq!(counters["rollcall_verifier_unknown_total{missing}"], 1);
    assert_eq!(counters["battlescope_characters_verified_total{skipped}"], 1);
}

#[tokio::test]
async fn an_unknown_character_is_still_held_against_the_lists_where_it_stood_last() {
    let stage = Stage::new().await;
    let member = stage.add(newcomer("missing").verified_minutes_ago(60).session()).await;
    stage.crowd(3, |place| (STRANGERS, newcomer(format!("m{place}")))).await;
    let lists = Lists { denied_corporations: vec![CORPORATION], ..Lists::default() };
    stage.community.set_lists(member.brand_id, &lists).await;
    stage.sim.faults().add(Fault::on(Route::Affiliation, Kind::MissingRows { ids: vec![member.eve_id] }));
    verify(&stage).await;
    assert_eq!(standing(&stage, &member).await, rule(Rule::DeniedCorporation, true));
    assert_eq!(stage.community.audit().await, []);

    // As soon as it is known again, its session goes.
    stage.sim.faults().clear();
    verify(&stage).await;
    assert_eq!(standing(&stage, &member).await, rule(Rule::DeniedCorporation, false));
}

#[tokio::test]
async fn too_many_unknown_characters_are_an_outage_in_which_no_session_is_taken() {
    let stage = Stage::with_pushgateway().await;
    let leaver = stage.add_in(STRANGERS, newcomer("leaver").verified_minutes_ago(60).session()).await;
    let crowd = stage.crowd(2, |place| (CORPORATION, newcomer(format!("m{place}")))).await;
    let missing = Kind::MissingRows { ids: vec![crowd.eve_id(0), crowd.eve_id(1)] };
    stage.sim.faults().add(Fault::on(Route::Affiliation, missing));
    let run = verify(&stage).await;
    assert_eq!(ended(&run), "upstream_down");
    assert!(outcome(&run)["note"].as_str().unwrap().contains("MAX_UNKNOWN_RATIO"), "{run}");
    assert!(stage.community.has_session(leaver.session_token()).await);
    let pushgateway = stage.pushgateway.as_ref().unwrap();
    assert_eq!(pushgateway.value(LAST_SUCCESS, &[]), None);

    stage.sim.faults().clear();
    let run = verify(&stage).await;
    assert_eq!(ended(&run), "done");
    assert_eq!(standing(&stage, &leaver).await, rule(Rule::NotAMember, false));
    assert!(pushgateway.value(LAST_SUCCESS, &[]).is_some());
}

#[tokio::test]
async fn what_an_interrupted_run_left_over_is_no_outage() {
    let stage = Stage::new().await;
    stage.crowd(6, |place| (CORPORATION, newcomer(format!("m{place}")))).await;
    verify(&stage).await;
    let leaver = stage.add_in(STRANGERS, newcomer("leaver").verified_minutes_ago(60).session()).await;
    let missing = stage.crowd(2, |place| (CORPORATION, newcomer(format!("missing {place}")))).await;
    let ids = vec![missing.eve_id(0), missing.eve_id(1)];
    stage.sim.faults().add(Fault::on(Route::Affiliation, Kind::MissingRows { ids }));
    execute(&stage.db, "-- verifier::unknown\nUPDATE job_runs SET outcome = 'lost'").await;
    let run = verify(&stage).await;
    assert_eq!(ended(&run), "done", "two of three are unknown, but the run before knew six: {run}");
    assert_eq!(standing(&stage, &leaver).await, rule(Rule::NotAMember, false));
}

#[tokio::test]
async fn a_batch_that_cannot_be_asked_to_the_end_does_not_end_the_sweep() {
    let stage = Stage::new().await;
    let crowd = stage.crowd(12, |place| (CORPORATION, newcomer(format!("m{place}")))).await;
    stage.sim.faults().add(Fault::bad_ids([crowd.eve_id(0)]));
    stage.sim.faults().add(Fault::on(Route::Affiliation, Kind::Unavailable).containing([crowd.eve_id(3)]));
    let run = ends(&stage.verifier().env("BATCH_SIZE", "4"), 0).await;
    assert_eq!((ended(&run), &outcome(&run)["remaining"]), ("done", &0.into()), "{run}");
    let counters = stage.community.counters("character-verifier").await;
    assert_eq!(counters["rollcall_verifier_unknown_total{upstream}"], 2, "the half that holds it: {run}");
    for place in (4..12).chain([1]) {
        assert_eq!(stage.community.eve(crowd.eve_id(place)).await.rule.as_deref(), Some("allowed_corporation"));
    }
}

#[tokio::test]
async fn as_many_unknown_characters_as_the_ratio_allows_stop_nothing() {
    let stage = Stage::new().await;
    let leaver = stage.add_in(STRANGERS, newcomer("leaver").verified_minutes_ago(60).session()).await;
    let unknown = stage.add(newcomer("unknown")).await;
    stage.sim.faults().add(Fault::on(Route::Affiliation, Kind::MissingRows { ids: vec![unknown.eve_id] }));
    let run = verify(&stage).await;
    assert_eq!(ended(&run), "done");
    assert!(!stage.community.has_session(leaver.session_token()).await);
}
