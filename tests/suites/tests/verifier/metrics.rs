//! What the Pushgateway knows after a run with one of each kind.

use esi_simulator::{CharacterState, Fault, Kind, Route};
use harness::{CORPORATION, Lists, Pushgateway, STRANGERS, newcomer};
use suites::{ALLIED, Stage, with_sso};

use crate::{
    support::{PATIENCE, ended, ends, execute, lines, now, verify, waits_for_a_lock},
    tokens::holder,
};

/// The series of one metric: the values of its one label (none: empty) with the value.
fn series(pushgateway: &Pushgateway, name: &str, label: &str) -> Vec<(String, f64)> {
    let mut found: Vec<(String, f64)> = pushgateway
        .metrics()
        .into_iter()
        .filter(|sample| sample.name == name)
        .map(|sample| {
            assert_eq!(sample.labels.get("job").map(String::as_str), Some("character-verifier"));
            // The gateway itself adds an empty one.
            assert!(sample.labels.get("instance").is_none_or(String::is_empty));
            (sample.labels.get(label).cloned().unwrap_or_default(), sample.value)
        })
        .collect();
    found.sort_by(|one, two| one.0.cmp(&two.0));
    found
}

fn expect(pushgateway: &Pushgateway, name: &str, label: &str, values: &[(&str, f64)]) {
    let mut values: Vec<(String, f64)> = values.iter().map(|(value, n)| ((*value).to_owned(), *n)).collect();
    values.sort_by(|one, two| one.0.cmp(&two.0));
    assert_eq!(series(pushgateway, name, label), values, "{name}");
}

/// One character of each kind.
async fn population(stage: &Stage) {
    let brand = stage.community.brand("bare", &Lists::default()).await;
    execute(
        &stage.db,
        "-- verifier::metrics\nDELETE FROM auth_config USING brands WHERE id = brand_id AND slug = 'bare'",
    )
    .await;
    let old = |name: &str| newcomer(name).verified_minutes_ago(60);
    stage.crowd(6, |place| (CORPORATION, newcomer(format!("m{place}")).verified_minutes_ago(60))).await;
    stage.add_in(STRANGERS, old("corp").session().session()).await;
    stage.add_in(ALLIED, old("both").session()).await;
    stage.add_in(ALLIED, old("alliance").corporation(ALLIED)).await;
    stage.community.add(old("bad")).await;
    let missing = stage.add(old("missing")).await;
    stage.add(old("bare").brand(brand)).await;
    let deleted = stage.add(old("deleted").session()).await;
    stage.sim.world(|world| world.character_mut(deleted.eve_id).expect("it is there").state = CharacterState::Deleted);
    let disputed = stage.add(old("disputed").session()).await;
    let what = Kind::StaleOrganisation { character_id: disputed.eve_id, corporation_id: STRANGERS, alliance_id: None };
    stage.sim.faults().add(Fault::on(Route::Affiliation, what));
    stage.sim.faults().add(Fault::on(Route::Affiliation, Kind::MissingRows { ids: vec![missing.eve_id] }));
    holder(stage, 90_000_001).await;
    let (sold, _) = holder(stage, 90_000_002).await;
    let sql = "-- verifier::metrics\nUPDATE eve_tokens SET owner_hash = 'the seller' WHERE eve_id = $1";
    sqlx::query(sql).bind(sold.eve_id).execute(stage.db.pool()).await.expect("PostgreSQL answers");
}

