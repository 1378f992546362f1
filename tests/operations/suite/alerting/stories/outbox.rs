//! Alerts about the outbox.

use harness::{TestDb, WebhookReceiver};

use super::super::{
    place::Place,
    post::{DRAIN, Post},
};

fn post<'a>(place: &'a Place, db: &'a TestDb) -> Post<'a> {
    Post { stack: &place.stack, db, namespace: &place.namespace }
}

/// The same alert in another namespace.
fn in_namespace(place: &Place, namespace: &str) -> Place {
    Place { stack: place.stack.clone(), alert: place.alert.clone(), namespace: namespace.to_owned() }
}

/// Suspended is quiet, but not where workers should be at work; a dry run ends nothing.
pub(super) async fn stale(place: Place) {
    let (suspended, deserted) = ("outbox-suspended-and-stale", "outbox-workers-and-stale");
    place.stack.schedule_of(DRAIN, suspended, true);
    place.stack.schedule_of(DRAIN, deserted, true);
    place.stack.employ(DRAIN, deserted, 2, 0);
    let deserted = in_namespace(&place, deserted);
    let db = TestDb::new().await;
    let here = post(&place, &db);
    here.run(&here.drain(), 0, "nothing_to_do").await;
    place.is_quiet(&place.namespace).await;
    for namespace in [suspended, &*deserted.namespace] {
        let there = Post { namespace, ..post(&place, &db) };
        there.run(&there.drain(), 0, "nothing_to_do").await;
    }
    place.fires().await;
    deserted.fires().await;
    place.is_quiet(suspended).await;

    here.drain().env("DRY_RUN", "true").run().await.expect_code(0);
    // A dry run is no success.
    place.still_fires().await;

    here.run(&here.drain(), 0, "nothing_to_do").await;
    place.is_over().await;

    // A worker says that all is well as long as it is, without an end.
    let there = Post { namespace: &deserted.namespace, ..post(&place, &db) };
    let _worker = there.drain().arg("worker").env("METRICS_PUSH_INTERVAL", "1s").start();
    deserted.is_over().await;
}

pub(super) async fn metrics_absent(place: Place) {
    let suspended = "outbox-suspended-and-never-run";
    place.stack.schedule_of(DRAIN, suspended, true);
    place.stack.holds("rollcall:job_suspended{job=\"outbox-drain\"}", "the suspended CronJob is known").await;
    place.stack.schedule_of(DRAIN, &place.namespace, false);
    // By its neighbour the rule knows that the CronJob is ours.
    for namespace in [suspended, &*place.namespace] {
        place.stack.schedule(namespace, false);
    }
    place.fires().await;
    let db = TestDb::new().await;
    let here = post(&place, &db);
    here.run(&here.drain(), 0, "nothing_to_do").await;
    place.is_over().await;
    place.is_quiet(suspended).await;
}

/// One of two does not come up; what the other one pushes says nothing of it.
pub(super) async fn worker_unavailable(place: Place) {
    // By its neighbour the rule knows that the Deployment is ours.
    place.stack.schedule(&place.namespace, false);
    place.stack.schedule_of(DRAIN, &place.namespace, true);
    place.stack.employ(DRAIN, &place.namespace, 2, 0);
    let db = TestDb::new().await;
    let here = post(&place, &db);
    here.run(&here.drain(), 0, "nothing_to_do").await;
    place.is_quiet(&place.namespace).await;
    place.stack.employ(DRAIN, &place.namespace, 2, 1);
    place.fires().await;
    here.run(&here.drain(), 0, "nothing_to_do").await;
    place.still_fires().await;
    place.stack.employ(DRAIN, &place.namespace, 2, 0);
    place.is_over().await;
}

/// A run that may not take all leaves old events behind.
pub(super) async fn backlog_age(place: Place) {
    let db = TestDb::new().await;
    let here = post(&place, &db);
    let (all, one) = (here.drain(), here.drain().env("MAX_EVENTS", "1"));
    here.enqueue("young", 2, 0).await;
    here.run(&one, 0, "done").await;
    place.is_quiet(&place.namespace).await;
    for (minutes, severity) in [(20, "warning"), (120, "critical")] {
        here.run(&all, 0, "done").await;
        here.enqueue("old", 2, minutes).await;
        here.run(&one, 0, "done").await;
        place.fires().await;
        assert_eq!(place.severity(), severity);
        here.run(&all, 0, "done").await;
        place.is_over().await;
        here.enqueue("young", 1, 0).await;
    }
}

pub(super) async fn dead_letters(place: Place) {
    let db = TestDb::new().await;
    let here = post(&place, &db);
    let webhook = WebhookReceiver::start();
    here.enqueue("good", 1, 0).await;
    here.run(&here.by_webhook(&webhook, 204), 0, "done").await;
    place.is_quiet(&place.namespace).await;

    here.enqueue("poison", 1, 0).await;
    let finished = here.by_webhook(&webhook, 413).run().await;
    assert_eq!(finished.code, Some(0), "{finished}");
    place.fires().await;
    let discard = here.drain().arg("dead-letters").arg("discard").arg("--aggregate").arg("account:poison1");
    discard.run().await.expect_code(0);
    here.drain().run().await.expect_code(0);
    place.is_over().await;
}

/// A Redis without persistence that started anew.
pub(super) async fn events_lost(place: Place) {
    let db = TestDb::new().await;
    let here = post(&place, &db);
    here.enqueue("first", 20, 0).await;
    here.run(&here.drain(), 0, "done").await;
    place.is_quiet(&place.namespace).await;
    place
        .fires_after(async || {
            here.lose_the_stream().await;
            here.enqueue("more", 20, 0).await;
            here.run(&here.drain(), 0, "done").await;
        })
        .await;
    place.is_over().await;
}
