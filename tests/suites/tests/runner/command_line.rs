//! J1, J7: the command line.

use std::path::PathBuf;

use harness::{Binary, Finished};

use crate::support::VERIFIER;

const MIGRATE: &str = "migrate";
const DRAIN: &str = "outbox-drain";

/// Compares with `golden/<name>.txt`; with UPDATE_GOLDEN=1 writes it.
fn golden(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/runner/golden").join(format!("{name}.txt"));
    if std::env::var("UPDATE_GOLDEN").is_ok_and(|value| value == "1") {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == expected, "{} differs; if that is meant, run with UPDATE_GOLDEN=1. Now:\n{text}", path.display());
}

async fn run(name: &str, arguments: &[&str]) -> Finished {
    arguments.iter().fold(Binary::new(name), |binary, argument| binary.arg(*argument)).run().await
}

#[tokio::test]
async fn help_is_as_agreed() {
    for name in [VERIFIER, MIGRATE, DRAIN] {
        let finished = run(name, &["--help"]).await.expect_code(0);
        assert_eq!(finished.stderr, "");
        golden(name, &finished.stdout);
    }
}

#[tokio::test]
async fn version_tells_name_and_number() {
    for name in [VERIFIER, MIGRATE, DRAIN] {
        let finished = run(name, &["--version"]).await.expect_code(0);
        // The revision in brackets, where the build knew it, is left out.
        let text = finished.stdout.split(" (").next().unwrap().trim_end();
        golden(&format!("{name}-version"), &format!("{text}\n"));
    }
}

#[tokio::test]
async fn every_flag_of_every_subcommand_has_a_variable() {
    let all: [(&str, &[&str]); 3] = [
        (VERIFIER, &["run", "check", "status", "explain"]),
        (MIGRATE, &["run", "check", "status"]),
        (DRAIN, &["run", "check", "status", "worker", "health", "reconcile"]),
    ];
    for (name, subcommands) in all {
        for subcommand in subcommands {
            let help = run(name, &[subcommand, "--help"]).await.expect_code(0).stdout;
            let flags = flags(&help);
            assert!(flags.len() >= 4, "{name} {subcommand}: {help}");
            for (flag, text) in flags {
                let variable = flag.to_uppercase().replace('-', "_");
                let expected = match flag.as_str() {
                    "limit" => "STATUS_LIMIT".to_owned(),
                    "wait" => "MIGRATE_WAIT".to_owned(),
                    "character" => "EXPLAIN_CHARACTER".to_owned(),
                    "max-age" => "HEALTH_MAX_AGE".to_owned(),
                    _ => variable,
                };
                assert!(text.contains(&format!("[env: {expected}]")), "{name} {subcommand} --{flag}: {text}");
            }
        }
    }
}

/// Flags of a `--help`, each with all its lines; without `--help` and `--version`.
fn flags(help: &str) -> Vec<(String, String)> {
    let mut flags: Vec<(String, String)> = Vec::new();
    for line in help.lines() {
        let start = line.trim_start();
        if line.len() - start.len() <= 6
            && (start.starts_with("--") || start.starts_with("-h, ") || start.starts_with("-V, "))
        {
            let name = start.split("--").nth(1).unwrap().split([' ', '[', '=']).next().unwrap();
            flags.push((name.to_owned(), String::new()));
        }
        if let Some((_, text)) = flags.last_mut() {
            text.push_str(line);
            text.push('\n');
        }
    }
    flags.retain(|(name, _)| name != "help" && name != "version");
    flags
}

#[tokio::test]
async fn help_is_shown_whatever_the_environment_holds_and_shows_no_value_of_it() {
    let finished =
        Binary::new(VERIFIER).arg("--help").env("BATCH_SIZE", "many").env("ESI_CONTACT", "me@here").run().await;
    let finished = finished.expect_code(0);
    assert!(finished.stdout.contains("[env: BATCH_SIZE]"), "{finished}");
    assert!(!finished.stdout.contains("me@here"), "{finished}");
}

#[tokio::test]
async fn a_wrong_command_line_is_64_with_the_reason_and_no_run() {
    let wrong: [(&str, &[&str]); 12] = [
        (VERIFIER, &["--no-such-flag"]),
        (VERIFIER, &["no-such-command"]),
        (VERIFIER, &["--batch-size=1001"]),
        (VERIFIER, &["--batch-size", "many"]),
        (VERIFIER, &["--dry-run=maybe"]),
        (VERIFIER, &["--gate=all"]),
        (VERIFIER, &["run", "twice"]),
        (VERIFIER, &["explain"]),
        (VERIFIER, &["status", "--limit=0"]),
        (VERIFIER, &["--database-url=postgres://x"]),
        (MIGRATE, &["--no-such-flag"]),
        (MIGRATE, &["check", "--wait=soon"]),
    ];
    for (name, arguments) in wrong {
        let finished = run(name, arguments).await.expect_code(64);
        assert!(finished.stderr.contains("error: "), "{name} {arguments:?}:\n{finished}");
        assert_eq!((finished.stdout.as_str(), finished.log.len()), ("", 0), "{name} {arguments:?}");
    }
}

#[tokio::test]
async fn a_wrong_command_line_is_64_also_beside_a_wrong_environment() {
    let finished = Binary::new(VERIFIER).arg("--no-such-flag").env("BATCH_SIZE", "many").run().await.expect_code(64);
    assert!(finished.stderr.contains("--no-such-flag"), "{finished}");
}
