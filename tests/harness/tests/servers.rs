//! The servers, the databases on them, and the processes.

use std::{path::Path, process::Stdio, time::Duration};

use harness::{Binary, Durability, Postgres, Prometheus, Pushgateway, Redis, Servers, TestDb, servers, wait_until};
use sqlx::{Connection, PgConnection};

const LIMIT: Duration = Duration::from_secs(30);

async fn count(db: &TestDb, url: &str) -> i64 {
    let _ = db;
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar("-- tests::count\nSELECT count(*) FROM brands").persistent(false).fetch_one(&mut connection).await.unwrap()
}

#[tokio::test]
async fn databases_of_two_tests_do_not_see_each_other() {
    let (one, two) = futures::join!(TestDb::new(), TestDb::new());
    sqlx::query("-- tests::insert\nINSERT INTO brands (id, slug) VALUES (gen_random_uuid(), 'one')").execute(one.pool()).await.unwrap();
    let () = redis::cmd("SET").arg("a").arg(1).query_async(&mut one.redis()).await.unwrap();
    assert_eq!(count(&one, one.url()).await, 1);
    assert_eq!(count(&one, one.pooled_url()).await, 1);
    assert_eq!(count(&two, two.pooled_url()).await, 0);
    let keys: u64 = redis::cmd("DBSIZE").query_async(&mut two.redis()).await.unwrap();
    assert_eq!(keys, 0);
}
