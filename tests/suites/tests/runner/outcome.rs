//! J6: one outcome, told the same everywhere.

use harness::{CORPORATION, STRANGERS, newcomer};
use suites::{ALLIED, Stage, outcome};

use crate::support::{FIXED, VERIFIER, json, last_run, told};

/// Characters that end up counted in every way: stayed, moved, leaving, unknown.
async fn mixed(stage: &Stage) {
    stage.add(newcomer("stays").verified_minutes_ago(90).session()).await;
    stage.add_in(ALLIED, newcomer("moves").verified_minutes_ago(90).session()).await;
    stage.add_in(STRANGERS, newcomer("leaves").verified_minutes_ago(90).session()).await;
    let brand = stage.community.brand("other", &harness::Lists::default()).await;
    stage.add(newcomer("elsewhere").brand(brand).corporation(CORPORATION)).await;
    // ESI has never heard of this one.
    stage.community.add(newcomer("nobody").verified_minutes_ago(90)).await;
}

#[tokio::test]
async fn log_line_summary_ledger_status_and_metrics_agree() {
    let stage = Stage::with_pushgateway().await;
    mixed(&stage).await;
    let finished = stage.verifier().env("OUTPUT", "json").run().await.expect_code(0);
    let (line, summary) = (outcome(&finished), json(&finished));
    for name in FIXED {
        assert!(!line[name].is_null(), "{name} is missing:\n{finished}");
        assert_eq!(line[name], summary[name], "{name}");
    }
    assert_eq!((line["outcome"].as_str(), told(&finished, "scanned")), (Some("done"), 5), "{finished}");
    assert_eq!((told(&finished, "changed"), told(&finished, "failed")), (2, 1), "{finished}");

    let row = last_run(&stage).await.unwrap();
    let of_row = [row.scanned, row.changed, row.skipped, row.failed, row.remaining];
    let names = ["scanned", "changed", "skipped", "failed", "remaining"];
    assert_eq!(names.map(|name| told(&finished, name)), of_row);
    assert_eq!((row.run_id.as_str(), row.outcome.as_deref()), (line["run_id"].as_str().unwrap(), Some("done")));
    assert_eq!((row.dry_run, row.job.as_str()), (false, VERIFIER));
    assert_eq!(row.details, summary["details"]);
    assert_eq!(row.version, "0.1.0");

    let status = json(&stage.binary(VERIFIER).arg("status").env("OUTPUT", "json").run().await.expect_code(0));
    for name in FIXED.into_iter().filter(|name| *name != "duration_ms") {
        assert_eq!(status[0][name], line[name], "{name}");
    }
    assert!(status[0]["duration_ms"].as_i64().unwrap() <= told(&finished, "duration_ms"));

    let gateway = stage.pushgateway.as_ref().unwrap();
    for (name, n) in names.into_iter().zip(of_row) {
        let value = gateway.value("rollcall_job_records", &[("job", VERIFIER), ("outcome", name)]);
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let expected = Some(n as f64);
        assert_eq!(value, expected, "{name}");
    }
    let counters = stage.community.counters(VERIFIER).await;
    assert_eq!(
        counters["battlescope_characters_verified_total{success}"]
            + counters["battlescope_characters_verified_total{failed}"],
        5
    );
    assert_eq!(counters["rollcall_job_runs_total{done}"], 1);
}

#[tokio::test]
async fn a_failed_run_tells_its_error_everywhere() {
    let stage = Stage::with_pushgateway().await;
    stage.add(newcomer("ann")).await;
    crate::support::execute(&stage, "DELETE FROM auth_config").await;
    let finished = stage.verifier().env("OUTPUT", "json").run().await.expect_code(78);
    let line = outcome(&finished);
    let error = line["error"].as_str().unwrap();
    assert!(error.contains("auth_config has no row"), "{finished}");
    assert_eq!(line["level"], "ERROR");
    let row = last_run(&stage).await.unwrap();
    assert_eq!((row.outcome.as_deref(), row.error.as_deref()), (Some("failed"), Some(error)));
    assert_eq!(json(&finished)["error"], error);
    let gateway = stage.pushgateway.as_ref().unwrap();
    assert_eq!(gateway.value("rollcall_job_last_exit_code", &[]), Some(78.0));
    assert_eq!(gateway.value("rollcall_job_runs_total", &[("outcome", "failed")]), Some(1.0));
}

#[tokio::test]
async fn results_for_people_stay_out_of_a_pipe_unless_asked_for() {
    let stage = Stage::new().await;
    let finished = stage.verify().await.expect_code(0);
    assert_eq!(finished.stdout, "", "standard output is no terminal");
}
