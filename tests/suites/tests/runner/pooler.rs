//! J4: everything also through PgBouncer in transaction mode.

use harness::Fault;
use nix::sys::signal::Signal;
use suites::{Stage, outcome};

use crate::support::{
    before_esi, due, end, ended, expire_leases, held, hold, leases, one_by_one, outcomes, people, written,
};

#[tokio::test]
async fn whole_runs_work_and_two_at_once_exclude_each_other() {
    let stage = Stage::new().await;
    people(&stage, 20).await;
    let esi = before_esi(&stage);
    esi.set(Fault::Hang);
    let first = one_by_one(&stage, &esi).env("DATABASE_URL", stage.db.pooled_url()).start();
    held(&stage, &esi, 1).await;
    let second = stage.verifier().env("DATABASE_URL", stage.db.pooled_url()).run().await.expect_code(0);
    assert_eq!(ended(&second), "already_running");
    esi.set(Fault::Pass);
    assert_eq!(ended(&end(first).await.expect_code(0)), "done");
    assert_eq!((due(&stage).await, leases(&stage).await), (0, 0));
    for arguments in [&["check"][..], &["status"], &["explain", "--character", "2100000001"]] {
        let binary = arguments.iter().fold(stage.verifier(), |binary, argument| binary.arg(*argument));
        binary.env("DATABASE_URL", stage.db.pooled_url()).run().await.expect_code(0);
    }
}

#[tokio::test]
async fn shards_started_together_do_all_the_work_once() {
    let stage = Stage::new().await;
    people(&stage, 40).await;
    let running: Vec<_> = (0..4)
        .map(|index| {
            stage
                .verifier()
                .env("DATABASE_URL", stage.db.pooled_url())
                .env("BATCH_SIZE", "3")
                .env("SHARD_COUNT", "4")
                .env("JOB_COMPLETION_INDEX", index.to_string())
                .start()
        })
        .collect();
    let mut scanned = 0;
    for one in running {
        scanned += crate::support::told(&end(one).await.expect_code(0), "scanned");
    }
    assert_eq!((scanned, due(&stage).await), (40, 0));
}

#[tokio::test]
async fn fencing_holds() {
    let stage = Stage::new().await;
    people(&stage, 10).await;
    let esi = before_esi(&stage);
    stage.sim.settings(|settings| settings.latency_ms = 20);
    let sleeper = one_by_one(&stage, &esi).env("DATABASE_URL", stage.db.pooled_url()).start();
    written(&stage, 2).await;
    hold(&stage, &esi).await;
    sleeper.signal(Signal::SIGSTOP);
    esi.set(Fault::Pass);
    expire_leases(&stage).await;
    let successor = stage.verifier().env("DATABASE_URL", stage.db.pooled_url()).run().await.expect_code(0);
    assert_eq!(ended(&successor), "done");
    let runs = stage.community.runs().await;
    sleeper.signal(Signal::SIGCONT);
    let sleeper = end(sleeper).await.expect_code(75);
    assert!(outcome(&sleeper)["error"].as_str().unwrap().contains("lease lost"), "{sleeper}");
    assert_eq!((stage.community.runs().await, outcomes(&stage).await.len()), (runs, 2));
    stage.forgive();
}
