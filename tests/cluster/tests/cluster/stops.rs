//! Pods that go in the middle of a run.

use std::time::{Duration, Instant};

use cluster::{Ground, VERIFIER, kill, say};
use esi_simulator::{Fault, Kind, Route};
use harness::{CORPORATION, wait_until};

const PEOPLE: usize = 12;

/// Starts a run that takes characters one by one and stands still after some of them; the uid of its pod.
async fn in_the_middle(ground: &Ground) -> String {
    ground.people(PEOPLE, CORPORATION).await;
    ground.stage.sim.faults().add(Fault::on(Route::Affiliation, Kind::Hang).after(5));
    ground.start_with("manual-1", "BATCH_SIZE=1 ESI_CONCURRENCY=1");
    wait_until(super::LIMIT, "five characters are written", async || {
        ground.stage.community.runs().await.last().is_some_and(|run| run.scanned == 5)
    })
    .await;
    assert_eq!(ground.due().await, 7);
    ground.pods("manual-1")[0]["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// The Job's next try does what is left, and nothing twice.
async fn the_next_try_completes(ground: &Ground, first_ended: &str) {
    ground.complete("manual-1");
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
    in_the_middle(&ground).await;
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
    the_next_try_completes(&ground, "stopped").await;
}

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn a_pod_killed_in_mid_run_loses_nothing_and_the_next_try_completes() {
    let ground = Ground::new("killed").await;
    let pod = in_the_middle(&ground).await;
    if !kill(&pod, VERIFIER) {
        say("skipped: a pod killed by SIGKILL (its node is not this machine, or this user may not)");
        return;
    }
    ground.stage.sim.faults().clear();
    the_next_try_completes(&ground, "lost").await;
    assert_eq!(ground.exit_codes("manual-1"), [137, 0]);
    assert_eq!(ground.pushed("rollcall_job_runs_total", &[("outcome", "lost")]), Some(1.0));
}
