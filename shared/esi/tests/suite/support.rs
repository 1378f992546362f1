//! A simulator, a private Redis and clients of both.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use esi::{Deadline, Esi, Settings, Shared, SsoClient};
use esi_simulator::{Alliance, Character, Corporation, Generated, Simulator, World};
use identity::{
    approval::Organisation,
    ids::{AllianceId, CorporationId, EveCharacterId},
};
use runtime::{Clock, Secret, Stop};
use time::macros::datetime;
use tokio::time::{Instant, sleep, timeout};

pub(crate) const FIRST: i64 = 90_000_001;
pub(crate) const CORPORATION: i64 = 98_000_001;
pub(crate) const OTHER_CORPORATION: i64 = 98_000_002;
pub(crate) const ALLIANCE: i64 = 99_000_001;

/// A thousand characters in two corporations, the first of which is in an alliance.
pub(crate) fn world() -> World {
    let mut world = World::default();
    world.put_alliance(Alliance::new(ALLIANCE));
    world.put_corporation(Corporation::new(CORPORATION, Some(ALLIANCE)));
    world.put_corporation(Corporation::new(OTHER_CORPORATION, None));
    world.generate(Generated { first_id: FIRST, count: 1000, corporations: vec![CORPORATION, OTHER_CORPORATION] });
    world
}

pub(crate) fn member() -> Organisation {
    Organisation { corporation: CorporationId(CORPORATION), alliance: Some(AllianceId(ALLIANCE)) }
}

pub(crate) fn nth(index: i64) -> EveCharacterId {
    EveCharacterId(FIRST + index)
}

pub(crate) fn thousand() -> Vec<EveCharacterId> {
    (0..1000).map(nth).collect()
}

pub(crate) fn within(seconds: u64) -> Deadline {
    Instant::now() + Duration::from_secs(seconds)
}

/// A server on a socket in a folder of its own; both go with it.
pub(crate) struct Redis {
    server: Child,
    folder: tempfile::TempDir,
}

impl Redis {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--dir"])
            .arg(folder.path())
            .arg("--unixsocket")
            .arg(folder.path().join("s"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { server, folder }
    }

    /// A connection, as soon as the server takes one.
    pub(crate) async fn connect(&self) -> redis::aio::ConnectionManager {
        let url = Secret::new(format!("redis+unix://{}/s", self.folder.path().display()));
        let connected = async {
            loop {
                match runtime::redis::connect(&url).await {
                    Ok(conn) => return conn,
                    Err(_) => sleep(Duration::from_millis(20)).await,
                }
            }
        };
        timeout(Duration::from_secs(20), connected).await.expect("redis-server starts")
    }

    /// Every key, sorted.
    pub(crate) async fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut self.connect().await).await.unwrap();
        keys.sort();
        keys
    }

    pub(crate) fn kill(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

pub(crate) struct Bench {
    pub(crate) simulator: Simulator,
    pub(crate) redis: Redis,
    pub(crate) clock: Clock,
    pub(crate) stop: Stop,
}

impl Bench {
    /// In the afternoon, well clear of the downtime.
    pub(crate) fn of(world: World) -> Self {
        let simulator = Simulator::start(world);
        simulator.set_time(datetime!(2026-11-22 15:00:00 UTC));
        Self { simulator, redis: Redis::start(), clock: Clock::System, stop: Stop::never() }
    }

    pub(crate) fn start() -> Self {
        Self::of(world())
    }

    pub(crate) async fn esi(&self) -> Esi {
        self.esi_with(|_, _| ()).await
    }

    pub(crate) async fn esi_with(&self, change: impl FnOnce(&mut Settings, &mut Shared)) -> Esi {
        let mut settings = Settings {
            base_url: self.simulator.url().parse().unwrap(),
            sso_url: self.simulator.sso_url().parse().unwrap(),
            user_agent_contact: Some("ops@example.org".into()),
            compatibility_date: "2025-01-01".into(),
            concurrency: 8,
            requests_per_second: 1000,
            client: Some(SsoClient { id: "sim-client".into(), secret: Secret::new("sim-secret") }),
        };
        let mut shared = Shared { conn: self.redis.connect().await, read_only: false };
        change(&mut settings, &mut shared);
        Esi::new(settings, self.clock.clone(), self.stop.clone(), shared)
    }

    /// The client broke none of ESI's rules.
    #[track_caller]
    pub(crate) fn well_behaved(&self) {
        assert_eq!(self.simulator.violations(), Vec::<String>::new());
    }
}

/// A character of its own, beside the generated ones.
pub(crate) fn character(id: i64) -> Character {
    Character::new(id, CORPORATION)
}
