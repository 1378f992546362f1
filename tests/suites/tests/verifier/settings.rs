//! What operators set, and what happens when they set nothing.

use harness::{ENCRYPTION_KEY, newcomer};
use suites::{Stage, field};

use crate::support::{ended, ends, lines};

#[tokio::test]
async fn without_settings_the_documented_defaults_hold() {
    let stage = Stage::new().await;
    let bare = stage.binary("character-verifier").env("ENCRYPTION_KEY", ENCRYPTION_KEY);
    let run = bare.run().await.expect_code(0);
    assert_eq!(ended(&run), "nothing_to_do");
    let start = lines(&run, "started")[0];
    let configuration = field(start, "configuration").and_then(serde_json::Value::as_str).expect("it is told");
    for setting in [
        "batch_size: 50,",
        "delay_between_batches: 1000,",
        "max_characters_per_run: 1000,",
        "verification_threshold_minutes: 55,",
        "token_checks_per_run: 500,",
        "max_unknown_ratio: 0.5,",
        "max_invalidations_per_run: 50,",
        "max_invalidation_ratio: 0.1,",
        "revocation_grace_minutes: 0,",
        "gate: \"acting\",",
        "approve_mass_invalidation: false",
    ] {
        assert!(configuration.contains(setting), "{setting} in {configuration}");
    }
}

#[tokio::test]
async fn help_tells_the_defaults() {
    let stage = Stage::new().await;
    let help = stage.binary("character-verifier").arg("--help").run().await.expect_code(0).stdout;
    for (variable, default) in [
        ("BATCH_SIZE", "50"),
        ("DELAY_BETWEEN_BATCHES", "1000"),
        ("MAX_CHARACTERS_PER_RUN", "1000"),
        ("VERIFICATION_THRESHOLD_MINUTES", "55"),
    ] {
        let after = help.split_once(&format!("[env: {variable}]")).unwrap_or_else(|| panic!("{variable} in {help}")).1;
        let default = format!("[default: {default}]");
        assert!(after.trim_start().starts_with(&default), "{variable}: {default} in {help}");
    }
}

#[tokio::test]
async fn more_than_a_thousand_a_batch_is_refused_before_anything_is_asked() {
    let stage = Stage::new().await;
    stage.add(newcomer("Alice")).await;
    let run = stage.verifier().env("BATCH_SIZE", "1001").run().await.expect_code(78);
    assert!(run.stderr.contains("BATCH_SIZE") && run.stderr.contains("1000"), "{run}");
    assert_eq!(stage.sim.counts().total(), 0);
    ends(&stage.verifier().env("BATCH_SIZE", "0"), 78).await;
    assert_eq!(stage.community.runs().await, []);
}

#[tokio::test]
async fn a_client_of_sso_needs_both_its_halves() {
    let stage = Stage::new().await;
    let run = stage.verifier().env("EVE_CLIENT_ID", "sim-client").run().await.expect_code(78);
    assert!(run.stderr.contains("EVE_CLIENT_SECRET"), "{run}");
    let run = stage.verifier().env("EVE_CLIENT_SECRET", "sim-secret").run().await.expect_code(78);
    assert!(run.stderr.contains("EVE_CLIENT_ID") && !run.stderr.contains("sim-secret"), "{run}");
}

#[tokio::test]
async fn a_key_that_is_no_key_is_refused_without_being_repeated() {
    let stage = Stage::new().await;
    let run = stage.verifier().env("ENCRYPTION_KEY", "0123456789abcdef").run().await.expect_code(78);
    assert!(run.stderr.contains("ENCRYPTION_KEY") && !run.stderr.contains("0123456789abcdef"), "{run}");
}
