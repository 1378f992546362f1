//! J9: PostgreSQL away, hung, or lost in the middle of a run.

use std::{net::SocketAddr, time::Duration};

use harness::{Binary, Fault, FaultProxy, Running, servers};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use suites::{Stage, outcome};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

use crate::support::{
    VERIFIER, before_esi, due, end, ended, expire_leases, hold, one_by_one, outcomes, people, written,
};

/// Far below MAX_RUNTIME: the time-outs of connections and transactions decide.
const BOUNDED: Duration = Duration::from_secs(35);

/// A run in its middle, with a road to PostgreSQL that can be broken.
struct Midway {
    stage: Stage,
    esi: FaultProxy,
    database: FaultProxy,
    running: Running,
}

/// So many people, of whom at least so many are written.
async fn midway(crowd: usize, done: i64) -> Midway {
    let stage = Stage::new().await;
    people(&stage, crowd).await;
    let esi = before_esi(&stage);
    stage.sim.settings(|settings| settings.latency_ms = 20);
    let database = FaultProxy::start(stage.db.url());
    let running = one_by_one(&stage, &esi).env("DATABASE_URL", database.url()).start();
    written(&stage, done).await;
    Midway { stage, esi, database, running }
}

#[tokio::test]
async fn postgresql_away_is_75_at_once() {
    let stage = Stage::new().await;
    let finished = stage.verifier().env("DATABASE_URL", "postgres://postgres@127.0.0.1:1/none").run().await;
    let finished = finished.expect_code(75);
    assert!(finished.duration < Duration::from_secs(10), "{finished}");
    let error = outcome(&finished)["error"].as_str().unwrap();
    assert!(error.contains("PostgreSQL is not available") && error.contains("refused"), "{finished}");
}

#[tokio::test]
async fn postgresql_hung_at_the_start_is_75_in_bounded_time() {
    let stage = Stage::new().await;
    let database = FaultProxy::start(stage.db.url());
    database.set(Fault::Hang);
    let finished = stage.verifier().env("DATABASE_URL", database.url()).run().await.expect_code(75);
    assert!(finished.duration < BOUNDED, "{finished}");
    assert_eq!(ended(&finished), "failed");
}

