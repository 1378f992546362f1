//! The command line, and what is said about wrong settings.

use harness::{Binary, Pushgateway, TestDb};

use crate::probe::{bare, ledger, message, probe};

#[tokio::test]
async fn all_problems_are_told_at_once_and_no_secret_with_them() {
    let gateway = Pushgateway::start();
    let finished = bare()
        .env("DATABASE_URL", "mysql://user:hunter2@host/db")
        .env("PROBE_KEY", "abc")
        .env("PUSHGATEWAY_URL", gateway.url())
        .env("MAX_RUNTIME", "soon")
        .env("RUN_TRIGGER", "whim")
        .env("SHARD_COUNT", "3")
        .run()
        .await
        .expect_code(78);
    let wrong = ["DATABASE_URL", "REDIS_URL", "PROBE_KEY", "MAX_RUNTIME", "RUN_TRIGGER", "JOB_COMPLETION_INDEX"];
    let list = finished.log.iter().find(|line| message(line) == "configuration").unwrap();
    let list: Vec<String> = serde_json::from_str(list["problems"].as_str().unwrap()).unwrap();
    assert_eq!(list.len(), wrong.len(), "{list:?}");
    for name in wrong {
        assert!(list.iter().any(|line| line.starts_with(&format!("{name}: "))), "{name}: {list:?}");
        assert!(
            finished.log.iter().any(|line| message(line).starts_with(&format!("configuration: {name}: "))),
            "{name}"
        );
    }
    assert!(!finished.stderr.contains("hunter2") && !finished.stderr.contains("abc\""), "{finished}");
    assert_eq!((message(finished.last()), finished.last()["outcome"].as_str()), ("finished", Some("failed")));
    assert_eq!(gateway.value("rollcall_job_last_exit_code", &[("job", "probe")]), Some(78.0));
    assert_eq!(gateway.value("rollcall_job_in_progress", &[("job", "probe")]), None);
}

#[tokio::test]
async fn a_dry_run_must_be_meant_one_way_or_the_other() {
    let db = TestDb::new().await;
    for (value, dry) in [("true", true), ("1", true), ("yes", true), ("false", false), ("0", false), ("no", false)] {
        let finished = probe(&db).env("DRY_RUN", value).run().await.expect_code(0);
        assert_eq!(finished.last()["dry_run"], dry, "{value}");
    }
    let finished = probe(&db).env("DRY_RUN", "perhaps").run().await.expect_code(78);
    assert!(finished.stderr.contains("DRY_RUN: "), "{finished}");
    assert_eq!(ledger(&db).await.len(), 6);
}

#[tokio::test]
async fn a_wrong_command_line_is_64_and_help_and_version_are_0() {
    for wrong in [&["--nonsense"][..], &["--batch-size=many"], &["destroy"], &["status", "--limit=0"]] {
        let probe = wrong.iter().fold(bare(), Binary::arg);
        let finished = probe.run().await.expect_code(64);
        assert_eq!(finished.stdout, "");
    }
    let help = bare().arg("--help").run().await.expect_code(0).stdout;
    for needed in ["Counts to a number", "check", "status", "--dry-run", "DRY_RUN", "--items", "PROBE_KEY", "NAME_FILE"]
    {
        assert!(help.contains(needed), "{needed}: {help}");
    }
    assert!(bare().arg("--version").run().await.expect_code(0).stdout.starts_with("probe 0.1.0"));
}

#[tokio::test]
async fn options_may_stand_before_and_after_the_subcommand() {
    let db = TestDb::new().await;
    for arguments in [["--items=3", "run"], ["run", "--items=3"]] {
        let finished = arguments.iter().fold(probe(&db), Binary::arg).run().await;
        assert_eq!(finished.expect_code(0).last()["scanned"], 3, "{arguments:?}");
    }
}

#[tokio::test]
async fn a_wrong_password_of_redis_is_configuration_and_a_missing_server_is_not() {
    let db = TestDb::new().await;
    let finished = probe(&db).env("REDIS_URL", "redis://127.0.0.1:1").run().await.expect_code(75);
    assert!(finished.last()["error"].as_str().unwrap().starts_with("Redis is not available"), "{finished}");
    let with_password = db.redis_url().replace("redis://", "redis://:hunter2@");
    let finished = probe(&db).env("REDIS_URL", with_password).run().await.expect_code(78);
    assert!(!finished.stderr.contains("hunter2"), "{finished}");
    assert_eq!(ledger(&db).await, []);
}
