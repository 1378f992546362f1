//! Headers, error window, token buckets and caches.

use std::time::Duration;

use esi_simulator::{Fault, Kind, Route, Scope, Simulator, TokenBucket};
use reqwest::Method;
use time::macros::datetime;

use crate::client::{Answer, CHARACTER, affiliation, get, request, send, world};

fn remain(answer: &Answer) -> Option<&str> {
    answer.header("x-esi-error-limit-remain")
}

#[tokio::test]
async fn errors_are_counted_in_fixed_windows_and_then_stop_every_route() {
    let simulator = Simulator::start(world());
    simulator.set_time(datetime!(2026-11-22 15:00 UTC));
    simulator.settings(|settings| settings.error_limit = 3);
    assert_eq!(remain(&get(&simulator, "/status").await), Some("3"));
    for left in ["2", "1", "0"] {
        assert_eq!(remain(&get(&simulator, "/characters/1").await), Some(left));
    }
    simulator.advance(Duration::from_secs(20));
    let refused = affiliation(&simulator, &[CHARACTER]).await;
    assert_eq!((refused.status, remain(&refused)), (420, Some("0")));
    let reset: i64 = refused.header("x-esi-error-limit-reset").unwrap().parse().unwrap();
    assert!((1..=40).contains(&reset), "{reset}");

    simulator.advance(Duration::from_secs(40));
    let free = affiliation(&simulator, &[CHARACTER]).await;
    assert_eq!((free.status, remain(&free)), (200, Some("3")));
}

#[tokio::test]
async fn a_hundred_errors_are_allowed_and_server_faults_count() {
    let simulator = Simulator::start(world());
    simulator.faults().add(Fault::on(Route::Affiliation, Kind::InternalError).first(1));
    assert_eq!(remain(&affiliation(&simulator, &[CHARACTER]).await), Some("99"));
}

#[tokio::test]
async fn dates_follow_the_simulated_clock() {
    let simulator = Simulator::start(world());
    simulator.set_time(datetime!(2026-11-22 11:04:58 UTC));
    let answer = get(&simulator, "/status").await;
    let minute = |name: &str| answer.header(name).map(|date| date[..22].to_owned());
    assert_eq!(minute("date").as_deref(), Some("Sun, 22 Nov 2026 11:04"));
    assert_eq!(minute("expires").as_deref(), Some("Sun, 22 Nov 2026 11:05"));
    assert_eq!(minute("last-modified").as_deref(), Some("Sun, 22 Nov 2026 11:04"));
    assert_eq!(answer.header("cache-control"), Some("public, max-age=30"));
}

#[tokio::test]
async fn an_unchanged_entity_is_answered_304() {
    let simulator = Simulator::start(world());
    let first = get(&simulator, "/alliances/99000001").await;
    simulator.advance(Duration::from_secs(3601));
    let again = request(&simulator.url(), Method::GET, "/alliances/99000001");
    let again = send(again.header("if-none-match", first.header("etag").unwrap())).await;
    assert_eq!((again.status, again.text.as_str(), remain(&again)), (304, "", Some("100")));
    assert_eq!(simulator.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_token_bucket_charges_by_status_and_refuses_when_empty() {
    let simulator = Simulator::start(world());
    let bucket = TokenBucket {
        group: "character".into(),
        routes: vec![Route::Affiliation, Route::Character],
        tokens: 14,
        window_seconds: 900,
    };
    simulator.settings(|settings| settings.token_buckets = vec![bucket]);
    let headers = |answer: &Answer| {
        ["x-ratelimit-group", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-used"]
            .map(|name| answer.header(name).unwrap_or("").to_owned())
    };
    let good = affiliation(&simulator, &[CHARACTER]).await;
    assert_eq!(headers(&good), ["character", "14/15m", "12", "2"]);
    assert_eq!(remain(&good), None, "the two sets of headers exclude each other");
    assert_eq!(headers(&get(&simulator, "/characters/1").await)[2..], ["7", "5"]);
    simulator.faults().add(Fault::on(Route::Character, Kind::Unavailable).first(1));
    assert_eq!(headers(&get(&simulator, "/characters/90000001").await)[2..], ["7", "0"]);
    simulator.advance(Duration::from_mins(10));
    assert_eq!(headers(&get(&simulator, "/characters/2").await)[2..], ["2", "5"]);
    assert_eq!(headers(&get(&simulator, "/characters/3").await)[2..], ["0", "5"]);

    let refused = affiliation(&simulator, &[CHARACTER]).await;
    assert_eq!(refused.status, 429);
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((290..=300).contains(&wait), "{wait}");
    assert_eq!(remain(&get(&simulator, "/status").await), Some("100"), "other routes know nothing of it");

    simulator.advance(Duration::from_secs(wait));
    assert_eq!(affiliation(&simulator, &[CHARACTER]).await.status, 200);
    assert_eq!(simulator.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn an_exhausted_error_limit_stops_bucketed_routes_too() {
    let simulator = Simulator::start(world());
    let bucket = TokenBucket { group: "status".into(), routes: vec![Route::Status], tokens: 100, window_seconds: 90 };
    simulator.settings(|settings| settings.token_buckets = vec![bucket]);
    simulator.faults().add(Fault::on(Route::Character, Kind::ErrorLimited { reset_seconds: Some(10) }).first(1));
    let limited = get(&simulator, "/characters/90000001").await;
    assert_eq!((limited.status, remain(&limited)), (420, Some("0")));
    assert_eq!(limited.header("x-esi-error-limit-reset"), Some("10"));
    let stopped = get(&simulator, "/status").await;
    assert_eq!((stopped.status, remain(&stopped)), (420, Some("0")));
    simulator.advance(Duration::from_secs(10));
    assert_eq!(get(&simulator, "/status").await.header("x-ratelimit-limit"), Some("100/90s"));
}

#[tokio::test]
async fn latency_holds_for_every_answer() {
    let simulator = Simulator::start(world());
    simulator.settings(|settings| settings.latency_ms = 40);
    simulator.faults().add(Fault::on(Scope::AllEsi, Kind::Slow { ms: 30 }));
    get(&simulator, "/status").await;
    let log = simulator.requests();
    assert!(log[0].answered.unwrap() - log[0].arrived >= Duration::from_millis(70));
}
