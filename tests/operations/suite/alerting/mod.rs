//! Each alert fires and resolves: from runs of the real binaries to a webhook, through a real Pushgateway, Prometheus and
//! Alertmanager.
//!
//! The rules are those of k8s/monitoring with shorter times ([`shortened`]) and nothing else changed. What a rule sees is
//! pushed by a run; a run that must be old is old by the rows in its database. kube-state-metrics alone is a small exporter
//! of our own, which tells of CronJobs and Deployments that exist nowhere, and of real runs of `migrate`.
//!
//! A [`Stack`] is shared by the stories, which are told at the same time, each in a namespace of its own. An alert of
//! k8s/monitoring without a story in [`stories`] fails the test. `ROLLCALL_ALERT=<name>` tells one story alone.

mod place;
mod post;
mod shortened;
mod stack;
mod stories;

use std::{sync::Arc, time::Duration};

pub(crate) use self::{
    place::{Place, Town},
    post::Post,
    stack::Stack,
};
use crate::{findings::Findings, read::alerts};

/// The job whose runs are told of.
const JOB: &str = "character-verifier";
/// For something that takes a few intervals, or the longest of the shortened times, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_alert_fires_and_resolves() {
    let only = std::env::var("ROLLCALL_ALERT").ok();
    let mut all: Vec<String> = alerts::rules().into_iter().filter_map(|(_, rule)| rule.alert).collect();
    all.dedup();
    all.retain(|alert| only.as_ref().is_none_or(|only| only == alert));
    assert!(!all.is_empty(), "no alert is called {only:?}");
    let stack = Arc::new(Stack::start().await);
    let told: Vec<_> = all
        .into_iter()
        .map(|alert| {
            let place = Place::new(stack.clone(), alert.clone());
            // A thread each, called as the alert: that is what a panic names.
            let story = std::thread::Builder::new().name(alert.clone()).spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime can be made").block_on(stories::tell(place));
            });
            (alert, story.expect("a thread can be started"))
        })
        .collect();
    let mut findings = Findings::default();
    for (alert, story) in told {
        findings.hold(story.join().is_ok(), &alert, "see above");
    }
    findings.end();
}
