//! The data everybody is measured on: built once, copied for every run, so that all of them meet the same files.

use harness::{ALLIANCE, Community, Crowd, Durability, Member, Pushgateway, Servers, SessionSpec, TestDb, newcomer};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::OnceCell;

use crate::load::Load;

/// How long ago everybody was verified; the threshold is 55 minutes.
const VERIFIED_MINUTES_AGO: i64 = 120;
const RUN_DATABASE: &str = "bench_run";

/// Servers with a crowd that is due, as an earlier sweep left it.
pub(crate) struct Ground {
    servers: Servers,
    base: TestDb,
    community: Community,
    crowd: Crowd,
    pushgateway: OnceCell<Pushgateway>,
}

impl Ground {
    /// Builds so many due characters with an account each, on durable servers.
    pub(crate) async fn build(characters: usize) -> Self {
        let servers = Servers::start(Durability::On);
        // It would strike in one run and not in the other; every copy starts vacuumed.
        execute(&servers.postgres.url("postgres"), "ALTER SYSTEM SET autovacuum = off").await;
        execute(&servers.postgres.url("postgres"), "SELECT pg_reload_conf()").await;
        let base = TestDb::on(&servers).await;
        let community = Community::new(&base).await;
        let describe =
            |place| newcomer(format!("Pilot {place}")).alliance(ALLIANCE).verified_minutes_ago(VERIFIED_MINUTES_AGO);
        let crowd = community.crowd(characters, describe).await;
        let ground = Self { servers, base, community, crowd, pushgateway: OnceCell::new() };
        ground.age().await;
        ground
    }

    /// Every row was written by a sweep before, a batch of a thousand at a time, and vacuumed since: tables and indexes
    /// have the free space that an hourly sweep leaves.
    async fn age(&self) {
        let url = self.base.url();
        execute(
            url,
            "UPDATE eve_characters
             SET last_verified_at = now() - interval '2 hours' + (row.n / 1000) * interval '20 milliseconds'
             FROM (SELECT eve_id, row_number() OVER (ORDER BY eve_id) AS n FROM eve_characters) AS row
             WHERE row.eve_id = eve_characters.eve_id",
        )
        .await;
        execute(url, "VACUUM (ANALYZE)").await;
        // A database that is copied must have no connection.
        self.base.pool().close().await;
    }

    /// How many characters there are.
    pub(crate) fn crowd(&self) -> Crowd {
        self.crowd
    }

    /// What the measurements stand on, in a line.
    pub(crate) async fn describe(&self) -> String {
        let mut connection = connect(&self.servers.postgres.url("postgres")).await;
        let version: String = sqlx::query_scalar("-- bench::describe\nSHOW server_version")
            .fetch_one(&mut connection)
            .await
            .expect("PostgreSQL answers");
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let version = version.split(' ').next().unwrap_or_default();
        format!("{} due characters | PostgreSQL {version}, fsync on | {cores} cores", self.crowd.len())
    }

    /// A copy of the data, the same files each time, with the sessions this load ends. Replaces the one before.
    pub(crate) async fn fresh(&self, load: Load) -> Run {
        let admin = self.servers.postgres.url("postgres");
        execute(&admin, &format!("DROP DATABASE IF EXISTS {RUN_DATABASE} WITH (FORCE)")).await;
        let base = self.base.url().rsplit('/').next().expect("a URL has a path");
        execute(&admin, &format!("CREATE DATABASE {RUN_DATABASE} TEMPLATE {base} STRATEGY file_copy")).await;
        execute(&admin, "CHECKPOINT").await;
        let () = redis::cmd("FLUSHDB").query_async(&mut self.base.redis()).await.expect("Redis answers");
        for place in load.places_of_leavers(self.crowd.len()) {
            self.community.open_session(&self.member(place), SessionSpec::default()).await;
        }
        self.run()
    }

    /// The copy as the last run left it.
    pub(crate) fn run(&self) -> Run {
        Run { database: self.servers.postgres.url(RUN_DATABASE), redis: self.base.redis_url().to_owned() }
    }

    /// Where metrics are pushed to.
    pub(crate) async fn pushgateway(&self) -> String {
        self.pushgateway.get_or_init(async || Pushgateway::start()).await.url()
    }

    /// Keys that name a session, left in Redis.
    pub(crate) async fn sessions_left(&self) -> usize {
        let keys: Vec<String> =
            redis::cmd("KEYS").arg("sess:*").query_async(&mut self.base.redis()).await.expect("Redis answers");
        keys.iter().filter(|key| key.rsplit(':').next().is_some_and(|name| name.len() == 64)).count()
    }

    fn member(&self, place: usize) -> Member {
        Member {
            name: String::new(),
            brand_id: self.community.brand_id(),
            account_id: self.crowd.account_id(place),
            character_id: self.crowd.character_id(place),
            eve_id: self.crowd.eve_id(place),
            session_tokens: Vec::new(),
        }
    }
}

/// Where a run works.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// URL of its database.
    pub(crate) database: String,
    /// URL of its Redis.
    pub(crate) redis: String,
}

impl Run {
    /// A single number from the database.
    pub(crate) async fn count(&self, sql: &str) -> i64 {
        let mut connection = connect(&self.database).await;
        let sql = AssertSqlSafe(format!("-- bench::count\n{sql}"));
        sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect("a number can be read")
    }

    /// What autovacuum does after a sweep.
    pub(crate) async fn vacuum(&self) {
        execute(&self.database, "VACUUM (ANALYZE)").await;
        execute(&self.database, "CHECKPOINT").await;
    }
}

/// A connection of its own.
pub(crate) async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("PostgreSQL answers")
}

async fn execute(url: &str, sql: &str) {
    let mut connection = connect(url).await;
    let named = AssertSqlSafe(format!("-- bench::execute\n{sql}"));
    sqlx::query(named).execute(&mut connection).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    connection.close().await.expect("the connection ends");
}
