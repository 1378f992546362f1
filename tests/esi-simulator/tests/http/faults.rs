//! Each fault, and the ways to say which requests it hits.

use std::time::Duration;

use esi_simulator::{Fault, Kind, RetryAfterForm, Route, Scope, Simulator};
use serde_json::{Value, json};
use time::macros::datetime;

use crate::client::{
    ALLIANCE, CHARACTER, CORPORATION, LONER, LONER_CORPORATION, PATIENCE, affiliation, affiliation_request, get, row,
    try_send, world,
};

fn with_fault(fault: Fault) -> Simulator {
    let simulator = Simulator::start(world());
    simulator.faults().add(fault);
    simulator
}

async fn statuses(simulator: &Simulator, calls: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..calls {
        statuses.push(affiliation(simulator, &[CHARACTER]).await.status);
    }
    statuses
}

#[tokio::test]
async fn a_fault_hits_the_requests_it_is_told_to() {
    let fault = || Fault::on(Route::Affiliation, Kind::Unavailable);
    let cases = [
        (fault(), [503, 503, 503, 503]),
        (fault().first(2), [503, 503, 200, 200]),
        (fault().nth(2), [200, 503, 200, 200]),
        (fault().every(2), [200, 503, 200, 503]),
        (fault().after(3), [200, 200, 200, 503]),
        (Fault::on(Scope::AllEsi, Kind::Unavailable).nth(1), [503, 200, 200, 200]),
        (Fault::on(Scope::Sso, Kind::Unavailable), [200, 200, 200, 200]),
        (Fault::on(Route::Character, Kind::Unavailable), [200, 200, 200, 200]),
    ];
    for (fault, expected) in cases {
        assert_eq!(statuses(&with_fault(fault.clone()), 4).await, expected, "{fault:?}");
    }
}

#[tokio::test]
async fn faults_can_be_counted_removed_and_cleared() {
    let simulator = Simulator::start(world());
    let slow = simulator.faults().add(Fault::on(Route::Affiliation, Kind::Slow { ms: 1 }));
    let down = simulator.faults().add(Fault::on(Route::Affiliation, Kind::GatewayTimeout));
    assert_eq!(statuses(&simulator, 2).await, [504, 504]);
    assert_eq!((simulator.faults().hits(slow), simulator.faults().hits(down)), (2, 2));
    assert!(simulator.faults().remove(down));
    assert!(!simulator.faults().remove(down));
    assert_eq!(statuses(&simulator, 1).await, [200]);
    simulator.faults().clear();
    assert_eq!(simulator.faults().hits(slow), 0);
}

#[tokio::test]
async fn a_bad_id_fails_the_calls_it_is_in_and_no_others() {
    let simulator = with_fault(Fault::bad_ids([LONER]));
    assert_eq!(affiliation(&simulator, &[CHARACTER, LONER]).await.error(), (404, "Character not found".into()));
    assert_eq!(affiliation(&simulator, &[CHARACTER]).await.status, 200);
    assert_eq!(get(&simulator, "/characters/90000002").await.status, 200);

    let as_400 = with_fault(Fault::on(Scope::AllEsi, Kind::BadIdsAs400));
    assert_eq!(affiliation(&as_400, &[CHARACTER, 5]).await.error(), (400, "Character not found".into()));
    assert_eq!(affiliation(&as_400, &[CHARACTER]).await.status, 200);
    let by_id = with_fault(Fault::on(Route::Character, Kind::BadRequest).containing([LONER]));
    assert_eq!(get(&by_id, "/characters/90000002").await.status, 400);
    assert_eq!(get(&by_id, "/characters/90000001").await.status, 200);
}

#[tokio::test]
async fn errors_look_like_the_real_ones() {
    let json_errors = [
        (Kind::CharacterNotFound, 404, "Character not found"),
        (Kind::NotFound, 404, "Not found"),
        (Kind::BadRequest, 400, "Invalid request"),
        (Kind::Unavailable, 503, "The datasource tranquility is temporarily unavailable"),
        (Kind::GatewayTimeout, 504, "Timeout contacting tranquility"),
    ];
    for (kind, status, text) in json_errors {
        let answer = affiliation(&with_fault(Fault::on(Route::Affiliation, kind)), &[CHARACTER]).await;
        assert_eq!(answer.error(), (status, text.into()));
        assert_eq!(answer.header("x-esi-error-limit-remain"), Some("99"));
    }
    let throttled = affiliation(&with_fault(Fault::on(Scope::AllEsi, Kind::DisguisedThrottle)), &[CHARACTER]).await;
    assert_eq!(throttled.status, 500);
    assert!(throttled.error().1.starts_with("Undefined 429 response. Original message: "));
    let broken = affiliation(&with_fault(Fault::on(Scope::AllEsi, Kind::InternalError)), &[CHARACTER]).await;
    assert_eq!((broken.status, broken.header("content-type")), (500, Some("text/plain; charset=utf-8")));
    let gateway = affiliation(&with_fault(Fault::on(Scope::AllEsi, Kind::BadGateway)), &[CHARACTER]).await;
    assert_eq!((gateway.status, gateway.header("content-type")), (502, Some("text/html")));
    assert!(gateway.text.starts_with("<html>"));
    assert_eq!(gateway.header("x-esi-error-limit-remain"), None);
}

