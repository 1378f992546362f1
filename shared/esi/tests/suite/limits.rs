//! Limits, alone and shared.

use std::{sync::Arc, time::Duration};

use esi::EsiError;
use esi_simulator::{Counts, Fault, Kind, RetryAfterForm, Route, TokenBucket};
use identity::ids::{CorporationId, EveCharacterId};
use time::OffsetDateTime;
use tokio::{task::JoinSet, time::Instant};

use crate::support::{Bench, CORPORATION, OTHER_CORPORATION, nth, thousand, within};

fn wait(error: &EsiError, now: OffsetDateTime) -> i64 {
    match error {
        EsiError::Budget { until } => (*until - now).whole_seconds(),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn retry_after_is_honoured_in_both_forms() {
    for form in [RetryAfterForm::Seconds, RetryAfterForm::HttpDate] {
        let bench = Bench::start();
        let limited = Kind::RateLimited { retry_after_seconds: 1, form };
        bench.simulator.faults().add(Fault::on(Route::Affiliation, limited).first(1));
        let esi = bench.esi().await;
        let started = Instant::now();
        let result = esi.affiliations(&thousand(), within(20)).await.unwrap();
        assert_eq!(result.found.len(), 1000);
        assert!(started.elapsed() >= Duration::from_secs(1));
        assert_eq!(bench.simulator.counts().arrived(Route::Affiliation), 2);
        bench.well_behaved();
    }
}

#[tokio::test]
async fn a_wait_beyond_the_deadline_is_refused_at_once_here_and_in_a_second_client() {
    let bench = Bench::start();
    let limited = Kind::RateLimited { retry_after_seconds: 60, form: RetryAfterForm::Seconds };
    bench.simulator.faults().add(Fault::on(Route::Affiliation, limited));
    let (first, second) = (bench.esi().await, bench.esi().await);
    for esi in [first, second] {
        let error = esi.affiliations(&thousand(), within(5)).await.unwrap_err();
        assert!((58..=60).contains(&wait(&error, bench.clock.now())), "{error}");
    }
    assert_eq!(bench.simulator.counts().total(), 1);
    assert_eq!(bench.redis.keys().await, ["esi:limit:errors", "esi:pause"]);
    bench.well_behaved();
}

#[tokio::test]
async fn four_twenty_stops_every_route_until_the_window_ends() {
    let bench = Bench::start();
    bench.simulator.faults().add(Fault::on(Route::Affiliation, Kind::ErrorLimited { reset_seconds: Some(2) }).first(1));
    let (esi, second) = (bench.esi().await, bench.esi().await);
    let error = esi.affiliations(&thousand(), within(1)).await.unwrap_err();
    assert!(matches!(error, EsiError::Budget { .. }), "{error}");
    assert!(matches!(second.status(within(1)).await, Err(EsiError::Budget { .. })));
    assert_eq!(bench.simulator.counts().total(), 1);
    assert_eq!(second.affiliations(&thousand(), within(20)).await.unwrap().found.len(), 1000);
    bench.well_behaved();
}

#[tokio::test]
async fn the_floor_of_the_error_limit_is_kept_by_both_clients_and_ends_with_the_window() {
    let bench = Bench::start();
    bench.simulator.settings(|settings| {
        settings.error_limit = 23;
        settings.error_window_seconds = 4;
    });
    let (first, second) = (bench.esi().await, bench.esi().await);
    // In step with the simulator's windows, so that the three errors fall into one.
    bench.simulator.set_time(bench.simulator.now());
    for id in 1..=3 {
        assert_eq!(first.character(EveCharacterId(id), within(20)).await, Err(EsiError::NotFound));
    }
    for esi in [&first, &second] {
        let error = esi.character(EveCharacterId(9), within(0) + Duration::from_millis(300)).await.unwrap_err();
        assert!(matches!(error, EsiError::Budget { .. }), "{error}");
    }
    assert_eq!(bench.simulator.counts().total(), 3);
    assert_eq!(second.character(EveCharacterId(9), within(20)).await, Err(EsiError::NotFound));
    bench.well_behaved();
}

#[tokio::test]
async fn a_bucket_is_found_from_headers_and_never_emptied() {
    let bench = Bench::start();
    bench.simulator.settings(|settings| {
        let routes = vec![Route::Character];
        settings.token_buckets = vec![TokenBucket { group: "char".into(), routes, tokens: 20, window_seconds: 5 }];
    });
    let (first, second) = (bench.esi().await, bench.esi().await);
    let mut served = 0;
    let error = loop {
        match first.character(nth(served), within(1)).await {
            Ok(_) => served += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, EsiError::Budget { .. }), "{error}");
    assert_eq!(served, 8, "20 tokens, 2 a call, 5 in hand");
    let error = second.character(nth(served), within(1)).await.unwrap_err();
    assert!(matches!(error, EsiError::Budget { .. }), "{error}");
    second.affiliations(&thousand(), within(1)).await.unwrap();
    for index in served..served + 4 {
        second.character(nth(index), within(20)).await.unwrap();
    }
    assert_eq!(bench.simulator.counts().answered(Route::Character, 429), 0);
    bench.well_behaved();
}

#[tokio::test]
async fn after_a_block_one_call_goes_ahead() {
    let bench = Bench::start();
    bench.simulator.settings(|settings| {
        let routes = vec![Route::Character];
        settings.token_buckets = vec![TokenBucket { group: "char".into(), routes, tokens: 40, window_seconds: 4 }];
    });
    let esi = Arc::new(bench.esi().await);
    let mut served = 0;
    while esi.character(nth(served), within(1)).await.is_ok() {
        served += 1;
    }
    assert!(served > 0);
    bench.simulator.clear_requests();
    bench.simulator.faults().add(Fault::on(Route::Character, Kind::Slow { ms: 200 }));
    let mut calls = JoinSet::new();
    for index in 0..4 {
        let esi = Arc::clone(&esi);
        calls.spawn(async move { esi.character(nth(900 + index), within(20)).await.is_ok() });
    }
    assert_eq!(calls.join_all().await, [true; 4]);
    let requests = bench.simulator.requests();
    let (first, others) = requests.split_first().unwrap();
    assert_eq!(others.len(), 3);
    assert!(others.iter().all(|other| first.answered.is_some_and(|end| other.arrived >= end)), "{requests:?}");
    bench.well_behaved();
}

#[tokio::test]
async fn a_milder_notice_does_not_replace_a_stronger_one_on_the_board() {
    let bench = Bench::start();
    bench.simulator.settings(|settings| {
        settings.error_window_seconds = 10;
        let routes = vec![Route::Corporation];
        settings.token_buckets = vec![TokenBucket { group: "corp".into(), routes, tokens: 100, window_seconds: 60 }];
    });
    let esi = bench.esi().await;
    // Its group is known.
    esi.corporation(CorporationId(CORPORATION), within(20)).await.unwrap();
    let limited = Kind::RateLimited { retry_after_seconds: 5, form: RetryAfterForm::Seconds };
    for (route, what) in [(Route::Names, limited.clone()), (Route::Corporation, limited)] {
        bench.simulator.faults().add(Fault::on(route, what));
        bench.simulator.faults().add(Fault::on(route, Kind::Slow { ms: 1000 }));
    }
    // While two calls are under way, another shard puts up more than their answers say.
    let mut conn = bench.redis.connect().await;
    let ids = [nth(0).0];
    let names = esi.names(&ids, within(3));
    let corporation = esi.corporation(CorporationId(OTHER_CORPORATION), within(3));
    let other_shard = async {
        let under_way = |counts: &Counts| counts.arrived(Route::Names) == 1 && counts.arrived(Route::Corporation) == 2;
        assert!(bench.simulator.wait_for(Duration::from_secs(10), under_way).await);
        for (key, value) in [("esi:pause", 1), ("esi:limit:errors", 7), ("esi:limit:group:corp", 1)] {
            let mut set = redis::cmd("SET");
            set.arg(key).arg(value).arg("PX").arg(50_000).exec_async(&mut conn).await.unwrap();
        }
        conn
    };
    let (names, corporation, mut conn) = tokio::join!(names, corporation, other_shard);
    assert!(names.is_empty());
    assert!(matches!(corporation, Err(EsiError::Budget { .. })), "{corporation:?}");
    let remain: u32 = redis::cmd("GET").arg("esi:limit:errors").query_async(&mut conn).await.unwrap();
    assert_eq!(remain, 7);
    for key in ["esi:pause", "esi:limit:errors", "esi:limit:group:corp"] {
        let left: i64 = redis::cmd("PTTL").arg(key).query_async(&mut conn).await.unwrap();
        assert!(left > 20_000, "{key}: {left} ms");
    }
}

#[tokio::test]
async fn no_more_calls_are_in_flight_than_permitted() {
    let bench = Bench::start();
    bench.simulator.faults().add(Fault::on(Route::Affiliation, Kind::Slow { ms: 100 }));
    let esi = bench.esi_with(|settings, _| settings.concurrency = 2).await;
    let esi = Arc::new(esi);
    let mut calls = JoinSet::new();
    for _ in 0..6 {
        let esi = Arc::clone(&esi);
        calls.spawn(async move { esi.affiliations(&[nth(0)], within(20)).await.unwrap().found.len() });
    }
    assert_eq!(calls.join_all().await, [1; 6]);
    let requests = bench.simulator.requests();
    for request in &requests {
        let at = request.arrived;
        let open = requests.iter().filter(|other| other.arrived <= at && other.answered.is_some_and(|end| end > at));
        assert!(open.count() <= 2);
    }
}

#[tokio::test]
async fn a_read_only_client_heeds_the_board_and_writes_nothing() {
    let bench = Bench::start();
    let dry = bench.esi_with(|_, shared| shared.read_only = true).await;
    dry.status(within(20)).await.unwrap();
    assert_eq!(dry.character(EveCharacterId(5), within(20)).await, Err(EsiError::NotFound));
    assert_eq!(bench.redis.keys().await, Vec::<String>::new());
    let limited = Kind::RateLimited { retry_after_seconds: 60, form: RetryAfterForm::Seconds };
    bench.simulator.faults().add(Fault::on(Route::Affiliation, limited));
    bench.esi().await.affiliations(&thousand(), within(1)).await.unwrap_err();
    let error = dry.affiliations(&thousand(), within(1)).await.unwrap_err();
    assert!(matches!(error, EsiError::Budget { .. }), "{error}");
    bench.well_behaved();
}

#[tokio::test]
async fn without_redis_the_client_goes_by_its_own_view() {
    let mut bench = Bench::start();
    let esi = bench.esi().await;
    bench.redis.kill();
    assert_eq!(esi.affiliations(&thousand(), within(20)).await.unwrap().found.len(), 1000);
    esi.status(within(20)).await.unwrap();
    esi.status(within(20)).await.unwrap();
    assert_eq!(bench.simulator.counts().arrived(Route::Status), 1);
    bench.well_behaved();
}
