//! A database of its own for every test.

use std::{path::Path, sync::atomic::Ordering, time::Duration};

use redis::{AsyncConnectionConfig, aio::MultiplexedConnection};
use sqlx::{
    AssertSqlSafe, Connection, PgConnection, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::servers::{Servers, redis::DATABASES, servers};

const MIGRATIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations");
const TEMPLATE: &str = "rollcall_template";
/// Longer than any bulk step of a builder.
const PATIENCE: Duration = Duration::from_mins(1);
const DROP_PATIENCE: Duration = Duration::from_secs(5);

/// A migrated database and an empty Redis index that nobody else uses. The database is dropped with it.
#[derive(Debug)]
pub struct TestDb {
    url: String,
    pooled_url: String,
    redis_url: String,
    pool: PgPool,
    redis: MultiplexedConnection,
    _drop: DropDatabase,
}

impl TestDb {
    /// One on the servers that this process shares.
    pub async fn new() -> Self {
        Self::on(servers()).await
    }

    /// One on these servers.
    pub async fn on(servers: &Servers) -> Self {
        servers.template.get_or_init(|| make_template(servers)).await;
        let number = servers.next.fetch_add(1, Ordering::Relaxed);
        assert!(number < DATABASES, "Redis has {DATABASES} databases, and each test takes one");
        let name = format!("test_{number}");
        let admin_url = servers.postgres.url("postgres");
        execute(&admin_url, &format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE}")).await;

        let url = servers.postgres.url(&name);
        let options: PgConnectOptions = url.parse().expect("our own address is one");
        let pool = PgPoolOptions::new().max_connections(5).acquire_timeout(PATIENCE).connect_lazy_with(options);
        let redis_url = servers.redis.url(number);
        let mut redis = connect_redis(&redis_url).await;
        let () = redis::cmd("FLUSHDB").query_async(&mut redis).await.expect("Redis answers");
        Self {
            pooled_url: servers.pgbouncer.url(&name),
            _drop: DropDatabase { admin_url, name },
            url,
            redis_url,
            pool,
            redis,
        }
    }

    /// The same database with another Redis: one that the test stops, the same once it is back, or another after a
    /// failover. It is not emptied.
    pub async fn with_redis(self, url: &str) -> Self {
        Self { redis: connect_redis(url).await, redis_url: url.to_owned(), ..self }
    }

    /// Where PostgreSQL is reached directly.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where the same database is reached through PgBouncer.
    pub fn pooled_url(&self) -> &str {
        &self.pooled_url
    }

    /// Where the Redis index is reached.
    pub fn redis_url(&self) -> &str {
        &self.redis_url
    }

    /// Connections for the test itself.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// A connection for the test itself.
    pub fn redis(&self) -> MultiplexedConnection {
        self.redis.clone()
    }
}

async fn make_template(servers: &Servers) {
    execute(&servers.postgres.url("postgres"), &format!("CREATE DATABASE {TEMPLATE}")).await;
    let migrator = Migrator::new(Path::new(MIGRATIONS)).await.expect("the migrations are readable");
    let url = servers.postgres.url(TEMPLATE);
    let mut connection = PgConnection::connect(&url).await.expect("PostgreSQL answers");
    migrator.run_direct(None, &mut connection, false).await.expect("the migrations apply to an empty database");
    connection.close().await.expect("the connection ends");
    // Nothing else, an autovacuum worker included, may stand in the way of copying it.
    let sql = format!("ALTER DATABASE {TEMPLATE} ALLOW_CONNECTIONS false");
    execute(&servers.postgres.url("postgres"), &sql).await;
}

async fn execute(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.expect("PostgreSQL answers");
    sqlx::query(AssertSqlSafe(format!("-- harness::database::execute\n{sql}")))
        .execute(&mut connection)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    connection.close().await.expect("the connection ends");
}

async fn connect_redis(url: &str) -> MultiplexedConnection {
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
    redis::Client::open(url)
        .expect("our own address is one")
        .get_multiplexed_async_connection_with_config(&config)
        .await
        .expect("Redis answers")
}

/// Drops the database when the test is over; should that fail, it goes with the server.
#[derive(Debug)]
struct DropDatabase {
    admin_url: String,
    name: String,
}

impl Drop for DropDatabase {
    fn drop(&mut self) {
        let sql = format!("-- harness::database::drop\nDROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let work = async {
            let mut connection = PgConnection::connect(&self.admin_url).await?;
            sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await
        };
        // A thread of its own: the test's runtime is busy running this very destructor.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.map(|runtime| runtime.block_on(async { tokio::time::timeout(DROP_PATIENCE, work).await }))
            });
        });
    }
}
