//! What is written when somebody moved, and when nobody did.

use esi_simulator::{Alliance, Corporation, Fault, Kind, Route};
use harness::{ALLIANCE, CORPORATION, STRANGERS, newcomer};
use identity::approval::Rule;
use suites::{ALLIED, Stage, field, outcome};

use crate::support::{lines, rule, standing, verify};

const OTHER_ALLIANCE: i64 = 99_000_002;
const OF_OTHER_ALLIANCE: i64 = 98_000_021;
const ALSO_ALLIED: i64 = 98_000_022;
/// Unknown to the route of names.
const NAMELESS: i64 = 98_999_998;

#[tokio::test]
async fn a_change_is_counted_as_corp_alliance_or_both_and_written_with_its_names() {
    let stage = Stage::new().await;
    stage.sim.world(|world| {
        world.put_alliance(Alliance { name: "The Others".to_owned(), ..Alliance::new(OTHER_ALLIANCE) });
        let name = "Other \"Corp\"".to_owned();
        world.put_corporation(Corporation { name, ..Corporation::new(OF_OTHER_ALLIANCE, Some(OTHER_ALLIANCE)) });
        world.put_corporation(Corporation::new(ALSO_ALLIED, Some(ALLIANCE)));
    });
    let of =
        |name: &str, corporation| newcomer(name).corporation(corporation).alliance(ALLIANCE).verified_minutes_ago(60);
    let corp = stage.add_in(ALSO_ALLIED, of("corp", ALLIED)).await;
    let alliance = stage.add_in(OF_OTHER_ALLIANCE, of("alliance", OF_OTHER_ALLIANCE)).await;
    let both = stage.add_in(OF_OTHER_ALLIANCE, of("both", ALLIED)).await;
    let left_alliance = stage.add(of("left the alliance", CORPORATION)).await;
    let unknown = stage.add(newcomer("unknown before").of_unknown_organisation()).await;
    let run = verify(&stage).await;
    assert_eq!(outcome(&run)["changed"], 5, "{run}");

    let counters = stage.community.counters("character-verifier").await;
    let counted = |kind| counters[&format!("battlescope_character_org_changes_total{{{kind}}}")];
    assert_eq!((counted("corp"), counted("alliance"), counted("both")), (1, 2, 1));

    let names = async |eve_id| {
        let row = stage.community.eve(eve_id).await;
        (row.corporation_id, row.corporation_name, row.alliance_id, row.alliance_name)
    };
    let text = |text: &str| Some(text.to_owned());
    let allied = (Some(ALSO_ALLIED), text("Corporation 98000022"), Some(ALLIANCE), text("Alliance 99000001"));
    assert_eq!(names(corp.eve_id).await, allied);
    let other = (Some(OF_OTHER_ALLIANCE), text("Other \"Corp\""), Some(OTHER_ALLIANCE), text("The Others"));
    assert_eq!(names(both.eve_id).await, other);
    assert_eq!(names(left_alliance.eve_id).await, (Some(CORPORATION), text("Corporation 98000001"), None, None));
    assert_eq!(names(unknown.eve_id).await, (Some(CORPORATION), text("Corporation 98000001"), None, None));
    // The corporation stayed, so its name did; the alliance's is new.
    assert_eq!(names(alliance.eve_id).await.3, text("The Others"));

    let told = lines(&run, "organisation changed");
    assert_eq!(told.len(), 4);
    assert!(told.iter().all(|line| field(line, "from").is_some() && field(line, "to").is_some()));
    assert_eq!(stage.sim.counts().arrived(Route::Names), 1, "all names in one call");
}

