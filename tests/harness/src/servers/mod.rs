//! The servers.

pub(crate) mod alertmanager;
pub(crate) mod nats;
pub(crate) mod pgbouncer;
pub(crate) mod postgres;
pub(crate) mod prometheus;
pub(crate) mod pushgateway;
pub(crate) mod redis;
pub(crate) mod tls;
pub(crate) mod webhook;

use std::sync::{OnceLock, atomic::AtomicU32};

use tokio::sync::OnceCell;

use self::{
    pgbouncer::PgBouncer,
    postgres::{Durability, Postgres},
    redis::Redis,
};

/// A PostgreSQL, a PgBouncer before it, and a Redis.
#[derive(Debug)]
pub struct Servers {
    /// The database server.
    pub postgres: Postgres,
    /// The pooler before it.
    pub pgbouncer: PgBouncer,
    /// The session store.
    pub redis: Redis,
    /// Set when the migrated template database is there.
    pub(crate) template: OnceCell<()>,
    /// Number of the next test database, and of its Redis index.
    pub(crate) next: AtomicU32,
}

impl Servers {
    /// Servers of one's own: for a test that stops or freezes one of them, or that needs real durability.
    pub fn start(durability: Durability) -> Self {
        std::thread::scope(|scope| {
            let redis = scope.spawn(Redis::start);
            let postgres = Postgres::start(durability);
            let pgbouncer = PgBouncer::start(&postgres);
            let redis = redis.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Self { postgres, pgbouncer, redis, template: OnceCell::new(), next: AtomicU32::new(0) }
        })
    }
}

/// The servers that all tests of this process share, started on first use (about 1.5 s). They are not durable, and
/// nobody may stop or freeze them.
pub fn servers() -> &'static Servers {
    static SERVERS: OnceLock<Servers> = OnceLock::new();
    SERVERS.get_or_init(|| Servers::start(Durability::Off))
}
