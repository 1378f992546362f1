//! Alerts about what the jobs depend on, and the Pushgateway that loses its data.

use harness::{Binary, TestDb, newcomer};
use suites::Stage;

use super::super::{
    place::{Place, Town},
    stack::Stack,
};

/// Both ways in which nothing is known of a job: it has never run, and the Pushgateway lost what it knew.
pub(super) async fn metrics_absent(town: Town) {
    let suspended = "suspended-and-never-run";
    town.place.stack.schedule(suspended, true);
    town.place.stack.holds("rollcall:job_suspended", "the suspended CronJob is known").await;
    town.place.stack.schedule(&town.place.namespace, false);
    town.people(1).await;
    town.place.fires().await;
    town.now(&town.verifier(), 0, "done").await;
    town.place.is_over().await;
    town.place.is_quiet(suspended).await;
}

/// On a stack of its own: the other stories need a Pushgateway.
pub(super) async fn pushgateway_gone(place: Place) {
    let absent = "CharacterVerifierMetricsAbsent";
    let (ours, suspended) = ("rollcall", "suspended");
    let stack = std::sync::Arc::new(Stack::start().await);
    // This alert has no namespace, and the other one must not have fired before its data are lost.
    let gone = Place { stack: stack.clone(), namespace: String::new(), ..place };
    let lost = Place { stack: stack.clone(), alert: absent.to_owned(), namespace: ours.to_owned() };
    let town = Town { stage: Stage::new().await, place: lost };
    town.stage.add(newcomer("ann").verified_minutes_ago(60)).await;
    for namespace in [ours, suspended] {
        town.later(&town.here(town.stage.verifier(), namespace), 0, "done").await;
    }
    stack.holds("count(rollcall_job_last_run_timestamp_seconds) == 2", "both runs are known").await;
    stack.schedule(suspended, true);
    stack.holds("rollcall:job_suspended", "the suspended CronJob is known").await;
    stack.schedule(ours, false);
    stack.holds("count(kube_cronjob_info) == 2", "both CronJobs are known").await;
    town.place.is_quiet(ours).await;
    gone.is_quiet("").await;

    stack.pushgateway.stop();
    gone.fires().await;
    stack.pushgateway.start_again();
    gone.is_over().await;
    town.place.fires().await;
    town.later(&town.verifier(), 0, "done").await;
    town.place.is_over().await;
    town.place.is_quiet(suspended).await;
}

/// A migration that fails: somebody else's table is in its way. Its Job stays when that of the next version is complete.
pub(super) async fn migration_failed(place: Place) {
    let db = TestDb::new().await;
    for sql in [
        "-- alerting::migration_failed\nDROP SCHEMA public CASCADE",
        "-- alerting::migration_failed\nCREATE SCHEMA public",
        "-- alerting::migration_failed\nCREATE TABLE accounts (id integer)",
    ] {
        sqlx::query(sql).execute(db.pool()).await.expect("PostgreSQL answers");
    }
    // By its neighbour the rule knows that the Job is ours.
    place.stack.schedule(&place.namespace, false);
    let migrate = async |job: &str| {
        let run = Binary::new("migrate").env("DATABASE_URL", db.url()).env("LOG_FORMAT", "json").run().await;
        place.stack.migrated(&place.namespace, job, run.code != Some(0));
        run
    };
    let failed = migrate("migrate-v0-1-0").await;
    assert_ne!(failed.code, Some(0), "{failed}");
    place.fires().await;
    let sql = "-- alerting::migration_failed\nDROP TABLE accounts";
    sqlx::query(sql).execute(db.pool()).await.expect("PostgreSQL answers");
    migrate("migrate-v0-2-0").await.expect_code(0);
    place.is_over().await;
}
