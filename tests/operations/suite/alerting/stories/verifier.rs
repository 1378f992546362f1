//! Alerts of the character verifier.

use esi_simulator::{Fault, Kind, Route, Scope};
use harness::{Lists, STRANGERS, newcomer, session_key};
use suites::with_sso;

use super::super::{JOB, place::Town, shortened::STALE_SECONDS};

/// Time ends it not, nor a dry run; and who is suspended is quiet.
pub(super) async fn stale(town: Town) {
    let (place, suspended) = (&town.place, "suspended-and-stale");
    place.stack.schedule(suspended, true);
    town.people(1).await;
    town.a_good_run().await;
    town.later(&town.here(town.stage.verifier(), suspended), 0, "done").await;
    place.fires().await;
    let stale = format!(
        "time() - battlescope_character_verification_last_run_timestamp{{namespace=\"{suspended}\"}} > {STALE_SECONDS}"
    );
    place.stack.holds(&stale, "the suspended one is as old").await;

    town.later(&town.verifier().env("DRY_RUN", "true"), 0, "done").await;
    // A dry run is no success.
    place.still_fires().await;
    place.is_quiet(suspended).await;

    town.later(&town.verifier(), 0, "done").await;
    place.is_over().await;
}

/// An outage is a warning, an id that EVE Online does not know is told of.
pub(super) async fn esi_errors(town: Town) {
    town.people(3).await;
    town.a_good_run().await;
    town.stage.sim.faults().add(Fault::on(Route::Affiliation, Kind::BadGateway).first(2));
    town.later(&town.verifier(), 0, "done").await;
    town.place.fires().await;
    assert_eq!(town.place.severity(), "warning");
    town.place.is_over().await;

    // ESI has never heard of this one.
    town.stage.community.add(newcomer("nobody").verified_minutes_ago(60)).await;
    town.later(&town.verifier(), 0, "done").await;
    town.place.fires().await;
    assert_eq!(town.place.severity(), "info");
    town.place.is_over().await;
}

pub(super) async fn sessions_invalidated(town: Town) {
    let people = town.people(14).await;
    town.a_good_run().await;
    let leave = |places: std::ops::Range<usize>| {
        places.for_each(|place| town.stage.show(people.eve_id(place), STRANGERS));
    };
    let verifier = town.verifier().env("MAX_INVALIDATION_RATIO", "1");
    leave(0..11);
    town.later(&verifier, 0, "done").await;
    town.place.fires().await;
    town.place.is_over().await;
}

pub(super) async fn capped(town: Town) {
    let people = town.people(4).await;
    town.a_good_run().await;
    for place in 0..2 {
        town.stage.show(people.eve_id(place), STRANGERS);
    }
    let verifier = town.verifier().env("MAX_INVALIDATIONS_PER_RUN", "1");
    town.later(&verifier, 77, "capped").await;
    town.place.fires().await;
    town.now(&verifier.env("APPROVE_MASS_INVALIDATION", "true"), 0, "done").await;
    town.place.is_over().await;
}

pub(super) async fn exposure(town: Town) {
    let people = town.people(4).await;
    town.a_good_run().await;
    // ESI leaves one out of its answers, run after run.
    let missing = Kind::MissingRows { ids: vec![people.eve_id(0)] };
    town.stage.sim.faults().add(Fault::on(Route::Affiliation, missing));
    for _ in 0..3 {
        town.later(&town.verifier(), 0, "done").await;
    }
    town.is_read().await;
    town.later(&town.verifier(), 0, "done").await;
    town.place.fires().await;
    town.stage.sim.faults().clear();
    town.later(&town.verifier(), 0, "done").await;
    town.place.is_over().await;
}

