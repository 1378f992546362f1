//! J1: a schema that does not fit the binary.

use harness::{Binary, servers};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use suites::{Stage, outcome};

use crate::support::{ended, execute};

const NEWEST: &str = "(SELECT max(version) FROM _sqlx_migrations)";

/// An empty database on the shared server.
pub(crate) async fn empty_database(name: &str) -> String {
    let mut admin = PgConnection::connect(&servers().postgres.url("postgres")).await.unwrap();
    let sql = format!("-- runner\nCREATE DATABASE {name}");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
    servers().postgres.url(name)
}

#[tokio::test]
async fn an_empty_database_is_75_and_says_run_migrate() {
    let stage = Stage::new().await;
    let url = empty_database("runner_empty").await;
    for command in ["run", "status"] {
        let finished = stage.verifier().arg(command).env("DATABASE_URL", &url).run().await.expect_code(75);
        assert!(finished.stderr.contains("run migrate"), "{command}\n{finished}");
    }
}

#[tokio::test]
async fn a_missing_migration_is_75_an_unknown_one_78_and_a_changed_one_65() {
    let stage = Stage::new().await;
    let tried = async |sql: String, code: i32, said: &str| {
        execute(&stage, &sql).await;
        let finished = stage.verify().await.expect_code(code);
        assert_eq!(ended(&finished), "failed");
        assert!(outcome(&finished)["error"].as_str().unwrap().contains(said), "{said}\n{finished}");
        let migrated = Binary::new("migrate").arg("check").env("DATABASE_URL", stage.db.url()).run().await;
        let migrated = migrated.expect_code(code);
        assert!(migrated.stderr.contains(said), "{said}\n{migrated}");
    };
    execute(&stage, "CREATE TABLE kept AS SELECT * FROM _sqlx_migrations").await;
    tried(format!("DELETE FROM _sqlx_migrations WHERE version = {NEWEST}"), 75, "run migrate").await;
    execute(
        &stage,
        "INSERT INTO _sqlx_migrations SELECT * FROM kept WHERE version NOT IN (SELECT version FROM _sqlx_migrations)",
    )
    .await;
    tried(
        format!(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             SELECT version + 1000000, 'of tomorrow', true, checksum, 0 FROM _sqlx_migrations WHERE version = {NEWEST}"
        ),
        78,
        "ahead of this version",
    )
    .await;
    execute(&stage, "DELETE FROM _sqlx_migrations WHERE description = 'of tomorrow'").await;
    tried(
        "UPDATE _sqlx_migrations SET checksum = '\\x00' WHERE version = (SELECT min(version) FROM _sqlx_migrations)"
            .to_owned(),
        65,
        "differs from the one that was applied",
    )
    .await;
    assert!(stage.community.runs().await.is_empty(), "none of them began a run");
}
