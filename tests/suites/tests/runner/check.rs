//! J3: `check` reaches every dependency, a line each.

use harness::{Binary, Fault, FaultProxy, Finished, newcomer};
use suites::Stage;

use crate::support::{execute, json};

const ALL: [&str; 9] = [
    "configuration",
    "database",
    "schema",
    "redis",
    "pushgateway",
    "auth_config",
    "encryption_key",
    "esi",
    "esi_contact",
];

fn check(stage: &Stage) -> Binary {
    stage.verifier().arg("check").env("OUTPUT", "json")
}

/// Names of the lines that are not ok.
fn failed(finished: &Finished) -> Vec<String> {
    let lines = json(finished);
    let lines = lines.as_array().unwrap();
    for name in ALL {
        assert!(lines.iter().any(|line| line["name"] == name), "no line {name}:\n{finished}");
    }
    lines.iter().filter(|line| line["ok"] == false).map(|line| line["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn everything_reached_is_0_a_line_each_and_changes_nothing() {
    let stage = Stage::with_pushgateway().await;
    stage.add(newcomer("ann").token("t").session()).await;
    let before = stage.community.exact_fingerprint().await;
    let finished = check(&stage).run().await.expect_code(0);
    assert_eq!(failed(&finished), Vec::<String>::new());
    let text = stage.verifier().arg("check").run().await.expect_code(0).stdout;
    assert!(text.lines().count() >= ALL.len() && text.lines().all(|line| line.starts_with("ok ")), "{text}");
    let after = stage.community.exact_fingerprint().await;
    assert_eq!(before.tables, after.tables);
    assert_eq!(session_keys(&before), session_keys(&after));
    assert!(stage.community.runs().await.is_empty());
    assert!(stage.pushgateway.as_ref().unwrap().metrics().iter().all(|one| !one.name.starts_with("rollcall_")));
}

fn session_keys(fingerprint: &harness::Fingerprint) -> Vec<(&String, &String)> {
    fingerprint.redis.iter().filter(|(key, _)| !key.starts_with("esi:")).collect()
}

#[tokio::test]
async fn a_dependency_that_is_away_fails_its_line_and_the_others_are_still_looked_at() {
    let stage = Stage::with_pushgateway().await;
    // ESI first: an answer of the last 30 s would do.
    let cases: [(&str, &str, &[&str]); 4] = [
        ("ESI_BASE_URL", "http://127.0.0.1:1", &["esi"]),
        ("DATABASE_URL", "postgres://postgres@127.0.0.1:1/none", &["database", "schema", "auth_config"]),
        ("REDIS_URL", "redis://127.0.0.1:1/0", &["redis"]),
        ("PUSHGATEWAY_URL", "http://127.0.0.1:1", &["pushgateway"]),
    ];
    for (name, value, expected) in cases {
        let finished = check(&stage).env(name, value).run().await.expect_code(75);
        let found: Vec<String> = lines_failed(&finished);
        assert!(expected.iter().all(|line| found.iter().any(|f| f == line)), "{name}: {found:?}\n{finished}");
        let others = ["redis", "pushgateway", "esi"].iter().filter(|line| !expected.contains(line));
        for other in others {
            assert!(!found.iter().any(|f| f == other), "{name}: {other} is reached\n{finished}");
        }
    }
    // Without Redis an answer cannot be handed on.
    stage.forgive();
}

fn lines_failed(finished: &Finished) -> Vec<String> {
    let lines = json(finished);
    let lines = lines.as_array().unwrap().clone();
    lines.iter().filter(|line| line["ok"] == false).map(|line| line["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_dependency_that_hangs_fails_its_line_in_bounded_time() {
    let stage = Stage::with_pushgateway().await;
    let hangs = |target: &str| {
        let proxy = FaultProxy::start(target);
        proxy.set(Fault::Hang);
        proxy
    };
    let database = hangs(stage.db.url());
    let redis = hangs(stage.db.redis_url());
    let gateway = hangs(&stage.pushgateway.as_ref().unwrap().url());
    let esi = hangs(&stage.sim.url());
    let (a, b, c, d) = (
        check(&stage).env("DATABASE_URL", database.url()).start(),
        check(&stage).env("REDIS_URL", redis.url()).start(),
        check(&stage).env("PUSHGATEWAY_URL", gateway.url()).start(),
        check(&stage).env("ESI_BASE_URL", esi.url()).start(),
    );
    for (running, line) in [(a, "database"), (b, "redis"), (c, "pushgateway"), (d, "esi")] {
        let finished = running.wait(std::time::Duration::from_secs(50)).await.expect_code(75);
        assert!(lines_failed(&finished).iter().any(|found| found == line), "{line}\n{finished}");
    }
    // Four at once, and two of them could not tell the others what they learnt.
    stage.forgive();
}

#[tokio::test]
async fn problems_of_the_configuration_fail_the_first_line_with_78() {
    let stage = Stage::new().await;
    let finished = check(&stage).env("GATE", "all").env("REDIS_URL", "").run().await.expect_code(78);
    let found = lines_failed(&finished);
    assert!(found.contains(&"configuration".to_owned()) && found.contains(&"redis".to_owned()), "{finished}");
    assert!(finished.stdout.contains("GATE") && finished.stdout.contains("REDIS_URL"), "{finished}");
    assert!(!found.contains(&"database".to_owned()), "{finished}");
}

#[tokio::test]
async fn a_schema_that_does_not_fit_fails_its_line_with_the_code_of_a_run() {
    let stage = Stage::new().await;
    execute(&stage, "UPDATE _sqlx_migrations SET version = version + 1000000 WHERE version = (SELECT max(version) FROM _sqlx_migrations)").await;
    let ahead = check(&stage).run().await.expect_code(78);
    assert!(lines_failed(&ahead).contains(&"schema".to_owned()), "{ahead}");
    execute(&stage, "DELETE FROM _sqlx_migrations WHERE version = (SELECT max(version) FROM _sqlx_migrations)").await;
    let behind = check(&stage).run().await.expect_code(75);
    assert!(lines_failed(&behind).contains(&"schema".to_owned()), "{behind}");
    assert!(behind.stdout.contains("run migrate"), "{behind}");
}

#[tokio::test]
async fn a_key_that_opens_no_stored_token_and_a_missing_contact_are_told() {
    let stage = Stage::new().await;
    for place in 0..10 {
        stage.add(newcomer(format!("pilot{place}")).token(format!("refresh{place}"))).await;
    }
    let wrong = "ff".repeat(32);
    let finished = check(&stage).env("ENCRYPTION_KEY", wrong.as_str()).run().await.expect_code(78);
    assert_eq!(failed(&finished), ["encryption_key"]);
    let finished = check(&stage).env("ESI_CONTACT", "").run().await.expect_code(0);
    assert!(finished.stdout.contains("ESI_CONTACT is not set"), "{finished}");
}
