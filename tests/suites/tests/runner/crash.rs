//! J4, J5, J8: a killed run loses nothing, and the next one says so.

use harness::Fault;
use suites::Stage;

use crate::support::{
    LIMIT, VERIFIER, before_esi, due, end, ended, execute, expire_leases, held, leases, number, one_by_one, outcomes,
    people, written,
};

#[tokio::test]
async fn a_killed_run_is_closed_as_lost_and_the_next_one_completes_its_work() {
    let stage = Stage::with_pushgateway().await;
    people(&stage, 8).await;
    let esi = before_esi(&stage);
    stage.sim.settings(|settings| settings.latency_ms = 20);
    let killed = one_by_one(&stage, &esi).env("RUN_ID", "killed").start();
    written(&stage, 3).await;
    killed.kill();
    assert_eq!(end(killed).await.signal, Some(9));
    stage.forgive();

    // Its lease stands: whoever comes now cannot know that it is dead.
    assert_eq!(ended(&stage.verify().await.expect_code(0)), "already_running");
    let left =
        number(&stage, "SELECT ceil(extract(epoch FROM expires_at - clock_timestamp()))::bigint FROM job_leases").await;
    assert!((1..=60).contains(&left), "the lease frees itself within a minute: {left} s");

    expire_leases(&stage).await;
    let next = stage.verify().await.expect_code(0);
    assert_eq!(ended(&next), "done");
    assert!(next.log.iter().any(|line| line["message"] == "closed a run that died" && line["run_id"] == "killed"));
    assert_eq!((due(&stage).await, leases(&stage).await), (0, 0));
    let runs = stage.community.runs().await;
    assert_eq!(outcomes(&stage).await, ["lost", "already_running", "done"]);
    assert!(runs[0].ended_at.is_some() && runs[0].scanned >= 3 && runs[0].error.is_some());
    assert_eq!(runs[0].scanned + runs[2].scanned, 8, "nothing is forgotten and nothing done twice");

    let counters = stage.community.counters(VERIFIER).await;
    assert_eq!(counters["battlescope_characters_verified_total{success}"], 8, "the killed run's work is counted");
    assert_eq!(counters["rollcall_job_runs_total{lost}"], 1);
    let gateway = stage.pushgateway.as_ref().unwrap();
    assert_eq!(gateway.value("rollcall_job_runs_total", &[("outcome", "lost")]), Some(1.0));
    assert_eq!(gateway.value("battlescope_characters_verified_total", &[("status", "success")]), Some(8.0));
    assert_eq!(gateway.value("rollcall_job_in_progress", &[]), Some(0.0));
}

#[tokio::test]
async fn a_lost_run_is_closed_also_by_one_that_has_nothing_to_do_and_by_another_shard() {
    let stage = Stage::new().await;
    people(&stage, 12).await;
    let esi = before_esi(&stage);
    let shard = |index: &str| one_by_one(&stage, &esi).env("SHARD_COUNT", "2").env("JOB_COMPLETION_INDEX", index);
    shard("1").run().await.expect_code(0);
    esi.set(Fault::Hang);
    let killed = shard("0").start();
    held(&stage, &esi, 1).await;
    killed.kill();
    end(killed).await;
    expire_leases(&stage).await;
    esi.set(Fault::Pass);
    let finished = shard("1").run().await.expect_code(0);
    assert_eq!(ended(&finished), "nothing_to_do");
    assert_eq!(outcomes(&stage).await[1], "lost");
    stage.forgive();
}

#[tokio::test]
async fn a_killed_dry_run_is_closed_after_two_silent_minutes() {
    let stage = Stage::new().await;
    people(&stage, 1).await;
    let esi = before_esi(&stage);
    esi.set(Fault::Hang);
    let killed = one_by_one(&stage, &esi).env("DRY_RUN", "true").start();
    held(&stage, &esi, 1).await;
    killed.kill();
    end(killed).await;
    stage.verify().await.expect_code(0);
    assert_eq!(outcomes(&stage).await, ["-", "done"], "it might still live");
    execute(&stage, "UPDATE job_runs SET heartbeat_at = heartbeat_at - interval '3 minutes' WHERE ended_at IS NULL")
        .await;
    stage.verify().await.expect_code(0);
    assert_eq!(outcomes(&stage).await, ["lost", "done", "nothing_to_do"]);
    let counters = stage.community.counters(VERIFIER).await;
    assert_eq!(counters.get("rollcall_job_runs_total{lost}"), None, "a dry run moves no metric");
}

#[tokio::test]
async fn a_long_run_keeps_its_lease_by_renewing_it() {
    let stage = Stage::new().await;
    people(&stage, 1).await;
    let esi = before_esi(&stage);
    esi.set(Fault::Hang);
    let running = one_by_one(&stage, &esi).start();
    held(&stage, &esi, 1).await;
    // Nearly out: only a renewal can save it.
    execute(&stage, "UPDATE job_leases SET expires_at = clock_timestamp() + interval '14 seconds'").await;
    harness::wait_until(LIMIT, "the lease is renewed", async || {
        number(&stage, "SELECT count(*) FROM job_leases WHERE expires_at > clock_timestamp() + interval '30 seconds'")
            .await
            == 1
    })
    .await;
    esi.set(Fault::Pass);
    end(running).await.expect_code(0);
}
