//! Metrics, `status`, `check` and what is on standard output.

use std::time::Duration;

use harness::{Fault, FaultProxy, Pushgateway, TestDb};
use serde_json::Value;

use crate::probe::{bare, busy, ends, execute, probe, runs};

const GROUP: (&str, &str) = ("job", "probe");

#[tokio::test]
async fn a_run_pushes_how_it_ended_and_totals_go_on() {
    let (db, gateway) = (TestDb::new().await, Pushgateway::start());
    let probe = || probe(&db).env("PUSHGATEWAY_URL", gateway.url()).env("POD_NAMESPACE", "games");
    for expected in [1.0, 2.0] {
        ends(probe(), 0).await;
        let value =
            |name, label: &[(&str, &str)]| gateway.value(name, &[&[GROUP, ("namespace", "games")], label].concat());
        assert_eq!(value("rollcall_job_runs_total", &[("outcome", "done")]), Some(expected));
        assert_eq!(value("rollcall_job_runs_total", &[("outcome", "lost")]), Some(0.0));
        assert_eq!(value("rollcall_job_records", &[("outcome", "scanned")]), Some(10.0));
        assert_eq!(value("rollcall_job_in_progress", &[]), Some(0.0));
        assert_eq!(value("rollcall_job_last_exit_code", &[]), Some(0.0));
        assert!(value("rollcall_job_last_run_timestamp_seconds", &[]) > Some(1_700_000_000.0));
    }
    let success = || gateway.value("rollcall_job_last_success_timestamp_seconds", &[GROUP]);
    let before = success();
    assert!(before > Some(1_700_000_000.0));
    ends(probe().env("ENDING", "fails"), 75).await;
    assert_eq!(success(), before);
    assert_eq!(gateway.value("rollcall_job_last_exit_code", &[GROUP]), Some(75.0));
    assert!(
        gateway
            .metrics()
            .iter()
            .filter(|sample| sample.name.starts_with("rollcall_"))
            .all(|sample| { sample.labels.get("instance").is_none_or(String::is_empty) })
    );
}

#[tokio::test]
async fn a_run_under_way_is_told_and_neither_a_second_nor_a_dry_run_tells_otherwise() {
    let (db, gateway) = (TestDb::new().await, Pushgateway::start());
    let probe = || probe(&db).env("PUSHGATEWAY_URL", gateway.url());
    let progress = || gateway.value("rollcall_job_in_progress", &[GROUP]);
    let _running = busy(probe()).await;
    harness::wait_until(Duration::from_secs(10), "the first push", async || progress() == Some(1.0)).await;
    ends(probe(), 0).await;
    ends(probe().arg("--dry-run"), 0).await;
    assert_eq!(progress(), Some(1.0));
    assert_eq!(gateway.value("rollcall_job_last_run_timestamp_seconds", &[GROUP]), None);
}

#[tokio::test]
async fn a_pushgateway_that_hangs_or_refuses_changes_nothing_but_is_counted() {
    let db = TestDb::new().await;
    let gateway = Pushgateway::start();
    let proxy = FaultProxy::start(&gateway.url());
    for fault in [Fault::Hang, Fault::Refuse] {
        proxy.set(fault);
        let url = format!("http://user:hunter2@{}", proxy.address());
        let finished = probe(&db).env("PUSHGATEWAY_URL", url).run().await.expect_code(0);
        assert!(finished.duration < Duration::from_secs(12), "{finished}");
        assert!(!finished.stderr.contains("hunter2"), "{finished}");
    }
    let failures: i64 =
        sqlx::query_scalar("SELECT value FROM job_counters WHERE metric = 'rollcall_push_failures_total'")
            .fetch_one(db.pool())
            .await
            .unwrap();
    assert!(failures >= 2);
    assert_eq!(runs(&db, "done").await, 2);
}

#[tokio::test]
async fn a_textfile_is_written_beside_or_instead() {
    let db = TestDb::new().await;
    let folder = std::env::temp_dir().join(format!("rollcall-textfile-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("probe.prom");
    ends(probe(&db).env("METRICS_TEXTFILE", &file), 0).await;
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(text.contains("rollcall_job_runs_total{job=\"probe\",outcome=\"done\"} 1\n"), "{text}");
}

#[tokio::test]
async fn json_output_is_the_outcome_on_one_line() {
    let db = TestDb::new().await;
    let finished = probe(&db).arg("--output=json").run().await.expect_code(0);
    let told: Value = serde_json::from_str(finished.stdout.trim_end()).unwrap();
    for name in ["job", "run_id", "outcome", "dry_run", "scanned", "changed", "skipped", "failed", "remaining"] {
        assert_eq!(told[name], finished.last()[name], "{name}");
    }
    assert_eq!(told["details"]["batches"], 3);
}

#[tokio::test]
async fn status_shows_the_last_runs_and_needs_nothing_but_the_database() {
    let db = TestDb::new().await;
    let status = || bare().env("DATABASE_URL", db.pooled_url()).env("ITEMS", "nonsense").arg("status");
    assert_eq!(status().run().await.expect_code(0).stdout, "probe has not run yet\n");
    ends(probe(&db).env("JOB_NAME", "probe-29371440"), 0).await;
    ends(probe(&db).env("JOB_NAME", "by-hand").env("ENDING", "capped"), 77).await;

    let finished = status().arg("--output").arg("json").arg("--limit=5").run().await.expect_code(0);
    let runs: Vec<Value> = serde_json::from_str(finished.stdout.trim_end()).unwrap();
    let seen: Vec<_> = runs.iter().map(|run| (run["outcome"].as_str(), run["trigger"].as_str())).collect();
    assert_eq!(seen, [(Some("capped"), Some("manual")), (Some("done"), Some("schedule"))]);
    let text = status().run().await.expect_code(0).stdout;
    assert!(text.starts_with("STARTED (UTC)") && text.lines().count() == 3, "{text}");
}

#[tokio::test]
async fn check_tells_of_every_dependency_and_ends_with_the_first_failure() {
    let (db, gateway) = (TestDb::new().await, Pushgateway::start());
    let check = || probe(&db).env("PUSHGATEWAY_URL", gateway.url()).arg("check");
    let states = |stdout: &str| -> Vec<(String, String)> {
        let words = |line: &str| line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>();
        stdout.lines().map(|line| (words(line)[1].clone(), words(line)[0].clone())).collect()
    };
    let all = |except: &[&str]| -> Vec<(String, String)> {
        ["configuration", "database", "schema", "redis", "pushgateway", "items"]
            .map(|name| (name.to_owned(), if except.contains(&name) { "FAILED" } else { "ok" }.to_owned()))
            .to_vec()
    };
    assert_eq!(states(&check().run().await.expect_code(0).stdout), all(&[]));

    gateway.stop();
    execute(&db, "DELETE FROM _sqlx_migrations").await;
    let finished = check().env("REDIS_URL", "redis://127.0.0.1:1").run().await.expect_code(75);
    assert_eq!(states(&finished.stdout), all(&["schema", "redis", "pushgateway"]));

    let finished = check().env("SHARD_COUNT", "2").run().await.expect_code(78);
    assert_eq!(states(&finished.stdout)[0], ("configuration".to_owned(), "FAILED".to_owned()));
}
