//! J10: what stands in the Pushgateway.

use harness::{Pushgateway, Sample, newcomer};
use suites::Stage;

use crate::support::{VERIFIER, execute, people};

fn ours(gateway: &Pushgateway) -> Vec<Sample> {
    let is_ours = |name: &str| name.starts_with("rollcall_") || name.starts_with("battlescope_");
    gateway.metrics().into_iter().filter(|one| is_ours(&one.name)).collect()
}

#[tokio::test]
async fn the_group_is_job_namespace_and_shard_without_an_instance() {
    let stage = Stage::with_pushgateway().await;
    people(&stage, 4).await;
    stage
        .verifier()
        .env("POD_NAMESPACE", "production")
        .env("SHARD_COUNT", "2")
        .env("JOB_COMPLETION_INDEX", "1")
        .run()
        .await
        .expect_code(0);
    let all = ours(stage.pushgateway.as_ref().unwrap());
    assert!(all.len() > 40, "{}", all.len());
    for one in all {
        assert!(one.has(&[("job", VERIFIER), ("namespace", "production"), ("shard", "1")]), "{one:?}");
        assert!(one.labels.get("instance").is_none_or(String::is_empty), "{one:?}");
    }
}

#[tokio::test]
async fn every_series_of_a_closed_set_exists_from_0() {
    let stage = Stage::with_pushgateway().await;
    stage.verify().await.expect_code(0);
    let gateway = stage.pushgateway.as_ref().unwrap();
    let sets: [(&str, &str, &[&str]); 6] = [
        (
            "rollcall_job_runs_total",
            "outcome",
            &["already_running", "upstream_down", "capped", "stopped", "failed", "lost", "done"],
        ),
        ("battlescope_characters_verified_total", "status", &["success", "failed", "skipped"]),
        ("battlescope_character_org_changes_total", "type", &["corp", "alliance", "both"]),
        ("battlescope_sessions_invalidated_total", "reason", &["disallowed", "gone", "transferred"]),
        (
            "battlescope_character_verification_esi_errors_total",
            "error_code",
            &["400", "404", "420", "429", "500", "502", "503", "504", "timeout", "connection", "other"],
        ),
        ("rollcall_verifier_confirmations_total", "result", &["confirmed", "disputed", "unavailable"]),
    ];
    for (name, label, values) in sets {
        for value in values {
            assert_eq!(gateway.value(name, &[(label, value)]), Some(0.0), "{name}{{{label}={value}}}");
        }
    }
    for name in ["rollcall_push_failures_total", "rollcall_verifier_capped_total"] {
        assert_eq!(gateway.value(name, &[]), Some(0.0), "{name}");
    }
    assert_eq!(gateway.value("rollcall_job_runs_total", &[("outcome", "nothing_to_do")]), Some(1.0));
}

#[tokio::test]
async fn the_last_success_moves_with_real_successes_only() {
    let stage = Stage::with_pushgateway().await;
    people(&stage, 2).await;
    let gateway = stage.pushgateway.as_ref().unwrap();
    let success = || gateway.value("rollcall_job_last_success_timestamp_seconds", &[("job", VERIFIER)]);
    let last_run = || gateway.value("rollcall_job_last_run_timestamp_seconds", &[("job", VERIFIER)]);

    stage.verifier().env("DRY_RUN", "true").run().await.expect_code(0);
    assert_eq!(ours(gateway), [], "a dry run tells nobody");

    stage.verifier().env("MAX_UNKNOWN_RATIO", "oops").run().await.expect_code(78);
    assert_eq!(success(), None, "a failure is no success");
    assert!(last_run().is_some());

    stage.verify().await.expect_code(0);
    let first = success().unwrap();

    // Failing in the run, before it, upstream down, dry: none of them moves it.
    stage.community.make_due().await;
    stage
        .sim
        .faults()
        .add(esi_simulator::Fault::on(esi_simulator::Route::Affiliation, esi_simulator::Kind::Unavailable));
    let down = stage.verifier().env("MAX_RUNTIME", "20s").run().await.expect_code(0);
    assert_eq!(crate::support::ended(&down), "upstream_down");
    stage.verifier().env("DRY_RUN", "true").run().await.expect_code(0);
    stage.verifier().env("REDIS_URL", "redis://127.0.0.1:1").run().await.expect_code(75);
    stage.verifier().env("GATE", "oops").run().await.expect_code(78);
    assert_eq!(success(), Some(first));
    assert_eq!(gateway.value("rollcall_job_last_exit_code", &[]), Some(78.0));
    assert!(last_run().unwrap() >= first);

    stage.sim.faults().clear();
    stage.verify().await.expect_code(0);
    assert!(success().unwrap() > first);
    assert_eq!(gateway.value("rollcall_job_last_exit_code", &[]), Some(0.0));
    stage.forgive();
}

#[tokio::test]
async fn the_last_success_comes_back_after_the_pushgateway_lost_everything() {
    let stage = Stage::with_pushgateway().await;
    people(&stage, 1).await;
    stage.verify().await.expect_code(0);
    let gateway = stage.pushgateway.as_ref().unwrap();
    let success = || gateway.value("rollcall_job_last_success_timestamp_seconds", &[]);
    let before = success();
    gateway.stop();
    gateway.start_again();
    execute(&stage, "DELETE FROM auth_config").await;
    stage.verify().await.expect_code(78);
    assert_eq!(success().map(f64::round), before.map(f64::round), "from the ledger");
    assert_eq!(gateway.value("battlescope_characters_verified_total", &[("status", "success")]), Some(1.0));
}

#[tokio::test]
async fn a_textfile_is_written_with_the_same_labels_and_keeps_the_last_success() {
    let stage = Stage::new().await;
    stage.add(newcomer("ann")).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rollcall.prom");
    let run = || stage.verifier().env("METRICS_TEXTFILE", &path).env("POD_NAMESPACE", "production");
    run().env("DRY_RUN", "true").run().await.expect_code(0);
    assert!(!path.exists(), "a dry run writes no file");
    run().run().await.expect_code(0);
    // The dry run told nobody what ESI answered, so that the next one asked again.
    stage.forgive();
    let text = std::fs::read_to_string(&path).unwrap();
    let labels = "job=\"character-verifier\",namespace=\"production\"";
    assert!(text.contains(&format!("rollcall_job_last_exit_code{{{labels}}} 0\n")), "{text}");
    assert!(text.contains("# TYPE battlescope_characters_verified_total counter"), "{text}");
    let success =
        |text: &str| text.lines().find(|l| l.starts_with("rollcall_job_last_success_timestamp")).map(str::to_owned);
    let before = success(&text).unwrap();
    run().env("REDIS_URL", "redis://127.0.0.1:1").run().await.expect_code(75);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(&format!("rollcall_job_last_exit_code{{{labels}}} 75\n")), "{text}");
    assert_eq!(success(&text), Some(before));
}
