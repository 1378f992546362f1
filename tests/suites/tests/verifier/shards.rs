//! A run split over several processes.

use std::collections::{BTreeSet, HashSet};

use esi_simulator::Route;
use harness::{Binary, CORPORATION, STRANGERS, newcomer};
use suites::{Stage, outcome};
use uuid::Uuid;

use crate::{
    breaker::alive,
    support::{asked, ended, ends},
};

const SHARDS: usize = 4;

fn shard(stage: &Stage, index: usize) -> Binary {
    stage.verifier().env("SHARD_COUNT", SHARDS.to_string()).env("JOB_COMPLETION_INDEX", index.to_string())
}

/// All shards at once; how each ended.
async fn all(stage: &Stage, set: impl Fn(Binary) -> Binary) -> Vec<harness::Finished> {
    let running: Vec<_> = (0..SHARDS).map(|index| set(shard(stage, index)).start()).collect();
    let mut finished = Vec::new();
    for running in running {
        finished.push(running.wait(std::time::Duration::from_mins(1)).await);
    }
    finished
}

#[tokio::test]
async fn every_character_is_asked_about_by_exactly_one_shard() {
    let stage = Stage::new().await;
    let crowd = stage.crowd(200, |place| (CORPORATION, newcomer(format!("m{place}")))).await;
    let runs = all(&stage, |shard| shard).await;
    let scanned: Vec<u64> = runs.iter().map(|run| outcome(run)["scanned"].as_u64().unwrap()).collect();
    assert_eq!(scanned.iter().sum::<u64>(), 200);
    assert!(scanned.iter().all(|share| (20..=80).contains(share)), "fair shares: {scanned:?}");
    let ids = asked(&stage);
    assert_eq!(ids.len(), 200);
    let ids: BTreeSet<i64> = ids.into_iter().collect();
    assert_eq!(ids, (0..200).map(|place| crowd.eve_id(place)).collect());
    let whole = ends(&stage.verifier(), 0).await;
    assert_eq!(ended(&whole), "nothing_to_do");
}

#[tokio::test]
async fn no_sheet_is_fetched_twice_though_the_shards_need_the_same_at_the_same_time() {
    let stage = Stage::new().await;
    stage.sim.settings(|settings| settings.latency_ms = 30);
    let describe = |place| (STRANGERS, newcomer(format!("m{place}")).verified_minutes_ago(60).session());
    let crowd = stage.crowd(16, describe).await;
    let runs = all(&stage, |shard| shard.env("MAX_INVALIDATION_RATIO", "1")).await;
    assert!(runs.iter().all(|run| run.code == Some(0)));
    assert_eq!(alive(&stage, &crowd).await, 0);
    let counts = stage.sim.counts();
    assert_eq!((counts.arrived(Route::Status), counts.arrived(Route::Corporation)), (1, 1));
}

#[tokio::test]
async fn the_safety_cap_is_divided_among_the_shards() {
    let stage = Stage::new().await;
    let describe = |place| (STRANGERS, newcomer(format!("m{place}")).verified_minutes_ago(60).session());
    let crowd = stage.crowd(40, describe).await;
    // Forty in all may go, ten of each shard: those of the fuller shards are too many.
    let runs =
        all(&stage, |shard| shard.env("MAX_INVALIDATIONS_PER_RUN", "40").env("MAX_INVALIDATION_RATIO", "1")).await;
    let mut left = 0;
    for run in &runs {
        let scanned = outcome(run)["scanned"].as_u64().unwrap();
        assert_eq!(ended(run), if scanned > 10 { "capped" } else { "done" }, "{run}");
        left += if scanned > 10 { usize::try_from(scanned).unwrap() } else { 0 };
    }
    assert!(left > 0 && left < 40, "the shares differ: {left}");
    assert_eq!(alive(&stage, &crowd).await, left);
}

#[tokio::test]
async fn the_ratio_counts_only_the_accounts_of_the_shard() {
    let stage = Stage::new().await;
    let describe = |place| (CORPORATION, newcomer(format!("m{place}")).verified_minutes_ago(60).session());
    let crowd = stage.crowd(80, describe).await;
    let sql = "-- verifier::shards\nSELECT id FROM accounts WHERE abs(uuid_hash_extended(id, 0) % 4) = 0";
    let first: Vec<Uuid> = sqlx::query_scalar(sql).fetch_all(stage.db.pool()).await.unwrap();
    let first: HashSet<Uuid> = first.into_iter().collect();
    assert!((4..30).contains(&first.len()), "three are too many of them and not of all: {}", first.len());
    // From a quarter of ten accounts up the share counts.
    let leavers = (0..80).filter(|place| first.contains(&crowd.account_id(*place))).take(3);
    for place in leavers {
        stage.show(crowd.eve_id(place), STRANGERS);
    }
    for index in 1..SHARDS {
        assert_eq!(ended(&ends(&shard(&stage, index), 0).await), "done");
    }
    let run = ends(&shard(&stage, 0), 77).await;
    let note = outcome(&run)["note"].as_str().unwrap();
    assert!(note.contains(&format!("3 of {} checked accounts", first.len())), "{note}");
    assert_eq!(alive(&stage, &crowd).await, 80);

    ends(&shard(&stage, 0).env("MAX_INVALIDATION_RATIO", "0.75"), 0).await;
    assert_eq!(alive(&stage, &crowd).await, 77);
}

#[tokio::test]
async fn all_characters_of_an_account_are_in_one_shard_and_so_is_what_was_decided_about_it() {
    let stage = Stage::new().await;
    let first = stage.add_in(STRANGERS, newcomer("first").verified_minutes_ago(60).session()).await;
    for name in ["a", "b", "c", "d"] {
        stage.add_in(STRANGERS, newcomer(name).alt_of(&first).verified_minutes_ago(60).session()).await;
    }
    let runs = all(&stage, |shard| shard).await;
    let mut scanned: Vec<u64> = runs.iter().map(|run| outcome(run)["scanned"].as_u64().unwrap()).collect();
    scanned.sort_unstable();
    assert_eq!(scanned, [0, 0, 0, 5]);
    assert_eq!(stage.community.audit().await.len(), 5);
}

#[tokio::test]
async fn the_cap_of_characters_is_divided_too() {
    let stage = Stage::new().await;
    stage.crowd(100, |place| (CORPORATION, newcomer(format!("m{place}")))).await;
    let runs = all(&stage, |shard| shard.env("MAX_CHARACTERS_PER_RUN", "22")).await;
    for run in &runs {
        assert_eq!(outcome(run)["scanned"], 6, "a quarter of 22, rounded up");
    }
}
