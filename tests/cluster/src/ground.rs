//! Everything a test has: a namespace with the overlay in it, and the servers outside.

use std::net::SocketAddr;

use harness::{Crowd, ENCRYPTION_KEY, FaultProxy, Pushgateway, newcomer};
use sqlx::AssertSqlSafe;
use suites::Stage;

use crate::{
    cluster::Cluster,
    commands::{Answer, bash, try_bash},
    container::say,
    doors::Doors,
    overlay::Overlay,
};

/// Addresses of the servers' doors.
#[derive(Debug, Clone, Copy)]
pub struct Outside {
    /// PostgreSQL.
    pub postgres: SocketAddr,
    /// Redis.
    pub redis: SocketAddr,
    /// Pushgateway.
    pub pushgateway: SocketAddr,
    /// ESI and SSO.
    pub esi: SocketAddr,
}

/// The namespace goes when this is dropped; after a failure, what was in it is told first.
pub struct Ground {
    /// Database, Redis, Pushgateway and ESI.
    pub stage: Stage,
    /// Before ESI; what is done to it holds pods.
    pub esi: FaultProxy,
    /// The manifests.
    pub overlay: Overlay,
    /// Name of the namespace.
    pub namespace: String,
    /// Where pods and this machine alike reach the servers.
    pub outside: Outside,
    _doors: Doors,
}

impl Ground {
    /// With the overlay applied in a namespace named after `case`, and the CronJob suspended.
    pub async fn new(case: &str) -> Self {
        let ground = Self::prepared(case, &[]).await;
        ground.apply();
        ground
    }

    /// The same with these components.
    pub async fn with(case: &str, components: &[&str]) -> Self {
        let ground = Self::prepared(case, components).await;
        ground.apply();
        ground
    }

    /// A second installation on the same cluster, with everything of its own but for the Pushgateway.
    pub async fn beside(case: &str, other: &Self) -> Self {
        Cluster::get();
        let ground = Self::on(Stage::new().await, &other.pushgateway().address(), case, &[]);
        ground.apply();
        ground
    }

    /// With namespace and Secrets, and nothing applied.
    pub async fn prepared(case: &str, components: &[&str]) -> Self {
        // Before the servers: it removes what an aborted run has left.
        Cluster::get();
        let stage = Stage::with_pushgateway().await;
        let pushgateway = stage.pushgateway.as_ref().expect("the stage has one").address();
        Self::on(stage, &pushgateway, case, components)
    }

