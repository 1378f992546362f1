//! Which characters a run looks at, and in which order.

use esi_simulator::Route;
use harness::newcomer;
use suites::{Stage, outcome};

/// The ids affiliation was asked about, in the order of the calls.
fn asked(stage: &Stage) -> Vec<i64> {
    let calls = stage.sim.requests();
    calls.into_iter().filter(|call| call.route == Route::Affiliation).flat_map(|call| call.ids).collect()
}

#[tokio::test]
async fn a_member_is_verified_and_keeps_its_session() {
    let stage = Stage::new().await;
    let alice = stage.add(newcomer("Alice").verified_minutes_ago(60).session()).await;
    let run = stage.verify().await.expect_code(0);
    assert_eq!(outcome(&run)["outcome"], "done", "{run}");
    assert!(stage.community.has_session(alice.session_token()).await);
    assert_eq!(asked(&stage), [alice.eve_id]);
}
