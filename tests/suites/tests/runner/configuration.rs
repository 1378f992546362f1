//! J13, E: the configuration, all problems together.

use harness::{Binary, ENCRYPTION_KEY, Finished, newcomer};
use serde_json::Value;
use suites::{Stage, field, message, outcome};

use crate::support::{VERIFIER, ended};

/// The problems told as a list.
fn problems(finished: &Finished) -> Vec<String> {
    let line = finished.log.iter().find(|line| message(line) == Some("configuration"));
    let line = line.unwrap_or_else(|| panic!("no line with all problems:\n{finished}"));
    let list = field(line, "problems").and_then(Value::as_str).unwrap();
    serde_json::from_str(list).unwrap()
}

fn named(finished: &Finished) -> Vec<String> {
    let mut names: Vec<String> =
        problems(finished).iter().map(|line| line.split(':').next().unwrap().to_owned()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn all_problems_are_told_together_each_with_its_variable_and_no_secret() {
    let finished = Binary::new(VERIFIER)
        .env("DATABASE_URL", "mysql://admin:s3cret-database@db/app")
        .env("ENCRYPTION_KEY", "s3cret-key")
        .env("PUSHGATEWAY_URL", "http://u:s3cret-push@gateway:9091")
        .env("PUSHGATEWAY_URL_FILE", "/run/secrets/push")
        .env("EVE_CLIENT_ID", "client")
        .env("BATCH_SIZE", "1001")
        .env("DRY_RUN", "maybe")
        .env("JOB_COMPLETION_INDEX", "1")
        .env("GATE", "everybody")
        .env("RUN_TRIGGER", "cron")
        .env("LOG_FORMAT", "xml")
        .env("RUST_LOG", "info,=,=")
        .env("MAX_RUNTIME", "soon")
        .env("MAX_INVALIDATION_RATIO", "1.5")
        .env("ESI_BASE_URL", "ftp://esi")
        .env("ESI_COMPATIBILITY_DATE", "2999-01-01")
        .env("OUTPUT", "yaml")
        .run()
        .await
        .expect_code(78);
    let expected = [
        "BATCH_SIZE",
        "DATABASE_URL",
        "DRY_RUN",
        "ENCRYPTION_KEY",
        "ESI_BASE_URL",
        "ESI_COMPATIBILITY_DATE",
        "EVE_CLIENT_SECRET",
        "GATE",
        "JOB_COMPLETION_INDEX",
        "LOG_FORMAT",
        "MAX_INVALIDATION_RATIO",
        "MAX_RUNTIME",
        "OUTPUT",
        "PUSHGATEWAY_URL",
        "REDIS_URL",
        "RUN_TRIGGER",
        "RUST_LOG",
    ];
    assert_eq!(named(&finished), expected, "{finished}");
    assert!(!finished.stderr.contains("s3cret") && !finished.stdout.contains("s3cret"), "{finished}");
    assert_eq!(ended(&finished), "failed");
    let error = outcome(&finished)["error"].as_str().unwrap();
    assert!(expected.iter().all(|name| error.contains(name)), "{error}");
    // For people, each on its own line.
    for name in expected {
        let line = format!("configuration: {name}: ");
        assert!(finished.log.iter().any(|l| message(l).is_some_and(|m| m.starts_with(&line))), "{line}\n{finished}");
    }
}

#[tokio::test]
async fn each_wrong_value_is_refused_by_name() {
    let wrong = [
        ("BATCH_SIZE", "0"),
        ("BATCH_SIZE", "abc"),
        ("BATCH_SIZE", "-1"),
        ("DELAY_BETWEEN_BATCHES", "1s"),
        ("MAX_CHARACTERS_PER_RUN", "-5"),
        ("VERIFICATION_THRESHOLD_MINUTES", "1h"),
        ("ESI_CONCURRENCY", "0"),
        ("ESI_CONCURRENCY", "65"),
        ("ESI_COMPATIBILITY_DATE", "yesterday"),
        ("EVE_SSO_URL", "login.eveonline.com"),
        ("REVOCATION_GRACE_MINUTES", "-1"),
        ("MAX_INVALIDATIONS_PER_RUN", "few"),
        ("MAX_UNKNOWN_RATIO", "NaN"),
        ("TOKEN_CHECKS_PER_RUN", "-1"),
        ("APPROVE_MASS_INVALIDATION", "sure"),
        ("DATABASE_MAX_CONNECTIONS", "1"),
        ("DATABASE_URL", "postgres://u:p@h:port/d"),
        ("REDIS_URL", "localhost:6379"),
        ("PUSHGATEWAY_URL", "gateway:9091"),
        ("METRICS_PUSH_INTERVAL", "0s"),
        ("METRICS_TEXTFILE", "/no/such/folder/rollcall.prom"),
        ("METRICS_TEXTFILE", "/tmp/rollcall.txt"),
        ("MAX_RUNTIME", "5s"),
        ("SHARD_COUNT", "0"),
        ("SHARD_COUNT", "3"),
        ("JOB_COMPLETION_INDEX", "first"),
        ("RUN_ID", "a b"),
        ("POD_NAMESPACE", "a/b"),
        ("ENCRYPTION_KEY", "zz112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"),
    ];
    for (name, value) in wrong {
        let finished = Binary::new(VERIFIER)
            .env("DATABASE_URL", "postgres://postgres@127.0.0.1:1/none")
            .env("REDIS_URL", "redis://127.0.0.1:1")
            .env("PUSHGATEWAY_URL", "http://127.0.0.1:1")
            .env("ENCRYPTION_KEY", ENCRYPTION_KEY)
            .env(name, value)
            .run()
            .await
            .expect_code(78);
        // What is missing is the index.
        let expected = if (name, value) == ("SHARD_COUNT", "3") { "JOB_COMPLETION_INDEX" } else { name };
        assert_eq!(named(&finished), [expected], "{name}={value}\n{finished}");
    }
}

#[tokio::test]
async fn secrets_come_from_files_and_blank_variables_count_as_not_set() {
    let stage = Stage::new().await;
    stage.add(newcomer("ann")).await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, value: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("{value}\n")).unwrap();
        path
    };
    let finished = Binary::new(VERIFIER)
        .env("DATABASE_URL_FILE", file("database", stage.db.url()))
        .env("DATABASE_URL", "")
        .env("REDIS_URL_FILE", file("redis", stage.db.redis_url()))
        .env("ENCRYPTION_KEY_FILE", file("key", ENCRYPTION_KEY))
        .env("PUSHGATEWAY_URL", "  ")
        .env("BATCH_SIZE", "")
        .env("RUN_TRIGGER", "")
        .env("ESI_CONTACT", "")
        .env("EVE_CLIENT_ID", "")
        .env("ESI_BASE_URL", stage.sim.url())
        .run()
        .await
        .expect_code(0);
    assert_eq!((ended(&finished), &outcome(&finished)["scanned"]), ("done", &1.into()));
}

