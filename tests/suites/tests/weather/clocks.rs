//! Clocks that disagree: ESI's is hours off ours, and nothing that it says is taken by our clock; sessions are weighed
//! by the database's.

use std::time::Duration;

use esi_simulator::{Fault, Kind, RetryAfterForm, Route};
use harness::SessionSpec;
use suites::outcome;
use time::Duration as Span;

use crate::cast::{Cast, Who};

/// Hours by which ESI's clock is off, in both directions.
const OFF: [i64; 2] = [-7, 5];

async fn cast_with_esi_off_by(hours: i64) -> Cast {
    let cast = Cast::new(true).await;
    let sim = &cast.stage.sim;
    let mut there = sim.now() + Span::hours(hours);
    if there.hour() == 11 {
        // Not the daily downtime by its clock.
        there += Span::hours(1);
    }
    sim.set_time(there);
    cast
}

#[tokio::test]
async fn answers_are_kept_for_as_long_as_esi_means_and_not_by_our_clock() {
    for hours in OFF {
        let cast = cast_with_esi_off_by(hours).await;
        let run = cast.stage.verify().await.expect_code(0);
        assert_eq!(outcome(&run)["outcome"], "done", "{run}");
        assert_eq!(cast.lost().await, [Who::Leaver], "{run}");
        let mut redis = cast.stage.db.redis();
        for (path, longest) in [("/status".to_owned(), 30), (format!("/characters/{}", Cast::id(Who::Leaver)), 86_400)]
        {
            let key = format!("esi:get:{path}");
            let left: i64 = redis::cmd("TTL").arg(&key).query_async(&mut redis).await.unwrap();
            assert!((longest - 25..=longest).contains(&left), "{key} off by {hours} h: {left} s");
        }
    }
}

#[tokio::test]
async fn a_pause_that_ends_at_a_moment_of_its_clock_is_as_long_as_it_means() {
    for hours in OFF {
        let cast = cast_with_esi_off_by(hours).await;
        let wait = Kind::RateLimited { retry_after_seconds: 1, form: RetryAfterForm::HttpDate };
        cast.stage.sim.faults().add(Fault::on(Route::Affiliation, wait).first(1));
        let run = cast.stage.verify().await.expect_code(0);
        assert_eq!(outcome(&run)["outcome"], "done", "{run}");
        assert!(run.duration > Duration::from_secs(1) && run.duration < Duration::from_secs(20), "{run}");
        assert_eq!(cast.lost().await, [Who::Leaver], "{run}");
    }
}

#[tokio::test]
async fn a_compatibility_date_that_is_still_to_come_there_is_a_matter_of_configuration() {
    let cast = Cast::new(true).await;
    let today = cast.stage.sim.now().date();
    cast.stage.sim.set_time(cast.stage.sim.now() - Span::hours(48));
    let before = cast.before().await;
    let run = cast.stage.verifier().env("ESI_COMPATIBILITY_DATE", today.to_string()).run().await.expect_code(78);
    assert_eq!(outcome(&run)["outcome"], "failed", "{run}");
    assert!(cast.marks(&before).await.values().all(|mark| *mark == crate::cast::Mark::Untouched), "{run}");
    assert_eq!(cast.lost().await, [], "{run}");
    assert!(!cast.stage.sim.violations().is_empty(), "it was sent, and refused");
    cast.stage.forgive();
}

#[tokio::test]
async fn a_session_approved_after_the_observation_stays_and_an_older_one_goes() {
    let cast = Cast::new(true).await;
    let leaver = cast.member(Who::Leaver).clone();
    let spec = SessionSpec { approved_minutes_ago: -1, ..SessionSpec::default() };
    let young = cast.stage.community.open_session(&leaver, spec).await;
    let run = cast.stage.verify().await.expect_code(0);
    assert_eq!(cast.lost().await, [Who::Leaver], "{run}");
    assert!(cast.stage.community.has_session(&young).await, "{run}");
}
