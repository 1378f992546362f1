//! J4: who lost the lease writes nothing any more.

use harness::{Fault, wait_until};
use nix::sys::signal::Signal;
use sqlx::{Connection, PgConnection};
use suites::{Stage, outcome};

use crate::support::{
    LIMIT, VERIFIER, before_esi, due, end, ended, expire_leases, hold, number, one_by_one, outcomes, people, written,
};

#[tokio::test]
async fn a_run_that_slept_past_its_lease_cannot_write_after_another_took_over() {
    let stage = Stage::with_pushgateway().await;
    people(&stage, 10).await;
    let esi = before_esi(&stage);
    stage.sim.settings(|settings| settings.latency_ms = 20);
    let sleeper = one_by_one(&stage, &esi).env("RUN_ID", "sleeper").start();
    written(&stage, 2).await;
    hold(&stage, &esi).await;
    sleeper.signal(Signal::SIGSTOP);
    esi.set(Fault::Pass);
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
    assert_eq!(
        gateway.value("rollcall_job_last_run_timestamp_seconds", &[("job", VERIFIER)]),
        pushed,
        "nothing pushed over"
    );
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
    hold(&stage, &esi).await;
    sleeper.signal(Signal::SIGSTOP);
    esi.set(Fault::Pass);
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
    crate::support::held(&stage, &esi, 1).await;
    // A renewal may just have brought the lease back to life: nobody had taken it.
    wait_until(LIMIT, "another run takes the lease", async || {
        expire_leases(&stage).await;
        ended(&stage.verify().await.expect_code(0)) == "done"
    })
    .await;
    // The next renewal notices; ESI still hangs.
    let first = end(first).await.expect_code(75);
    assert!(outcome(&first)["error"].as_str().unwrap().contains("lease lost"), "{first}");
}

#[tokio::test]
async fn a_holder_frozen_in_the_middle_of_a_transaction_keeps_nobody_out_for_long() {
    let stage = Stage::new().await;
    people(&stage, 3).await;
    let esi = before_esi(&stage);
    // Totals are the last that a checkpoint writes: the lease's row is locked by then.
    for sql in [
        "CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN NULL; END'",
        "CREATE TRIGGER gate AFTER INSERT ON job_counters EXECUTE FUNCTION gate()",
    ] {
        sqlx::query(sql).execute(stage.db.pool()).await.unwrap();
    }
    let mut other = PgConnection::connect(stage.db.url()).await.unwrap();
    let mut tx = other.begin().await.unwrap();
    sqlx::query("-- runner\nSELECT pg_advisory_xact_lock(42)").execute(&mut *tx).await.unwrap();
    let frozen = one_by_one(&stage, &esi).start();
    wait_until(LIMIT, "its checkpoint waits", async || {
        let sql =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        number(&stage, sql).await == 1
    })
    .await;
    frozen.signal(Signal::SIGSTOP);
    tx.rollback().await.unwrap();
    // As if its machine were gone: the transaction is open, holds the lease's row, and nobody will end it.
    expire_leases(&stage).await;
    wait_until(LIMIT, "a later run gets in", async || {
        let later = stage.verify().await;
        assert!([Some(0), Some(75)].contains(&later.code), "{later}");
        later.code == Some(0)
    })
    .await;
    assert_eq!(due(&stage).await, 0);
    frozen.signal(Signal::SIGCONT);
    end(frozen).await.expect_code(75);
    stage.forgive();
}
