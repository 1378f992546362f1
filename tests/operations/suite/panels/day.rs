//! A day in which something of each kind happens, an hour in a few seconds.

use std::sync::Arc;

use esi_simulator::{Alliance, Corporation, Fault, Kind, Route, Scope};
use harness::{Binary, Fault as Net, FaultProxy, STRANGERS, WebhookReceiver, newcomer};
use suites::{ALLIED, Stage, with_sso};

use crate::alerting::{Place, Post, Stack, Town};

const NAMESPACE: &str = "rollcall";
/// Each answer of ESI takes so long, so that runs are seen while they are under way.
const LATENCY_MS: u64 = 150;
/// Between two runs, for lines that can be told apart.
const PAUSE_SECONDS: f64 = 1.5;

/// A day on this stack.
pub(super) async fn pass(stack: &Arc<Stack>) {
    let place = Place { stack: stack.clone(), alert: String::new(), namespace: NAMESPACE.to_owned() };
    let town = Town { stage: Stage::new().await, place };
    let (stage, faults) = (&town.stage, town.stage.sim.faults());
    stage.sim.settings(|settings| settings.latency_ms = LATENCY_MS);
    stack.schedule(NAMESPACE, false);
    let people = town.people(60).await;
    for eve_id in 90_000_001..=90_000_006 {
        let token = stage.sim.world(|world| world.issue_refresh_token(eve_id));
        stage.add(newcomer(format!("{eve_id}")).eve_id(eve_id).verified_minutes_ago(60).token(token)).await;
    }
    let verifier = with_sso(town.verifier());
    let day = Day { town: &town, stack };
    let post = Post { stack, db: &stage.db, namespace: NAMESPACE };
    let webhook = WebhookReceiver::start();

    day.hour(&verifier, 0, "done").await;
    post.enqueue("quiet", 40, 0).await;
    post.run(&post.drain(), 0, "done").await;
    // Some move, one leaves, ESI's first answer about another is old.
    for place in 0..3 {
        stage.show(people.eve_id(place), ALLIED);
    }
    stage.show(people.eve_id(3), STRANGERS);
    let old = Kind::StaleOrganisation { character_id: people.eve_id(4), corporation_id: STRANGERS, alliance_id: None };
    faults.add(Fault::on(Route::Affiliation, old));
    day.hour(&verifier, 0, "done").await;
    faults.clear();
    // More than a run may take.
    post.enqueue("crowd", 400, 3).await;
    post.run(&post.drain().env("MAX_EVENTS", "150"), 0, "done").await;

    // A corporation joins another alliance that is not allowed either way of counting.
    stage.sim.world(|world| {
        world.put_alliance(Alliance::new(99_000_077));
        world.put_corporation(Corporation::new(harness::CORPORATION, Some(99_000_077)));
    });
    faults.add(Fault::on(Route::Affiliation, Kind::BadGateway).first(2));
    faults.add(Fault::on(Route::Affiliation, Kind::MissingRows { ids: vec![people.eve_id(5), people.eve_id(6)] }));
    day.hour(&verifier, 0, "done").await;
    faults.clear();
    post.run(&post.drain(), 0, "done").await;
    post.lose_the_stream().await;

    let pushgateway = FaultProxy::start(&stack.pushgateway.url());
    pushgateway.set(Net::Refuse);
    town.later(&verifier.clone().env("PUSHGATEWAY_URL", pushgateway.url()), 0, "done").await;
    day.hour(&verifier, 0, "done").await;
    post.enqueue("after", 60, 0).await;
    post.run(&post.drain(), 0, "done").await;
    // Some that nobody wants, and later one that nobody ever will.
    post.enqueue("unwanted", 2, 12).await;
    post.run(&post.by_webhook(&webhook, 422), 0, "done").await;

    faults.add(Fault::on(Scope::AllEsi, Kind::Unavailable));
    day.hour(&verifier, 0, "upstream_down").await;
    faults.clear();
    post.enqueue("poison", 1, 0).await;
    post.run(&post.by_webhook(&webhook, 413), 0, "done").await;
    // The sink is away for as long as the run has time for.
    post.enqueue("late", 5, 0).await;
    post.run(&post.by_webhook(&webhook, 503).env("MAX_RUNTIME", "7s"), 75, "failed").await;

    town.decide_in_vain(&people, 7).await;
    // Five leave at once, more than may.
    for place in 10..15 {
        stage.show(people.eve_id(place), STRANGERS);
    }
    day.hour(&verifier.clone().env("MAX_INVALIDATIONS_PER_RUN", "3"), 77, "capped").await;
    stack.schedule(NAMESPACE, true);
    stack.holds("rollcall:job_suspended", "the CronJob is suspended").await;
    day.time_passes().await;
}

struct Day<'a> {
    town: &'a Town,
    stack: &'a Stack,
}

impl Day<'_> {
    /// A run, and some time in which nothing happens.
    async fn hour(&self, verifier: &Binary, code: i32, name: &str) {
        self.town.later(verifier, code, name).await;
        self.town.is_read().await;
        self.time_passes().await;
    }

    async fn time_passes(&self) {
        let later = self.stack.prometheus.query("time()")[0].value + PAUSE_SECONDS;
        self.stack.holds(&format!("vector(time()) > {later}"), "time passes").await;
    }
}
