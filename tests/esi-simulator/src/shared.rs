//! What the request handlers and the owner of a simulator share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use time::{Duration, OffsetDateTime};
use tokio::sync::watch;

use crate::call::Call;
use crate::clock::Clock;
use crate::log::{End, Log, Recorded};
use crate::manners::Manners;
use crate::script::Script;
use crate::settings::Settings;
use crate::token::Signer;
use crate::world::World;

/// No lock is held across an await or while another is waited for, except the clock's, which waits for none.
pub(crate) struct Shared {
    world: RwLock<World>,
    settings: RwLock<Arc<Settings>>,
    clock: Mutex<Clock>,
    script: Mutex<Script>,
    manners: Mutex<Manners>,
    log: Mutex<Log>,
    /// Counts changes of the log, for those who wait for one.
    pub(crate) changes: watch::Sender<u64>,
    pub(crate) signer: Signer,
}

/// A test that panicked inside a closure is reported as that panic, not as a poisoned lock here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(world: World, signer: Signer) -> Self {
        let clock = Clock::real();
        let manners = Manners::starting(clock.now());
        Self {
            world: RwLock::new(world),
            settings: RwLock::default(),
            clock: Mutex::new(clock),
            script: Mutex::default(),
            manners: Mutex::new(manners),
            log: Mutex::default(),
            changes: watch::Sender::new(0),
            signer,
        }
    }

    pub(crate) fn world(&self) -> RwLockReadGuard<'_, World> {
        self.world.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn world_mut(&self) -> RwLockWriteGuard<'_, World> {
        self.world.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A snapshot, so that no lock is held while the request goes on.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn change_settings<R>(&self, change: impl FnOnce(&mut Settings) -> R) -> R {
        change(Arc::make_mut(&mut self.settings.write().unwrap_or_else(PoisonError::into_inner)))
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        lock(&self.script)
    }

    pub(crate) fn manners(&self) -> MutexGuard<'_, Manners> {
        lock(&self.manners)
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        lock(&self.log)
    }

    pub(crate) fn now(&self) -> OffsetDateTime {
        lock(&self.clock).now()
    }

    /// Error window, buckets, waits and caches belong to the old time and start anew.
    pub(crate) fn set_time(&self, to: OffsetDateTime) {
        lock(&self.clock).set(to);
        *self.manners() = Manners::starting(to);
    }

    pub(crate) fn advance(&self, by: Duration) {
        lock(&self.clock).advance(by);
    }

    pub(crate) fn arrived(&self, call: &Call) -> u64 {
        let ids = call.ids.as_deref().unwrap_or_default();
        let recorded = Recorded {
            route: call.route,
            method: call.method.to_string(),
            path: call.path.clone(),
            status: None,
            ids_count: ids.len(),
            ids: if self.settings().record_ids { ids.to_vec() } else { Vec::new() },
            user_agent: call.header("user-agent").map(str::to_owned),
            arrived: self.now(),
            answered: None,
        };
        let number = self.log().arrived(recorded);
        self.changes.send_modify(|changes| *changes += 1);
        number
    }

    pub(crate) fn ended(&self, number: u64, end: &End) {
        let now = self.now();
        self.log().ended(number, end, now);
        self.changes.send_modify(|changes| *changes += 1);
    }

    pub(crate) fn broken(&self, call: &Call, rules: Vec<String>) {
        if rules.is_empty() {
            return;
        }
        let mut log = self.log();
        for rule in rules {
            log.violation(format!("{} {}: {rule}", call.method, call.path));
        }
    }
}
