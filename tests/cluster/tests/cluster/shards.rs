//! A run split over an Indexed Job.

use std::collections::BTreeSet;

use cluster::{DRAIN, Ground, repository};
use documents::markdown;
use esi_simulator::Route;
use harness::CORPORATION;

use super::outbox::{enqueue, published};

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn four_shards_cover_every_character_once_and_keep_one_limit_towards_esi() {
    let ground = Ground::with("shards", &["sharding"]).await;
    let crowd = ground.people(60, CORPORATION).await;
    ground.stage.sim.settings(|settings| settings.record_ids = true);
    ground.start_with("manual-1", "BATCH_SIZE=5");
    ground.complete("manual-1");

    let runs = ground.stage.community.runs().await;
    let shards: BTreeSet<_> = runs.iter().map(|run| (run.shard_index, run.shard_count)).collect();
    assert_eq!(shards, (0..4).map(|index| (index, 4)).collect());
    assert_eq!((runs.len(), runs.iter().map(|run| run.scanned).sum::<i64>()), (4, 60));
    let requests = ground.stage.sim.requests();
    let asked = requests.iter().filter(|request| request.route == Route::Affiliation);
    let asked: Vec<i64> = asked.flat_map(|request| request.ids.clone()).collect();
    assert_eq!(asked.len(), 60, "nobody is asked about twice");
    assert_eq!(asked.into_iter().collect::<BTreeSet<_>>(), (0..60).map(|place| crowd.eve_id(place)).collect());
    assert_eq!(ground.due().await, 0);
    // One question for all shards; other rules of ESI are held when the test ends.
    assert_eq!(ground.stage.sim.counts().arrived(Route::Status), 1);
    let verified = |shard| ground.pushed("battlescope_characters_verified_total", &[("status", "success"), shard]);
    let sum: f64 = ["0", "1", "2", "3"].iter().filter_map(|shard| verified(("shard", *shard))).sum();
    assert!((sum - 60.0).abs() < f64::EPSILON, "{sum}");
}

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn a_subcommand_runs_in_one_pod_where_the_documented_operations_ask_for_one() {
    let ground = Ground::with("one-of-shards", &["sharding"]).await;
    ground.bash("kubectl -n rollcall wait --for=condition=Complete job -l app=migrate --timeout=3m");
    let text = std::fs::read_to_string(repository().join("docs/KUBERNETES.md")).unwrap();
    let document = markdown::document(&text);
    let block = document.blocks.iter().find(|block| block.text.contains("[\"status\"]")).unwrap();
    let one = document.spans.iter().find(|span| span.contains("/spec/completions") && span.starts_with('{')).unwrap();
    let operations = format!("{one}, {}", one.replace("completions", "parallelism"));
    ground.bash(&block.text.replace("}]'", &format!("}}, {operations}]'")));
    assert_eq!(ground.pods("status-1").len(), 1);
    ground.bash(&block.text.replace("status-1", "status-2"));
    assert_eq!(ground.pods("status-2").len(), 4, "else the operations would not be needed");

    // A run of the drain is split as well: each shard takes the partitions with its remainder.
    enqueue(&ground, "a", 40).await;
    ground.bash(&format!("kubectl -n rollcall create job drain-1 --from=cronjob/{DRAIN}"));
    ground.complete("drain-1");
    assert_eq!((ground.number("SELECT count(*) FROM outbox_events").await, published(&ground).await), (0, 200));
    let shards = "SELECT count(DISTINCT shard_index) FROM job_runs WHERE job = 'outbox-drain' AND shard_count = 4";
    assert_eq!(ground.number(shards).await, 4);
}
