//! A database and a Redis index for every test.

use std::{collections::HashSet, time::Duration};

use harness::{TestDb, servers, wait_until};
use sqlx::{Connection, PgConnection};

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("PostgreSQL answers")
}

async fn number(url: &str, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).persistent(false).fetch_one(&mut connect(url).await).await.expect("a number")
}

#[tokio::test]
async fn tests_do_not_see_each_others_data() {
    let (one, two) = futures::join!(TestDb::new(), TestDb::new());
    sqlx::query("-- tests\nINSERT INTO brands (id, slug) VALUES (gen_random_uuid(), 'one')")
        .execute(one.pool())
        .await
        .unwrap();
    let () = redis::cmd("SET").arg("a").arg(1).query_async(&mut one.redis()).await.unwrap();

    let brands = "-- tests\nSELECT count(*) FROM brands";
    assert_eq!(number(one.url(), brands).await, 1);
    assert_eq!(number(one.pooled_url(), brands).await, 1);
    assert_eq!(number(two.url(), brands).await, 0);
    let keys: u64 = redis::cmd("DBSIZE").query_async(&mut two.redis()).await.unwrap();
    assert_eq!(keys, 0);
}

#[tokio::test]
async fn the_schema_is_migrated() {
    let db = TestDb::new().await;
    assert!(number(db.url(), "-- tests\nSELECT count(*) FROM _sqlx_migrations WHERE success").await >= 3);
}

#[tokio::test]
async fn many_tests_can_start_at_once() {
    let all = futures::future::join_all((0..12).map(|_| TestDb::new())).await;
    let urls: HashSet<_> = all.iter().map(|db| (db.url(), db.redis_url())).collect();
    assert_eq!(urls.len(), all.len());
}

#[tokio::test]
async fn a_database_is_dropped_with_its_test_even_while_others_are_connected() {
    let db = TestDb::new().await;
    let name: String = sqlx::query_scalar("-- tests\nSELECT current_database()").fetch_one(db.pool()).await.unwrap();
    let _connected = connect(db.url()).await;
    let _pooled = number(db.pooled_url(), "-- tests\nSELECT 1::bigint").await;
    drop(db);
    wait_until(Duration::from_secs(10), "the database is gone", async || {
        sqlx::query_scalar::<_, i64>("-- tests\nSELECT count(*) FROM pg_database WHERE datname = $1")
            .bind(&name)
            .fetch_one(&mut connect(&servers().postgres.url("postgres")).await)
            .await
            .is_ok_and(|count| count == 0)
    })
    .await;
}

#[tokio::test]
async fn pooled_clients_share_server_connections() {
    let db = TestDb::new().await;
    let mut clients = futures::future::join_all((0..12).map(|_| connect(db.pooled_url()))).await;
    let mut backends = HashSet::new();
    for _ in 0..3 {
        let transactions = clients.iter_mut().map(|client| async move {
            let mut tx = client.begin().await.unwrap();
            let sql = "-- tests\nSELECT pg_backend_pid() FROM pg_sleep(0.01)";
            let backend: i32 = sqlx::query_scalar(sql).persistent(false).fetch_one(&mut *tx).await.unwrap();
            tx.commit().await.unwrap();
            backend
        });
        backends.extend(futures::future::join_all(transactions).await);
    }
    assert!((2..=5).contains(&backends.len()), "{} server connections", backends.len());
}
