//! J9: MAX_RUNTIME.

use std::time::Duration;

use harness::Fault;
use suites::{Stage, outcome};

use crate::support::{before_esi, due, end, ended, held, leases, one_by_one, people, told};

#[tokio::test]
async fn a_run_whose_time_is_over_ends_as_done_with_what_remains() {
    let stage = Stage::new().await;
    people(&stage, 400).await;
    let esi = before_esi(&stage);
    stage.sim.settings(|settings| settings.latency_ms = 100);
    // Five of the six seconds are kept for finishing.
    let finished = one_by_one(&stage, &esi).env("MAX_RUNTIME", "6s").run().await.expect_code(0);
    assert_eq!(ended(&finished), "done");
    assert!(finished.duration < Duration::from_secs(6), "{finished}");
    let (scanned, remaining) = (told(&finished, "scanned"), told(&finished, "remaining"));
    assert!(scanned > 0 && remaining > 0, "{finished}");
    assert_eq!((scanned + remaining, due(&stage).await), (400, remaining));
    assert!(outcome(&finished)["note"].as_str().unwrap().contains("MAX_RUNTIME"), "{finished}");
    assert_eq!(leases(&stage).await, 0);
    let rest = stage.verify().await.expect_code(0);
    assert_eq!((told(&rest, "scanned"), due(&stage).await), (remaining, 0));
}

#[tokio::test]
async fn a_hung_upstream_does_not_outlive_the_budget() {
    let stage = Stage::new().await;
    people(&stage, 3).await;
    let esi = before_esi(&stage);
    esi.set(Fault::Hang);
    let running = one_by_one(&stage, &esi).env("MAX_RUNTIME", "8s").start();
    held(&stage, &esi, 1).await;
    let finished = end(running).await.expect_code(0);
    assert!(finished.duration < Duration::from_secs(9), "{finished}");
    assert_eq!((told(&finished, "scanned"), told(&finished, "remaining"), due(&stage).await), (0, 3, 3), "{finished}");
}
