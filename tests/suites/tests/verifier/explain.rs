//! `explain`: why a character has a session, or has none.

use esi_simulator::{Character, CharacterState, Fault, Kind, Route};
use harness::{ALLIANCE, CORPORATION, Fingerprint, Lists, Member, STRANGERS, SessionSpec, newcomer};
use suites::{ALLIED, Stage, with_sso};

use crate::{
    support::{ends, execute, verify},
    tokens::holder,
};

/// What `explain` prints about a character.
async fn explained(stage: &Stage, member: &Member) -> String {
    explained_with(stage, member, &[]).await
}

async fn explained_with(stage: &Stage, member: &Member, settings: &[(&str, &str)]) -> String {
    let mut binary = with_sso(stage.verifier()).arg("explain").arg("--character").arg(member.eve_id.to_string());
    for (name, value) in settings {
        binary = binary.env(name, value);
    }
    ends(&binary, 0).await.stdout
}

fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
}

/// Everything but what is kept of ESI's answers, which nobody may ask for again too early.
async fn state(stage: &Stage) -> Fingerprint {
    let mut state = stage.community.exact_fingerprint().await;
    state.redis.retain(|key, _| !key.starts_with("esi:"));
    state
}

#[tokio::test]
async fn who_may_stay_and_who_would_go_is_told_with_the_rule_and_nothing_changes() {
    let stage = Stage::new().await;
    let member = newcomer("Alice").corporation(ALLIED).alliance(ALLIANCE).verified_minutes_ago(60).session();
    let member = stage.add_in(ALLIED, member).await;
    let leaver = stage.add_in(STRANGERS, newcomer("Leaver").verified_minutes_ago(60).session()).await;
    let before = state(&stage).await;
    let text = explained(&stage, &member).await;
    contains(
        &text,
        &[
            "Alice (EVE 2100000001",
            &member.account_id.to_string(),
            "stored:            corporation 98000002 \"Corporation 98000002\", alliance 99000001 \"Alliance 99000001\"",
            "ESI, affiliation:  corporation 98000002, alliance 99000001",
            "ESI, character:    corporation 98000002, alliance 99000001",
            "verdict:           allowed by rule allowed_alliance",
            "live sessions:     1 acting as this character (GATE=acting)",
            "so:                the sessions stay",
        ],
    );
    let text = explained(&stage, &leaver).await;
    contains(
        &text,
        &[
            "stored:            corporation 98000001",
            "ESI, affiliation:  corporation 98666001, no alliance",
            "verdict:           disallowed by rule not_a_member",
            "so:                these sessions would go",
        ],
    );
    let hash = &stage.community.sessions(leaver.account_id).await[0].hash;
    assert!(text.contains(&format!("session {}…", &hash[..8])) && !text.contains(hash.as_str()), "{text}");
    assert_eq!(state(&stage).await, before);
    assert_eq!(stage.community.runs().await, [], "it is no run");
}

#[tokio::test]
async fn a_character_is_found_by_either_id_and_an_unknown_one_is_bad_data() {
    let stage = Stage::new().await;
    let member = stage.add(newcomer("Alice").session()).await;
    let explain = |id: String| stage.verifier().arg("explain").arg("--character").arg(id);
    let by_eve_id = ends(&explain(member.eve_id.to_string()), 0).await.stdout;
    assert_eq!(ends(&explain(member.character_id.to_string()), 0).await.stdout, by_eve_id);
    for id in ["90000001", "0193aaaa-0000-7000-8000-000000000000", "Alice"] {
        let run = ends(&explain(id.to_owned()), 65).await;
        assert!(run.stderr.contains(id), "{run}");
    }
    ends(&stage.verifier().arg("explain"), 64).await;
}