pub(super) async fn invalidations_pending(town: Town) {
    let people = town.people(2).await;
    town.a_good_run().await;
    let token = people.session_token(0);
    let key = town.decide_in_vain(&people, 0).await;
    town.later(&town.verifier(), 0, "done").await;
    town.place.fires().await;

    let hash = session_key(&token).rsplit(':').next().expect("a key has parts").to_owned();
    redis::pipe().del(&key).zadd(&key, hash, 1).exec_async(&mut town.stage.db.redis()).await.expect("Redis answers");
    town.later(&town.verifier(), 0, "done").await;
    town.place.is_over().await;
    assert!(!town.stage.community.has_session(&token).await, "the decision is carried out");
}

pub(super) async fn upstream_down(town: Town) {
    town.people(1).await;
    town.a_good_run().await;
    town.stage.sim.faults().add(Fault::on(Scope::AllEsi, Kind::Unavailable));
    town.place.fires_after(async || drop(town.later(&town.verifier(), 0, "upstream_down").await)).await;
    town.stage.sim.faults().clear();
    town.later(&town.verifier(), 0, "done").await;
    town.place.is_over().await;
}

pub(super) async fn unknown(town: Town) {
    let people = town.people(60).await;
    town.a_good_run().await;
    let missing = Kind::MissingRows { ids: (0..25).map(|place| people.eve_id(place)).collect() };
    town.stage.sim.faults().add(Fault::on(Route::Affiliation, missing));
    town.later(&town.verifier(), 0, "done").await;
    town.place.fires().await;
    town.stage.sim.faults().clear();
    town.later(&town.verifier(), 0, "done").await;
    town.place.is_over().await;
}

pub(super) async fn brand_without_config(town: Town) {
    town.people(2).await;
    town.a_good_run().await;
    let brand = town.stage.community.brand("new", &Lists::default()).await;
    town.stage.add(newcomer("first of its brand").brand(brand).verified_minutes_ago(60)).await;
    let sql = "-- alerting::brand_without_config\nDELETE FROM auth_config WHERE brand_id = $1";
    sqlx::query(sql).bind(brand).execute(town.stage.db.pool()).await.expect("PostgreSQL answers");
    town.later(&town.verifier(), 0, "done").await;
    town.place.fires().await;
    town.stage.community.set_lists(brand, &Lists::default()).await;
    town.later(&town.verifier(), 0, "done").await;
    town.place.is_over().await;
}

/// Members whose tokens the simulated SSO knows.
async fn holders(town: &Town, count: i64) {
    for eve_id in 90_000_001..=90_000_000 + count {
        let token = town.stage.sim.world(|world| world.issue_refresh_token(eve_id));
        let holder = newcomer(format!("{eve_id}")).eve_id(eve_id).verified_minutes_ago(60).token(token);
        town.stage.add(holder).await;
    }
}

pub(super) async fn tokens_undecryptable(town: Town) {
    holders(&town, 2).await;
    let verifier = with_sso(town.verifier());
    town.now(&verifier, 0, "done").await;
    town.is_read().await;
    town.place.is_quiet(&town.place.namespace).await;
    let other = newcomer("other").eve_id(90_000_003).verified_minutes_ago(60).stored_token("sealed by another key");
    town.stage.add(other).await;
    town.later(&verifier, 0, "done").await;
    town.place.fires().await;
    town.place.is_over().await;
}

pub(super) async fn token_checks_blind(town: Town) {
    holders(&town, 12).await;
    // Without a client of the SSO no token is checked.
    town.a_good_run().await;
    town.stage.sim.faults().add(Fault::on(Scope::Sso, Kind::SsoUnavailable));
    let verifier = with_sso(town.verifier());
    town.place.fires_after(async || drop(town.later(&verifier, 0, "done").await)).await;
    town.stage.sim.faults().clear();
    town.later(&verifier, 0, "done").await;
    town.place.is_over().await;
    let answered = format!(
        "rollcall_verifier_token_checks_total{{job=\"{JOB}\",namespace=\"{}\",result=\"valid\"}} > 0",
        town.place.namespace
    );
    town.place.stack.holds(&answered, "tokens are checked again").await;
}
