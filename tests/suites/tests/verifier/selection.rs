//! Which characters a run looks at, and in which order.

use esi_simulator::{Fault, Kind, Route};
use harness::{CORPORATION, newcomer};
use suites::{Stage, outcome};

use crate::support::{asked, ended, ends, verify};

#[tokio::test]
async fn never_verified_come_first_then_the_oldest() {
    let stage = Stage::new().await;
    let hour = stage.add(newcomer("an hour").verified_minutes_ago(60)).await;
    let day = stage.add(newcomer("a day").verified_minutes_ago(1440)).await;
    let never = stage.add(newcomer("never")).await;
    let recent = stage.add(newcomer("recent").verified_minutes_ago(50)).await;
    let two_hours = stage.add(newcomer("two hours").verified_minutes_ago(120)).await;
    let nor_this = stage.add(newcomer("nor this")).await;
    let run = stage.verifier().env("BATCH_SIZE", "1").env("ESI_CONCURRENCY", "1").run().await.expect_code(0);
    let order = [&never, &nor_this, &day, &two_hours, &hour].map(|member| member.eve_id);
    assert_eq!(asked(&stage), order);
    assert_eq!(outcome(&run)["scanned"], 5);
    let age = stage.community.eve(recent.eve_id).await.last_verified_at;
    assert!(age < stage.community.eve(hour.eve_id).await.last_verified_at, "the recent one was not stamped");
}

#[tokio::test]
async fn characters_of_deleted_and_blocked_accounts_are_not_asked_about() {
    let stage = Stage::new().await;
    let alice = stage.add(newcomer("Alice").session()).await;
    stage.add(newcomer("Deleted").deleted().session()).await;
    stage.add(newcomer("Blocked").blocked().session()).await;
    verify(&stage).await;
    assert_eq!(asked(&stage), [alice.eve_id]);
}

#[tokio::test]
async fn the_threshold_can_be_set() {
    let stage = Stage::new().await;
    let due = stage.add(newcomer("due").verified_minutes_ago(121)).await;
    stage.add(newcomer("not due").verified_minutes_ago(119)).await;
    let run = stage.verifier().env("VERIFICATION_THRESHOLD_MINUTES", "120").run().await;
    assert_eq!(ended(&run), "done");
    assert_eq!(asked(&stage), [due.eve_id]);
}

#[tokio::test]
async fn a_second_run_finds_nothing_to_do() {
    let stage = Stage::new().await;
    stage.add(newcomer("Alice")).await;
    verify(&stage).await;
    let run = verify(&stage).await;
    assert_eq!(ended(&run), "nothing_to_do");
    assert_eq!(asked(&stage).len(), 1);
}

#[tokio::test]
async fn the_cap_of_a_run_leaves_the_rest_for_the_next() {
    let stage = Stage::new().await;
    let crowd = stage
        .crowd(5, |place| {
            (CORPORATION, newcomer(format!("m{place}")).verified_minutes_ago([100, 99, 98, 97, 96][place]))
        })
        .await;
    let capped = stage.verifier().env("MAX_CHARACTERS_PER_RUN", "2");
    for (remaining, places) in [(3, 0..2), (1, 2..4), (0, 4..5)] {
        stage.sim.clear_requests();
        let run = capped.run().await.expect_code(0);
        assert_eq!((ended(&run), &outcome(&run)["remaining"]), ("done", &remaining.into()), "{run}");
        let mut ids = asked(&stage);
        ids.sort_unstable();
        assert_eq!(ids, places.map(|place| crowd.eve_id(place)).collect::<Vec<_>>());
        stage.later(1).await;
    }
}

#[tokio::test]
async fn a_character_that_keeps_failing_starves_nobody() {
    let stage = Stage::new().await;
    let failing = stage.add(newcomer("failing")).await;
    let second = stage.add(newcomer("second").verified_minutes_ago(200)).await;
    let third = stage.add(newcomer("third").verified_minutes_ago(100)).await;
    stage.sim.faults().add(Fault::on(Route::Affiliation, Kind::MissingRows { ids: vec![failing.eve_id] }));
    let one = stage.verifier().env("MAX_CHARACTERS_PER_RUN", "1").env("MAX_UNKNOWN_RATIO", "1");
    for _ in 0..4 {
        ends(&one, 0).await;
    }
    assert_eq!(asked(&stage), [failing.eve_id, second.eve_id, third.eve_id, failing.eve_id]);
}

#[tokio::test]
async fn a_large_community_is_asked_about_once_each_in_batches_of_a_thousand_at_most() {
    let stage = Stage::new().await;
    let crowd = stage.crowd(2500, |place| (CORPORATION, newcomer(format!("m{place}")))).await;
    let run = verify(&stage).await;
    assert_eq!(outcome(&run)["scanned"], 2500);
    let calls = stage.sim.requests().into_iter().filter(|call| call.route == Route::Affiliation);
    // Several are under way at once: which arrives first is anybody's guess.
    let mut sizes: Vec<usize> = calls.map(|call| call.ids_count).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [500, 1000, 1000]);
    let mut ids = asked(&stage);
    ids.sort_unstable();
    assert_eq!(ids, (0..2500).map(|place| crowd.eve_id(place)).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_pause_between_batches_is_kept() {
    let stage = Stage::new().await;
    stage.crowd(3, |place| (CORPORATION, newcomer(format!("m{place}")))).await;
    ends(&stage.verifier().env("BATCH_SIZE", "1").env("DELAY_BETWEEN_BATCHES", "300"), 0).await;
    let calls = stage.sim.requests().into_iter().filter(|call| call.route == Route::Affiliation);
    let times: Vec<_> = calls.map(|call| call.arrived).collect();
    assert_eq!(times.len(), 3);
    let pauses = times.windows(2).map(|pair| (pair[1] - pair[0]).whole_milliseconds());
    // Less than the pause by what the first call took before it arrived.
    assert!(pauses.clone().all(|pause| pause >= 200), "{:?}", pauses.collect::<Vec<_>>());
}
