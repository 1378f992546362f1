//! Who may stay: each rule by its name, per brand.

use esi_simulator::{Alliance, Corporation, DOOMHEIM};
use harness::{ALLIANCE, CORPORATION, Lists, STRANGERS, newcomer};
use identity::approval::Rule;
use suites::{ALLIED, Stage};

use crate::support::{ended, ends, execute, rule, standing, verify};

const DENIED: i64 = 98_000_666;
const DENIED_ALLIANCE: i64 = 99_000_666;
const OF_DENIED_ALLIANCE: i64 = 98_000_667;
/// Both allowed and denied.
const BOTH: i64 = 98_000_668;

fn lists() -> Lists {
    Lists {
        allowed_corporations: vec![CORPORATION, BOTH],
        allowed_alliances: vec![ALLIANCE],
        denied_corporations: vec![DENIED, BOTH],
        denied_alliances: vec![DENIED_ALLIANCE],
        ..Lists::default()
    }
}

async fn stage() -> Stage {
    let stage = Stage::new().await;
    stage.community.set_lists(stage.community.brand_id(), &lists()).await;
    stage.sim.world(|world| {
        world.put_alliance(Alliance::new(DENIED_ALLIANCE));
        world.put_corporation(Corporation::new(OF_DENIED_ALLIANCE, Some(DENIED_ALLIANCE)));
    });
    stage
}

#[tokio::test]
async fn every_rule_decides_by_its_name_in_the_row_and_in_the_audit_log() {
    let stage = stage().await;
    let cases = [
        (CORPORATION, Rule::AllowedCorporation),
        (ALLIED, Rule::AllowedAlliance),
        (DENIED, Rule::DeniedCorporation),
        (OF_DENIED_ALLIANCE, Rule::DeniedAlliance),
        (BOTH, Rule::DeniedCorporation),
        (STRANGERS, Rule::NotAMember),
        (DOOMHEIM, Rule::CharacterGone),
    ];
    let mut members = Vec::new();
    for (corporation, expected) in cases {
        let newcomer = newcomer(format!("{corporation}")).verified_minutes_ago(60).session();
        members.push((stage.add_in(corporation, newcomer).await, expected));
    }
    let run = verify(&stage).await;
    assert_eq!(ended(&run), "done");
    for (member, expected) in &members {
        assert_eq!(standing(&stage, member).await, rule(*expected, expected.allows()), "{}", member.name);
    }
    let audit = stage.community.audit().await;
    let told: Vec<(i64, &str)> = audit
        .iter()
        .map(|row| (row.details["eve_character_id"].as_i64().unwrap(), row.details["rule"].as_str().unwrap()))
        .collect();
    let lost = members.iter().filter(|(_, rule)| !rule.allows());
    assert_eq!(told, lost.map(|(member, rule)| (member.eve_id, rule.as_str())).collect::<Vec<_>>());
    let gone = audit.iter().find(|row| row.details["rule"] == "character_gone").unwrap();
    assert_eq!((&gone.details["reason"], &gone.details["corporation_id"]), (&"gone".into(), &DOOMHEIM.into()));
}

#[tokio::test]
async fn brands_with_different_lists_are_judged_apart_in_one_run() {
    let stage = stage().await;
    let open = Lists { require_membership: false, denied_corporations: vec![DENIED], ..Lists::empty() };
    let open = stage.community.brand("open", &open).await;
    let other = Lists { allowed_corporations: vec![STRANGERS], ..Lists::empty() };
    let other = stage.community.brand("other", &other).await;
    let add = async |corporation, brand, name: &str| {
        stage.add_in(corporation, newcomer(name).brand(brand).verified_minutes_ago(60).session()).await
    };
    let cases = [
        (add(STRANGERS, open, "free").await, Rule::MembershipNotRequired),
        (add(DENIED, open, "denied").await, Rule::DeniedCorporation),
        (add(STRANGERS, other, "other").await, Rule::AllowedCorporation),
        (add(CORPORATION, other, "home").await, Rule::NotAMember),
        (add(CORPORATION, stage.community.brand_id(), "main").await, Rule::AllowedCorporation),
    ];
    verify(&stage).await;
    for (member, expected) in &cases {
        assert_eq!(standing(&stage, member).await, rule(*expected, expected.allows()), "{}", member.name);
    }
    let brands: Vec<_> = stage.community.events().await.iter().map(|event| event.brand_id).collect();
    assert_eq!(brands, [open, other]);
}

#[tokio::test]
async fn a_brand_without_lists_is_unknown_and_stops_no_other() {
    let stage = Stage::new().await;
    let bare = stage.community.brand("bare", &Lists::default()).await;
    execute(
        &stage.db,
        "-- verifier::rules\nDELETE FROM auth_config USING brands WHERE id = brand_id AND slug = 'bare'",
    )
    .await;
    let mut bares = Vec::new();
    for name in ["one", "two", "three"] {
        bares.push(stage.add_in(STRANGERS, newcomer(name).brand(bare).verified_minutes_ago(60).session()).await);
    }
    let leaver = stage.add_in(STRANGERS, newcomer("leaver").verified_minutes_ago(60).session()).await;
    let run = verify(&stage).await;
    assert_eq!(ended(&run), "done", "a new brand is no outage of ESI: {run}");
    assert_eq!(standing(&stage, &leaver).await, rule(Rule::NotAMember, false));
    for member in &bares {
        assert_eq!(standing(&stage, member).await, rule(Rule::AllowedCorporation, true));
        assert!(stage.community.eve(member.eve_id).await.last_attempted_at.is_some());
    }
    let counters = stage.community.counters("character-verifier").await;
    assert_eq!(counters["rollcall_verifier_unknown_total{no_auth_config}"], 3);
}

#[tokio::test]
async fn without_any_lists_nothing_is_checked() {
    let stage = Stage::new().await;
    let alice = stage.add_in(STRANGERS, newcomer("Alice").verified_minutes_ago(60).session()).await;
    execute(&stage.db, "-- verifier::rules\nDELETE FROM auth_config").await;
    let before = stage.community.eve(alice.eve_id).await;
    let run = ends(&stage.verifier(), 78).await;
    assert!(outcome_error(&run).contains("auth_config"), "{run}");
    assert_eq!(stage.community.eve(alice.eve_id).await, before, "nothing is stamped");
    assert!(stage.community.has_session(alice.session_token()).await);
    assert_eq!(stage.sim.counts().total(), 0);
}

fn outcome_error(run: &harness::Finished) -> String {
    suites::outcome(run)["error"].as_str().unwrap_or_default().to_owned()
}