#[tokio::test]
async fn a_secret_file_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "\n").unwrap();
    let finished = Binary::new(VERIFIER)
        .env("DATABASE_URL_FILE", "/no/such/file")
        .env("REDIS_URL_FILE", &empty)
        .env("ENCRYPTION_KEY_FILE", folder.path())
        .run()
        .await
        .expect_code(78);
    assert_eq!(named(&finished), ["DATABASE_URL_FILE", "ENCRYPTION_KEY_FILE", "REDIS_URL_FILE"], "{finished}");
}

#[tokio::test]
async fn a_flag_wins_over_the_environment() {
    let stage = Stage::new().await;
    let finished = stage.verifier().env("BATCH_SIZE", "10").arg("--batch-size=7").run().await.expect_code(0);
    let start = finished.log.iter().find(|line| message(line) == Some("started")).unwrap();
    let configuration = field(start, "configuration").unwrap().to_string();
    assert!(configuration.contains("batch_size: 7,"), "{configuration}");
}

#[tokio::test]
async fn yes_and_no_are_understood_in_their_usual_spellings() {
    let stage = Stage::new().await;
    for (text, dry) in [("true", true), ("1", true), ("Yes", true), ("false", false), ("0", false), ("no", false)] {
        let finished = stage.verifier().env("DRY_RUN", text).run().await.expect_code(0);
        assert_eq!(outcome(&finished)["dry_run"], dry, "DRY_RUN={text}\n{finished}");
    }
    let finished = stage.verifier().arg("--dry-run").run().await.expect_code(0);
    assert_eq!(outcome(&finished)["dry_run"], true, "--dry-run\n{finished}");
}
