//! J1: `migrate`.

use std::time::{Duration, Instant};

use harness::{Binary, Fault, FaultProxy, servers};
use nix::sys::signal::Signal;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use suites::{Stage, outcome};

use crate::{
    schema::empty_database,
    support::{LIMIT, end, ended, execute, json, told},
};

fn migrate(url: &str) -> Binary {
    Binary::new("migrate").env("DATABASE_URL", url).env("LOG_FORMAT", "json")
}

async fn count(url: &str, sql: &str) -> i64 {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let sql = AssertSqlSafe(format!("-- runner\n{sql}"));
    sqlx::query_scalar(sql).persistent(false).fetch_one(&mut connection).await.unwrap()
}

const APPLIED: &str = "SELECT count(*) FROM _sqlx_migrations WHERE success";

#[tokio::test]
async fn an_empty_database_gets_the_schema_and_applying_again_is_nothing_to_do() {
    let url = empty_database("migrate_once").await;
    let finished = migrate(&url).env("OUTPUT", "json").run().await.expect_code(0);
    assert_eq!((ended(&finished), &json(&finished)["outcome"]), ("done", &"done".into()));
    let applied = count(&url, APPLIED).await;
    assert!(applied >= 3);
    assert_eq!(told(&finished, "changed"), applied);
    let again = migrate(&url).run().await.expect_code(0);
    assert_eq!((ended(&again), told(&again, "changed")), ("nothing_to_do", 0));
    assert_eq!(count(&url, APPLIED).await, applied);
    // The schema is the one that tests and jobs meet.
    let stage = Stage::new().await;
    let tables = "SELECT count(*) FROM information_schema.columns WHERE table_schema = 'public'";
    assert_eq!(count(&url, tables).await, count(stage.db.url(), tables).await);
}

#[tokio::test]
async fn several_started_together_apply_it_once_also_through_a_pooler() {
    for (name, pooled) in [("migrate_many", false), ("migrate_pooled", true)] {
        let direct = empty_database(name).await;
        let url = if pooled { servers().pgbouncer.url(name) } else { direct.clone() };
        let running: Vec<_> = (0..4).map(|_| migrate(&url).start()).collect();
        let mut found = Vec::new();
        for one in running {
            found.push(ended(&end(one).await.expect_code(0)).to_owned());
        }
        found.sort_unstable();
        assert_eq!(found, ["done", "nothing_to_do", "nothing_to_do", "nothing_to_do"], "pooled {pooled}");
        migrate(&url).arg("check").run().await.expect_code(0);
        assert!(count(&direct, APPLIED).await >= 3);
    }
}

#[tokio::test]
async fn check_tells_whether_the_schema_fits_and_status_lists_it() {
    let url = empty_database("migrate_check").await;
    let behind = migrate(&url).arg("check").run().await.expect_code(75);
    assert!(behind.stderr.contains("run migrate"), "{behind}");
    let pending = json(&migrate(&url).arg("status").env("OUTPUT", "json").run().await.expect_code(0));
    let states = |list: &serde_json::Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|one| one["state"].as_str().unwrap().to_owned()).collect()
    };
    assert!(states(&pending).len() >= 3 && states(&pending).iter().all(|state| state == "pending"), "{pending}");
    assert_eq!(
        count(&url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").await,
        0,
        "looking changes nothing"
    );

    migrate(&url).run().await.expect_code(0);
    let fits = migrate(&url).arg("check").run().await.expect_code(0);
    assert!(fits.stdout.starts_with("up to date, version 20"), "{fits}");
    let applied = json(&migrate(&url).arg("status").env("OUTPUT", "json").run().await.expect_code(0));
    assert!(states(&applied).iter().all(|state| state == "applied"), "{applied}");
    let text = migrate(&url).arg("status").run().await.expect_code(0).stdout;
    assert!(text.starts_with("VERSION") && text.contains("applied"), "{text}");
}

