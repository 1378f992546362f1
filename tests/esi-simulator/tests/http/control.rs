//! Everything again through `/_sim/…`.

use esi_simulator::{Route, Simulator, World};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Answer, affiliation, get, refresh, request, row, send};

async fn steer(simulator: &Simulator, method: Method, what: &str, body: Value) -> Answer {
    send(request(&simulator.url(), method, &format!("/_sim/{what}")).json(&body)).await
}

async fn post(simulator: &Simulator, what: &str, body: Value) -> u16 {
    steer(simulator, Method::POST, what, body).await.status
}

#[tokio::test]
async fn a_world_can_be_put_together_over_http() {
    let simulator = Simulator::start(World::default());
    let update = json!({
        "alliances": [{ "id": 99_000_001, "name": "A" }],
        "corporations": [{ "id": 98_000_001, "alliance_id": 99_000_001, "name": "C", "ticker": "CCC" }],
        "characters": [
            { "id": 90_000_001, "corporation_id": 98_000_001 },
            { "id": 90_000_002, "corporation_id": 98_000_001, "alliance": { "stale": 99_000_002 } },
            { "id": 90_000_003, "corporation_id": 98_000_001, "state": "deleted" },
        ],
        "generate": { "first_id": 91_000_000, "count": 10, "corporations": [98_000_001, 98_000_002] },
        "refresh_tokens": [{ "token": "r1", "character_id": 91_000_009 }],
    });
    assert_eq!(post(&simulator, "world", update).await, 204);
    let answer = affiliation(&simulator, &[90_000_001, 90_000_002, 91_000_000, 91_000_009]).await;
    assert_eq!(row(&answer, 90_000_001)["alliance_id"], json!(99_000_001));
    assert_eq!(row(&answer, 90_000_002)["alliance_id"], json!(99_000_002));
    assert_eq!(row(&answer, 91_000_000)["alliance_id"], json!(99_000_001));
    assert_eq!(row(&answer, 91_000_009)["corporation_id"], json!(98_000_002));
    assert_eq!(affiliation(&simulator, &[90_000_003]).await.status, 404);
    assert_eq!(refresh(&simulator, "r1").await.status, 200);
}

#[tokio::test]
async fn faults_can_be_scripted_over_http() {
    let simulator = Simulator::start(World::default());
    let faults = json!([
        { "on": "all_esi", "when": { "first": 1 }, "what": "bad_gateway" },
        { "on": { "routes": ["status"] }, "ids": [], "when": { "nth": 2 },
          "what": { "rate_limited": { "retry_after_seconds": 3, "form": "http_date" } } },
        { "on": "sso", "what": { "bad_token": "wrong_signature" } },
        { "on": { "routes": ["affiliation"] }, "what": { "missing_rows": {} } },
    ]);
    assert_eq!(post(&simulator, "faults", faults).await, 204);
    assert_eq!(get(&simulator, "/status").await.status, 502);
    assert_eq!(get(&simulator, "/status").await.status, 429);
    assert_eq!(post(&simulator, "faults", json!([{ "on": "all_esi", "what": "unavailable" }])).await, 204);
    assert_eq!(get(&simulator, "/meta/status").await.status, 503);
    assert_eq!(steer(&simulator, Method::DELETE, "faults", json!(null)).await.status, 204);
    assert_eq!(get(&simulator, "/meta/status").await.status, 200);
    assert_eq!(post(&simulator, "faults", json!([{ "on": "all_esi", "what": "no_such_fault" }])).await, 422);
}

#[tokio::test]
async fn settings_change_field_by_field_and_the_clock_moves() {
    let simulator = Simulator::start(World::default());
    assert_eq!(post(&simulator, "settings", json!({ "vip": true, "cache_seconds": { "status": 5 } })).await, 204);
    assert_eq!(post(&simulator, "settings", json!({ "vp": true })).await, 400);
    assert_eq!(post(&simulator, "clock", json!({ "now": "2026-11-22T11:05:00Z" })).await, 204);
    let status = get(&simulator, "/status").await;
    assert_eq!(status.json()["vip"], json!(true));
    assert_eq!(status.header("cache-control"), Some("public, max-age=5"));
    assert_eq!(&status.header("date").unwrap()[..22], "Sun, 22 Nov 2026 11:05");
    assert_eq!(post(&simulator, "clock", json!({ "advance_seconds": 3600 })).await, 204);
    assert_eq!(&get(&simulator, "/status").await.header("date").unwrap()[..22], "Sun, 22 Nov 2026 12:05");
    let settings = steer(&simulator, Method::GET, "settings", json!(null)).await.json();
    assert_eq!((&settings["vip"], &settings["client_id"]), (&json!(true), &json!("sim-client")));
}

#[tokio::test]
async fn requests_are_reported_and_forgotten() {
    let simulator = Simulator::start(World::default());
    affiliation(&simulator, &[5, 6]).await;
    get(&simulator, "/status").await;
    get(&simulator, "/status").await;
    let report = steer(&simulator, Method::GET, "requests", json!(null)).await.json();
    assert_eq!(report["routes"]["affiliation"], json!({ "arrived": 1, "ids": 2, "statuses": { "404": 1 }, "cut": 0 }));
    assert_eq!(report["routes"]["status"]["statuses"], json!({ "200": 2 }));
    assert_eq!(report["violations"], json!(["GET /status: fetched again before Expires"]));
    assert_eq!(steer(&simulator, Method::DELETE, "requests", json!(null)).await.status, 204);
    assert_eq!(simulator.counts().arrived(Route::Status), 0);
    assert!(simulator.requests().is_empty() && simulator.violations().is_empty());
}
