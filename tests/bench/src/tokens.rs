//! What token checks cost: a run that has nothing else to do.

use std::time::Duration;

use harness::{ALLIANCE, CORPORATION, Community, Durability, Servers, TestDb, newcomer};
use serde_json::{Value, json};

use crate::{
    ground::Run,
    job,
    simulator::Simulator,
    table::{Table, seconds},
};

const TOKENS: usize = 500;
const LATENCY_MS: u64 = 50;
const ASKED: Duration = Duration::from_secs(10);

/// Measures 500 checks against an SSO that answers in 50 ms.
pub(crate) async fn measure(table: &mut Table) {
    let servers = Servers::start(Durability::On);
    let db = TestDb::on(&servers).await;
    let community = Community::new(&db).await;
    let token = |place: usize| format!("token-{place}");
    let describe = |place| newcomer(format!("Pilot {place}")).verified_minutes_ago(1).token(token(place));
    let crowd = community.crowd(TOKENS, describe).await;
    let refresh_tokens: Vec<Value> =
        (0..TOKENS).map(|place| json!({ "token": token(place), "character_id": crowd.eve_id(place) })).collect();
    let world = json!({
        "corporations": [{ "id": CORPORATION, "alliance_id": ALLIANCE }],
        "generate": { "first_id": crowd.eve_id(0), "count": TOKENS, "corporations": [CORPORATION] },
        "refresh_tokens": refresh_tokens,
    });
    let simulator = Simulator::start(LATENCY_MS, &world).await;
    let run = Run { database: db.url().to_owned(), redis: db.redis_url().to_owned() };
    let tokens = TOKENS.to_string();
    let more = [
        ("TOKEN_CHECKS_PER_RUN", tokens.as_str()),
        ("EVE_CLIENT_ID", "sim-client"),
        ("EVE_CLIENT_SECRET", "sim-secret"),
    ];
    let finished = job::run(&run, simulator.url(), &more).await;
    let checked = run.count("SELECT count(*) FROM eve_tokens WHERE checked_at > now() - interval '1 hour'").await;
    assert_eq!(checked, i64::try_from(TOKENS).expect("a small number"), "tokens checked\n{finished}");
    let took = finished.duration;
    let title = format!("{TOKENS} token checks, answers after {LATENCY_MS} ms");
    table.row(&title, &format!("< {}", seconds(ASKED)), &seconds(took), Some(took < ASKED));
}
