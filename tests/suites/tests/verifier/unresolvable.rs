//! Ids that fail a whole bulk call.

use esi_simulator::{Character, CharacterState, Route};
use harness::{CORPORATION, STRANGERS, newcomer};
use identity::approval::Rule;
use suites::Stage;

use crate::support::{asked, ended, ends, execute, lines, rule, standing, verify};

/// What is noted of an id: the reason, and in how many hours it is asked again.
async fn note(stage: &Stage, eve_id: i64) -> Option<(String, i64)> {
    let sql = "-- verifier::unresolvable::note
        SELECT reason, round(extract(epoch FROM expires_at - now()) / 3600)::bigint FROM unresolvable_ids WHERE eve_id = $1";
    sqlx::query_as(sql).bind(eve_id).fetch_optional(stage.db.pool()).await.expect("PostgreSQL answers")
}

#[tokio::test]
async fn an_id_esi_does_not_know_fails_nobody_else_and_is_left_out_for_a_week() {
    let stage = Stage::new().await;
    let crowd = stage.crowd(20, |place| (CORPORATION, newcomer(format!("m{place}")))).await;
    let stranger = stage.community.add(newcomer("not at ESI").session()).await;
    let run = verify(&stage).await;
    assert_eq!(ended(&run), "done");
    for place in 0..20 {
        assert_eq!(stage.community.eve(crowd.eve_id(place)).await.rule.as_deref(), Some("allowed_corporation"));
    }
    let row = stage.community.eve(stranger.eve_id).await;
    assert!(row.verdict.is_none() && row.last_verified_at.is_none() && row.last_attempted_at.is_some());
    assert_eq!(note(&stage, stranger.eve_id).await, Some(("not_found".to_owned(), 168)));
    assert!(stage.community.has_session(stranger.session_token()).await, "an unknown id costs no session");
    assert_eq!(
        stage.community.counters("character-verifier").await["battlescope_characters_verified_total{failed}"],
        1
    );

    stage.later(60).await;
    stage.sim.clear_requests();
    verify(&stage).await;
    assert_eq!(asked(&stage).len(), 20);
    assert!(!asked(&stage).contains(&stranger.eve_id));

    stage.later(8 * 24 * 60).await;
    stage.show(stranger.eve_id, CORPORATION);
    stage.sim.clear_requests();
    verify(&stage).await;
    assert!(asked(&stage).contains(&stranger.eve_id), "the note does not last for ever");
    assert_eq!(standing(&stage, &stranger).await, rule(Rule::AllowedCorporation, true));
    assert_eq!(note(&stage, stranger.eve_id).await, None);
}

#[tokio::test]
async fn a_deleted_character_among_others_is_gone_and_loses_its_session() {
    let stage = Stage::new().await;
    stage.crowd(10, |place| (CORPORATION, newcomer(format!("m{place}")))).await;
    let deleted = stage.add(newcomer("deleted").verified_minutes_ago(60).session()).await;
    stage.sim.world(|world| world.character_mut(deleted.eve_id).unwrap().state = CharacterState::Deleted);
    verify(&stage).await;
    assert_eq!(standing(&stage, &deleted).await, rule(Rule::CharacterGone, false));
    let row = stage.community.eve(deleted.eve_id).await;
    assert_eq!(row.verdict.as_deref(), Some("gone"));
    assert_eq!(row.corporation_id, Some(CORPORATION), "where it stood last is kept");
    assert_eq!(note(&stage, deleted.eve_id).await.map(|(reason, _)| reason).as_deref(), Some("deleted"));
    assert_eq!(stage.community.audit().await[0].details["rule"], "character_gone");
}

#[tokio::test]
async fn an_old_character_that_only_the_bulk_call_refuses_is_judged_by_its_own_sheet() {
    let stage = Stage::new().await;
    stage.crowd(10, |place| (CORPORATION, newcomer(format!("m{place}")))).await;
    let old = stage.add(newcomer("old").eve_id(90_000_001).session()).await;
    let old_state = Character { state: CharacterState::Old, ..Character::new(old.eve_id, CORPORATION) };
    stage.sim.world(|world| world.put_character(old_state));
    let run = verify(&stage).await;
    assert_eq!(standing(&stage, &old).await, rule(Rule::AllowedCorporation, true));
    assert_eq!(note(&stage, old.eve_id).await.map(|(reason, _)| reason).as_deref(), Some("affiliation_refuses"));
    assert_eq!(lines(&run, "id fails the bulk call and is left out of it for a week").len(), 1);

    // From then on it is asked singly, as soon as its sheet has expired. There is no second source for it, so it loses
    // its session when two runs have found that it left.
    stage.later(24 * 60 + 1).await;
    stage.show(old.eve_id, STRANGERS);
    stage.sim.clear_requests();
    verify(&stage).await;
    assert!(!asked(&stage).contains(&old.eve_id));
    assert_eq!(stage.sim.counts().arrived(Route::Character), 1);
    assert_eq!(standing(&stage, &old).await, rule(Rule::NotAMember, true));
    verify(&stage).await;
    assert_eq!(standing(&stage, &old).await, rule(Rule::NotAMember, false));
}

#[tokio::test]
async fn an_id_that_only_the_bulk_call_refuses_loses_its_session_by_another_run_and_not_by_a_retry() {
    let stage = Stage::new().await;
    stage.crowd(10, |place| (CORPORATION, newcomer(format!("m{place}")))).await;
    let old = stage.add(newcomer("old").eve_id(90_000_001).verified_minutes_ago(60).session()).await;
    let old_state = Character { state: CharacterState::Old, ..Character::new(old.eve_id, STRANGERS) };
    stage.sim.world(|world| world.put_character(old_state));
    // First refused by the bulk call in this very run, then left out of it by the note.
    for _ in 0..2 {
        ends(&stage.verifier().env("RUN_ID", "the-job"), 0).await;
        assert_eq!(standing(&stage, &old).await, rule(Rule::NotAMember, true));
        assert_eq!(stage.community.candidates().await[0].state, "disputed");
    }
    ends(&stage.verifier().env("RUN_ID", "the-next-job"), 0).await;
    assert_eq!(standing(&stage, &old).await, rule(Rule::NotAMember, false));
    assert_eq!(stage.community.candidates().await, []);
}

#[tokio::test]
async fn expired_notes_are_forgotten() {
    let stage = Stage::new().await;
    stage.add(newcomer("Alice")).await;
    execute(
        &stage.db,
        "-- verifier::unresolvable
        INSERT INTO unresolvable_ids (eve_id, reason, expires_at)
        VALUES (1, 'not_found', now() - interval '1 minute'), (2, 'not_found', now() + interval '1 hour')",
    )
    .await;
    verify(&stage).await;
    assert_eq!(note(&stage, 1).await, None);
    assert!(note(&stage, 2).await.is_some());
}
