//! Where a story happens: a namespace of its own on the shared stack, and a stage of its own.

use std::{sync::Arc, time::Duration};

use harness::{Binary, CORPORATION, Crowd, Finished, STRANGERS, newcomer, wait_until};
use suites::{Stage, outcome};

use super::{JOB, PATIENCE, stack::Stack};

/// How long an alert gets before what raises it is done once more.
const AGAIN: Duration = Duration::from_secs(4);

/// The namespace of one alert.
pub(crate) struct Place {
    pub(crate) stack: Arc<Stack>,
    pub(crate) alert: String,
    pub(crate) namespace: String,
}

/// A place with a database, a Redis index and a simulated ESI.
pub(crate) struct Town {
    pub(crate) place: Place,
    pub(crate) stage: Stage,
}

impl Place {
    pub(crate) fn new(stack: Arc<Stack>, alert: String) -> Self {
        Self { stack, namespace: alert.to_lowercase(), alert }
    }

    /// With a stage.
    pub(crate) async fn town(self) -> Town {
        Town { stage: Stage::new().await, place: self }
    }

    /// The webhook's last word on the alert in a namespace, if it was told anything.
    pub(crate) fn last_word(&self, namespace: &str) -> Option<bool> {
        self.stack.words(&self.alert, namespace).last().map(|word| word.is_firing)
    }

    /// The rule was looked at since what happened last, and neither fires nor is about to; nor did it ever.
    pub(crate) async fn is_quiet(&self, namespace: &str) {
        self.stack.comes_round(&self.alert).await;
        let raised = format!("ALERTS{{alertname=\"{}\",namespace=\"{namespace}\"}}", self.alert);
        let raised = self.stack.prometheus.query(&raised);
        let words = self.stack.words(&self.alert, namespace);
        assert!(raised.is_empty() && words.is_empty(), "{} is not quiet: {raised:#?} {words:#?}", self.alert);
    }

    /// Waits until the webhook was told that the alert fires.
    pub(crate) async fn fires(&self) {
        self.says(true).await;
    }

    /// Waits until the webhook was told that it is over.
    pub(crate) async fn is_over(&self) {
        self.says(false).await;
    }

    /// After another round it still fires, whatever happened. Where a round comes late on a busy machine, Alertmanager may
    /// take the alert for over meanwhile, and is told again.
    pub(crate) async fn still_fires(&self) {
        self.stack.comes_round(&self.alert).await;
        self.says(true).await;
    }

    async fn says(&self, firing: bool) {
        let what = format!("the webhook is told that {} is {}", self.alert, if firing { "firing" } else { "over" });
        wait_until(PATIENCE, &what, async || self.last_word(&self.namespace) == Some(firing)).await;
    }

    /// Does this again and again, until the alert fires: on a busy machine it may take longer than the rule looks back.
    pub(crate) async fn fires_after(&self, mut act: impl AsyncFnMut()) {
        let start = tokio::time::Instant::now();
        while self.last_word(&self.namespace) != Some(true) {
            assert!(start.elapsed() < PATIENCE, "{} does not fire", self.alert);
            act().await;
            let come = async || self.last_word(&self.namespace) == Some(true);
            let _ = tokio::time::timeout(AGAIN, wait_until(PATIENCE, "the alert", come)).await;
        }
    }

    /// Of the alert's last word: how bad it is.
    pub(crate) fn severity(&self) -> String {
        let words = self.stack.words(&self.alert, &self.namespace);
        words.last().map(|word| word.severity.clone()).unwrap_or_default()
    }
}

impl Town {
    /// So many members in good standing who are due, each with a session.
    pub(crate) async fn people(&self, count: usize) -> Crowd {
        let person = |place| newcomer(format!("pilot{place}")).verified_minutes_ago(60).session();
        self.stage.crowd(count, |place| (CORPORATION, person(place))).await
    }

    /// The verifier as the CronJob of this namespace starts it.
    pub(crate) fn verifier(&self) -> Binary {
        self.here(self.stage.verifier(), &self.place.namespace)
    }

    /// A verifier that pushes to the shared stack, in this namespace.
    pub(crate) fn here(&self, verifier: Binary, namespace: &str) -> Binary {
        verifier.env("PUSHGATEWAY_URL", self.place.stack.pushgateway.url()).env("POD_NAMESPACE", namespace)
    }

    /// A run an hour later, which ends so.
    pub(crate) async fn later(&self, binary: &Binary, code: i32, name: &str) -> Finished {
        self.stage.later(60).await;
        self.now(binary, code, name).await
    }

    /// A run that ends so.
    pub(crate) async fn now(&self, binary: &Binary, code: i32, name: &str) -> Finished {
        let finished = binary.run().await.expect_code(code);
        assert_eq!(outcome(&finished)["outcome"], name, "{finished}");
        finished
    }

    /// A run that does its work, and whose totals Prometheus has read before anything else happens. The alert is quiet.
    pub(crate) async fn a_good_run(&self) {
        self.now(&self.verifier(), 0, "done").await;
        self.is_read().await;
        self.place.is_quiet(&self.place.namespace).await;
    }

    /// Waits until Prometheus has read what the last run pushed.
    pub(crate) async fn is_read(&self) {
        let stack = &self.place.stack;
        let labels = [("job", JOB), ("namespace", self.place.namespace.as_str())];
        let pushed = stack.pushgateway.value("push_time_seconds", &labels).expect("something was pushed");
        let read = format!("push_time_seconds{{job=\"{JOB}\",namespace=\"{}\"}} >= {pushed}", self.place.namespace);
        stack.holds(&read, "the last push is read").await;
    }

    /// What a run leaves that died between deciding and acting, about somebody the key of whose sessions another program
    /// has broken. Returns the key.
    pub(crate) async fn decide_in_vain(&self, people: &Crowd, place: usize) -> String {
        let account = people.account_id(place);
        let key = format!("sess:{{{account}}}:index");
        let mut redis = self.stage.db.redis();
        redis::pipe().del(&key).rpush(&key, "junk").exec_async(&mut redis).await.expect("Redis answers");
        let sql = "-- alerting::decide_in_vain
            INSERT INTO pending_invalidations (id, eve_id, character_id, account_id, brand_id, gate, verdict, rule,
                corporation_id, observed_at, decided_by)
            VALUES (gen_random_uuid(), $1, $2, $3, $4, 'acting', 'disallowed', 'not_a_member', $5, now(), 'it')";
        sqlx::query(sql)
            .bind(people.eve_id(place))
            .bind(people.character_id(place))
            .bind(account)
            .bind(self.stage.community.brand_id())
            .bind(STRANGERS)
            .execute(self.stage.db.pool())
            .await
            .expect("the row fits");
        key
    }
}