#[tokio::test]
async fn a_name_that_cannot_be_resolved_is_null_delays_nothing_and_is_repaired_by_the_next_run() {
    let stage = Stage::new().await;
    let leaver =
        stage.add_in(STRANGERS, newcomer("leaver").alliance(ALLIANCE).verified_minutes_ago(60).session()).await;
    let moved = stage.add_in(ALLIED, newcomer("moved").verified_minutes_ago(60).session()).await;
    let fault = Kind::MissingRows { ids: vec![STRANGERS, ALLIANCE] };
    stage.sim.faults().add(Fault::on(Route::Names, fault));
    verify(&stage).await;
    assert_eq!(standing(&stage, &leaver).await, rule(Rule::NotAMember, false));
    assert_eq!(standing(&stage, &moved).await, rule(Rule::AllowedAlliance, true));
    let row = stage.community.eve(leaver.eve_id).await;
    assert_eq!((row.corporation_id, row.corporation_name, row.alliance_name), (Some(STRANGERS), None, None));
    let row = stage.community.eve(moved.eve_id).await;
    assert_eq!(row.corporation_name.as_deref(), Some("Corporation 98000002"), "what can be had is had");
    assert_eq!((row.alliance_id, row.alliance_name), (Some(ALLIANCE), None));

    stage.sim.faults().clear();
    stage.later(60).await;
    verify(&stage).await;
    let name = stage.community.eve(leaver.eve_id).await.corporation_name;
    assert_eq!(name.as_deref(), Some("Corporation 98666001"));
    assert_eq!(stage.community.eve(moved.eve_id).await.alliance_name.as_deref(), Some("Alliance 99000001"));
}

#[tokio::test]
async fn the_repair_of_names_goes_on_where_the_last_run_left_it_and_begins_anew_at_the_end() {
    let stage = Stage::new().await;
    // As many as one run looks through, of a corporation that has no name to be had; and one behind them.
    let nameless = |name: String, of| newcomer(name).corporation(of).nameless().verified_minutes_ago(1);
    let many = stage.community.crowd(5000, |place| nameless(format!("m{place}"), NAMELESS)).await;
    let behind = stage.add_in(ALLIED, nameless("behind".to_owned(), ALLIED)).await;
    let named = async |eve_id| stage.community.eve(eve_id).await.corporation_name.is_some();
    // Each run has something to do.
    let run = async |name: &str| {
        stage.add(newcomer(name)).await;
        verify(&stage).await
    };
    run("one").await;
    assert!(!named(behind.eve_id).await, "one run does not come so far");
    run("two").await;
    assert!(named(behind.eve_id).await && !named(many.eve_id(0)).await);
    stage.sim.world(|world| world.put_corporation(Corporation::new(NAMELESS, None)));
    run("three").await;
    assert!(named(many.eve_id(0)).await && named(many.eve_id(4999)).await);
}

#[tokio::test]
async fn one_name_that_fails_the_call_costs_the_others_nothing() {
    let stage = Stage::new().await;
    let here = stage.add_in(ALLIED, newcomer("here").verified_minutes_ago(60)).await;
    let nowhere = stage.community.add(newcomer("nowhere").verified_minutes_ago(60)).await;
    // Its corporation is shown, and unknown to the route of names.
    stage.sim.world(|world| world.put_character(esi_simulator::Character::new(nowhere.eve_id, 98_999_999)));
    verify(&stage).await;
    assert_eq!(stage.community.eve(here.eve_id).await.corporation_name.as_deref(), Some("Corporation 98000002"));
    let row = stage.community.eve(nowhere.eve_id).await;
    assert_eq!((row.corporation_id, row.corporation_name), (Some(98_999_999), None));
    assert_eq!(row.rule.as_deref(), Some("not_a_member"));
}

#[tokio::test]
async fn who_has_not_moved_is_stamped_and_nothing_else_is_touched() {
    let stage = Stage::new().await;
    let alice = stage.add(newcomer("Alice").verified_minutes_ago(60).token("unread").session()).await;
    let others = "-- verifier::changes
        SELECT 'accounts', xmin::text, ctid::text FROM accounts UNION ALL
        SELECT 'characters', xmin::text, ctid::text FROM characters UNION ALL
        SELECT 'eve_tokens', xmin::text, ctid::text FROM eve_tokens UNION ALL
        SELECT 'auth_config', xmin::text, ctid::text FROM auth_config ORDER BY 1";
    let versions = async || -> Vec<(String, String, String)> {
        sqlx::query_as(others).fetch_all(stage.db.pool()).await.expect("PostgreSQL answers")
    };
    let (before, rows) = (stage.community.eve(alice.eve_id).await, versions().await);
    let run = verify(&stage).await;
    assert_eq!(outcome(&run)["changed"], 0);
    let after = stage.community.eve(alice.eve_id).await;
    assert!(after.last_verified_at > before.last_verified_at);
    assert_eq!(harness::EveRow { last_verified_at: before.last_verified_at, ..after }, before);
    assert_eq!(versions().await, rows);
    assert_eq!(stage.sim.counts().arrived(Route::Names), 0);
    assert!(stage.community.events().await.is_empty() && stage.community.candidates().await.is_empty());
}
