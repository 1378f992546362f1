//! Pods that go in the middle of a run.

use std::time::{Duration, Instant};

use cluster::{Drained, Ground, VERIFIER, kill, say};
use esi_simulator::{Fault, Kind, Route};
use harness::{CORPORATION, wait_until};

const PEOPLE: usize = 12;

/// Starts a run that takes characters one by one and stands still after some of them; the uid of its pod.
async fn in_the_middle(ground: &Ground, job: &str) -> String {
    ground.people(PEOPLE, CORPORATION).await;
    ground.stage.sim.faults().add(Fault::on(Route::Affiliation, Kind::Hang).after(5));
    ground.start_with(job, "BATCH_SIZE=1 ESI_CONCURRENCY=1");
    wait_until(super::LIMIT, "five characters are written", async || {
        ground.stage.community.runs().await.last().is_some_and(|run| run.scanned == 5)
    })
    .await;
    assert_eq!(ground.due().await, 7);
    ground.pods(job)[0]["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// The Job's next try does what is left, and nothing twice.
async fn the_next_try_completes(ground: &Ground, job: &str, first_ended: &str) {
    ground.complete(job);
    let runs = ground.stage.community.runs().await;
    let told: Vec<_> = runs.iter().map(|run| (run.outcome.as_deref().unwrap_or("-"), run.scanned)).collect();
    assert_eq!(told, [(first_ended, 5), ("done", 7)]);
    assert_eq!(ground.due().await, 0);
    let verified = ground.pushed("battlescope_characters_verified_total", &[("status", "success")]);
    assert_eq!(verified, Some(12.0), "the first try's work is counted, once");
    assert_eq!(ground.number("SELECT count(*) FROM job_leases").await, 0);
    // The call in hand was cut: that is not the client breaking a rule.
    ground.stage.forgive();
}

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn a_pod_deleted_in_mid_run_stops_inside_its_grace_and_the_next_try_completes() {
    let ground = Ground::new("deleted").await;
    in_the_middle(&ground, "manual-1").await;
    ground.stage.sim.faults().clear();
    ground.esi.set(harness::Fault::Hang);
    let asked = Instant::now();
    // Returns when the pod is gone.
    ground.bash("kubectl -n rollcall delete pod -l batch.kubernetes.io/job-name=manual-1");
    let grace = ground.object(&format!("cronjob/{VERIFIER}"));
    let grace = grace["spec"]["jobTemplate"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_u64();
    assert!(asked.elapsed() < Duration::from_secs(grace.unwrap() / 2), "{:?}", asked.elapsed());
    assert_eq!(ground.ledger().await, [("manual".to_owned(), "stopped".to_owned())]);
    assert_eq!(ground.pushed("rollcall_job_last_exit_code", &[]), Some(143.0));
    assert_eq!(ground.due().await, 7, "what was written stays written");
    ground.esi.set(harness::Fault::Pass);
    the_next_try_completes(&ground, "manual-1", "stopped").await;
}

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn a_pod_killed_in_mid_run_loses_nothing_and_the_next_try_completes() {
    let ground = Ground::new("killed").await;
    let pod = in_the_middle(&ground, "manual-1").await;
    if !kill(&pod, VERIFIER).await {
        say("SKIPPED: a pod killed by SIGKILL: its node is not this machine");
        // The call in hand is cut with the namespace.
        ground.stage.forgive();
        return;
    }
    ground.stage.sim.faults().clear();
    the_next_try_completes(&ground, "manual-1", "lost").await;
    assert_eq!(ground.exit_codes("manual-1"), [137, 0]);
    assert_eq!(ground.pushed("rollcall_job_runs_total", &[("outcome", "lost")]), Some(1.0));
}

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn a_node_drained_in_mid_run_is_no_try_and_the_pod_in_its_place_completes() {
    let ground = Ground::new("drained").await;
    // Without a second try: whatever counted as one would fail the Job.
    let no_retry = "{\"spec\": {\"jobTemplate\": {\"spec\": {\"backoffLimit\": 0}}}}";
    ground.bash(&format!("kubectl -n rollcall patch cronjob {VERIFIER} -p '{no_retry}'"));
    // A name of its own, by which no other test's pod is evicted.
    in_the_middle(&ground, "drained-1").await;
    ground.stage.sim.faults().clear();
    ground.esi.set(harness::Fault::Hang);
    let pods = ground.pods("drained-1");
    let (pod, node) = (pods[0]["metadata"]["name"].as_str().unwrap(), pods[0]["spec"]["nodeName"].as_str().unwrap());
    let drained = Drained::node(node, "batch.kubernetes.io/job-name=drained-1");
    // On another node the pod in its place may have started meanwhile.
    wait_until(super::LIMIT, "the run has stopped", async || {
        ground.ledger().await.first() == Some(&("manual".to_owned(), "stopped".to_owned()))
    })
    .await;
    drop(drained);
    ground.esi.set(harness::Fault::Pass);
    the_next_try_completes(&ground, "drained-1", "stopped").await;
    let job = ground.object("job/drained-1");
    assert_eq!(job["status"]["failed"].as_i64().unwrap_or(0), 0, "not counted: {:#}", job["status"]);
    let pods = ground.pods("drained-1");
    assert!(pods.iter().all(|one| one["metadata"]["name"] != pod), "another pod in its place");
}
