//! J10: totals go on from run to run, also over killed runs, and `increase()` over them is right.

use std::time::Duration;

use harness::{Prometheus, wait_until};
use suites::Stage;

use crate::support::{LIMIT, VERIFIER, before_esi, due, end, expire_leases, one_by_one, people, written};

/// Several scrapes fit into a run.
const SCRAPE: Duration = Duration::from_millis(200);

#[tokio::test]
async fn totals_over_ten_runs_three_of_them_killed_are_the_ledgers_and_prometheus_sees_their_increase() {
    let stage = Stage::with_pushgateway().await;
    people(&stage, 12).await;
    let gateway = stage.pushgateway.as_ref().unwrap();
    let esi = before_esi(&stage);
    stage.sim.settings(|settings| settings.latency_ms = 10);
    let prometheus = Prometheus::start(&[&gateway.address()], SCRAPE);
    // A first run without work, so that everything is there at 0 when counting begins.
    stage.verifier().env("VERIFICATION_THRESHOLD_MINUTES", "10000").run().await.expect_code(0);
    let verified = "sum(battlescope_characters_verified_total{job=\"character-verifier\"})";
    let at = |value: f64| prometheus.query(verified).iter().any(|sample| (sample.value - value).abs() < 0.01);
    wait_until(LIMIT, "Prometheus has seen 0", async || at(0.0)).await;

    let mut total = 0.0;
    for round in 1..10 {
        let binary = one_by_one(&stage, &esi).env("METRICS_PUSH_INTERVAL", "1s");
        if round % 3 == 0 {
            let running = binary.start();
            // At a different moment each time.
            written(&stage, 2 * round / 3).await;
            running.kill();
            end(running).await;
            expire_leases(&stage).await;
        } else {
            binary.run().await.expect_code(0);
        }
        let sum: i64 = stage.community.runs().await.iter().map(|run| run.scanned).sum();
        #[expect(clippy::cast_precision_loss, reason = "a few dozen")]
        let now = sum as f64;
        total = f64::max(total, now);
        stage.later(120).await;
    }
    // Completes what the last killed one left, and tells it.
    stage.verify().await.expect_code(0);

    let runs = stage.community.runs().await;
    let sum: i64 = runs.iter().map(|run| run.scanned).sum();
    let counters = stage.community.counters(VERIFIER).await;
    let verified_total: i64 = counters
        .iter()
        .filter(|(name, _)| name.starts_with("battlescope_characters_verified_total"))
        .map(|(_, n)| n)
        .sum();
    assert_eq!((verified_total, due(&stage).await), (sum, 0));
    for outcome in ["done", "nothing_to_do", "lost"] {
        let rows = runs.iter().filter(|run| run.outcome.as_deref() == Some(outcome)).count();
        let counted = counters.get(&format!("rollcall_job_runs_total{{{outcome}}}")).copied().unwrap_or(0);
        assert_eq!(i64::try_from(rows).unwrap(), counted, "{outcome}");
    }
    assert_eq!(counters["rollcall_job_runs_total{lost}"], 3);

    #[expect(clippy::cast_precision_loss, reason = "a few dozen")]
    let expected = sum as f64;
    wait_until(LIMIT, "Prometheus has seen the end", async || at(expected)).await;
    // increase() extrapolates to the edges of its window, which a step function from resets and max does not.
    let resets = prometheus.query("sum(resets(battlescope_characters_verified_total{job=\"character-verifier\"}[1h]))");
    assert!(resets.iter().all(|sample| sample.value.abs() < f64::EPSILON), "a total went back: {resets:?}");
    let increase = prometheus.query(
        "sum(increase(battlescope_characters_verified_total{job=\"character-verifier\",status=\"success\"}[1h]))",
    );
    assert!(increase.len() == 1, "{increase:?}");
    let ratio = increase[0].value / expected;
    assert!((0.9..=1.15).contains(&ratio), "increase() says {} of {expected}", increase[0].value);
    stage.forgive();
}
