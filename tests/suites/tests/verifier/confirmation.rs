//! Two sources before a session goes, and grace.

use esi_simulator::{AllianceShown, Fault, Kind, Route};
use harness::{CORPORATION, Lists, Member, STRANGERS, newcomer};
use identity::approval::Rule;
use suites::{ALLIED, Stage, field, outcome};

use crate::{
    breaker::alive,
    support::{ended, ends, lines, rule, standing, verify},
};

/// `route` shows this character in this corporation, without an alliance, whatever the world says.
fn stale(stage: &Stage, route: Route, member: &Member, corporation_id: i64) {
    let what = Kind::StaleOrganisation { character_id: member.eve_id, corporation_id, alliance_id: None };
    stage.sim.faults().add(Fault::on(route, what));
}

async fn confirmations(stage: &Stage) -> (i64, i64) {
    let counters = stage.community.counters("character-verifier").await;
    let of = |result| counters.get(&format!("rollcall_verifier_confirmations_total{{{result}}}")).copied().unwrap_or(0);
    (of("confirmed"), of("disputed"))
}

#[tokio::test]
async fn where_the_second_source_disagrees_the_same_answer_of_the_next_run_confirms() {
    let stage = Stage::new().await;
    let member = stage.add_in(STRANGERS, newcomer("leaver").verified_minutes_ago(60).session()).await;
    stale(&stage, Route::Character, &member, CORPORATION);
    let before = stage.community.eve(member.eve_id).await.last_verified_at;
    let run = verify(&stage).await;
    assert_eq!(standing(&stage, &member).await, rule(Rule::NotAMember, true));
    assert_eq!(stage.community.eve(member.eve_id).await.last_verified_at, before, "it stays due");
    assert_eq!(stage.community.candidates().await[0].state, "disputed");
    assert_eq!(lines(&run, "second source disagrees: the next answer decides").len(), 1);
    assert_eq!(confirmations(&stage).await, (0, 1));

    // At once: it need not be an hour later, and the kept sheet is not asked for again.
    verify(&stage).await;
    assert_eq!(standing(&stage, &member).await, rule(Rule::NotAMember, false));
    assert_eq!(confirmations(&stage).await, (1, 1));
    assert_eq!(stage.community.candidates().await, []);
    assert_eq!(stage.sim.counts().arrived(Route::Character), 1);
}

#[tokio::test]
async fn the_same_answer_of_a_retry_with_the_same_run_id_confirms_nothing() {
    let stage = Stage::new().await;
    let member = stage.add_in(STRANGERS, newcomer("leaver").verified_minutes_ago(60).session()).await;
    stale(&stage, Route::Character, &member, CORPORATION);
    for disputed in 1..=2 {
        ends(&stage.verifier().env("RUN_ID", "the-job"), 0).await;
        assert_eq!(standing(&stage, &member).await, rule(Rule::NotAMember, true));
        assert_eq!(stage.community.candidates().await[0].state, "disputed");
        assert_eq!(confirmations(&stage).await, (0, disputed));
    }
    ends(&stage.verifier().env("RUN_ID", "the-next-job"), 0).await;
    assert_eq!(standing(&stage, &member).await, rule(Rule::NotAMember, false));
    assert_eq!(confirmations(&stage).await, (1, 2));
}

#[tokio::test]
async fn an_affiliation_that_was_stale_itself_costs_nothing() {
    let stage = Stage::new().await;
    let member = stage.add(newcomer("returned").verified_minutes_ago(60).session()).await;
    stale(&stage, Route::Affiliation, &member, STRANGERS);
    verify(&stage).await;
    assert_eq!(standing(&stage, &member).await, rule(Rule::NotAMember, true));
    stage.sim.faults().clear();
    let run = verify(&stage).await;
    assert_eq!(outcome(&run)["outcome"], "done");
    assert_eq!(standing(&stage, &member).await, rule(Rule::AllowedCorporation, true));
    assert_eq!(stage.community.candidates().await, []);
    assert_eq!(stage.community.audit().await, []);
}

#[tokio::test]
async fn another_answer_of_affiliation_does_not_confirm_the_first() {
    let stage = Stage::new().await;
    let member = stage.add(newcomer("wanderer").verified_minutes_ago(60).session()).await;
    stale(&stage, Route::Affiliation, &member, STRANGERS);
    verify(&stage).await;
    stage.sim.faults().clear();
    stale(&stage, Route::Affiliation, &member, 98_666_002);
    verify(&stage).await;
    assert_eq!(standing(&stage, &member).await, rule(Rule::NotAMember, true));
    assert_eq!(confirmations(&stage).await, (0, 2));
    verify(&stage).await;
    assert_eq!(standing(&stage, &member).await, rule(Rule::NotAMember, false));
}

#[tokio::test]
async fn an_alliance_is_confirmed_by_the_corporations_own() {
    let stage = Stage::new().await;
    // Its rows lag behind: they show no alliance yet. Its corporation is in one.
    let lagging = stage.add_in(ALLIED, newcomer("lagging").verified_minutes_ago(60).session()).await;
    let left = stage.add_in(STRANGERS, newcomer("left").verified_minutes_ago(60).session()).await;
    stage.sim.world(|world| world.character_mut(lagging.eve_id).unwrap().alliance = AllianceShown::None);
    verify(&stage).await;
    assert_eq!(standing(&stage, &lagging).await, rule(Rule::NotAMember, true));
    assert_eq!(standing(&stage, &left).await, rule(Rule::NotAMember, false));
    assert_eq!(stage.sim.counts().arrived(Route::Corporation), 2);
}