#[tokio::test]
async fn every_series_is_there_by_its_name_with_its_exact_value() {
    let stage = Stage::with_pushgateway().await;
    population(&stage).await;
    let began = now(&stage.db).await.0 / 1000;
    ends(&with_sso(stage.verifier()).env("POD_NAMESPACE", "games"), 0).await;
    let gateway = stage.pushgateway.as_ref().unwrap();

    let verified = [("success", 12.0), ("failed", 1.0), ("skipped", 2.0)];
    expect(gateway, "battlescope_characters_verified_total", "status", &verified);
    let changes = [("corp", 2.0), ("alliance", 1.0), ("both", 1.0)];
    expect(gateway, "battlescope_character_org_changes_total", "type", &changes);
    let taken = [("disallowed", 2.0), ("gone", 1.0), ("transferred", 1.0)];
    expect(gateway, "battlescope_sessions_invalidated_total", "reason", &taken);
    let confirmed = [("confirmed", 3.0), ("disputed", 1.0), ("unavailable", 0.0)];
    expect(gateway, "rollcall_verifier_confirmations_total", "result", &confirmed);
    let tokens = [
        ("valid", 1.0),
        ("rotated", 0.0),
        ("revoked", 0.0),
        ("invalid_grant", 0.0),
        ("transferred", 1.0),
        ("undecryptable", 0.0),
        ("unavailable", 0.0),
    ];
    expect(gateway, "rollcall_verifier_token_checks_total", "result", &tokens);
    expect(gateway, "rollcall_verifier_capped_total", "", &[("", 0.0)]);
    expect(gateway, "rollcall_verifier_held_sessions", "", &[("", 0.0)]);
    let unknown = series(gateway, "rollcall_verifier_unknown_total", "reason");
    for (reason, n) in
        [("missing", 1.0), ("no_auth_config", 1.0), ("upstream", 0.0), ("disputed", 1.0), ("unconfirmed", 0.0)]
    {
        assert!(unknown.contains(&(reason.to_owned(), n)), "{reason}: {unknown:?}");
    }

    // What was called is what the simulator was asked.
    let counts = stage.sim.counts();
    let calls = series(gateway, "rollcall_esi_calls_total", "route");
    for (name, route) in [
        ("status", Route::Status),
        ("affiliation", Route::Affiliation),
        ("character", Route::Character),
        ("corporation", Route::Corporation),
        ("names", Route::Names),
        ("sso_token", Route::Token),
        ("sso_jwks", Route::Jwks),
    ] {
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let arrived = counts.arrived(route) as f64;
        assert!(arrived > 0.0 && calls.contains(&(name.to_owned(), arrived)), "{name} {arrived}: {calls:?}");
    }
    assert_eq!(calls.len(), 7);
    let errors = series(gateway, "battlescope_character_verification_esi_errors_total", "error_code");
    let not_found: u64 = counts.routes.values().filter_map(|route| route.statuses.get(&404)).sum();
    for (code, n) in &errors {
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let expected = if code == "404" { not_found as f64 } else { 0.0 };
        assert!((n - expected).abs() < f64::EPSILON, "{code}: {n}, not {expected}");
    }
    for code in ["404", "420", "429", "500", "502", "503", "504", "timeout"] {
        assert!(errors.iter().any(|(known, _)| known == code), "{code}: {errors:?}");
    }

    let value = |name: &str| gateway.value(name, &[("namespace", "games")]).unwrap_or_else(|| panic!("no {name}"));
    let duration = value("battlescope_character_verification_duration_seconds");
    assert!(duration > 0.0 && duration < 60.0, "{duration}");
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
    let began = began as f64;
    let last_run = value("battlescope_character_verification_last_run_timestamp");
    assert!((began..began + 60.0).contains(&last_run), "{last_run}");
    // The oldest are those nothing is known about, last verified an hour ago.
    let oldest = value("rollcall_verifier_oldest_unverified_seconds");
    assert!((3600.0..3660.0).contains(&oldest), "{oldest}");
    expect(
        gateway,
        "rollcall_job_records",
        "outcome",
        &[("scanned", 15.0), ("changed", 5.0), ("skipped", 2.0), ("failed", 1.0), ("remaining", 0.0)],
    );
}

#[tokio::test]
async fn counters_go_on_from_run_to_run_and_the_cap_is_told() {
    let stage = Stage::with_pushgateway().await;
    let gateway = stage.pushgateway.as_ref().unwrap();
    stage.crowd(2, |place| (STRANGERS, newcomer(format!("m{place}")).verified_minutes_ago(60).session())).await;
    ends(&stage.verifier().env("MAX_INVALIDATIONS_PER_RUN", "1"), 77).await;
    expect(gateway, "rollcall_verifier_capped_total", "", &[("", 1.0)]);
    expect(gateway, "rollcall_verifier_held_sessions", "", &[("", 2.0)]);
    expect(gateway, "rollcall_job_capped", "", &[("", 1.0)]);
    expect(gateway, "rollcall_job_last_exit_code", "", &[("", 77.0)]);
    assert_eq!(gateway.value("rollcall_job_last_success_timestamp_seconds", &[]), None);

    verify(&stage).await;
    expect(gateway, "rollcall_verifier_capped_total", "", &[("", 1.0)]);
    expect(gateway, "rollcall_verifier_held_sessions", "", &[("", 0.0)]);
    expect(gateway, "rollcall_job_capped", "", &[("", 0.0)]);
    let verified = [("success", 4.0), ("failed", 0.0), ("skipped", 0.0)];
    expect(gateway, "battlescope_characters_verified_total", "status", &verified);
    let taken = [("disallowed", 2.0), ("gone", 0.0), ("transferred", 0.0)];
    expect(gateway, "battlescope_sessions_invalidated_total", "reason", &taken);

    // A run with nothing to do tells the same totals.
    verify(&stage).await;
    expect(gateway, "battlescope_sessions_invalidated_total", "reason", &taken);
    assert_eq!(gateway.value("rollcall_job_runs_total", &[("outcome", "nothing_to_do")]), Some(1.0));
}

