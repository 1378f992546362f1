//! The rules clients must keep: each one broken, answered as ESI would, and recorded.

use std::time::Duration;

use esi_simulator::{Fault, Kind, RetryAfterForm, Route, Simulator};
use reqwest::Method;
use time::macros::datetime;

use crate::client::{CHARACTER, LONER, affiliation, affiliation_request, bare_client, get, request, send, world};

/// What was recorded since the last call.
fn broken(simulator: &Simulator) -> Vec<String> {
    let violations = simulator.violations();
    simulator.clear_requests();
    violations
}

#[tokio::test]
async fn a_polite_client_breaks_no_rule() {
    let simulator = Simulator::start(world());
    affiliation(&simulator, &[CHARACTER, LONER]).await;
    affiliation(&simulator, &[CHARACTER, LONER]).await;
    get(&simulator, "/status").await;
    get(&simulator, "/characters/90000001").await;
    assert_eq!(simulator.violations(), Vec::<String>::new());

    let log = simulator.requests();
    assert_eq!(log.len(), 4);
    assert_eq!((log[0].route, log[0].ids_count, log[0].status), (Route::Affiliation, 2, Some(200)));
    assert_eq!(log[0].ids, [CHARACTER, LONER]);
    assert_eq!(log[0].user_agent.as_deref(), Some("esi-simulator-tests/1.0 (tests@example.org)"));
    assert_eq!((log[3].method.as_str(), log[3].path.as_str()), ("GET", "/characters/90000001"));
    assert!(log[3].answered >= Some(log[3].arrived));
}

#[tokio::test]
async fn a_body_that_is_not_one_to_a_thousand_unique_integers_is_refused() {
    let simulator = Simulator::start(world());
    let thousand_and_one: Vec<i64> = (1..=1001).collect();
    let too_many = serde_json::to_string(&thousand_and_one).unwrap();
    for path in ["/characters/affiliation", "/universe/names"] {
        for body in ["", "[]", "{}", "[1.5]", "[\"1\"]", "[90000001,90000001]", "[9223372036854775808]", &too_many] {
            let request = request(&simulator.url(), Method::POST, path).header("content-type", "application/json");
            assert_eq!(send(request.body(body.to_owned())).await.status, 400, "{path} {body}");
            assert_eq!(broken(&simulator).len(), 1, "{path} {body}");
        }
    }
    let untyped = request(&simulator.url(), Method::POST, "/characters/affiliation").body("[90000001]");
    assert_eq!(send(untyped).await.status, 400);
    assert_eq!(broken(&simulator).len(), 1);
}

#[tokio::test]
async fn a_call_without_user_agent_is_recorded() {
    let simulator = Simulator::start(world());
    let request = bare_client().get(simulator.url() + "/status").header("x-compatibility-date", "2025-11-01");
    assert_eq!(send(request).await.status, 200);
    assert_eq!(broken(&simulator), ["GET /status: no User-Agent"]);
}

#[tokio::test]
async fn the_compatibility_date_must_be_there_be_a_date_and_not_lie_in_the_future() {
    let simulator = Simulator::start(world());
    let dated = |date: Option<&str>| {
        let request = bare_client().get(simulator.url() + "/characters/90000001").header("user-agent", "test/1");
        date.into_iter().fold(request, |request, date| request.header("x-compatibility-date", date))
    };
    // ESI's day begins at 11:00 UTC.
    simulator.set_time(datetime!(2026-11-22 10:59:30 UTC));
    assert_eq!(send(dated(Some("2026-11-22"))).await.status, 400);
    assert_eq!(broken(&simulator).len(), 1);
    simulator.set_time(datetime!(2026-11-22 11:00 UTC));
    assert_eq!(send(dated(Some("2026-11-22"))).await.status, 200);
    assert_eq!(broken(&simulator).len(), 0);

    simulator.set_time(datetime!(2026-11-22 12:00 UTC));
    assert_eq!(send(dated(Some("22.11.2026"))).await.status, 400);
    assert_eq!(send(dated(None)).await.status, 200, "served with the oldest behaviour");
    assert_eq!(broken(&simulator).len(), 2);
}

#[tokio::test]
async fn a_get_before_its_expires_is_recorded() {
    let simulator = Simulator::start(world());
    get(&simulator, "/status").await;
    get(&simulator, "/meta/status").await;
    simulator.advance(Duration::from_secs(20));
    assert_eq!(broken(&simulator), Vec::<String>::new());
    assert_eq!(get(&simulator, "/status").await.status, 200);
    assert_eq!(broken(&simulator), ["GET /status: fetched again before Expires"]);
    // The cache goes on, it does not begin anew.
    simulator.advance(Duration::from_secs(11));
    get(&simulator, "/status").await;
    assert_eq!(broken(&simulator), Vec::<String>::new());
}

#[tokio::test]
async fn an_answer_that_did_not_arrive_may_be_fetched_again() {
    let simulator = Simulator::start(world());
    simulator.faults().add(Fault::on(Route::Status, Kind::TruncatedJson).first(1));
    get(&simulator, "/status").await;
    get(&simulator, "/status").await;
    assert_eq!(simulator.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_call_before_retry_after_has_passed_is_recorded() {
    let simulator = Simulator::start(world());
    for form in [RetryAfterForm::Seconds, RetryAfterForm::HttpDate] {
        simulator
            .faults()
            .add(Fault::on(Route::Affiliation, Kind::RateLimited { retry_after_seconds: 70, form }).first(1));
        assert_eq!(affiliation(&simulator, &[CHARACTER]).await.status, 429);
        simulator.advance(Duration::from_secs(30));
        get(&simulator, "/alliances/99000001").await;
        assert_eq!(broken(&simulator), Vec::<String>::new());
        affiliation(&simulator, &[CHARACTER]).await;
        assert_eq!(broken(&simulator), ["POST /characters/affiliation: called before Retry-After had passed"]);
        simulator.advance(Duration::from_secs(41));
        affiliation(&simulator, &[CHARACTER]).await;
        assert_eq!(broken(&simulator), Vec::<String>::new());
        // The next round asks the other route anew.
        simulator.advance(Duration::from_hours(1));
    }
}

#[tokio::test]
async fn calls_already_on_their_way_may_be_excused() {
    let simulator = Simulator::start(world());
    simulator.settings(|settings| settings.retry_after_grace_ms = 60_000);
    let limited = Kind::RateLimited { retry_after_seconds: 300, form: RetryAfterForm::Seconds };
    simulator.faults().add(Fault::on(Route::Affiliation, limited).first(1));
    affiliation(&simulator, &[CHARACTER]).await;
    affiliation(&simulator, &[CHARACTER]).await;
    assert_eq!(broken(&simulator), Vec::<String>::new());
    simulator.advance(Duration::from_secs(61));
    affiliation(&simulator, &[CHARACTER]).await;
    assert_eq!(broken(&simulator).len(), 1);
}

#[tokio::test]
async fn a_call_while_the_error_limit_is_exhausted_is_recorded() {
    let simulator = Simulator::start(world());
    simulator.settings(|settings| settings.error_limit = 1);
    get(&simulator, "/characters/1").await;
    assert_eq!(broken(&simulator), Vec::<String>::new());
    assert_eq!(send(affiliation_request(&simulator, &[CHARACTER])).await.status, 420);
    assert_eq!(broken(&simulator), ["POST /characters/affiliation: called while the error limit was exhausted"]);
}
