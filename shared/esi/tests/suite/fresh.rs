//! No GET is repeated before it expires.

use std::time::Duration;

use esi::EsiError;
use esi_simulator::{CharacterState, Fault, Kind, Route};
use identity::ids::{CorporationId, EveCharacterId};

use crate::support::{Bench, CORPORATION, FIRST, nth, within};

#[tokio::test]
async fn no_get_is_repeated_before_its_expires_across_two_clients() {
    let bench = Bench::start();
    let (first, second) = (bench.esi().await, bench.esi().await);
    let sheet = first.character(nth(0), within(20)).await.unwrap();
    assert_eq!(sheet.corporation, CorporationId(CORPORATION));
    for esi in [&first, &second, &bench.esi_with(|_, shared| shared.read_only = true).await] {
        assert_eq!(esi.character(nth(0), within(20)).await.as_ref(), Ok(&sheet));
        esi.corporation(CorporationId(CORPORATION), within(20)).await.unwrap();
        esi.status(within(20)).await.unwrap();
    }
    let counts = bench.simulator.counts();
    for route in [Route::Character, Route::Corporation, Route::Status] {
        assert_eq!(counts.arrived(route), 1, "{route:?}");
    }
    assert_eq!(
        bench.redis.keys().await,
        [
            format!("esi:get:/characters/{FIRST}"),
            format!("esi:get:/corporations/{CORPORATION}"),
            "esi:get:/status".into()
        ]
    );
    bench.well_behaved();
}

#[tokio::test]
async fn calls_of_one_path_at_the_same_time_are_one_call() {
    let bench = Bench::start();
    let esi = bench.esi().await;
    let (a, b, c) = tokio::join!(
        esi.character(nth(0), within(20)),
        esi.character(nth(0), within(20)),
        esi.character(nth(0), within(20))
    );
    assert!(a.is_ok() && a == b && b == c);
    assert_eq!(bench.simulator.counts().total(), 1);
    bench.well_behaved();
}

#[tokio::test]
async fn calls_of_one_path_by_several_processes_at_the_same_time_are_one_call() {
    let bench = Bench::start();
    bench.simulator.settings(|settings| settings.latency_ms = 100);
    let (one, two, three) = (bench.esi().await, bench.esi().await, bench.esi().await);
    let (a, b, c) = tokio::join!(
        one.character(nth(0), within(20)),
        two.character(nth(0), within(20)),
        three.character(nth(0), within(20))
    );
    assert!(a.is_ok() && a == b && b == c);
    assert_eq!(bench.simulator.counts().total(), 1);
    assert_eq!(bench.redis.keys().await, [format!("esi:get:/characters/{FIRST}")], "the turn is given back");
    bench.well_behaved();
}

#[tokio::test]
async fn a_call_that_failed_lets_the_next_process_ask() {
    let bench = Bench::start();
    bench.simulator.faults().add(Fault::on(Route::Character, Kind::BadRequest).first(1));
    let (one, two) = (bench.esi().await, bench.esi().await);
    assert!(matches!(one.character(nth(0), within(20)).await, Err(EsiError::Unavailable(_))));
    assert!(two.character(nth(0), within(2)).await.is_ok());
    bench.well_behaved();
}

#[tokio::test]
async fn an_answer_is_asked_anew_once_it_expired() {
    let bench = Bench::start();
    bench.simulator.settings(|settings| {
        settings.cache_seconds.insert(Route::Character, 1);
    });
    let esi = bench.esi().await;
    let old = esi.character(nth(0), within(20)).await.unwrap();
    bench.simulator.world(|world| world.move_character(FIRST, 98_000_002));
    let renewed = async {
        loop {
            let sheet = esi.character(nth(0), within(20)).await.unwrap();
            if sheet != old {
                return sheet;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let new = tokio::time::timeout(Duration::from_secs(10), renewed).await.unwrap();
    assert_eq!(new.corporation, CorporationId(98_000_002));
    assert_eq!(bench.simulator.counts().arrived(Route::Character), 2);
    bench.well_behaved();
}

#[tokio::test]
async fn a_404_without_expires_is_not_kept() {
    let bench = Bench::start();
    let esi = bench.esi().await;
    assert_eq!(esi.character(EveCharacterId(5), within(20)).await, Err(EsiError::NotFound));
    bench.simulator.world(|world| world.character_mut(FIRST).unwrap().state = CharacterState::Deleted);
    assert_eq!(esi.character(nth(0), within(20)).await, Err(EsiError::Deleted));
    assert!(!bench.redis.keys().await.iter().any(|key| key.starts_with("esi:get:")));
    bench.well_behaved();
}

#[tokio::test]
async fn the_state_of_the_service_is_kept_for_a_minute_at_most() {
    let bench = Bench::start();
    bench.simulator.settings(|settings| {
        settings.cache_seconds.insert(Route::Status, 86_400);
    });
    bench.esi().await.status(within(20)).await.unwrap();
    let mut conn = bench.redis.connect().await;
    let left: i64 = redis::cmd("TTL").arg("esi:get:/status").query_async(&mut conn).await.unwrap();
    assert!((1..=60).contains(&left), "{left} s");
}
