//! Verdicts held by the circuit breaker, until they are approved or gone.

use harness::{Binary, CORPORATION, Crowd, STRANGERS, newcomer};
use suites::{Stage, outcome};

use crate::{
    breaker::alive,
    support::{ended, ends, move_to, verify},
};

/// Four accounts with a live session each, all of which have left.
async fn leavers(stage: &Stage) -> Crowd {
    stage.crowd(4, |place| (STRANGERS, newcomer(format!("m{place}")).verified_minutes_ago(60).session())).await
}

/// A run that may end one session.
fn cautious(stage: &Stage) -> Binary {
    stage.verifier().env("MAX_INVALIDATIONS_PER_RUN", "1")
}

async fn held(stage: &Stage) -> usize {
    stage.community.candidates().await.iter().filter(|row| row.state == "held").count()
}

#[tokio::test]
async fn verdicts_are_kept_and_every_run_holds_them_though_nothing_is_due() {
    let stage = Stage::new().await;
    let crowd = leavers(&stage).await;
    let run = ends(&cautious(&stage), 77).await;
    assert_eq!(held(&stage).await, 4);
    assert!(run.stderr.contains("\\\"held\\\":4"), "{run}");
    for place in 0..4 {
        let row = stage.community.eve(crowd.eve_id(place)).await;
        assert_eq!((row.verdict.as_deref(), row.corporation_id), (Some("disallowed"), Some(STRANGERS)));
    }
    stage.crowd(3, |place| (CORPORATION, newcomer(format!("n{place}")))).await;
    for _ in 0..2 {
        let run = ends(&cautious(&stage), 77).await;
        assert_eq!(ended(&run), "capped");
        assert_eq!((held(&stage).await, alive(&stage, &crowd).await), (4, 4));
    }
    assert_eq!(stage.community.audit().await, []);
}

#[tokio::test]
async fn an_approved_run_takes_what_is_held_after_confirming_it_and_who_came_back_keeps_the_session() {
    let stage = Stage::new().await;
    let crowd = leavers(&stage).await;
    ends(&cautious(&stage), 77).await;
    stage.show(crowd.eve_id(2), CORPORATION);
    stage.sim.clear_requests();
    let run = ends(&cautious(&stage).env("APPROVE_MASS_INVALIDATION", "true"), 0).await;
    assert_eq!(ended(&run), "done");
    assert_eq!(alive(&stage, &crowd).await, 1);
    assert!(stage.community.has_session(&crowd.session_token(2)).await);
    assert_eq!(stage.community.candidates().await, []);
    assert_eq!(stage.community.audit().await.len(), 3);
    assert_eq!(stage.sim.counts().arrived(esi_simulator::Route::Character), 3, "each is confirmed");
    assert_eq!(ended(&verify(&stage).await), "nothing_to_do");
}

#[tokio::test]
async fn what_is_held_is_not_taken_piecemeal_by_small_runs() {
    let stage = Stage::new().await;
    let crowd = leavers(&stage).await;
    ends(&cautious(&stage), 77).await;
    stage.later(60).await;
    let small = cautious(&stage).env("MAX_CHARACTERS_PER_RUN", "1");
    for _ in 0..2 {
        ends(&small, 77).await;
    }
    assert_eq!(alive(&stage, &crowd).await, 4);
}

#[tokio::test]
async fn held_characters_that_esi_says_nothing_about_still_count_and_are_not_taken() {
    use esi_simulator::{Fault, Kind, Route};

    let stage = Stage::new().await;
    let crowd = leavers(&stage).await;
    ends(&cautious(&stage), 77).await;
    let unknown = (0..3).map(|place| crowd.eve_id(place)).collect();
    stage.sim.faults().add(Fault::on(Route::Affiliation, Kind::MissingRows { ids: unknown }));
    ends(&cautious(&stage).env("MAX_UNKNOWN_RATIO", "1"), 77).await;
    let approved = cautious(&stage).env("MAX_UNKNOWN_RATIO", "1").env("APPROVE_MASS_INVALIDATION", "true");
    ends(&approved, 0).await;
    assert_eq!(alive(&stage, &crowd).await, 3, "only the one that is known to be away");
    assert_eq!(held(&stage).await, 3);
}

#[tokio::test]
async fn verdicts_of_accounts_blocked_or_deleted_meanwhile_are_dropped() {
    let stage = Stage::new().await;
    let crowd = leavers(&stage).await;
    ends(&cautious(&stage), 77).await;
    for place in 0..2 {
        stage.community.block(crowd.account_id(place)).await;
    }
    stage.community.delete(crowd.account_id(2)).await;
    let run = ends(&cautious(&stage), 0).await;
    assert_eq!(outcome(&run)["outcome"], "done");
    assert_eq!(stage.community.candidates().await, []);
    assert_eq!(stage.community.audit().await.len(), 1);
}

#[tokio::test]
async fn verdicts_of_characters_moved_to_another_account_are_dropped_though_esi_says_nothing_about_them() {
    use esi_simulator::{Fault, Kind, Route};

    let stage = Stage::new().await;
    let crowd = leavers(&stage).await;
    let heir = stage.add(newcomer("heir").verified_minutes_ago(1)).await;
    ends(&cautious(&stage), 77).await;
    for place in 0..3 {
        move_to(&stage, crowd.character_id(place), heir.account_id).await;
    }
    let ids = (0..3).map(|place| crowd.eve_id(place)).collect();
    stage.sim.faults().add(Fault::on(Route::Affiliation, Kind::MissingRows { ids }));
    let run = ends(&cautious(&stage).env("MAX_UNKNOWN_RATIO", "1"), 0).await;
    assert_eq!(ended(&run), "done", "one loss is left, and as many may go: {run}");
    assert_eq!(stage.community.candidates().await, []);
    assert_eq!(alive(&stage, &crowd).await, 3);
    assert_eq!(stage.community.audit().await.len(), 1);
}

#[tokio::test]
async fn who_logged_out_while_held_is_dropped_and_cannot_return_on_an_old_approval() {
    let stage = Stage::new().await;
    let crowd = leavers(&stage).await;
    let before = crate::support::now(&stage.db).await;
    ends(&cautious(&stage), 77).await;
    let sessions = crate::support::client(&stage.db).await;
    for place in 0..3 {
        assert!(sessions.end(&crowd.session_token(place)).await.unwrap());
    }
    ends(&cautious(&stage), 0).await;
    assert_eq!(stage.community.candidates().await, []);
    assert_eq!(stage.community.audit().await.len(), 1);
    let marks = stage.community.marks(crowd.account_id(0)).await;
    assert!(marks.get(&crowd.character_id(0).to_string()).is_some_and(|mark| *mark > before.0), "{marks:?}");
}
