//! Many characters: all new at once, and one bad id in every batch.

use std::time::Duration;

use esi_simulator::Generated;
use harness::{CORPORATION, newcomer};
use suites::{Stage, outcome};

const SOON: Duration = Duration::from_secs(55);

#[tokio::test]
async fn a_hundred_thousand_new_characters_are_verified_in_one_run() {
    const PEOPLE: usize = 100_000;
    let stage = Stage::new().await;
    let crowd = stage.community.crowd(PEOPLE, |place| newcomer(format!("New {place}"))).await;
    let run = Generated { first_id: crowd.eve_id(0), count: PEOPLE as i64, corporations: vec![CORPORATION] };
    stage.sim.world(|world| world.generate(run));
    let run = stage.verifier().env("MAX_RUNTIME", "10m").start().wait(SOON).await.expect_code(0);
    let told = outcome(&run);
    assert_eq!((told["outcome"].as_str(), told["scanned"].as_u64()), (Some("done"), Some(PEOPLE as u64)), "{run}");
    assert_eq!(told["remaining"], 0, "{run}");
    assert_eq!(verified(&stage).await, PEOPLE as i64, "{run}");
    assert!(run.peak_memory < 150 * 1024 * 1024, "{} bytes", run.peak_memory);
}

/// Every batch holds an id that ESI does not know, and the error limit is small: a run ends when its share is spent,
/// what it found is kept, and the next ones go on from there.
#[tokio::test]
async fn one_bad_id_in_every_batch_is_worked_off_over_several_runs() {
    const BATCH: usize = 16;
    const PEOPLE: usize = BATCH * 8;
    let stage = Stage::new().await;
    let is_bad = |place: usize| place % BATCH == 5;
    let crowd = stage.community.crowd(PEOPLE, |place| newcomer(format!("New {place}")).verified_minutes_ago(120)).await;
    for place in (0..PEOPLE).filter(|place| !is_bad(*place)) {
        stage.show(crowd.eve_id(place), CORPORATION);
    }
    stage.sim.settings(|settings| settings.error_limit = 28);
    let verifier =
        stage.verifier().env("BATCH_SIZE", BATCH.to_string()).env("MAX_RUNTIME", "8s").env("ESI_CONCURRENCY", "1");

    let (mut runs, mut found, mut story) = (0, 0, String::new());
    loop {
        let run = verifier.run().await.expect_code(0);
        runs += 1;
        story += &run.to_string();
        let told = outcome(&run);
        assert_eq!(told["outcome"], "done", "{run}");
        let tombstones = tombstones(&stage).await;
        assert!(tombstones > found, "each run finds further ones: {run}");
        found = tombstones;
        if told["remaining"] == 0 {
            break;
        }
        assert!(runs < 10, "{run}");
        // The next window of the error limit; nobody becomes due anew.
        stage.later(2).await;
    }
    assert!(runs > 1, "the limit was felt: {story}");
    assert_eq!(found, 8);
    assert_eq!(verified(&stage).await, (PEOPLE - 8) as i64);
    // What is remembered is not asked for again.
    stage.later(61).await;
    stage.sim.clear_requests();
    let run = verifier.run().await.expect_code(0);
    assert_eq!(outcome(&run)["remaining"], 0, "{run}");
    assert_eq!(outcome(&run)["failed"], 8, "{run}");
    let errors: u64 =
        stage.sim.counts().routes.values().flat_map(|route| route.statuses.range(400..)).map(|(_, n)| n).sum();
    assert_eq!(errors, 0, "{run}");
}

async fn verified(stage: &Stage) -> i64 {
    let sql =
        "-- weather::verified\nSELECT count(*) FROM eve_characters WHERE last_verified_at > now() - interval '1 hour'";
    sqlx::query_scalar(sql).fetch_one(stage.db.pool()).await.unwrap()
}

async fn tombstones(stage: &Stage) -> i64 {
    let sql = "-- weather::tombstones\nSELECT count(*) FROM unresolvable_ids WHERE reason = 'not_found'";
    sqlx::query_scalar(sql).fetch_one(stage.db.pool()).await.unwrap()
}
