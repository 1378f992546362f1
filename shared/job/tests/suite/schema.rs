//! `store::schema`, and what a job makes of it.

use harness::TestDb;
use identity::codes::ExitCode;
use job::schema::judge;
use store::schema::{Fit, State, apply, versions};

use crate::probe::{execute, pooled, probe};

async fn fit(test: &TestDb) -> Fit {
    let versions = pooled(test).transaction("versions", async |tx| versions(tx).await).await.unwrap();
    Fit::of(&versions)
}

async fn wipe(test: &TestDb) {
    execute(test, "DROP SCHEMA public CASCADE").await;
    execute(test, "CREATE SCHEMA public").await;
}

#[tokio::test]
async fn a_schema_is_up_to_date_behind_ahead_or_changed() {
    let test = TestDb::new().await;
    assert!(matches!(fit(&test).await, Fit::UpToDate { .. }));
    execute(&test, "DELETE FROM _sqlx_migrations WHERE version = (SELECT max(version) FROM _sqlx_migrations)").await;
    assert_eq!(fit(&test).await, Fit::Behind { pending: 1 });
    execute(&test, "INSERT INTO _sqlx_migrations VALUES (99999999999999, 'next', now(), true, '', 0)").await;
    assert_eq!(fit(&test).await, Fit::Ahead { version: 99_999_999_999_999 });
    execute(
        &test,
        "UPDATE _sqlx_migrations SET checksum = 'x' WHERE version = (SELECT min(version) FROM _sqlx_migrations)",
    )
    .await;
    assert!(matches!(fit(&test).await, Fit::Changed { .. }));
}

#[tokio::test]
async fn an_empty_database_is_behind_and_is_brought_up_to_date_by_one_of_many() {
    let test = TestDb::new().await;
    wipe(&test).await;
    let db = pooled(&test);
    let before = db.transaction("versions", async |tx| versions(tx).await).await.unwrap();
    assert!(before.iter().all(|version| version.state == State::Pending) && !before.is_empty());
    assert_eq!(judge(Fit::of(&before)).unwrap_err().exit_code(), ExitCode::Temporary);

    let once = async || db.transaction("apply", async |tx| apply(tx).await).await.unwrap();
    let applied = futures::future::join_all((0..4).map(|_| once())).await;
    let mut counts: Vec<usize> = applied.iter().map(|applied| applied.versions.len()).collect();
    counts.sort_unstable();
    assert_eq!(counts, [0, 0, 0, before.len()]);
    assert!(matches!(fit(&test).await, Fit::UpToDate { .. }));
}

#[tokio::test]
async fn what_is_applied_stands_or_falls_together() {
    let test = TestDb::new().await;
    wipe(&test).await;
    let gone = pooled(&test)
        .transaction("apply and fail", async |tx| {
            apply(tx).await?;
            Err::<(), _>(sqlx::Error::RowNotFound)
        })
        .await;
    assert!(gone.is_err());
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        .fetch_one(test.pool())
        .await
        .unwrap();
    assert_eq!(tables, 0);
}

#[tokio::test]
async fn a_job_does_not_start_on_a_schema_that_does_not_fit() {
    let test = TestDb::new().await;
    execute(&test, "INSERT INTO _sqlx_migrations VALUES (99999999999999, 'next', now(), true, '', 0)").await;
    let finished = probe(&test).run().await.expect_code(78);
    assert!(finished.last()["error"].as_str().unwrap().contains("deploy the newer version"), "{finished}");
    wipe(&test).await;
    let finished = probe(&test).run().await.expect_code(75);
    assert!(finished.last()["error"].as_str().unwrap().contains("run migrate"), "{finished}");
}
