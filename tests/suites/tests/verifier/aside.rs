//! Runs that only look: dry runs.

use esi_simulator::Route;
use harness::{CORPORATION, STRANGERS, newcomer};
use suites::{Stage, outcome, with_sso};

use crate::{
    breaker::alive,
    support::{ended, ends, standing, verify},
    tokens::holder,
};

#[tokio::test]
async fn a_dry_run_prints_what_would_change_and_changes_nothing() {
    let stage = Stage::with_pushgateway().await;
    let leaver = stage.add_in(STRANGERS, newcomer("leaver").verified_minutes_ago(60).session()).await;
    stage.add(newcomer("member").verified_minutes_ago(60).session()).await;
    stage.add_in(STRANGERS, newcomer("without a session").verified_minutes_ago(60)).await;
    holder(&stage, 90_000_001).await;
    let before = stage.community.exact_fingerprint().await;
    let run = ends(&with_sso(stage.verifier()).arg("--dry-run"), 0).await;
    assert_eq!(stage.community.exact_fingerprint().await, before);
    assert_eq!(stage.sim.counts().arrived(Route::Token), 0);
    assert!(run.stdout.contains("would write 2 changed organisations"), "{run}");
    let line = format!(
        "would end sessions of account {} that act as EVE character {}: not_a_member",
        leaver.account_id, leaver.eve_id
    );
    assert!(run.stdout.contains(&line), "{run}");
    assert_eq!(run.stdout.matches("would end sessions").count(), 1, "{run}");
    assert_eq!((&outcome(&run)["dry_run"], &outcome(&run)["scanned"]), (&true.into(), &4.into()));
    let runs = stage.community.runs().await;
    assert_eq!((runs.len(), runs[0].dry_run, runs[0].scanned), (1, true, 4));
    let pushed = stage.pushgateway.as_ref().unwrap().metrics();
    assert!(!pushed.iter().any(|sample| sample.labels.get("job").is_some_and(|job| job == "character-verifier")));

    // What it foretold happens. What it asked of ESI it could not keep.
    stage.forgive();
    stage.later(24 * 60 + 1).await;
    assert_eq!(ended(&verify(&stage).await), "done");
    assert!(!standing(&stage, &leaver).await.1);
}

#[tokio::test]
async fn a_dry_run_says_when_the_circuit_breaker_would_open() {
    let stage = Stage::new().await;
    let describe = |place| (STRANGERS, newcomer(format!("m{place}")).verified_minutes_ago(60).session());
    let crowd = stage.crowd(3, describe).await;
    let before = stage.community.exact_fingerprint().await;
    let cautious = stage.verifier().env("MAX_INVALIDATIONS_PER_RUN", "2").env("DRY_RUN", "true");
    let run = ends(&cautious, 77).await;
    assert!(outcome(&run)["note"].as_str().unwrap().contains("3 accounts would lose a session"), "{run}");
    assert_eq!(stage.community.exact_fingerprint().await, before);
    assert_eq!(alive(&stage, &crowd).await, 3);
}

#[tokio::test]
async fn a_dry_run_counts_the_ratio_as_the_real_one_does() {
    let stage = Stage::new().await;
    let describe = |place| {
        let corporation = if place < 10 { STRANGERS } else { CORPORATION };
        (corporation, newcomer(format!("m{place}")).verified_minutes_ago(60).session())
    };
    stage.crowd(99, describe).await;
    let run = ends(&stage.verifier().env("DRY_RUN", "true"), 77).await;
    assert!(outcome(&run)["note"].as_str().unwrap().contains("10 of 99"), "{run}");
}

#[tokio::test]
async fn a_dry_run_tells_of_what_waits_to_be_approved() {
    let stage = Stage::new().await;
    let describe = |place| (STRANGERS, newcomer(format!("m{place}")).verified_minutes_ago(60).session());
    stage.crowd(3, describe).await;
    ends(&stage.verifier().env("MAX_INVALIDATIONS_PER_RUN", "2"), 77).await;
    let before = stage.community.exact_fingerprint().await;
    let approved = stage.verifier().env("DRY_RUN", "true").env("APPROVE_MASS_INVALIDATION", "true");
    let run = ends(&approved, 0).await;
    assert_eq!(run.stdout.matches("would end sessions").count(), 3, "{run}");
    assert_eq!(stage.community.exact_fingerprint().await, before);
}
