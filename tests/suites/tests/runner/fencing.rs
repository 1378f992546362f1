//! J4: who lost the lease writes nothing any more.

use harness::Fault;
use nix::sys::signal::Signal;
use suites::{Stage, outcome};

use crate::support::{VERIFIER, before_esi, due, end, ended, expire_leases, one_by_one, outcomes, people, written};

#[tokio::test]
async fn a_run_that_slept_past_its_lease_cannot_write_after_another_took_over() {
    let stage = Stage::with_pushgateway().await;
    people(&stage, 10).await;
    let esi = before_esi(&stage);
    stage.sim.settings(|settings| settings.latency_ms = 20);
    let sleeper = one_by_one(&stage, &esi).env("RUN_ID", "sleeper").start();
    written(&stage, 2).await;
    sleeper.signal(Signal::SIGSTOP);
    expire_leases(&stage).await;

    let successor = stage.verifier().env("RUN_ID", "successor").run().await.expect_code(0);
    assert_eq!(ended(&successor), "done");
    assert_eq!((outcomes(&stage).await, due(&stage).await), (vec!["lost".to_owned(), "done".to_owned()], 0));
    let after = stage.community.exact_fingerprint().await;
    let runs = stage.community.runs().await;
    let gateway = stage.pushgateway.as_ref().unwrap();
    let pushed = gateway.value("rollcall_job_last_run_timestamp_seconds", &[("job", VERIFIER)]);

    sleeper.signal(Signal::SIGCONT);
    let sleeper = end(sleeper).await.expect_code(75);
    assert_eq!(ended(&sleeper), "failed");
    assert!(outcome(&sleeper)["error"].as_str().unwrap().contains("lease lost"), "{sleeper}");
    assert_eq!(stage.community.runs().await, runs, "the ledger stays as the successor left it");
    let now = stage.community.exact_fingerprint().await;
    assert_eq!(now.tables, after.tables);
    assert_eq!(gateway.value("rollcall_job_last_run_timestamp_seconds", &[("job", VERIFIER)]), pushed, "nothing pushed over");
    stage.forgive();
}

#[tokio::test]
async fn a_run_that_slept_past_its_lease_cannot_write_though_nobody_took_over() {
    let stage = Stage::new().await;
    people(&stage, 10).await;
    let esi = before_esi(&stage);
    stage.sim.settings(|settings| settings.latency_ms = 20);
    let sleeper = one_by_one(&stage, &esi).start();
    written(&stage, 2).await;
    sleeper.signal(Signal::SIGSTOP);
    expire_leases(&stage).await;
    let before = due(&stage).await;
    sleeper.signal(Signal::SIGCONT);
    end(sleeper).await.expect_code(75);
    assert_eq!(due(&stage).await, before);
    stage.forgive();
    assert_eq!(ended(&stage.verify().await.expect_code(0)), "done");
    assert_eq!(due(&stage).await, 0);
}

#[tokio::test]
async fn a_run_whose_lease_is_taken_while_it_waits_ends_by_itself() {
    let stage = Stage::new().await;
    people(&stage, 2).await;
    let esi = before_esi(&stage);
    esi.set(Fault::Hang);
    let first = one_by_one(&stage, &esi).start();
    crate::support::held(&stage, 1).await;
    expire_leases(&stage).await;
    let second = stage.verify().await.expect_code(0);
    assert_eq!(ended(&second), "done");
    // The next renewal notices; ESI still hangs.
    let first = end(first).await.expect_code(75);
    assert!(outcome(&first)["error"].as_str().unwrap().contains("lease lost"), "{first}");
}
