//! What one run holds in its hands.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    rc::Rc,
};

use esi::{Count, Esi};
use identity::{approval::ApprovalConfig, ids::BrandId};
use job::{Context, Delta, JobError};
use metrics::verifier as metric;
use runtime::cache::BoundedMap;
use sessions::{EpochMillis, Sessions};
use store::{
    shard::Part,
    sweep::{Terms, active_characters, oldest_unverified_seconds},
};
use time::OffsetDateTime;
use tracing::warn;
use uuid::Uuid;

use crate::options::Settings;

/// Organisation names remembered in a run: twice this many.
const NAMES: usize = 10_000;

/// The run's clients, lists and terms.
pub(crate) struct Run<'a> {
    /// The runner's side: database, budget, checkpoints.
    pub ctx: &'a Context,
    /// What operators set.
    pub settings: &'a Settings,
    /// Towards ESI and the SSO.
    pub esi: Rc<Esi>,
    /// Sessions in Redis.
    pub sessions: Sessions,
    /// The lists of each brand, read once.
    pub lists: HashMap<BrandId, ApprovalConfig>,
    /// What is due.
    pub terms: Terms,
    /// Names of organisations met so far; `None`: asked for in vain.
    pub names: RefCell<BoundedMap<i64, Option<String>>>,
    /// Names took too long once: this run asks for no more.
    pub names_are_slow: Cell<bool>,
    /// Everybody who was due has been asked about.
    pub swept: Cell<bool>,
    /// Decided invalidations that broken keys made impossible in this run.
    pub broken: RefCell<HashSet<Uuid>>,
}

impl<'a> Run<'a> {
    /// Reads the lists and makes the clients; nothing is asked of ESI yet.
    ///
    /// # Errors
    /// The database fails, or no brand has lists.
    pub(crate) async fn start(ctx: &'a Context, settings: &'a Settings) -> Result<Self, JobError> {
        let lists = ctx.db.transaction("read auth_config", async |db| store::auth_config::all(db).await).await?;
        if lists.is_empty() {
            return Err(JobError::config(
                "auth_config has no row: add one for each brand (docs/CONFIGURATION.md); nothing was checked",
            ));
        }
        for (brand, lists) in &lists {
            if lists.denies_everybody() {
                warn!(%brand, "auth_config requires membership and allows nobody: no session will be taken without approval");
            }
        }
        let started_at = ctx.run.started_at;
        Ok(Self {
            ctx,
            settings,
            esi: Rc::new(client(ctx, settings)),
            sessions: Sessions::new(ctx.redis.clone(), sessions::Settings::default()),
            lists,
            terms: Terms { started_at, cutoff: started_at - settings.threshold, part: part(ctx) },
            names: RefCell::new(BoundedMap::new(NAMES)),
            names_are_slow: Cell::new(false),
            swept: Cell::new(false),
            broken: RefCell::default(),
        })
    }

    /// Hands what the ESI client has counted to the next checkpoint.
    pub(crate) fn collect_counts(&self) {
        self.ctx.note_counters(|delta| add_counts(&self.esi, delta));
    }

    /// Gauges for the push: exposure, who is checked, what is held and what waits.
    ///
    /// # Errors
    /// The database fails.
    pub(crate) async fn gauges(&self) -> Result<(), JobError> {
        // A shard knows nothing of the others' characters.
        let swept = self.swept.get() && self.terms.part.count == 1;
        let swept_to = if swept { self.terms.cutoff } else { OffsetDateTime::UNIX_EPOCH };
        let part = self.terms.part;
        let (oldest, active, held, pending) = self
            .ctx
            .db
            .transaction("read gauges", async |db| {
                Ok::<_, sqlx::Error>((
                    oldest_unverified_seconds(db, swept_to).await?,
                    active_characters(db, part).await?,
                    store::candidates::count_held(db, part).await?,
                    store::invalidations::count(db, part).await?,
                ))
            })
            .await?;
        self.ctx.gauge(&metric::OLDEST_UNVERIFIED, &[], oldest);
        self.ctx.gauge(&metric::ACTIVE, &[], active);
        self.ctx.gauge(&metric::HELD, &[], held as f64);
        self.ctx.gauge(&metric::PENDING, &[], pending as f64);
        Ok(())
    }
}

/// The client towards ESI; dry runs write nothing to Redis.
pub(crate) fn client(ctx: &Context, settings: &Settings) -> Esi {
    let shared = esi::Shared { conn: ctx.redis.clone(), read_only: ctx.run.dry_run };
    Esi::new(settings.esi.clone(), ctx.clock.clone(), ctx.stop.clone(), shared)
}

/// The run's part of the accounts.
pub(crate) fn part(ctx: &Context) -> Part {
    Part { index: ctx.run.shard.index.into(), count: i32::try_from(ctx.run.shard.count).unwrap_or(i32::MAX) }
}

fn add_counts(esi: &Esi, delta: &mut Delta) {
    for Count { route, outcome, count } in esi.take_counts() {
        delta.add(&metric::ESI_CALLS, &[route], count);
        delta.detail("esi_calls", count);
        if outcome != "ok" {
            delta.add(&metric::ESI_ERRORS, &[outcome], count);
            delta.detail("esi_errors", count);
        }
    }
}

/// The database's time as sessions keep it.
pub(crate) fn millis(at: OffsetDateTime) -> EpochMillis {
    EpochMillis(i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX))
}
