//! Suites that start the real binaries against real servers.
//!
//! What the suites share is [`Stage`]: a database, a Redis index and a simulated ESI of the test's own, and the shipped
//! binaries with an environment that reaches them. The tests themselves are in `tests/`, one binary per suite.

#![expect(clippy::missing_panics_doc, reason = "helpers of tests report every failure by panicking")]

use std::time::Duration;

use esi_simulator::{Alliance, Character, Corporation, Simulator, World};
use harness::{
    ALLIANCE, Binary, CORPORATION, Community, Crowd, ENCRYPTION_KEY, Finished, Member, Newcomer, Pushgateway,
    STRANGERS, Servers, TestDb,
};
use serde_json::Value;

/// A corporation of [`ALLIANCE`], on no list itself.
pub const ALLIED: i64 = 98_000_002;

/// Everything a run meets: a migrated database with the brand `main`, an empty Redis index, and an ESI with the
/// corporations [`CORPORATION`], [`ALLIED`] and [`STRANGERS`].
///
/// When a test has ended well, dropping it holds the client to ESI's rules: the simulator must have seen none broken.
pub struct Stage {
    /// PostgreSQL and Redis.
    pub db: TestDb,
    /// Builds and reads what is stored.
    pub community: Community,
    /// ESI and SSO.
    pub sim: Simulator,
    /// Where metrics go, if anywhere.
    pub pushgateway: Option<Pushgateway>,
}

impl Stage {
    /// Without a Pushgateway.
    pub async fn new() -> Self {
        Self::of(TestDb::new().await).await
    }

    /// Without a Pushgateway, on servers of the test's own.
    pub async fn on(servers: &Servers) -> Self {
        Self::of(TestDb::on(servers).await).await
    }

    async fn of(db: TestDb) -> Self {
        let community = Community::new(&db).await;
        let sim = Simulator::start(world());
        stay_out_of_downtime(&sim);
        Self { db, community, sim, pushgateway: None }
    }

    /// With a Pushgateway of its own.
    pub async fn with_pushgateway() -> Self {
        let mut stage = Self::new().await;
        stage.pushgateway = Some(Pushgateway::start());
        stage
    }

    /// A shipped binary that reaches everything here, with JSON logs. Its environment holds nothing else.
    pub fn binary(&self, name: &str) -> Binary {
        let binary = Binary::new(name)
            .env("DATABASE_URL", self.db.url())
            .env("REDIS_URL", self.db.redis_url())
            .env("LOG_FORMAT", "json");
        match &self.pushgateway {
            Some(pushgateway) => binary.env("PUSHGATEWAY_URL", pushgateway.url()),
            None => binary,
        }
    }

    /// The verifier as production sets it (1000 characters a batch, no pause, no cap), with a contact and without a
    /// client of SSO; see [`with_sso`].
    pub fn verifier(&self) -> Binary {
        self.binary("character-verifier")
            .env("ENCRYPTION_KEY", ENCRYPTION_KEY)
            .env("ESI_BASE_URL", self.sim.url())
            .env("EVE_SSO_URL", self.sim.sso_url())
            .env("ESI_CONTACT", "ops@example.org")
            .env("BATCH_SIZE", "1000")
            .env("DELAY_BETWEEN_BATCHES", "0")
            .env("MAX_CHARACTERS_PER_RUN", "0")
    }

    /// One run of [`Stage::verifier`].
    pub async fn verify(&self) -> Finished {
        self.verifier().run().await
    }

    /// Adds a character; ESI shows it in [`CORPORATION`].
    pub async fn add(&self, newcomer: Newcomer) -> Member {
        self.add_in(CORPORATION, newcomer).await
    }

    /// Adds a character; ESI shows it in this corporation.
    pub async fn add_in(&self, corporation: i64, newcomer: Newcomer) -> Member {
        let member = self.community.add(newcomer).await;
        self.show(member.eve_id, corporation);
        member
    }

    /// Adds many characters; ESI shows each in the corporation that goes with its place.
    pub async fn crowd(&self, len: usize, describe: impl Fn(usize) -> (i64, Newcomer)) -> Crowd {
        let crowd = self.community.crowd(len, |place| describe(place).1).await;
        for place in 0..len {
            self.show(crowd.eve_id(place), describe(place).0);
        }
        crowd
    }

    /// From now on ESI shows the character in this corporation, which is made if there is none.
    pub fn show(&self, eve_id: i64, corporation: i64) {
        self.sim.world(|world| {
            if world.corporation(corporation).is_none() {
                world.put_corporation(Corporation::new(corporation, None));
            }
            if !world.move_character(eve_id, corporation) {
                world.put_character(Character::new(eve_id, corporation));
            }
        });
    }

    /// So many minutes pass: what is stored grows older, and what is kept of ESI's answers and limits comes nearer to
    /// its end.
    pub async fn later(&self, minutes: u32) {
        self.community.age(minutes.into()).await;
        self.sim.advance(Duration::from_secs(u64::from(minutes) * 60));
        stay_out_of_downtime(&self.sim);
        let mut redis = self.db.redis();
        let keys: Vec<String> = redis::cmd("KEYS").arg("esi:*").query_async(&mut redis).await.expect("Redis answers");
        for key in keys {
            let left: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut redis).await.expect("Redis answers");
            if left >= 0 {
                // What is due in the past ends at once.
                let left = left - i64::from(minutes) * 60_000;
                let () =
                    redis::cmd("PEXPIRE").arg(&key).arg(left).query_async(&mut redis).await.expect("Redis answers");
            }
        }
    }

    /// Forgets which of ESI's rules were broken so far: for tests that kill a client in the middle of a call.
    pub fn forgive(&self) {
        self.sim.clear_requests();
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.sim.violations(), Vec::<String>::new(), "ESI's rules were broken");
        }
    }
}

/// Gives a verifier the client of the simulated SSO, so that tokens are checked.
pub fn with_sso(verifier: Binary) -> Binary {
    verifier.env("EVE_CLIENT_ID", "sim-client").env("EVE_CLIENT_SECRET", "sim-secret")
}

/// The last log line of a run, which tells its outcome.
pub fn outcome(finished: &Finished) -> &Value {
    let last = finished.last();
    assert_eq!(message(last), Some("finished"), "the last line tells the outcome:\n{finished}");
    last
}

/// What a log line says.
pub fn message(line: &Value) -> Option<&str> {
    field(line, "message").and_then(Value::as_str)
}

/// A field of a log line, wherever the format puts it.
pub fn field<'a>(line: &'a Value, name: &str) -> Option<&'a Value> {
    line.get(name).or_else(|| line.get("fields").and_then(|fields| fields.get(name)))
}

fn world() -> World {
    let mut world = World::default();
    world.put_alliance(Alliance::new(ALLIANCE));
    world.put_corporation(Corporation::new(CORPORATION, None));
    world.put_corporation(Corporation::new(ALLIED, Some(ALLIANCE)));
    world.put_corporation(Corporation::new(STRANGERS, None));
    world
}

/// Whenever the suite runs, it is not 11 o'clock in New Eden unless a test says so: a failure in the daily downtime
/// means something else.
fn stay_out_of_downtime(sim: &Simulator) {
    let now = sim.now();
    if (10..=11).contains(&now.hour()) {
        sim.set_time(now + Duration::from_hours(3));
    }
}
