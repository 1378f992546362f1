//! J4, J14: one run at a time; shards of one split side by side.

use harness::Fault;
use suites::{Stage, outcome};

use crate::support::{
    VERIFIER, before_esi, due, end, ended, held, last_run, leases, one_by_one, outcomes, pages, people,
};

#[tokio::test]
async fn a_second_run_ends_at_once_as_already_running_and_pushes_nothing() {
    let stage = Stage::with_pushgateway().await;
    people(&stage, 2).await;
    let esi = before_esi(&stage);
    esi.set(Fault::Hang);
    let first = one_by_one(&stage, &esi).env("RUN_ID", "first").start();
    held(&stage, &esi, 1).await;
    let gateway = stage.pushgateway.as_ref().unwrap();
    harness::wait_until(crate::support::LIMIT, "the first run is told", async || {
        gateway.value("rollcall_job_in_progress", &[("job", VERIFIER)]) == Some(1.0)
    })
    .await;

    let second = stage.verifier().env("RUN_ID", "second").env("RUN_TRIGGER", "manual").run().await.expect_code(0);
    assert_eq!(ended(&second), "already_running");
    assert!(outcome(&second)["note"].as_str().unwrap().contains("first"), "{second}");
    assert_eq!(gateway.value("rollcall_job_in_progress", &[("job", VERIFIER)]), Some(1.0));
    assert_eq!(gateway.value("rollcall_job_last_exit_code", &[("job", VERIFIER)]), None);
    let row = last_run(&stage).await.unwrap();
    assert_eq!((row.run_id.as_str(), row.outcome.as_deref()), ("second", Some("already_running")));
    assert_eq!((row.trigger.as_str(), row.ended_at.is_some()), ("manual", true));

    esi.set(Fault::Pass);
    assert_eq!(ended(&end(first).await.expect_code(0)), "done");
    assert_eq!(outcomes(&stage).await, ["done", "already_running"]);
    assert_eq!((due(&stage).await, leases(&stage).await), (0, 0));
}

#[tokio::test]
async fn of_many_started_together_one_works() {
    let stage = Stage::new().await;
    people(&stage, 1).await;
    let esi = before_esi(&stage);
    esi.set(Fault::Hang);
    let runs: Vec<_> = (0..5).map(|_| one_by_one(&stage, &esi).start()).collect();
    harness::wait_until(crate::support::LIMIT, "all have their rows", async || outcomes(&stage).await.len() == 5).await;
    esi.set(Fault::Pass);
    let mut found = Vec::new();
    for running in runs {
        found.push(ended(&end(running).await.expect_code(0)).to_owned());
    }
    found.sort_unstable();
    assert_eq!(found, ["already_running", "already_running", "already_running", "already_running", "done"]);
}

#[tokio::test]
async fn a_dry_run_may_run_beside_a_real_one() {
    let stage = Stage::new().await;
    people(&stage, 2).await;
    let esi = before_esi(&stage);
    esi.set(Fault::Hang);
    let real = one_by_one(&stage, &esi).start();
    held(&stage, &esi, 1).await;
    let dry = stage.verifier().env("DRY_RUN", "true").run().await.expect_code(0);
    assert_eq!((ended(&dry), &outcome(&dry)["scanned"]), ("done", &2.into()));
    esi.set(Fault::Pass);
    assert_eq!(ended(&end(real).await.expect_code(0)), "done");
    // Held at the same moment, none of them could know that another one is asking for the status.
    stage.forgive();
}

#[tokio::test]
async fn a_real_run_may_start_beside_a_dry_one() {
    let stage = Stage::new().await;
    people(&stage, 2).await;
    let esi = before_esi(&stage);
    esi.set(Fault::Hang);
    let dry = one_by_one(&stage, &esi).env("DRY_RUN", "true").start();
    held(&stage, &esi, 1).await;
    assert_eq!(leases(&stage).await, 0);
    assert_eq!(ended(&stage.verify().await.expect_code(0)), "done");
    assert_eq!(outcomes(&stage).await, ["-", "done"], "the dry run lives and is not closed as lost");
    esi.set(Fault::Pass);
    end(dry).await.expect_code(0);
    // Held at the same moment, none of them could know that another one is asking for the status.
    stage.forgive();
}

#[tokio::test]
async fn shards_of_one_split_run_side_by_side_and_exclude_everything_else() {
    let stage = Stage::new().await;
    people(&stage, 12).await;
    let esi = before_esi(&stage);
    esi.set(Fault::Hang);
    let shard = |count: u32, index: u32| {
        one_by_one(&stage, &esi).env("SHARD_COUNT", count.to_string()).env("JOB_COMPLETION_INDEX", index.to_string())
    };
    let first = shard(3, 0).start();
    held(&stage, &esi, 1).await;
    let second = shard(3, 1).start();
    held(&stage, &esi, 2).await;

    for (what, binary) in [
        ("the same shard", shard(3, 0)),
        ("an unsharded run", stage.verifier()),
        ("a shard of another split", shard(2, 0)),
        ("a shard of another split with a free index", shard(4, 3)),
    ] {
        let finished = binary.run().await.expect_code(0);
        assert_eq!(ended(&finished), "already_running", "{what}");
    }

    let third = shard(3, 2).start();
    held(&stage, &esi, 3).await;
    esi.set(Fault::Pass);
    let mut scanned = 0;
    for running in [first, second, third] {
        let finished = end(running).await.expect_code(0);
        assert!(["done", "nothing_to_do"].contains(&ended(&finished)), "{finished}");
        scanned += crate::support::told(&finished, "scanned");
    }
    assert_eq!((scanned, due(&stage).await, leases(&stage).await), (12, 0, 0));
    let mut asked: Vec<i64> = stage
        .sim
        .requests()
        .iter()
        .filter(|r| r.route == esi_simulator::Route::Affiliation)
        .flat_map(|r| r.ids.clone())
        .collect();
    asked.sort_unstable();
    assert_eq!(asked.len(), 12, "everybody is asked about once");
    asked.dedup();
    assert_eq!(asked.len(), 12);
    // Held at the same moment, none of them could know that another one is asking for the status.
    stage.forgive();
}

#[tokio::test]
async fn an_unsharded_run_excludes_shards() {
    let stage = Stage::new().await;
    people(&stage, 2).await;
    let esi = before_esi(&stage);
    stage.sim.settings(|settings| settings.latency_ms = 50);
    let whole = one_by_one(&stage, &esi).start();
    pages(&stage, 1).await;
    esi.set(Fault::Hang);
    let shard = stage.verifier().env("SHARD_COUNT", "2").env("JOB_COMPLETION_INDEX", "1").run().await.expect_code(0);
    assert_eq!(ended(&shard), "already_running");
    esi.set(Fault::Pass);
    end(whole).await.expect_code(0);
}
