//! How runs of a job end.

use std::time::Duration;

use harness::{Fault, FaultProxy, TestDb};
use nix::sys::signal::Signal;

use crate::probe::{PATIENCE, busy, ends, execute, expire_leases, leases, ledger, message, probe, runs};

#[tokio::test]
async fn a_run_that_does_its_work_is_done() {
    let db = TestDb::new().await;
    let finished = probe(&db).env("RUN_ID", "run-1").run().await.expect_code(0);
    let first = &finished.log[0];
    assert_eq!((message(first), first["trigger"].as_str()), ("started", Some("local")));
    let last = finished.last();
    assert_eq!(message(last), "finished");
    assert_eq!((last["job"].as_str(), last["run_id"].as_str()), (Some("probe"), Some("run-1")));
    assert_eq!((last["outcome"].as_str(), last["dry_run"].as_bool()), (Some("done"), Some(false)));
    for (name, value) in [("scanned", 10), ("changed", 0), ("skipped", 0), ("failed", 0), ("remaining", 0)] {
        assert_eq!(last[name], value, "{name}");
    }
    assert!(last["duration_ms"].is_u64());
    assert_eq!(finished.stdout, "");
    assert_eq!(ledger(&db).await, [(Some("done".to_owned()), 10)]);
    assert_eq!((leases(&db).await, runs(&db, "done").await), (0, 1));
}

#[tokio::test]
async fn an_ending_has_its_exit_code_and_leaves_no_lease() {
    let db = TestDb::new().await;
    for (ending, code, outcome) in [("capped", 77, "capped"), ("fails", 75, "failed"), ("panics", 70, "failed")] {
        let finished = probe(&db).env("ENDING", ending).run().await.expect_code(code);
        assert_eq!(finished.last()["outcome"], outcome, "{finished}");
        assert_eq!(leases(&db).await, 0, "{ending}");
        assert_eq!(ledger(&db).await.last().unwrap().0.as_deref(), Some(outcome));
    }
    assert_eq!((runs(&db, "failed").await, runs(&db, "capped").await), (2, 1));
    let finished = probe(&db).env("ITEMS", "0").run().await.expect_code(0);
    assert_eq!(finished.last()["outcome"], "nothing_to_do");
}

#[tokio::test]
async fn a_second_run_ends_at_once_and_a_dry_run_may_run_beside() {
    let db = TestDb::new().await;
    let mut first = busy(probe(&db)).await;
    let second = probe(&db).run().await.expect_code(0);
    assert_eq!(second.last()["outcome"], "already_running");
    assert!(second.last()["note"].as_str().unwrap().contains("is at it"));
    assert_eq!(runs(&db, "already_running").await, 1);

    let dry = probe(&db).env("DRY_RUN", "yes").run().await.expect_code(0);
    assert_eq!((dry.last()["outcome"].as_str(), dry.last()["scanned"].as_u64()), (Some("done"), Some(10)));
    assert!(first.is_running());
    let rows: Vec<(bool, Option<String>, i64)> =
        sqlx::query_as("SELECT dry_run, outcome, scanned FROM job_runs ORDER BY id")
            .fetch_all(db.pool())
            .await
            .unwrap();
    assert_eq!(rows[1..], [(false, Some("already_running".into()), 0), (true, Some("done".into()), 10)]);
    assert_eq!(runs(&db, "done").await, 0);
}

#[tokio::test]
async fn a_stop_ends_with_143_and_everything_that_was_counted_is_written() {
    let db = TestDb::new().await;
    for probe in [probe(&db), probe(&db).as_pid1()] {
        let running = busy(probe).await;
        running.signal(Signal::SIGTERM);
        let finished = running.wait(PATIENCE).await.expect_code(143);
        assert!(finished.duration < Duration::from_secs(10), "{finished}");
        assert_eq!(finished.last()["outcome"], "stopped");
        let (outcome, scanned) = ledger(&db).await.pop().unwrap();
        assert_eq!(outcome.as_deref(), Some("stopped"));
        let counted = finished.log.iter().filter(|line| message(line) == "counted a batch").count();
        assert_eq!(u64::try_from(scanned).unwrap(), counted as u64);
        assert_eq!(leases(&db).await, 0);
    }
}

#[tokio::test]
async fn a_second_signal_ends_a_run_that_hangs_and_the_next_run_closes_it_as_lost() {
    let db = TestDb::new().await;
    let mut running = probe(&db).env("ENDING", "hangs").start();
    running.wait_for_log(PATIENCE, |line| line["items"] == 2).await;
    running.signal(Signal::SIGTERM);
    running.signal(Signal::SIGINT);
    let finished = running.wait(PATIENCE).await.expect_code(143);
    assert!(finished.duration < Duration::from_secs(10), "{finished}");

    expire_leases(&db).await;
    ends(probe(&db), 0).await;
    assert_eq!(ledger(&db).await, [(Some("lost".to_owned()), 10), (Some("done".to_owned()), 10)]);
    assert_eq!(runs(&db, "lost").await, 1);
}

