//! Every fault with what it means and how many calls it costs.

use std::time::Duration;

use esi::{Count, Esi, EsiError};
use esi_simulator::{Fault, Kind, Route};
use nix::sys::signal::{Signal, raise};
use runtime::Stop;
use time::macros::datetime;

use crate::support::{Bench, CORPORATION, OTHER_CORPORATION, nth, thousand, within};

fn outcome(esi: &Esi, route: &str, outcome: &str) -> u64 {
    let counts = esi.take_counts();
    let of = |count: &&Count| count.route == route && count.outcome == outcome;
    counts.iter().filter(of).map(|count| count.count).sum()
}

#[tokio::test]
async fn a_passing_trouble_is_retried_twice_and_then_the_characters_are_unknown() {
    let troubles = [
        (Kind::InternalError, "500"),
        (Kind::BadGateway, "502"),
        (Kind::Unavailable, "503"),
        (Kind::GatewayTimeout, "504"),
        (Kind::CutBeforeHeaders, "connection"),
        (Kind::CutMidBody, "body"),
        (Kind::TruncatedJson, "body"),
    ];
    let mut all = tokio::task::JoinSet::new();
    for (kind, code) in troubles {
        all.spawn(retried_twice(kind, code));
    }
    all.join_all().await;
}

async fn retried_twice(kind: Kind, code: &str) {
    let bench = Bench::start();
    let esi = bench.esi().await;
    bench.simulator.faults().add(Fault::on(Route::Affiliation, kind.clone()).first(2));
    let result = esi.affiliations(&thousand(), within(20)).await.unwrap_or_else(|e| panic!("{kind:?}: {e}"));
    assert_eq!(result.found.len(), 1000, "{kind:?}");
    assert_eq!(bench.simulator.counts().arrived(Route::Affiliation), 3, "{kind:?}");
    assert_eq!(outcome(&esi, "affiliation", code), 2, "{kind:?}");

    bench.simulator.faults().clear();
    bench.simulator.faults().add(Fault::on(Route::Affiliation, kind.clone()));
    let error = esi.affiliations(&thousand(), within(20)).await.unwrap_err();
    assert!(matches!(error, EsiError::Unavailable(_)), "{kind:?}: {error}");
    assert!(error.to_string().len() < 300);
    assert_eq!(bench.simulator.counts().arrived(Route::Affiliation), 6, "{kind:?}");
    bench.well_behaved();
}

#[tokio::test]
async fn a_throttle_in_disguise_is_a_pause_and_not_a_trouble() {
    let bench = Bench::start();
    bench.simulator.faults().add(Fault::on(Route::Affiliation, Kind::DisguisedThrottle));
    for esi in [bench.esi().await, bench.esi().await] {
        let error = esi.affiliations(&thousand(), within(5)).await.unwrap_err();
        assert!(matches!(error, EsiError::Budget { .. }), "{error}");
    }
    assert_eq!(bench.simulator.counts().total(), 1);
    bench.simulator.faults().clear();
    let result = bench.esi().await.affiliations(&thousand(), within(20)).await.unwrap();
    assert_eq!(result.found.len(), 1000);
    bench.well_behaved();
}

#[tokio::test]
async fn trouble_in_the_middle_of_a_hunt_is_told_of_the_part_it_hits() {
    let bench = Bench::start();
    bench.simulator.faults().add(Fault::bad_ids([nth(999).0]));
    bench.simulator.faults().add(Fault::on(Route::Affiliation, Kind::Unavailable).after(2));
    let result = bench.esi().await.affiliations(&thousand(), within(20)).await.unwrap();
    assert_eq!((result.found.len(), result.bad.len(), result.failed.len()), (500, 0, 500));
    assert!(matches!(result.gave_out, Some(EsiError::Unavailable(_))));
}

#[tokio::test]
async fn a_status_that_cannot_be_had_is_an_outage_and_vip_is_for_the_caller() {
    let bench = Bench::start();
    bench.simulator.faults().add(Fault::on(Route::Status, Kind::Unavailable));
    let error = bench.esi().await.status(within(20)).await.unwrap_err();
    assert!(matches!(error, EsiError::Down { .. }), "{error}");
    bench.simulator.faults().clear();
    bench.simulator.settings(|settings| settings.vip = true);
    let status = bench.esi().await.status(within(20)).await.unwrap();
    assert!(status.vip && status.players == 23_456);
    bench.well_behaved();
}