#[tokio::test]
async fn check_waits_for_the_schema_and_for_the_database() {
    let url = empty_database("migrate_wait").await;
    let proxy = FaultProxy::start(&url);
    proxy.set(Fault::Refuse);
    let mut waiting = migrate(&proxy.url()).arg("check").arg("--wait=1m").start();
    let says = |text: &'static str| {
        move |line: &serde_json::Value| {
            line["message"].as_str().is_some_and(|m| m.starts_with("waiting: ") && m.contains(text))
        }
    };
    waiting.wait_for_log(LIMIT, says("not available")).await;
    proxy.set(Fault::Pass);
    waiting.wait_for_log(LIMIT, says("run migrate")).await;
    assert!(waiting.is_running());
    migrate(&url).run().await.expect_code(0);
    end(waiting).await.expect_code(0);

    let empty = empty_database("migrate_wait_in_vain").await;
    let finished = migrate(&empty).arg("check").env("MIGRATE_WAIT", "2s").run().await.expect_code(75);
    assert!(finished.duration < Duration::from_secs(8), "{finished}");
}

#[tokio::test]
async fn a_schema_that_is_ahead_or_changed_is_left_alone() {
    let stage = Stage::new().await;
    execute(
        &stage,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         SELECT max(version) + 1000000, 'of tomorrow', true, '\\x00', 0 FROM _sqlx_migrations",
    )
    .await;
    let ahead = migrate(stage.db.url()).run().await.expect_code(78);
    assert!(outcome(&ahead)["error"].as_str().unwrap().contains("ahead"), "{ahead}");
    execute(
        &stage,
        "UPDATE _sqlx_migrations SET checksum = '\\x00' WHERE version = (SELECT min(version) FROM _sqlx_migrations)",
    )
    .await;
    let changed = migrate(stage.db.url()).run().await.expect_code(65);
    assert!(outcome(&changed)["error"].as_str().unwrap().contains("differs"), "{changed}");
}

#[tokio::test]
async fn sigterm_while_it_waits_for_another_one_is_143_and_changes_nothing() {
    let url = empty_database("migrate_stopped").await;
    let mut other = PgConnection::connect(&url).await.unwrap();
    let mut tx = other.begin().await.unwrap();
    let lock = "-- runner\nSELECT pg_advisory_xact_lock(hashtext('_sqlx_migrations'))";
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut *tx).await.unwrap();
    for as_pid1 in [false, true] {
        let mut binary = migrate(&url);
        if as_pid1 {
            binary = binary.as_pid1();
        }
        let running = binary.start();
        // PostgreSQL notices only when it gets the lock that the one before has gone.
        let before = i64::from(as_pid1);
        let mut looker = PgConnection::connect(&url).await.unwrap();
        harness::wait_until(LIMIT, "it waits", async || {
            let sql = "-- runner\nSELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
            sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut looker).await.is_ok_and(|waiting| waiting == before + 1)
        })
        .await;
        let asked = Instant::now();
        running.signal(Signal::SIGTERM);
        let finished = end(running).await.expect_code(143);
        assert!(asked.elapsed() < Duration::from_secs(10));
        assert_eq!(ended(&finished), "stopped");
    }
    tx.rollback().await.unwrap();
    assert_eq!(count(&url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").await, 0);
    migrate(&url).run().await.expect_code(0);
}

#[tokio::test]
async fn waiting_for_another_one_ends_with_max_runtime() {
    let url = empty_database("migrate_bounded").await;
    let mut other = PgConnection::connect(&url).await.unwrap();
    let mut tx = other.begin().await.unwrap();
    let lock = "-- runner\nSELECT pg_advisory_xact_lock(hashtext('_sqlx_migrations'))";
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut *tx).await.unwrap();
    let finished = migrate(&url).env("MAX_RUNTIME", "2s").run().await.expect_code(75);
    assert!(finished.duration < Duration::from_secs(10), "{finished}");
    assert_eq!(ended(&finished), "failed");
}

#[tokio::test]
async fn a_database_that_is_away_or_a_wrong_configuration_is_told() {
    let away = migrate("postgres://postgres:s3cret@127.0.0.1:1/none").run().await.expect_code(75);
    assert!(!away.stderr.contains("s3cret"), "{away}");
    let wrong = migrate("mysql://u:s3cret@db").env("MAX_RUNTIME", "soon").run().await.expect_code(78);
    for name in ["DATABASE_URL", "MAX_RUNTIME"] {
        assert!(wrong.stderr.contains(&format!("{name}: ")), "{name}\n{wrong}");
    }
    assert!(!wrong.stderr.contains("s3cret"), "{wrong}");
}