#[tokio::test]
async fn rate_limits_say_when_to_come_back_in_either_form() {
    let limited = |form| Fault::on(Route::Affiliation, Kind::RateLimited { retry_after_seconds: 7, form });
    let simulator = with_fault(limited(RetryAfterForm::Seconds).first(1));
    simulator.faults().add(limited(RetryAfterForm::HttpDate).nth(2));
    simulator.set_time(datetime!(2026-11-22 11:00:00 UTC));
    let seconds = affiliation(&simulator, &[CHARACTER]).await;
    assert_eq!((seconds.status, seconds.header("retry-after")), (429, Some("7")));
    simulator.advance(Duration::from_secs(10));
    let date = affiliation(&simulator, &[CHARACTER]).await;
    assert_eq!(&date.header("retry-after").unwrap()[..23], "Sun, 22 Nov 2026 11:00:");
}

#[tokio::test]
async fn downtime_comes_at_eleven_and_leaves_with_not_founds() {
    let simulator = with_fault(Fault::on(Scope::AllEsi, Kind::Downtime { minutes: 15, not_found_minutes: 5 }));
    for (time, expected) in [
        (datetime!(2026-11-22 10:58 UTC), vec![200]),
        (datetime!(2026-11-22 11:02 UTC), vec![502, 504, 503]),
        (datetime!(2026-11-22 11:16 UTC), vec![404]),
        (datetime!(2026-11-22 11:21 UTC), vec![200]),
    ] {
        simulator.set_time(time);
        assert_eq!(statuses(&simulator, expected.len()).await, expected, "{time}");
    }
}

#[tokio::test]
async fn a_hanging_call_arrives_and_is_never_answered() {
    let simulator = with_fault(Fault::on(Route::Affiliation, Kind::Hang));
    let call = affiliation_request(&simulator, &[CHARACTER]).timeout(Duration::from_mins(10));
    let call = tokio::spawn(try_send(call));
    assert!(simulator.wait_for(PATIENCE, |counts| counts.arrived(Route::Affiliation) == 1).await);
    assert!(!call.is_finished());
    call.abort();
    assert_eq!(simulator.requests()[0].status, None);
    assert!(!simulator.wait_for(Duration::from_millis(50), |counts| counts.total() > 1).await);
}

#[test]
fn blocking_code_can_wait_too() {
    let simulator = Simulator::start(world());
    assert!(simulator.wait_for_blocking(PATIENCE, |counts| counts.total() == 0));
    assert!(!simulator.wait_for_blocking(Duration::from_millis(10), |counts| counts.total() > 0));
}

#[tokio::test]
async fn connections_break_where_they_are_told_to() {
    for kind in [Kind::CutBeforeHeaders, Kind::CutMidBody] {
        let simulator = with_fault(Fault::on(Route::Character, kind.clone()).first(1));
        let call = || crate::client::request(&simulator.url(), reqwest::Method::GET, "/characters/90000001");
        match call().send().await {
            Err(_) => assert_eq!(kind, Kind::CutBeforeHeaders),
            Ok(response) => {
                assert_eq!((kind, response.status().as_u16()), (Kind::CutMidBody, 200));
                assert!(response.bytes().await.is_err());
            }
        }
        assert_eq!(simulator.counts().routes[&Route::Character].cut, 1);
        assert_eq!(try_send(call()).await.unwrap().status, 200);
        assert_eq!(simulator.violations(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn truncated_json_comes_with_200() {
    let simulator = with_fault(Fault::on(Route::Affiliation, Kind::TruncatedJson));
    let answer = affiliation(&simulator, &[CHARACTER, LONER]).await;
    assert_eq!(answer.status, 200);
    assert!(answer.text.starts_with("[{") && serde_json::from_str::<Value>(&answer.text).is_err());
}

#[tokio::test]
async fn rows_can_be_missing() {
    let simulator = with_fault(Fault::on(Route::Affiliation, Kind::MissingRows { ids: vec![LONER] }).first(1));
    simulator.faults().add(Fault::on(Route::Affiliation, Kind::MissingRows { ids: vec![] }).nth(2));
    let partial = affiliation(&simulator, &[CHARACTER, LONER]).await;
    assert_eq!(partial.json().as_array().map(Vec::len), Some(1));
    assert_eq!(row(&partial, LONER), Value::Null);
    assert_eq!(affiliation(&simulator, &[CHARACTER, LONER]).await.text, "[]");
}

#[tokio::test]
async fn fields_can_be_added() {
    let simulator = with_fault(Fault::on(Scope::AllEsi, Kind::ExtraFields));
    let answer = affiliation(&simulator, &[CHARACTER]).await;
    assert_eq!(row(&answer, CHARACTER)["corporation_id"], json!(CORPORATION));
    assert!(row(&answer, CHARACTER)["added_field"].is_object());
    assert!(get(&simulator, "/status").await.json()["added_field"].is_object());
}

#[tokio::test]
async fn organisations_can_be_stale_on_one_route_and_fresh_on_the_other() {
    let stale =
        Kind::StaleOrganisation { character_id: CHARACTER, corporation_id: CORPORATION, alliance_id: Some(ALLIANCE) };
    let simulator = with_fault(Fault::on(Route::Affiliation, stale).first(1));
    simulator.world(|world| world.move_character(CHARACTER, LONER_CORPORATION));
    let old = affiliation(&simulator, &[CHARACTER, LONER]).await;
    assert_eq!(row(&old, CHARACTER)["corporation_id"], json!(CORPORATION));
    assert_eq!(row(&old, LONER)["corporation_id"], json!(LONER_CORPORATION));
    let single = get(&simulator, "/characters/90000001").await.json();
    assert_eq!((&single["corporation_id"], single.get("alliance_id")), (&json!(LONER_CORPORATION), None));
    let fresh = affiliation(&simulator, &[CHARACTER]).await;
    assert_eq!(row(&fresh, CHARACTER), json!({ "character_id": CHARACTER, "corporation_id": LONER_CORPORATION }));
}