#[tokio::test]
async fn without_a_second_source_a_session_stays_until_there_is_one() {
    let stage = Stage::new().await;
    let member = stage.add_in(STRANGERS, newcomer("leaver").verified_minutes_ago(60).session()).await;
    let fault = Fault::on(Route::Character, Kind::BadRequest);
    let fault = stage.sim.faults().add(fault);
    let run = verify(&stage).await;
    assert_eq!(standing(&stage, &member).await, rule(Rule::NotAMember, true));
    assert!(outcome(&run)["note"].as_str().is_some_and(|note| note.contains("confirmed")), "{run}");
    stage.sim.faults().remove(fault);
    verify(&stage).await;
    assert_eq!(standing(&stage, &member).await, rule(Rule::NotAMember, false));
}

#[tokio::test]
async fn grace_lets_a_character_stay_so_long_and_a_deny_list_waits_for_nothing() {
    let stage = Stage::new().await;
    let lists = Lists { denied_corporations: vec![98_000_666], ..Lists::default() };
    stage.community.set_lists(stage.community.brand_id(), &lists).await;
    let leaver = stage.add_in(STRANGERS, newcomer("leaver").verified_minutes_ago(60).session()).await;
    let denied = stage.add_in(98_000_666, newcomer("denied").verified_minutes_ago(60).session()).await;
    let returns = stage.add_in(STRANGERS, newcomer("returns").verified_minutes_ago(60).session()).await;
    let graceful = stage.verifier().env("REVOCATION_GRACE_MINUTES", "90");
    ends(&graceful, 0).await;
    assert_eq!(standing(&stage, &leaver).await, rule(Rule::NotAMember, true));
    assert_eq!(standing(&stage, &denied).await, rule(Rule::DeniedCorporation, false));

    stage.later(60).await;
    stage.show(returns.eve_id, CORPORATION);
    ends(&graceful, 0).await;
    assert_eq!(standing(&stage, &leaver).await, rule(Rule::NotAMember, true));

    // Who came back and leaves again has the whole grace again.
    stage.later(60).await;
    stage.show(returns.eve_id, STRANGERS);
    let run = ends(&graceful, 0).await;
    assert_eq!(standing(&stage, &leaver).await, rule(Rule::NotAMember, false));
    assert_eq!(standing(&stage, &returns).await, rule(Rule::NotAMember, true));
    let taken = lines(&run, "session taken");
    assert_eq!(taken.len(), 1);
    assert_eq!(field(taken[0], "rule"), Some(&"not_a_member".into()));
}

#[tokio::test]
async fn one_odd_sheet_leaves_its_own_session_and_two_are_an_outage() {
    for (odd, ending) in [(vec![0], "done"), (vec![0, 2], "upstream_down")] {
        let stage = Stage::new().await;
        let describe = |place| (STRANGERS, newcomer(format!("m{place}")).verified_minutes_ago(60).session());
        let crowd = stage.crowd(4, describe).await;
        let ids = odd.iter().map(|place| crowd.eve_id(*place));
        stage.sim.faults().add(Fault::on(Route::Character, Kind::NotFound).containing(ids));
        let run = verify(&stage).await;
        assert_eq!(ended(&run), ending, "{run}");
        let counters = stage.community.counters("character-verifier").await;
        assert_eq!(counters["rollcall_verifier_unknown_total{unconfirmed}"], 1, "{run}");
        // What was confirmed before the second one stands; behind it nobody is asked about.
        let left: &[usize] = if odd.len() == 1 { &[0] } else { &[0, 2, 3] };
        for place in 0..4 {
            let lives = stage.community.has_session(&crowd.session_token(place)).await;
            assert_eq!(lives, left.contains(&place), "{place} of {odd:?}: {run}");
        }

        stage.sim.faults().clear();
        stage.later(1).await;
        assert_eq!(ended(&verify(&stage).await), "done");
        assert_eq!(alive(&stage, &crowd).await, 0);
    }
}

#[tokio::test]
async fn grace_is_skipped_only_where_both_sources_find_a_deny_list() {
    const DENIED: i64 = 98_000_666;
    for (grace, stays) in [("90", true), ("0", false)] {
        let stage = Stage::new().await;
        let lists = Lists { denied_corporations: vec![DENIED], ..Lists::default() };
        stage.community.set_lists(stage.community.brand_id(), &lists).await;
        let add = async |name| stage.add_in(DENIED, newcomer(name).verified_minutes_ago(60).session()).await;
        let (both, first, second) = (add("both").await, add("first").await, add("second").await);
        stale(&stage, Route::Character, &first, STRANGERS);
        stale(&stage, Route::Affiliation, &second, STRANGERS);
        ends(&stage.verifier().env("REVOCATION_GRACE_MINUTES", grace), 0).await;
        assert_eq!(standing(&stage, &both).await, rule(Rule::DeniedCorporation, false));
        // Wherever they stand, neither may stay: without grace that is agreement enough.
        assert_eq!(standing(&stage, &first).await, rule(Rule::DeniedCorporation, stays));
        assert_eq!(standing(&stage, &second).await, rule(Rule::NotAMember, stays));
        let confirmed = if stays { (1, 1) } else { (3, 0) };
        assert_eq!(confirmations(&stage).await, confirmed);
    }
}
