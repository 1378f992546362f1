//! ESI is lost in the middle of a run: the road to it is cut, closed or silent. What was verified stands, nobody loses
//! a session on half knowledge, and the next run completes the work.

use std::time::Duration;

use esi_simulator::Route;
use harness::{CORPORATION, Crowd, Fault, FaultProxy, Finished, STRANGERS, newcomer};
use suites::{Stage, outcome};

const SOON: Duration = Duration::from_secs(30);
const PEOPLE: usize = 400;
/// Everybody at such a place has left.
const LEAVERS: usize = 50;

struct Lost {
    stage: Stage,
    crowd: Crowd,
    road: FaultProxy,
}

impl Lost {
    async fn new() -> Self {
        let stage = Stage::new().await;
        let crowd = stage
            .crowd(PEOPLE, |place| {
                let corporation = if place % LEAVERS == 0 { STRANGERS } else { CORPORATION };
                (corporation, newcomer(format!("Member {place}")).verified_minutes_ago(120).session())
            })
            .await;
        stage.sim.settings(|settings| settings.latency_ms = 50);
        let road = FaultProxy::start(&stage.sim.url());
        Self { stage, crowd, road }
    }

    fn verifier(&self) -> harness::Binary {
        self.stage.verifier().env("ESI_BASE_URL", self.road.url()).env("BATCH_SIZE", "10").env("ESI_CONCURRENCY", "2")
    }

    /// A run during which this befalls the road after ten batches; it is open again afterwards.
    async fn run_while(&self, max_runtime: &str, happens: impl FnOnce(&FaultProxy)) -> Finished {
        let run = self.verifier().env("MAX_RUNTIME", max_runtime).start();
        let met = self.stage.sim.wait_for(SOON, |counts| counts.answered(Route::Affiliation, 200) >= 10).await;
        assert!(met, "the run is in the middle");
        happens(&self.road);
        let run = run.wait(SOON).await;
        self.road.set(Fault::Pass);
        run
    }

    async fn sessions(&self) -> Vec<usize> {
        let mut lost = Vec::new();
        for place in (0..self.crowd.len()).step_by(LEAVERS / 2) {
            if !self.stage.community.has_session(&self.crowd.session_token(place)).await {
                lost.push(place);
            }
        }
        lost
    }

    /// Who is verified; nobody else may have been changed.
    async fn verified(&self) -> i64 {
        let sql = "-- weather::verified
            SELECT count(*) FROM eve_characters WHERE greatest(last_verified_at, last_attempted_at) > now() - interval '1 hour'";
        sqlx::query_scalar(sql).fetch_one(self.stage.db.pool()).await.unwrap()
    }

    async fn assert_the_next_run_completes(&self) {
        self.stage.forgive();
        let next = self.verifier().run().await.expect_code(0);
        assert_eq!(outcome(&next)["outcome"], "done", "{next}");
        assert_eq!(self.verified().await, 400, "{next}");
        assert_eq!(self.sessions().await, (0..PEOPLE).step_by(LEAVERS).collect::<Vec<_>>(), "{next}");
        assert_eq!(self.stage.community.audit().await.len(), PEOPLE / LEAVERS, "{next}");
        assert_eq!(self.stage.community.events().await.len(), PEOPLE / LEAVERS, "{next}");
        assert_eq!(self.stage.community.candidates().await, [], "{next}");
        self.stage.forgive();
    }
}

#[tokio::test]
async fn esi_that_refuses_connections_in_the_middle_of_a_run() {
    let lost = Lost::new().await;
    let run = lost
        .run_while("45m", |road| {
            road.set(Fault::Refuse);
            road.cut();
        })
        .await;
    assert_eq!((run.code, outcome(&run)["outcome"].as_str()), (Some(0), Some("upstream_down")), "{run}");
    assert_eq!(lost.sessions().await, [0_usize; 0], "{run}");
    assert!((60..400).contains(&lost.verified().await), "{run}");
    lost.assert_the_next_run_completes().await;
}

#[tokio::test]
async fn esi_that_cuts_every_answer_in_the_middle_of_a_run() {
    let lost = Lost::new().await;
    let run = lost.run_while("45m", |road| road.set(Fault::CutAfter(100))).await;
    assert_eq!((run.code, outcome(&run)["outcome"].as_str()), (Some(0), Some("upstream_down")), "{run}");
    assert_eq!(lost.sessions().await, [0_usize; 0], "{run}");
    assert!((60..400).contains(&lost.verified().await), "{run}");
    lost.assert_the_next_run_completes().await;
}

#[tokio::test]
async fn esi_that_falls_silent_in_the_middle_of_a_run() {
    let lost = Lost::new().await;
    let run = lost.run_while("8s", |road| road.set(Fault::Hang)).await;
    assert_eq!((run.code, outcome(&run)["outcome"].as_str()), (Some(0), Some("done")), "{run}");
    assert!(outcome(&run)["remaining"].as_u64() > Some(0), "{run}");
    assert!(run.duration < Duration::from_secs(9), "{run}");
    // The verdicts that stand cannot be confirmed either.
    assert_eq!(lost.sessions().await, [0_usize; 0], "{run}");
    assert!((60..400).contains(&lost.verified().await), "{run}");
    lost.assert_the_next_run_completes().await;
}

#[tokio::test]
async fn one_cut_in_the_middle_of_a_run_costs_nothing() {
    let lost = Lost::new().await;
    let run = lost.run_while("45m", FaultProxy::cut).await;
    assert_eq!((run.code, outcome(&run)["outcome"].as_str()), (Some(0), Some("done")), "{run}");
    assert_eq!(lost.verified().await, 400, "{run}");
    assert_eq!(lost.sessions().await, (0..PEOPLE).step_by(LEAVERS).collect::<Vec<_>>(), "{run}");
    lost.stage.forgive();
}
