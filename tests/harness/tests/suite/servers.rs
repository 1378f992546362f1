//! Servers that stop and hang, and what Pushgateway and Prometheus tell.

use std::{
    io::{Read, Write},
    net::TcpStream,
    pin::pin,
    time::Duration,
};

use harness::{Durability, Postgres, Prometheus, Pushgateway, Redis, Servers, TestDb, wait_until};
use redis::aio::MultiplexedConnection;
use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use crate::{LIMIT, MOMENT};

async fn connect(server: &Redis) -> MultiplexedConnection {
    let client = redis::Client::open(server.url(0)).expect("an address");
    client.get_multiplexed_async_connection().await.expect("Redis answers")
}

fn push(gateway: &Pushgateway, body: &str) {
    let mut stream = TcpStream::connect(gateway.address()).expect("the Pushgateway listens");
    let length = body.len();
    write!(stream, "POST /metrics/job/a_job HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
}

#[tokio::test]
async fn a_frozen_postgresql_answers_nobody_until_it_is_thawed() {
    let postgres = Postgres::start(Durability::Off);
    let mut connection = PgConnection::connect(&postgres.url("postgres")).await.unwrap();
    postgres.freeze();
    {
        let mut query = pin!(sqlx::query_scalar::<_, i32>("-- tests\nSELECT 1").fetch_one(&mut connection));
        assert!(timeout(MOMENT, &mut query).await.is_err(), "the open connection hangs");
        let new = PgConnection::connect(&postgres.url("postgres"));
        assert!(timeout(MOMENT, new).await.is_err(), "a new connection hangs");
        postgres.thaw();
        assert_eq!(timeout(LIMIT, query).await.unwrap().unwrap(), 1);
    }
    postgres.freeze();
    postgres.stop();
}

#[tokio::test]
async fn servers_come_back_on_their_ports_postgresql_with_its_data() {
    let servers = Servers::start(Durability::On);
    let db = TestDb::on(&servers).await;
    sqlx::query("-- tests\nINSERT INTO brands (id, slug) VALUES (gen_random_uuid(), 'a')")
        .execute(db.pool())
        .await
        .unwrap();
    let () = redis::cmd("SET").arg("a").arg(1).query_async(&mut db.redis()).await.unwrap();

    servers.postgres.stop();
    servers.redis.stop();
    assert!(PgConnection::connect(db.url()).await.is_err());
    servers.postgres.start_again();
    servers.redis.start_again();

    let mut connection = PgConnection::connect(db.url()).await.unwrap();
    let slug: String =
        sqlx::query_scalar("-- tests\nSELECT slug FROM brands").fetch_one(&mut connection).await.unwrap();
    assert_eq!(slug, "a");
    let keys: u64 = redis::cmd("DBSIZE").query_async(&mut connect(&servers.redis).await).await.unwrap();
    assert_eq!(keys, 0);
}

#[tokio::test]
async fn a_durable_redis_comes_back_with_what_it_has_answered() {
    let server = Redis::durable();
    let () = redis::cmd("SET").arg("a").arg(1).query_async(&mut connect(&server).await).await.unwrap();
    server.stop();
    server.start_again();
    let value: u64 = redis::cmd("GET").arg("a").query_async(&mut connect(&server).await).await.unwrap();
    assert_eq!(value, 1);
}

#[tokio::test]
async fn a_database_can_have_another_redis() {
    let (db, server) = (TestDb::new().await, Redis::start());
    let db = db.with_redis(&server.url(3)).await;
    let () = redis::cmd("SET").arg("a").arg(1).query_async(&mut db.redis()).await.unwrap();
    let keyspace: String = redis::cmd("INFO").arg("keyspace").query_async(&mut connect(&server).await).await.unwrap();
    assert!(keyspace.contains("db3:keys=1,"), "{keyspace}");
    assert_eq!(db.redis_url(), server.url(3));
    assert!(PgConnection::connect(db.url()).await.is_ok());
}

#[tokio::test]
async fn only_a_durable_postgresql_waits_for_the_disk() {
    for (durability, expected) in [(Durability::Off, "off"), (Durability::On, "on")] {
        let postgres = Postgres::start(durability);
        let mut connection = PgConnection::connect(&postgres.url("postgres")).await.unwrap();
        for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
            let sql = "-- tests\nSELECT current_setting($1)";
            let value: String = sqlx::query_scalar(sql).bind(setting).fetch_one(&mut connection).await.unwrap();
            assert_eq!(value, expected, "{setting}");
        }
    }
}

#[tokio::test]
async fn a_frozen_redis_answers_nobody_until_it_is_thawed() {
    let server = Redis::start();
    let mut connection = connect(&server).await;
    server.freeze();
    let ping = redis::cmd("PING");
    assert!(timeout(MOMENT, ping.query_async::<String>(&mut connection)).await.is_err());
    server.thaw();
    wait_until(LIMIT, "Redis answers again", async || connect(&server).await.send_packed_command(&ping).await.is_ok())
        .await;
}

#[tokio::test]
async fn what_is_pushed_can_be_read_from_pushgateway_and_prometheus() {
    let gateway = Pushgateway::start();
    push(&gateway, "runs_total{status=\"good\"} 3\nruns_total{status=\"bad\"} 0.5\n");
    assert_eq!(gateway.value("runs_total", &[("job", "a_job"), ("status", "good")]), Some(3.0));
    assert_eq!(gateway.value("runs_total", &[("status", "bad")]), Some(0.5));
    assert_eq!(gateway.value("runs_total", &[("status", "ugly")]), None);

    let prometheus = Prometheus::start(&[&gateway.address()], Duration::from_millis(100));
    wait_until(LIMIT, "the sum is 3.5", async || {
        prometheus.query("sum(runs_total{job=\"a_job\"})").iter().any(|sample| (sample.value - 3.5).abs() < 1e-9)
    })
    .await;
    let good = prometheus.query("runs_total{status=\"good\"}");
    assert!(good.len() == 1 && good[0].name == "runs_total" && good[0].has(&[("job", "a_job"), ("status", "good")]));

    gateway.stop();
    gateway.start_again();
    assert_eq!(gateway.value("runs_total", &[("status", "bad")]), None);
}

#[test]
#[should_panic(expected = "several series")]
fn an_ambiguous_series_is_refused() {
    let gateway = Pushgateway::start();
    push(&gateway, "runs_total{status=\"good\"} 3\nruns_total{status=\"bad\"} 0.5\n");
    gateway.value("runs_total", &[("job", "a_job")]);
}