/// A road to `target` on which the first connection comes to nothing, as through a Service that its node does not know yet.
async fn first_goes_astray(target: &str) -> String {
    let address: SocketAddr = target.split('@').next_back().unwrap().split('/').next().unwrap().parse().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let road = target.replace(&address.to_string(), &listener.local_addr().unwrap().to_string());
    tokio::spawn(async move {
        let _astray = listener.accept().await;
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = TcpStream::connect(address).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    road
}

#[tokio::test]
async fn a_connection_that_goes_astray_is_given_up_for_another() {
    let stage = Stage::new().await;
    people(&stage, 1).await;
    let road = first_goes_astray(stage.db.url()).await;
    let finished = stage.verifier().env("DATABASE_URL", road).run().await.expect_code(0);
    assert_eq!((ended(&finished), due(&stage).await), ("done", 0), "{finished}");

    let road = first_goes_astray(stage.db.url()).await;
    let migrate = Binary::new("migrate").env("DATABASE_URL", road).env("LOG_FORMAT", "json").run().await;
    assert_eq!(ended(&migrate.expect_code(0)), "nothing_to_do");
}

#[tokio::test]
async fn postgresql_hung_in_mid_run_is_75_in_bounded_time_and_the_next_run_closes_it() {
    let Midway { stage, esi: _road, database, running } = midway(20, 3).await;
    database.set(Fault::Hang);
    let finished = running.wait(Duration::from_secs(50)).await.expect_code(75);
    assert_eq!(ended(&finished), "failed");
    assert!(outcome(&finished)["error"].as_str().unwrap().contains("PostgreSQL"), "{finished}");
    drop(database);
    stage.forgive();

    expire_leases(&stage).await;
    assert_eq!(ended(&stage.verify().await.expect_code(0)), "done");
    assert_eq!((outcomes(&stage).await, due(&stage).await), (vec!["lost".to_owned(), "done".to_owned()], 0));
}

#[tokio::test]
async fn connections_cut_while_idle_are_repaired_and_the_run_goes_on() {
    let Midway { stage, esi, database, running } = midway(20, 3).await;
    // Several connections are open, and no statement is in hand.
    hold(&stage, &esi).await;
    database.cut();
    esi.set(Fault::Pass);
    let finished = end(running).await.expect_code(0);
    assert_eq!((ended(&finished), due(&stage).await), ("done", 0));
}

#[tokio::test]
async fn postgresql_gone_in_mid_run_is_75_and_the_next_run_completes() {
    let Midway { stage, esi: _road, database, running } = midway(20, 3).await;
    database.set(Fault::Refuse);
    database.cut();
    let finished = end(running).await.expect_code(75);
    assert!(finished.duration < BOUNDED, "{finished}");
    stage.forgive();
    expire_leases(&stage).await;
    assert_eq!(ended(&stage.verify().await.expect_code(0)), "done");
    assert_eq!((outcomes(&stage).await, due(&stage).await), (vec!["lost".to_owned(), "done".to_owned()], 0));
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_counted_once() {
    let Midway { stage, esi: _road, database, running } = midway(10, 2).await;
    database.set(Fault::CutAfter(0));
    let finished = end(running).await.expect_code(75);
    database.set(Fault::Pass);
    stage.forgive();
    expire_leases(&stage).await;
    stage.verify().await.expect_code(0);
    let runs = stage.community.runs().await;
    let counters = stage.community.counters(VERIFIER).await;
    assert_eq!(runs.iter().map(|run| run.scanned).sum::<i64>(), 10, "{finished}");
    assert_eq!(counters["battlescope_characters_verified_total{success}"], 10);
}

#[tokio::test]
async fn a_locked_row_ends_in_a_typed_error_not_in_waiting() {
    let stage = Stage::new().await;
    people(&stage, 3).await;
    let mut other = PgConnection::connect(stage.db.url()).await.unwrap();
    let mut tx = other.begin().await.unwrap();
    sqlx::query("-- runner\nSELECT * FROM eve_characters FOR UPDATE").execute(&mut *tx).await.unwrap();
    let finished = stage.verify().await.expect_code(75);
    assert!(finished.duration < BOUNDED, "{finished}");
    tx.rollback().await.unwrap();
    let row = crate::support::last_run(&stage).await.unwrap();
    assert_eq!((row.outcome.as_deref(), due(&stage).await), (Some("failed"), 3));
}

/// A role that must show a password, though everybody else is let in.
async fn role_with_password(name: &str, password: &str) {
    let mut admin = PgConnection::connect(&servers().postgres.url("postgres")).await.unwrap();
    let lines = format!("host all {name} all scram-sha-256\nhost all all all trust\nlocal all all trust");
    for sql in [
        format!("CREATE ROLE {name} LOGIN SUPERUSER PASSWORD '{password}'"),
        format!(
            "DO $$ BEGIN EXECUTE format('COPY (SELECT unnest(string_to_array(%L, E''\\n''))) TO %L', '{lines}', \
             current_setting('hba_file')); END $$"
        ),
        "SELECT pg_reload_conf()".to_owned(),
    ] {
        sqlx::raw_sql(AssertSqlSafe(format!("-- runner\n{sql}"))).execute(&mut admin).await.unwrap();
    }
}

#[tokio::test]
async fn a_wrong_password_or_database_is_78_without_the_password_in_any_output() {
    let stage = Stage::new().await;
    role_with_password("locked", "right-s3cret").await;
    let authority = |user: &str| stage.db.url().replace("postgres://postgres@", &format!("postgres://{user}@"));
    harness::wait_until(crate::support::LIMIT, "the password is asked for", async || {
        PgConnection::connect(&authority("locked:nothing")).await.is_err()
    })
    .await;
    let (base, _) = stage.db.url().rsplit_once('/').unwrap();
    let elsewhere = base.replace("postgres://postgres@", "postgres://locked:right-s3cret@");
    for (what, url) in [
        ("password", authority("locked:wrong-s3cret")),
        ("user", authority("nobody:wrong-s3cret")),
        ("database", format!("{elsewhere}/no_such_database")),
    ] {
        for arguments in [&["run"][..], &["check"], &["status"]] {
            let binary = arguments.iter().fold(stage.verifier(), |binary, argument| binary.arg(*argument));
            let finished = binary.env("DATABASE_URL", &url).env("RUST_LOG", "debug").run().await.expect_code(78);
            let all = format!("{}{}", finished.stdout, finished.stderr);
            assert!(all.contains("PostgreSQL refuses DATABASE_URL"), "{what} {arguments:?}\n{finished}");
            assert!(!all.contains("s3cret"), "{what} {arguments:?}\n{finished}");
        }
        let finished = Binary::new("migrate").env("DATABASE_URL", &url).run().await.expect_code(78);
        assert!(!finished.stderr.contains("s3cret"), "{what}\n{finished}");
    }
    let right = stage.verifier().env("DATABASE_URL", authority("locked:right-s3cret")).run().await;
    right.expect_code(0);
}
