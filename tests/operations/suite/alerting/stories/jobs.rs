//! Alerts that every job has.

use esi_simulator::{Fault, Kind, Scope};
use harness::{Fault as Net, FaultProxy, wait_until};

use super::super::{PATIENCE, place::Town};

pub(super) async fn failed_permanently(town: Town) {
    for eve_id in [90_000_001, 90_000_002] {
        let token = town.stage.sim.world(|world| world.issue_refresh_token(eve_id));
        let holder = harness::newcomer(format!("{eve_id}")).eve_id(eve_id).verified_minutes_ago(60).token(token);
        town.stage.add(holder).await;
    }
    town.a_good_run().await;
    town.later(&town.verifier().env("ENCRYPTION_KEY", "ab".repeat(32)), 78, "failed").await;
    town.place.fires().await;
    town.now(&town.verifier(), 0, "done").await;
    town.place.is_over().await;
}

pub(super) async fn failing(town: Town) {
    town.people(1).await;
    town.a_good_run().await;
    let redis = FaultProxy::start(town.stage.db.redis_url());
    redis.set(Net::Refuse);
    let verifier = town.verifier().env("REDIS_URL", redis.url());
    town.later(&verifier, 75, "failed").await;
    town.place.fires().await;
    redis.set(Net::Pass);
    town.now(&verifier, 0, "done").await;
    town.place.is_over().await;
}

pub(super) async fn never_succeeded(town: Town) {
    town.people(1).await;
    town.stage.sim.faults().add(Fault::on(Scope::AllEsi, Kind::Unavailable));
    town.now(&town.verifier(), 0, "upstream_down").await;
    town.place.fires().await;
    town.later(&town.verifier().env("DRY_RUN", "true"), 0, "upstream_down").await;
    town.stage.sim.faults().clear();
    town.later(&town.verifier().env("DRY_RUN", "true"), 0, "done").await;
    // A dry run is no success.
    town.place.still_fires().await;
    town.later(&town.verifier(), 0, "done").await;
    town.place.is_over().await;
}

/// A run that dies in its call to ESI.
async fn die(town: &Town, esi: &FaultProxy) {
    esi.set(Net::Hang);
    let run = town.verifier().env("ESI_BASE_URL", esi.url()).start();
    let open = async || town.stage.community.runs().await.iter().any(|run| run.ended_at.is_none());
    wait_until(PATIENCE, "the run is under way", open).await;
    run.kill();
    assert_eq!(run.wait(PATIENCE).await.signal, Some(9));
    // As after the 45 seconds that a lease lasts.
    let sql = "-- alerting::die\nUPDATE job_leases SET expires_at = clock_timestamp() - interval '1 second'";
    sqlx::query(sql).execute(town.stage.db.pool()).await.expect("PostgreSQL answers");
    esi.set(Net::Pass);
    town.stage.forgive();
}

pub(super) async fn runs_lost(town: Town) {
    town.people(1).await;
    town.a_good_run().await;
    let esi = FaultProxy::start(&town.stage.sim.url());
    town.place
        .fires_after(async || {
            for _ in 0..2 {
                town.stage.later(60).await;
                die(&town, &esi).await;
                town.later(&town.verifier(), 0, "done").await;
            }
        })
        .await;
    town.place.is_over().await;
}

/// One outage takes the pushes of a whole run and is quiet; a second one is told of.
pub(super) async fn push_failing(town: Town) {
    town.people(1).await;
    town.a_good_run().await;
    let pushgateway = FaultProxy::start(&town.place.stack.pushgateway.url());
    let verifier = town.verifier().env("PUSHGATEWAY_URL", pushgateway.url());
    let outage = async || {
        pushgateway.set(Net::Refuse);
        town.later(&verifier, 0, "done").await;
        pushgateway.set(Net::Pass);
        town.later(&verifier, 0, "done").await;
        // Each is seen by itself.
        town.is_read().await;
    };
    outage().await;
    town.place.is_quiet(&town.place.namespace).await;
    town.place.fires_after(outage).await;
    town.place.is_over().await;
}