#[tokio::test]
async fn no_token_is_refreshed() {
    let stage = Stage::new().await;
    stage.sim.settings(|settings| settings.rotate_refresh_tokens = true);
    let (member, token) = holder(&stage, 90_000_001).await;
    let text = explained(&stage, &member).await;
    contains(&text, &["token:             stored, checked never"]);
    assert!(!text.contains(&token));
    assert_eq!(stage.sim.counts().arrived(Route::Token), 0);
    assert_eq!(stage.community.refresh_token(member.eve_id).await, token);
    execute(&stage.db, "-- verifier::explain\nUPDATE eve_tokens SET revoked_at = now(), checked_at = now()").await;
    contains(&explained(&stage, &member).await, &["counts as revoked"]);
}

#[tokio::test]
async fn what_esi_does_not_say_takes_nothing() {
    let stage = Stage::new().await;
    let missing = stage.add(newcomer("missing").verified_minutes_ago(60).session()).await;
    stage.sim.faults().add(Fault::on(Route::Affiliation, Kind::MissingRows { ids: vec![missing.eve_id] }));
    contains(
        &explained(&stage, &missing).await,
        &[
            "not in the answer (unknown, not left)",
            "verdict:           unknown",
            "where it stood last: allowed by rule allowed_corporation",
            "so:                nothing would be taken",
        ],
    );
    let nobody = stage.community.add(newcomer("nobody").session()).await;
    contains(&explained(&stage, &nobody).await, &["no such character", "so:                nothing would be taken"]);
    // A row that is missing is no proof of a deletion, whatever the other route says: a run would not act on it either.
    stage.sim.faults().clear();
    let both = stage.add(newcomer("both").verified_minutes_ago(60).session()).await;
    stage.sim.faults().add(Fault::on(Route::Affiliation, Kind::MissingRows { ids: vec![both.eve_id] }));
    stage.show(both.eve_id, esi_simulator::DOOMHEIM);
    contains(
        &explained(&stage, &both).await,
        &["ESI, character:    deleted", "so:                nothing would be taken"],
    );
}

#[tokio::test]
async fn ids_that_the_bulk_call_refuses_are_explained_as_a_run_judges_them() {
    let stage = Stage::new().await;
    let old = stage.add(newcomer("old").eve_id(90_000_001).session()).await;
    let state = Character { state: CharacterState::Old, ..Character::new(old.eve_id, CORPORATION) };
    stage.sim.world(|world| world.put_character(state));
    let deleted = stage.add(newcomer("deleted").verified_minutes_ago(60).session()).await;
    stage.sim.world(|world| world.character_mut(deleted.eve_id).unwrap().state = CharacterState::Deleted);
    let old_text =
        ["its own sheet says corporation 98000001", "allowed by rule allowed_corporation", "the sessions stay"];
    let deleted_text = ["gone by rule character_gone"];
    contains(&explained(&stage, &old).await, &old_text);
    contains(&explained(&stage, &deleted).await, &deleted_text);
    contains(&explained(&stage, &deleted).await, &["these sessions would go"]);
    verify(&stage).await;
    contains(&explained(&stage, &old).await, &old_text);
    contains(&explained(&stage, &old).await, &["left out:          of the bulk call for now: affiliation_refuses"]);
    contains(&explained(&stage, &deleted).await, &deleted_text);
    contains(&explained(&stage, &deleted).await, &["there is no session to take"]);

    // One source alone takes nothing at once.
    stage.later(24 * 60 + 1).await;
    stage.show(old.eve_id, STRANGERS);
    contains(
        &explained(&stage, &old).await,
        &["disallowed by rule not_a_member", "the sessions stay until the next run"],
    );
    verify(&stage).await;
    contains(&explained(&stage, &old).await, &["these sessions would go"]);
}