#[tokio::test]
async fn a_killed_run_is_taken_over_at_once_by_the_next_try_of_the_same_job() {
    let db = TestDb::new().await;
    let running = busy(probe(&db).env("RUN_ID", "one-job")).await;
    running.kill();
    running.wait(PATIENCE).await;
    // Another run has to wait for the lease to run out; the retry of this one must not take its predecessor for alive.
    let other = probe(&db).env("RUN_ID", "another").run().await.expect_code(0);
    assert_eq!(other.last()["outcome"], "already_running");
    ends(probe(&db).env("RUN_ID", "one-job"), 0).await;
    let outcomes: Vec<_> = ledger(&db).await.into_iter().map(|(outcome, _)| outcome.unwrap()).collect();
    assert_eq!(outcomes, ["lost", "already_running", "done"]);
}

#[tokio::test]
async fn a_run_that_lost_its_lease_writes_nothing_more() {
    let db = TestDb::new().await;
    let running = busy(probe(&db)).await;
    // Waits for a batch that is just being committed.
    execute(&db, "DELETE FROM job_leases").await;
    let written = ledger(&db).await;
    let finished = running.wait(PATIENCE).await.expect_code(75);
    assert!(finished.last()["error"].as_str().unwrap().starts_with("lease lost"), "{finished}");
    assert_eq!(ledger(&db).await, written);
    assert_eq!(written[0].0, None);
}

#[tokio::test]
async fn a_run_whose_time_is_over_ends_by_itself_and_says_what_remains() {
    let db = TestDb::new().await;
    let probe = probe(&db).env("ITEMS", "1000000").env("BATCH_SIZE", "1").env("DELAY", "20");
    let finished = probe.env("MAX_RUNTIME", "6s").run().await.expect_code(0);
    assert_eq!(finished.last()["outcome"], "done");
    assert!(finished.last()["remaining"].as_u64().unwrap() > 0);
    assert!(finished.duration < Duration::from_secs(6), "{finished}");
}

#[tokio::test]
async fn a_run_that_hangs_ends_when_its_time_is_over() {
    let db = TestDb::new().await;
    let finished = probe(&db).env("ENDING", "hangs").env("MAX_RUNTIME", "6s").run().await.expect_code(75);
    assert!(finished.last()["error"].as_str().unwrap().contains("MAX_RUNTIME"), "{finished}");
    assert_eq!(leases(&db).await, 0);
}

#[tokio::test]
async fn a_database_that_goes_away_in_the_middle_is_worth_a_retry() {
    let db = TestDb::new().await;
    let proxy = FaultProxy::start(db.url());
    let running = busy(probe(&db).env("DATABASE_URL", proxy.url())).await;
    proxy.set(Fault::Refuse);
    proxy.cut();
    let finished = running.wait(PATIENCE).await.expect_code(75);
    assert!(finished.last()["error"].as_str().unwrap().contains("PostgreSQL"), "{finished}");
    assert_eq!(finished.last()["outcome"], "failed");
}

#[tokio::test]
async fn a_database_that_hangs_does_not_hang_the_run() {
    let db = TestDb::new().await;
    let proxy = FaultProxy::start(db.url());
    let running = busy(probe(&db).env("DATABASE_URL", proxy.url()).env("MAX_RUNTIME", "10s")).await;
    proxy.set(Fault::Hang);
    let finished = running.wait(PATIENCE).await.expect_code(75);
    assert_eq!(finished.last()["outcome"], "failed", "{finished}");
    assert!(finished.duration < Duration::from_secs(40), "{finished}");
}

#[tokio::test]
async fn what_belongs_to_no_batch_is_written_with_the_next_one_or_at_the_end() {
    let db = TestDb::new().await;
    for (items, ending) in [("10", "done"), ("0", "done"), ("0", "fails"), ("0", "panics")] {
        let finished = probe(&db).env("ITEMS", items).env("ENDING", ending).run().await;
        let starts: i64 =
            sqlx::query_scalar("SELECT (details ->> 'starts')::bigint FROM job_runs ORDER BY id DESC LIMIT 1")
                .fetch_one(db.pool())
                .await
                .unwrap();
        assert_eq!(starts, 1, "{finished}");
        assert!(finished.last()["details"].as_str().unwrap().contains("\"starts\":1"), "{finished}");
    }
}

#[tokio::test]
async fn shards_run_side_by_side() {
    let db = TestDb::new().await;
    let shard = |index: &str| probe(&db).env("SHARD_COUNT", "2").env("JOB_COMPLETION_INDEX", index);
    let mut first = busy(shard("0")).await;
    let second = shard("1").run().await.expect_code(0);
    assert_eq!(second.last()["outcome"], "done");
    assert_eq!(probe(&db).run().await.last()["outcome"], "already_running");
    assert!(first.is_running());
}
