//! How ESI is spoken to, as far as one run after another shows it.

use esi_simulator::{Fault, Kind, Route, TokenBucket};
use harness::{CORPORATION, STRANGERS, newcomer};
use suites::{Stage, message, outcome};

use crate::support::{ended, ends, verify};

#[tokio::test]
async fn every_call_names_the_software_and_whom_to_ask() {
    let stage = Stage::new().await;
    stage.add_in(STRANGERS, newcomer("leaver").verified_minutes_ago(60).session()).await;
    let run = verify(&stage).await;
    assert!(!run.log.iter().any(|line| message(line).is_some_and(|text| text.contains("ESI_CONTACT"))), "{run}");
    let calls = stage.sim.requests();
    for route in [Route::Status, Route::Affiliation, Route::Character, Route::Corporation, Route::Names] {
        let call = calls.iter().find(|call| call.route == route).unwrap_or_else(|| panic!("{route:?} was called"));
        let agent = call.user_agent.as_deref().unwrap();
        assert!(agent.starts_with("Rollcall/") && agent.contains("(ops@example.org; +https://"), "{agent}");
    }
    // That the compatibility date is there and valid is the simulator's to say, when the stage is dropped.
}

#[tokio::test]
async fn a_missing_contact_is_warned_of_at_every_start_and_by_check() {
    let stage = Stage::new().await;
    stage.add(newcomer("Alice")).await;
    let nameless = stage.verifier().env("ESI_CONTACT", "");
    let run = ends(&nameless, 0).await;
    let warned = |line: &serde_json::Value| {
        line["level"] == "WARN" && message(line).is_some_and(|text| text.contains("ESI_CONTACT is not set"))
    };
    assert!(run.log.iter().any(warned), "{run}");
    assert!(stage.sim.requests()[0].user_agent.as_deref().unwrap().contains("no contact given"));
    let check = ends(&nameless.arg("check"), 0).await;
    assert!(check.stdout.contains("ESI_CONTACT is not set"), "{check}");
}

#[tokio::test]
async fn a_compatibility_date_in_the_future_is_refused() {
    let stage = Stage::new().await;
    let run = ends(&stage.verifier().env("ESI_COMPATIBILITY_DATE", "2999-01-01"), 78).await;
    assert!(run.stderr.contains("ESI_COMPATIBILITY_DATE"), "{run}");
}

#[tokio::test]
async fn no_sheet_is_fetched_again_before_it_expires_by_this_run_or_the_next() {
    let stage = Stage::new().await;
    let mut members = Vec::new();
    for name in ["one", "two", "three"] {
        members.push(stage.add_in(STRANGERS, newcomer(name).verified_minutes_ago(60).session()).await);
    }
    verify(&stage).await;
    // They log in again, and are looked at again: sheets and corporation are still fresh.
    for member in &members {
        stage.community.open_session(member, harness::SessionSpec::default()).await;
    }
    stage.community.make_due().await;
    verify(&stage).await;
    assert_eq!(stage.community.audit().await.len(), 6);
    let counts = stage.sim.counts();
    assert_eq!(counts.arrived(Route::Status), 1);
    assert_eq!(counts.arrived(Route::Character), 3);
    assert_eq!(counts.arrived(Route::Corporation), 1, "one corporation, however many left for it");
    assert_eq!(counts.arrived(Route::Affiliation), 2, "affiliation is paced by the threshold");
}

#[tokio::test]
async fn while_esi_lets_only_the_chosen_in_nothing_is_checked() {
    let stage = Stage::with_pushgateway().await;
    let member = stage.add_in(STRANGERS, newcomer("leaver").verified_minutes_ago(60).session()).await;
    stage.sim.settings(|settings| settings.vip = true);
    let before = stage.community.eve(member.eve_id).await;
    let run = verify(&stage).await;
    assert_eq!((ended(&run), &outcome(&run)["remaining"]), ("upstream_down", &1.into()));
    assert!(outcome(&run)["note"].as_str().unwrap().contains("VIP"), "{run}");
    assert_eq!(stage.community.eve(member.eve_id).await, before);
    assert_eq!(stage.sim.counts().total(), 1);
    assert!(stage.community.has_session(member.session_token()).await);
    let pushgateway = stage.pushgateway.as_ref().unwrap();
    assert_eq!(pushgateway.value("rollcall_job_last_success_timestamp_seconds", &[]), None);
    assert!(pushgateway.value("rollcall_job_last_run_timestamp_seconds", &[]).is_some());
    assert_eq!(pushgateway.value("rollcall_job_runs_total", &[("outcome", "upstream_down")]), Some(1.0));

    stage.sim.settings(|settings| settings.vip = false);
    stage.later(1).await;
    assert_eq!(ended(&verify(&stage).await), "done");
    assert!(!stage.community.has_session(member.session_token()).await);
}

#[tokio::test]
async fn while_esi_is_down_nothing_is_checked() {
    let stage = Stage::new().await;
    let member = stage.add_in(STRANGERS, newcomer("leaver").verified_minutes_ago(60).session()).await;
    stage.sim.faults().add(Fault::on(Route::Status, Kind::Unavailable));
    let before = stage.community.eve(member.eve_id).await;
    let run = verify(&stage).await;
    assert_eq!(ended(&run), "upstream_down");
    assert_eq!(stage.community.eve(member.eve_id).await, before);
    assert_eq!(stage.sim.counts().arrived(Route::Affiliation), 0);
    assert!(stage.community.has_session(member.session_token()).await);
    // Each run says it anew: nothing of an outage is remembered.
    stage.sim.faults().clear();
    assert_eq!(ended(&verify(&stage).await), "done");
}

#[tokio::test]
async fn a_token_bucket_that_is_nearly_spent_does_not_lose_the_run() {
    let stage = Stage::new().await;
    stage.sim.settings(|settings| {
        settings.token_buckets = vec![TokenBucket {
            group: "char-affiliation".to_owned(),
            routes: vec![Route::Affiliation],
            tokens: 12,
            window_seconds: 60,
        }];
    });
    stage.crowd(30, |place| (CORPORATION, newcomer(format!("m{place}")))).await;
    let run = ends(&stage.verifier().env("BATCH_SIZE", "10").env("ESI_CONCURRENCY", "1"), 0).await;
    assert_eq!(outcome(&run)["scanned"], 30);
    assert_eq!(stage.sim.counts().answered(Route::Affiliation, 429), 0);
}
