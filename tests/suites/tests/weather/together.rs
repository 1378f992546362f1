//! Several runs at once on one community: one works, the others see it and go.

use std::time::Duration;

use harness::{CORPORATION, Fault, FaultProxy, Running, STRANGERS, newcomer, wait_until};
use suites::{Stage, outcome};

const SOON: Duration = Duration::from_secs(30);
const RUNS: usize = 4;
const ROUNDS: usize = 3;
const PEOPLE: usize = 60;

#[tokio::test]
async fn of_several_runs_at_once_one_works_and_the_others_say_so() {
    let stage = Stage::new().await;
    let crowd = stage
        .crowd(PEOPLE, |place| (CORPORATION, newcomer(format!("Member {place}")).verified_minutes_ago(120).session()))
        .await;
    // ESI does not answer until the others have seen that one is at it.
    let road = FaultProxy::start(&stage.sim.url());
    for round in 0..ROUNDS {
        stage.show(crowd.eve_id(round), STRANGERS);
        road.set(Fault::Hang);
        let verifier = stage.verifier().env("ESI_BASE_URL", road.url());
        let mut runs: Vec<Running> = (0..RUNS).map(|_| verifier.start()).collect();
        wait_until(SOON, "all but one end", async || {
            runs.iter_mut().map(|run| u32::from(run.is_running())).sum::<u32>() == 1
        })
        .await;
        road.set(Fault::Pass);

        let mut outcomes = Vec::new();
        for run in runs {
            let run = run.wait(SOON).await.expect_code(0);
            outcomes.push(outcome(&run)["outcome"].as_str().unwrap().to_owned());
        }
        outcomes.sort();
        assert_eq!(outcomes, ["already_running", "already_running", "already_running", "done"]);
        for place in 0..PEOPLE {
            let is_gone = place <= round;
            assert_eq!(stage.community.has_session(&crowd.session_token(place)).await, !is_gone, "{place}");
        }
        assert_eq!(stage.community.audit().await.len(), round + 1);
        assert_eq!(stage.community.events().await.len(), round + 1);
        stage.later(61).await;
    }
}
