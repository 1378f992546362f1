//! PostgreSQL and Redis that go away in the middle of a run, on servers of the test's own: the run ends in bounded time
//! with a typed end, and the next one completes the work.

use std::time::Duration;

use esi_simulator::Route;
use harness::{CORPORATION, Community, Crowd, Durability, Finished, STRANGERS, Servers, newcomer};
use suites::{Stage, outcome};

const SOON: Duration = Duration::from_secs(40);
const PEOPLE: usize = 300;
/// Everybody at such a place has left.
const LEAVERS: usize = 50;

struct Own {
    servers: Servers,
    stage: Stage,
    crowd: Crowd,
}

impl Own {
    async fn new() -> Self {
        let servers = Servers::start(Durability::Off);
        let stage = Stage::on(&servers).await;
        let crowd = stage
            .crowd(PEOPLE, |place| {
                let corporation = if place % LEAVERS == 0 { STRANGERS } else { CORPORATION };
                (corporation, newcomer(format!("Member {place}")).verified_minutes_ago(120).session())
            })
            .await;
        stage.sim.settings(|settings| settings.latency_ms = 10);
        Self { servers, stage, crowd }
    }

    fn verifier(&self) -> harness::Binary {
        self.stage.verifier().env("BATCH_SIZE", "10").env("ESI_CONCURRENCY", "2")
    }

    /// A run during which this befalls the servers after ten batches.
    async fn run_while(&self, happens: impl FnOnce(&Servers)) -> Finished {
        let run = self.verifier().start();
        let met = self.stage.sim.wait_for(SOON, |counts| counts.answered(Route::Affiliation, 200) >= 10).await;
        assert!(met, "the run is in the middle");
        happens(&self.servers);
        let run = run.wait(SOON).await;
        assert!(matches!(run.code, Some(0 | 75)), "{run}");
        run
    }

    async fn next_run(&self) -> Finished {
        let sql = "-- weather::servers\nUPDATE job_leases SET expires_at = now() - interval '1 second'";
        sqlx::query(sql).execute(self.stage.db.pool()).await.unwrap();
        let next = self.verifier().run().await.expect_code(0);
        let verified: i64 = sqlx::query_scalar(
            "-- weather::servers\nSELECT count(*) FROM eve_characters WHERE last_verified_at > now() - interval '1 hour'",
        )
        .fetch_one(self.stage.db.pool())
        .await
        .unwrap();
        assert_eq!(verified, 300, "{next}");
        self.stage.forgive();
        next
    }

    async fn assert_only_the_leavers_lost_theirs(&self, community: &Community) {
        for place in 0..PEOPLE {
            let is_gone = place % LEAVERS == 0;
            assert_eq!(community.has_session(&self.crowd.session_token(place)).await, !is_gone, "{place}");
        }
        assert_eq!(community.audit().await.len(), PEOPLE / LEAVERS);
        assert_eq!(community.events().await.len(), PEOPLE / LEAVERS);
        assert_eq!(community.pending().await, []);
    }
}

#[tokio::test]
async fn postgresql_is_restarted_in_the_middle_of_a_run() {
    let own = Own::new().await;
    own.run_while(|servers| {
        servers.postgres.stop();
        servers.postgres.start_again();
    })
    .await;
    own.next_run().await;
    own.assert_only_the_leavers_lost_theirs(&own.stage.community).await;
}

#[tokio::test]
async fn postgresql_hangs_in_the_middle_of_a_run() {
    let own = Own::new().await;
    let run = own.run_while(|servers| servers.postgres.freeze()).await;
    assert_eq!(run.code, Some(75), "{run}");
    own.servers.postgres.thaw();
    own.next_run().await;
    own.assert_only_the_leavers_lost_theirs(&own.stage.community).await;
}

#[tokio::test]
async fn redis_hangs_in_the_middle_of_a_run() {
    let own = Own::new().await;
    let run = own.run_while(|servers| servers.redis.freeze()).await;
    own.servers.redis.thaw();
    // Between two leavers nobody asks for sessions; without any left the run may even end well.
    assert_eq!((run.code, outcome(&run)["outcome"].as_str()), (Some(75), Some("failed")), "{run}");
    own.next_run().await;
    own.assert_only_the_leavers_lost_theirs(&own.stage.community).await;
}

/// Whoever was logged in has to log in again; nobody is told of sessions that the verifier did not take.
#[tokio::test]
async fn redis_is_restarted_and_empty_in_the_middle_of_a_run() {
    let own = Own::new().await;
    own.run_while(|servers| {
        servers.redis.stop();
        servers.redis.start_again();
    })
    .await;
    own.next_run().await;
    assert_eq!(own.stage.community.audit().await, []);
    assert_eq!(own.stage.community.events().await, []);
    assert_eq!(own.stage.community.pending().await, []);
    assert_eq!(own.stage.community.candidates().await, []);
}
