//! J8: SIGTERM and SIGINT, also as PID 1.

use std::time::{Duration, Instant};

use harness::{Binary, Fault};
use nix::sys::signal::Signal;
use suites::{Stage, outcome};

use crate::support::{
    LIMIT, VERIFIER, before_esi, due, end, ended, held, last_run, leases, one_by_one, people, written,
};

/// Well inside any grace period; what is measured is a second or so.
const SOON: Duration = Duration::from_secs(10);

async fn stopped_in_the_middle(signal: Signal, prepare: impl Fn(Binary) -> Binary) {
    let stage = Stage::with_pushgateway().await;
    people(&stage, 30).await;
    let esi = before_esi(&stage);
    stage.sim.settings(|settings| settings.latency_ms = 20);
    let running = prepare(one_by_one(&stage, &esi)).start();
    written(&stage, 3).await;
    let asked = Instant::now();
    running.signal(signal);
    let finished = end(running).await.expect_code(143);
    assert!(asked.elapsed() < SOON, "{:?}\n{finished}", asked.elapsed());

    assert_eq!(ended(&finished), "stopped");
    let row = last_run(&stage).await.unwrap();
    assert_eq!((row.outcome.as_deref(), row.ended_at.is_some()), (Some("stopped"), true));
    assert!((3..30).contains(&row.scanned), "{row:?}");
    assert_eq!(row.scanned + row.remaining, 30, "{row:?}");
    assert_eq!((due(&stage).await, leases(&stage).await), (row.remaining, 0), "what is counted is written");
    let gateway = stage.pushgateway.as_ref().unwrap();
    assert_eq!(gateway.value("rollcall_job_last_exit_code", &[("job", VERIFIER)]), Some(143.0));
    assert_eq!(gateway.value("rollcall_job_in_progress", &[("job", VERIFIER)]), Some(0.0));
    assert_eq!(gateway.value("rollcall_job_runs_total", &[("outcome", "stopped")]), Some(1.0));

    // The call in hand was cut: that is not the client breaking a rule.
    stage.forgive();
    let next = stage.verify().await.expect_code(0);
    assert_eq!((ended(&next), due(&stage).await), ("done", 0));
}

#[tokio::test]
async fn sigterm_ends_a_run_with_143_after_a_checkpoint() {
    stopped_in_the_middle(Signal::SIGTERM, |binary| binary).await;
}

#[tokio::test]
async fn sigterm_ends_a_run_also_as_process_1() {
    stopped_in_the_middle(Signal::SIGTERM, Binary::as_pid1).await;
}

#[tokio::test]
async fn sigint_ends_a_run_likewise() {
    stopped_in_the_middle(Signal::SIGINT, |binary| binary).await;
}

#[tokio::test]
async fn a_stop_cuts_a_call_that_hangs_a_pause_between_batches_and_a_wait() {
    // In the first call; in the pause after the first batch.
    for in_pause in [false, true] {
        let stage = Stage::new().await;
        people(&stage, 3).await;
        let esi = before_esi(&stage);
        let mut run = one_by_one(&stage, &esi);
        if in_pause {
            run = run.env("DELAY_BETWEEN_BATCHES", "600000");
        } else {
            esi.set(Fault::Hang);
        }
        let running = run.start();
        if in_pause {
            written(&stage, 1).await;
        } else {
            held(&stage, &esi, 1).await;
        }
        let asked = Instant::now();
        running.signal(Signal::SIGTERM);
        let finished = end(running).await.expect_code(143);
        assert!(asked.elapsed() < SOON, "in_pause {in_pause}: {:?}", asked.elapsed());
        assert_eq!((ended(&finished), leases(&stage).await), ("stopped", 0));
        stage.forgive();
    }
}

#[tokio::test]
async fn a_stop_before_the_start_is_complete_ends_with_143_too() {
    let stage = Stage::new().await;
    let database = harness::FaultProxy::start(stage.db.url());
    database.set(Fault::Hang);
    let mut running = stage.verifier().env("DATABASE_URL", database.url()).start();
    running.wait_for_log(LIMIT, |line| line["message"] == "started").await;
    let asked = Instant::now();
    running.signal(Signal::SIGTERM);
    let finished = end(running).await.expect_code(143);
    assert!(asked.elapsed() < SOON);
    assert_eq!(ended(&finished), "stopped");
    assert!(stage.community.runs().await.is_empty());
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let stage = Stage::new().await;
    people(&stage, 1).await;
    let esi = before_esi(&stage);
    esi.set(Fault::Hang);
    let database = harness::FaultProxy::start(stage.db.url());
    let running = one_by_one(&stage, &esi).env("DATABASE_URL", database.url()).start();
    held(&stage, &esi, 1).await;
    // The end cannot be written, so that the first signal alone would take its time.
    database.set(Fault::Hang);
    running.signal(Signal::SIGTERM);
    let asked = Instant::now();
    running.signal(Signal::SIGINT);
    let finished = end(running).await.expect_code(143);
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}\n{finished}", asked.elapsed());
    assert!(finished.log.iter().all(|line| line["message"] != "finished"), "{finished}");
    stage.forgive();
}

#[tokio::test]
async fn a_stop_while_postgresql_hangs_still_ends_in_time() {
    let stage = Stage::new().await;
    people(&stage, 1).await;
    let esi = before_esi(&stage);
    esi.set(Fault::Hang);
    let database = harness::FaultProxy::start(stage.db.url());
    let running = one_by_one(&stage, &esi).env("DATABASE_URL", database.url()).start();
    held(&stage, &esi, 1).await;
    database.set(Fault::Hang);
    let asked = Instant::now();
    running.signal(Signal::SIGTERM);
    let finished = end(running).await;
    assert!(asked.elapsed() < Duration::from_secs(24), "{:?}", asked.elapsed());
    assert!([Some(75), Some(143)].contains(&finished.code), "{finished}");
    assert!(outcome(&finished)["outcome"] != "done", "{finished}");
    stage.forgive();
}