#[tokio::test]
async fn in_the_downtime_nothing_is_retried_and_a_404_proves_nothing() {
    for now in [datetime!(2026-11-22 11:05:00 UTC), datetime!(2026-11-22 11:20:00 UTC)] {
        let bench = Bench::start();
        bench.simulator.set_time(now);
        bench.simulator.faults().add(Fault {
            on: esi_simulator::Scope::AllEsi,
            ids: vec![],
            when: esi_simulator::When::Always,
            what: Kind::Downtime { minutes: 15, not_found_minutes: 15 },
        });
        let esi = bench.esi().await;
        for _ in 0..3 {
            let error = esi.affiliations(&thousand(), within(20)).await.unwrap_err();
            assert!(matches!(error, EsiError::Down { .. }), "{error}");
        }
        let error = esi.character(nth(0), within(20)).await.unwrap_err();
        assert!(matches!(error, EsiError::Down { .. }), "{error}");
        assert_eq!(bench.simulator.counts().total(), 4);
        assert!(!bench.redis.keys().await.iter().any(|key| key.starts_with("esi:get:")));
        bench.well_behaved();
    }
}

#[tokio::test]
async fn a_dead_character_in_the_downtime_is_not_dead() {
    let bench = Bench::start();
    bench.simulator.set_time(datetime!(2026-11-22 11:29:00 UTC));
    let esi = bench.esi().await;
    for _ in 0..2 {
        let error = esi.affiliations(&[identity::ids::EveCharacterId(5)], within(20)).await.unwrap_err();
        assert!(matches!(error, EsiError::Down { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_refused_client_is_a_matter_of_configuration() {
    let bench = Bench::start();
    let esi = bench.esi_with(|settings, _| settings.compatibility_date = "2099-01-01".into()).await;
    let error = esi.affiliations(&thousand(), within(20)).await.unwrap_err();
    assert!(matches!(error, EsiError::Misconfigured(_)), "{error}");
    let esi = bench.esi_with(|settings, _| settings.user_agent_contact = Some("line\nbreak".into())).await;
    let error = esi.status(within(20)).await.unwrap_err();
    assert!(matches!(error, EsiError::Misconfigured(_)), "{error}");
    assert_eq!(bench.simulator.counts().total(), 1);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_counted_and_unavailable() {
    let bench = Bench::start();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let esi = bench.esi_with(|settings, _| settings.base_url = format!("http://{closed}").parse().unwrap()).await;
    let error = esi.character(nth(0), within(20)).await.unwrap_err();
    assert!(matches!(error, EsiError::Unavailable(_)), "{error}");
    assert_eq!(outcome(&esi, "character", "connection"), 3);
}

#[tokio::test]
async fn the_deadline_ends_a_call_that_hangs() {
    let bench = Bench::start();
    bench.simulator.faults().add(Fault::on(Route::Affiliation, Kind::Hang));
    let esi = bench.esi().await;
    let error = esi.affiliations(&thousand(), within(1)).await.unwrap_err();
    assert!(matches!(error, EsiError::Budget { .. }), "{error}");
    assert_eq!(outcome(&esi, "affiliation", "timeout"), 1);
    let error = esi.affiliations(&thousand(), within(0)).await.unwrap_err();
    assert!(matches!(error, EsiError::Budget { .. }), "{error}");
    assert_eq!(bench.simulator.counts().arrived(Route::Affiliation), 1);
}

#[tokio::test]
async fn a_stop_ends_every_wait() {
    let mut bench = Bench::start();
    bench.stop = Stop::on_signals().unwrap();
    let esi = bench.esi().await;
    bench.simulator.faults().add(Fault::on(
        Route::Corporation,
        Kind::RateLimited { retry_after_seconds: 60, form: esi_simulator::RetryAfterForm::Seconds },
    ));
    bench.simulator.faults().add(Fault::on(Route::Affiliation, Kind::Hang));
    let ids = thousand();
    let hanging = esi.affiliations(&ids, within(100));
    let limited = esi.corporation(identity::ids::CorporationId(CORPORATION), within(100));
    let stopping = async {
        let met = |counts: &esi_simulator::Counts| {
            counts.arrived(Route::Affiliation) == 1 && counts.answered(Route::Corporation, 429) == 1
        };
        assert!(bench.simulator.wait_for(Duration::from_secs(10), met).await);
        raise(Signal::SIGTERM).unwrap();
    };
    let all = async { tokio::join!(hanging, limited, stopping) };
    let (hanging, limited, ()) = tokio::time::timeout(Duration::from_secs(10), Box::pin(all)).await.unwrap();
    assert_eq!(hanging, Err(EsiError::Stopped));
    assert_eq!(limited, Err(EsiError::Stopped));
    let after = esi.corporation(identity::ids::CorporationId(OTHER_CORPORATION), within(100)).await;
    assert_eq!(after, Err(EsiError::Stopped));
}