#[tokio::test]
async fn what_waits_is_told() {
    let stage = Stage::new().await;
    let disputed = stage.add_in(STRANGERS, newcomer("disputed").verified_minutes_ago(60).session()).await;
    let what =
        Kind::StaleOrganisation { character_id: disputed.eve_id, corporation_id: CORPORATION, alliance_id: None };
    stage.sim.faults().add(Fault::on(Route::Character, what));
    contains(&explained(&stage, &disputed).await, &["the sources disagree"]);
    verify(&stage).await;
    contains(&explained(&stage, &disputed).await, &["the second source disagreed", "these sessions would go"]);
    verify(&stage).await;
    assert!(!stage.community.has_session(disputed.session_token()).await, "and they did");

    let mut held = Vec::new();
    for name in ["one", "two"] {
        held.push(stage.add_in(STRANGERS, newcomer(name).verified_minutes_ago(60).session()).await);
    }
    ends(&stage.verifier().env("MAX_INVALIDATIONS_PER_RUN", "1"), 77).await;
    contains(&explained(&stage, &held[0]).await, &["held by the circuit breaker", "APPROVE_MASS_INVALIDATION=true"]);
}

#[tokio::test]
async fn gate_grace_and_blocked_accounts_are_taken_into_account() {
    let stage = Stage::new().await;
    let main = stage.add(newcomer("main").verified_minutes_ago(60).session()).await;
    let alt = newcomer("alt").alt_of(&main).verified_minutes_ago(60).session();
    let alt = stage.add_in(STRANGERS, alt).await;
    contains(
        &explained_with(&stage, &alt, &[("GATE", "primary")]).await,
        &["2 of the account", "not the primary character"],
    );
    contains(&explained_with(&stage, &alt, &[("GATE", "any")]).await, &["2 of the account", "these sessions would go"]);
    let grace = [("REVOCATION_GRACE_MINUTES", "30")];
    contains(&explained_with(&stage, &alt, &grace).await, &["the sessions stay for now: REVOCATION_GRACE_MINUTES"]);
    contains(&explained(&stage, &alt).await, &["these sessions would go"]);
    stage.community.block(alt.account_id).await;
    contains(&explained(&stage, &alt).await, &["blocked: not checked", "so:                nothing would be taken"]);
}

#[tokio::test]
async fn whichever_the_gate_nothing_is_tidied_up_on_the_way() {
    let stage = Stage::new().await;
    let over = SessionSpec { minutes_left: 0, ..SessionSpec::default() };
    let of_the_account = SessionSpec { is_acting: false, ..SessionSpec::default() };
    let member = newcomer("Alice").verified_minutes_ago(60).session_like(over).session().session_like(of_the_account);
    let member = stage.add(member).await;
    let before = state(&stage).await;
    for (gate, told) in [("acting", "1 acting"), ("primary", "2 of the account"), ("any", "2 of the account")] {
        contains(&explained_with(&stage, &member, &[("GATE", gate)]).await, &[told]);
        assert_eq!(state(&stage).await, before, "{gate}");
    }
}

#[tokio::test]
async fn lists_that_are_missing_or_empty_are_told() {
    let stage = Stage::new().await;
    let bare = stage.community.brand("bare", &Lists::default()).await;
    let member = stage.add(newcomer("bare").brand(bare).session()).await;
    execute(
        &stage.db,
        "-- verifier::explain\nDELETE FROM auth_config USING brands WHERE id = brand_id AND slug = 'bare'",
    )
    .await;
    contains(&explained(&stage, &member).await, &["the brand has no row in auth_config", "nothing would be taken"]);
    let member = stage.add(newcomer("main").session()).await;
    stage.community.set_lists(member.brand_id, &Lists::empty()).await;
    contains(&explained(&stage, &member).await, &["disallowed by rule not_a_member"]);
}

#[tokio::test]
async fn a_transferred_character_is_told_so() {
    let stage = Stage::new().await;
    let (member, _) = holder(&stage, 90_000_001).await;
    execute(&stage.db, "-- verifier::explain\nUPDATE eve_tokens SET owner_hash = 'the seller'").await;
    ends(&with_sso(stage.verifier()), 0).await;
    let younger = SessionSpec { approved_minutes_ago: 0, ..SessionSpec::default() };
    stage.community.open_session(&member, younger).await;
    contains(&explained(&stage, &member).await, &["transferred by rule owner_changed", "these sessions would go"]);
}
