//! J11, J12: the shape of the log.

use harness::{Fault, STRANGERS, newcomer};
use serde_json::Value;
use suites::{ALLIED, Stage, message};

use crate::support::{FIXED, LIMIT, before_esi, end, held, one_by_one, people};

#[tokio::test]
async fn every_line_is_json_with_one_start_and_the_outcome_last() {
    let stage = Stage::new().await;
    stage.add_in(ALLIED, newcomer("mover").verified_minutes_ago(90)).await;
    let leaver = stage.add_in(STRANGERS, newcomer("leaver").verified_minutes_ago(90).session()).await;
    let finished = stage.verify().await.expect_code(0);
    assert_eq!(finished.stderr.lines().count(), finished.log.len(), "{finished}");
    for line in &finished.log {
        for field in ["timestamp", "level", "message"] {
            assert!(line[field].is_string(), "{field} in {line}");
        }
    }
    let lines =
        |wanted: &str| -> Vec<&Value> { finished.log.iter().filter(|line| message(line) == Some(wanted)).collect() };
    let (starts, ends) = (lines("started"), lines("finished"));
    assert_eq!((starts.len(), ends.len()), (1, 1), "{finished}");
    assert_eq!(finished.last(), ends[0]);
    for name in FIXED {
        assert!(!ends[0][name].is_null(), "{name}");
    }
    let start = starts[0];
    assert_eq!((start["job"].as_str(), start["version"].as_str()), (Some("character-verifier"), Some("0.1.0")));
    assert_eq!(start["run_id"], ends[0]["run_id"]);
    let configuration = start["configuration"].as_str().unwrap();
    assert!(configuration.contains("batch_size: 1000"), "{configuration}");

    let changed = lines("organisation changed");
    assert_eq!(changed.len(), 2, "{finished}");
    let taken = lines("session taken");
    assert_eq!(taken.len(), 1, "{finished}");
    assert_eq!(taken[0]["account_id"], leaver.account_id.to_string());
    assert!(taken[0]["rule"].is_string() && taken[0]["reason"].is_string());
}

#[tokio::test]
async fn logs_are_json_without_a_terminal_and_text_when_asked_for() {
    let stage = Stage::new().await;
    let auto = stage.verifier().env("LOG_FORMAT", "auto").run().await.expect_code(0);
    assert_eq!(auto.stderr.lines().count(), auto.log.len());
    let text = stage.verifier().env("LOG_FORMAT", "text").run().await.expect_code(0);
    assert!(text.log.is_empty(), "{text}");
    let last = text.stderr.lines().last().unwrap();
    assert!(last.contains("INFO") && last.contains("finished") && last.contains("outcome=\"nothing_to_do\""), "{last}");
    assert!(!text.stderr.contains('\u{1b}'), "no colours where there is no terminal:\n{text}");
}

#[tokio::test]
async fn an_esi_error_is_logged_with_its_code_and_route() {
    let stage = Stage::new().await;
    people(&stage, 1).await;
    let fault = esi_simulator::Fault::on(esi_simulator::Route::Affiliation, esi_simulator::Kind::BadGateway).first(1);
    stage.sim.faults().add(fault);
    let finished = stage.verify().await.expect_code(0);
    let line = finished.log.iter().find(|line| message(line) == Some("ESI error"));
    let line = line.unwrap_or_else(|| panic!("no line `ESI error`:\n{finished}"));
    assert!(
        line.to_string().contains("502") && line["route"].as_str().is_some_and(|route| route.contains("affiliation")),
        "{line}"
    );
}

#[tokio::test]
async fn a_long_run_tells_its_progress() {
    let stage = Stage::new().await;
    people(&stage, 1).await;
    let esi = before_esi(&stage);
    esi.set(Fault::Hang);
    let mut running = one_by_one(&stage, &esi).start();
    held(&stage, &esi, 1).await;
    let line = running.wait_for_log(LIMIT, |line| message(line) == Some("progress")).await;
    for field in ["scanned", "changed", "rate_per_second", "elapsed_ms"] {
        assert!(line[field].is_number(), "{field} in {line}");
    }
    esi.set(Fault::Pass);
    end(running).await.expect_code(0);
}

#[tokio::test]
async fn rust_log_filters() {
    let stage = Stage::new().await;
    let quiet = stage.verifier().env("RUST_LOG", "error").run().await.expect_code(0);
    assert!(quiet.log.is_empty(), "{quiet}");
}
