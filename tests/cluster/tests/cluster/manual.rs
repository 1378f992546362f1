//! Runs by hand.

use cluster::{Ground, VERIFIER};
use harness::{CORPORATION, Fault, STRANGERS, wait_until};

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn a_manual_dry_run_by_an_override_changes_nothing_and_says_what_it_would() {
    let ground = Ground::new("dry-run").await;
    ground.people(3, CORPORATION).await;
    let leavers = ground.people(1, STRANGERS).await;
    let before = ground.stage.community.exact_fingerprint().await;
    ground.start_with("manual-1", "DRY_RUN=true");
    ground.complete("manual-1");

    assert_eq!(ground.stage.community.exact_fingerprint().await, before);
    let runs = ground.stage.community.runs().await;
    assert_eq!((runs.len(), runs[0].dry_run, runs[0].scanned, &*runs[0].trigger), (1, true, 4, "manual"));
    let pushed = ground.pushgateway().metrics();
    let ours = |name: &str| name.starts_with("battlescope_") || name.starts_with("rollcall_");
    assert!(pushed.iter().all(|sample| !ours(&sample.name)), "{pushed:#?}");
    let log = ground.log("manual-1");
    assert!(log.contains("dry run: nothing is written") && log.contains(&leavers.account_id(0).to_string()), "{log}");
}

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn a_manual_run_beside_another_ends_as_already_running() {
    let ground = Ground::new("beside").await;
    ground.people(2, CORPORATION).await;
    ground.esi.set(Fault::Hang);
    // Named as a schedule names its Jobs.
    let scheduled = format!("{VERIFIER}-29000000");
    ground.start(&scheduled);
    wait_until(super::LIMIT, "the first run is told", async || {
        ground.pushed("rollcall_job_in_progress", &[]) == Some(1.0)
    })
    .await;
    ground.start("manual-1");
    ground.complete("manual-1");
    assert_eq!(ground.finished("manual-1")["outcome"], "already_running");
    assert_eq!(ground.pushed("rollcall_job_in_progress", &[]), Some(1.0), "the first one's metrics stand");
    assert_eq!(ground.due().await, 2);

    ground.esi.set(Fault::Pass);
    ground.complete(&scheduled);
    let told = |trigger: &str, outcome: &str| (trigger.to_owned(), outcome.to_owned());
    assert_eq!(ground.ledger().await, [told("schedule", "done"), told("manual", "already_running")]);
    assert_eq!((ground.due().await, ground.pushed("rollcall_job_in_progress", &[])), (0, Some(0.0)));
    // Held at the same moment, neither could know that the other one is asking for the status.
    ground.stage.forgive();
}