#[tokio::test]
async fn a_statistic_that_cannot_be_had_does_not_make_a_failure_of_the_run() {
    let stage = Stage::with_pushgateway().await;
    stage.add(newcomer("Alice")).await;
    let lock = async |sql: &'static str| {
        let mut gate = stage.db.pool().begin().await.unwrap();
        sqlx::query(sql).execute(&mut *gate).await.unwrap();
        gate
    };
    let last_step = lock("-- verifier::metrics\nLOCK TABLE unresolvable_ids IN SHARE MODE").await;
    let run = stage.verifier().start();
    waits_for_a_lock(&stage, "unresolvable::forget_expired", None).await;
    let statistic = lock("-- verifier::metrics\nLOCK TABLE revocation_candidates IN ACCESS EXCLUSIVE MODE").await;
    last_step.rollback().await.unwrap();
    let run = run.wait(PATIENCE).await.expect_code(0);
    statistic.rollback().await.unwrap();
    assert_eq!((ended(&run), lines(&run, "gauges could not be read").len()), ("done", 1), "{run}");
    let gateway = stage.pushgateway.as_ref().unwrap();
    expect(gateway, "rollcall_job_last_exit_code", "", &[("", 0.0)]);
    assert!(gateway.value("rollcall_job_last_success_timestamp_seconds", &[]).is_some());
    // It goes with the age of the oldest check, which could not be had either: CharacterVerifierExposure adds the two.
    assert_eq!(gateway.value("battlescope_character_verification_last_run_timestamp", &[]), None);
}

#[tokio::test]
async fn a_run_that_fails_moves_neither_the_time_nor_the_age_of_the_oldest_check() {
    let stage = Stage::with_pushgateway().await;
    stage.add(newcomer("ann").verified_minutes_ago(90)).await;
    stage.verifier().run().await.expect_code(0);
    let gateway = stage.pushgateway.as_ref().unwrap();
    let told = || {
        ["battlescope_character_verification_last_run_timestamp", "rollcall_verifier_oldest_unverified_seconds"]
            .map(|name| gateway.value(name, &[]))
    };
    let before = told();
    assert!(before.iter().all(Option::is_some), "{before:?}");
    let mut lock = stage.db.pool().begin().await.unwrap();
    sqlx::query("-- verifier::metrics\nLOCK TABLE auth_config IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *lock)
        .await
        .unwrap();
    let finished = stage.verifier().run().await.expect_code(75);
    lock.rollback().await.unwrap();
    expect(gateway, "rollcall_job_last_exit_code", "", &[("", 75.0)]);
    assert_eq!(told(), before, "{finished}");
}

#[tokio::test]
async fn the_age_of_the_oldest_check_is_told_by_a_run_that_finds_nothing_due() {
    let stage = Stage::with_pushgateway().await;
    for minutes in [10, 30] {
        stage.add(newcomer(format!("m{minutes}")).verified_minutes_ago(minutes).session()).await;
    }
    assert_eq!(crate::support::ended(&verify(&stage).await), "nothing_to_do");
    let oldest = stage.pushgateway.as_ref().unwrap().value("rollcall_verifier_oldest_unverified_seconds", &[]).unwrap();
    assert!((1800.0..1900.0).contains(&oldest), "{oldest}");
}

#[tokio::test]
async fn an_id_esi_does_not_know_is_no_exposure_but_an_active_character() {
    let stage = Stage::with_pushgateway().await;
    stage.add(newcomer("known").verified_minutes_ago(60)).await;
    let unknown = stage.community.add(newcomer("not at ESI").verified_minutes_ago(600)).await;
    verify(&stage).await;
    let value = |name| stage.pushgateway.as_ref().unwrap().value(name, &[]).unwrap();
    let oldest = value("rollcall_verifier_oldest_unverified_seconds");
    assert!(oldest < 60.0, "{oldest} s for {}", unknown.eve_id);
    let gateway = stage.pushgateway.as_ref().unwrap();
    expect(gateway, "rollcall_verifier_active_characters", "", &[("", 2.0)]);
    expect(gateway, "rollcall_verifier_pending_invalidations", "", &[("", 0.0)]);
}