    fn on(stage: Stage, pushgateway: &str, case: &str, components: &[&str]) -> Self {
        let host = Cluster::get().host;
        let esi = FaultProxy::start(&stage.sim.url());
        let doors = Doors::on(host);
        let (postgres, redis) = (loopback(stage.db.url()), loopback(stage.db.redis_url()));
        let (pushgateway, simulator) = (loopback(pushgateway), loopback(&esi.address()));

        let outside = Outside {
            postgres: SocketAddr::new(host, doors.open(postgres)),
            redis: SocketAddr::new(host, doors.open(redis)),
            pushgateway: SocketAddr::new(host, doors.open(pushgateway)),
            esi: SocketAddr::new(host, doors.open(simulator)),
        };
        let namespace = format!("rollcall-test-{case}");
        let overlay = Overlay::of("test", &namespace, components);
        overlay.write(
            "overlays/test/servers.yaml",
            &format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: test-servers\n  \
                 annotations: {{config.kubernetes.io/local-config: \"true\"}}\n\
                 data:\n  address: {host}\n  postgres: \"{}\"\n  redis: \"{}\"\n  pushgateway: \"{}\"\n  esi: \"{}\"\n",
                outside.postgres.port(),
                outside.redis.port(),
                outside.pushgateway.port(),
                outside.esi.port(),
            ),
        );
        let ground = Self { stage, esi, overlay, namespace, outside, _doors: doors };
        ground.overlay.make_namespace();
        ground.make_secrets();
        ground
    }

    /// Names and usual ports inside the cluster, which the overlay's Services lead to.
    fn make_secrets(&self) {
        let database = at(self.stage.db.url(), "postgres:5432");
        let redis = at(self.stage.db.redis_url(), "redis:6379");
        self.bash(&format!(
            "kubectl -n rollcall create secret generic migrate-secrets --from-literal=DATABASE_URL='{database}'
             kubectl -n rollcall create secret generic character-verifier-secrets \
               --from-literal=DATABASE_URL='{database}' --from-literal=REDIS_URL='{redis}' \
               --from-literal=ENCRYPTION_KEY={ENCRYPTION_KEY}
             kubectl -n rollcall create secret generic outbox-drain-secrets \
               --from-literal=DATABASE_URL='{database}' --from-literal=REDIS_URL='{redis}'
             kubectl -n rollcall create secret generic pushgateway-secrets \
               --from-literal=PUSHGATEWAY_URL=http://pushgateway:9091"
        ));
    }

    /// Applies the overlay; what kubectl says of each object.
    ///
    /// # Panics
    /// It fails, or the API server has a warning.
    pub fn apply(&self) -> String {
        let answer = try_bash(&format!("kubectl apply -k '{}'", self.overlay.path()));
        assert!(answer.is_ok && answer.error.is_empty(), "{}{}", answer.out, answer.error);
        answer.out
    }

    /// Lines of bash as the documentation has them; their namespace `rollcall` is this test's own.
    pub fn bash(&self, script: &str) -> String {
        bash(&self.here(script))
    }

    /// The same, whatever comes of it.
    pub fn try_bash(&self, script: &str) -> Answer {
        try_bash(&self.here(script))
    }

    fn here(&self, script: &str) -> String {
        script.replace("-n rollcall ", &format!("-n {} ", self.namespace))
    }

    /// Adds so many characters that are due, each with a session; ESI shows each in this corporation.
    pub async fn people(&self, count: usize, corporation: i64) -> Crowd {
        let describe =
            |place| (corporation, newcomer(format!("{corporation}-{place}")).verified_minutes_ago(90).session());
        self.stage.crowd(count, describe).await
    }

    /// How many of these sessions live.
    pub async fn alive(&self, crowd: &Crowd) -> usize {
        let mut alive = 0;
        for place in 0..crowd.len() {
            alive += usize::from(self.stage.community.has_session(&crowd.session_token(place)).await);
        }
        alive
    }

    /// The ledger of the verifier, oldest first: trigger and outcome, `-` while a run is open.
    pub async fn ledger(&self) -> Vec<(String, String)> {
        let runs = self.stage.community.runs().await.into_iter();
        runs.map(|run| (run.trigger, run.outcome.unwrap_or_else(|| "-".to_owned()))).collect()
    }

    /// Characters that are still due.
    pub async fn due(&self) -> i64 {
        self.number(
            "SELECT count(*) FROM eve_characters
             WHERE last_verified_at IS NULL OR last_verified_at < now() - interval '1 hour'",
        )
        .await
    }

    /// A number from the database.
    pub async fn number(&self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(format!("-- cluster::number\n{sql}"));
        sqlx::query_scalar(sql).fetch_one(self.stage.db.pool()).await.expect("PostgreSQL answers")
    }

    /// Changes something in the database.
    pub async fn execute(&self, sql: &str) {
        let sql = AssertSqlSafe(format!("-- cluster::execute\n{sql}"));
        sqlx::query(sql).execute(self.stage.db.pool()).await.expect("PostgreSQL answers");
    }

    /// What was pushed.
    pub fn pushgateway(&self) -> &Pushgateway {
        self.stage.pushgateway.as_ref().expect("the stage has one")
    }

    /// A value that the verifier of this namespace pushed.
    pub fn pushed(&self, metric: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.pushed_by(crate::VERIFIER, metric, labels)
    }

    /// A value that this job of this namespace pushed.
    pub fn pushed_by(&self, job: &str, metric: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut all = vec![("job", job), ("namespace", &*self.namespace)];
        all.extend(labels);
        self.pushgateway().value(metric, &all)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let told = self.try_bash(
                "kubectl -n rollcall get cronjobs,jobs,pods -o wide
                 kubectl -n rollcall get events --sort-by=.lastTimestamp | tail -20
                 kubectl -n rollcall logs -l app.kubernetes.io/part-of=rollcall --tail=10 --prefix --ignore-errors",
            );
            say(&format!("--- {} when it failed\n{}{}", self.namespace, told.out, told.error));
        }
        // The servers outside go now; a pod that still runs ends without them.
        self.try_bash(&format!("kubectl delete namespace {} --wait=false", self.namespace));
    }
}

/// A URL of a server on the loopback interface, with another address in it.
pub fn at(url: &str, address: &str) -> String {
    url.replace(&loopback(url).to_string(), address)
}

/// The address in a URL of a server on the loopback interface.
fn loopback(url: &str) -> SocketAddr {
    let start = url.find("127.0.0.1:").unwrap_or_else(|| panic!("{url} is not on the loopback interface"));
    let end = url[start..].find('/').map_or(url.len(), |length| start + length);
    url[start..end].parse().expect("host and port")
}
