//! Taking the lease and keeping it.

use std::time::Duration;

use runtime::Database;
use store::{
    counters,
    counters::Count,
    lease,
    lease::{LASTS_SECONDS, Slot},
    ledger,
};
use time::OffsetDateTime;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::{Context, Delta, JobError, OutcomeName, Shard, context::lost, process::version, setup::Settings};

/// Time between two renewals.
const RENEW: Duration = Duration::from_secs(10);
/// Time until the next try after a renewal failed.
const RENEW_AGAIN: Duration = Duration::from_secs(2);
/// How long a lease counts as ours without a renewal: less than the database's view, counted from before we asked.
const HOLDS: Duration = Duration::from_secs(LASTS_SECONDS - 5);

/// What a process does beside others.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    /// A real run, which holds the lease.
    Leased {
        /// Job and shard.
        slot: OwnedSlot,
        /// Its number.
        fencing_token: i64,
        /// Its row in the ledger.
        row: i64,
    },
    /// A dry run, which has only its row.
    Dry {
        /// Its row in the ledger.
        row: i64,
    },
    /// A further subcommand, which is no run.
    Bystander,
}

/// A [`Slot`] that lives as long as the process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnedSlot {
    pub(crate) job: &'static str,
    shard: Shard,
    pub(crate) shared: bool,
}

impl OwnedSlot {
    pub(crate) fn new(job: &'static str, shard: Shard, shared: bool) -> Self {
        Self { job, shard, shared }
    }

    pub(crate) fn borrowed(&self) -> Slot<'_> {
        let narrow = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        Slot {
            job: self.job,
            shard_count: narrow(self.shard.count),
            shard_index: narrow(self.shard.index),
            shared: self.shared,
        }
    }
}

/// A run that may start.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) part: Part,
    pub(crate) started_at: OffsetDateTime,
    pub(crate) totals: Vec<Count>,
    pub(crate) last_success_at: Option<OffsetDateTime>,
}

/// Whether a run may start.
#[derive(Debug)]
pub(crate) enum Begin {
    /// It may.
    Begun(Begun),
    /// Another run is at it: a sentence that says which.
    AlreadyRunning(String),
}

/// Takes the lease, closes the rows of runs that died and opens the run's own, in one transaction. A dry run only opens
/// its row.
pub(crate) async fn begin(
    db: &Database,
    slot: OwnedSlot,
    settings: &Settings,
    dry_run: bool,
) -> Result<Begin, JobError> {
    let run = ledger::NewRun {
        slot: slot.borrowed(),
        run_id: &settings.run_id,
        trigger: settings.trigger.as_str(),
        dry_run,
        version: version(),
    };
    if dry_run {
        let opened = db.transaction("open the run's row", async |tx| ledger::open(tx, run).await).await?;
        let part = Part::Dry { row: opened.id };
        let begun = Begun { part, started_at: opened.started_at, totals: Vec::new(), last_success_at: None };
        return Ok(Begin::Begun(begun));
    }
    let (begin, dead) = db
        .transaction("take the lease", async |tx| {
            let busy = lease::enter(tx, slot.borrowed(), &settings.run_id).await?;
            let dead = ledger::close_lost(tx, slot.job).await?;
            for lost in dead.iter().filter(|lost| !lost.dry_run) {
                let label = lease::shard_label(lost.shard_count, lost.shard_index);
                counters::add(tx, slot.job, &label, &ended(OutcomeName::Lost)).await?;
            }
            let opened = ledger::open(tx, run).await?;
            if let Some(busy) = busy {
                let note = format!("run {} is at it", busy.run_id);
                let name = OutcomeName::AlreadyRunning;
                let closing = ledger::Closing { outcome: name.as_str(), remaining: 0, note: Some(&note), error: None };
                ledger::close(tx, opened.id, closing).await?;
                counters::add(tx, slot.job, &slot.borrowed().label(), &ended(name)).await?;
                return Ok((Begin::AlreadyRunning(note), dead));
            }
            let fencing_token = lease::take(tx, slot.borrowed(), &settings.run_id).await?;
            let begun = Begun {
                part: Part::Leased { slot, fencing_token, row: opened.id },
                started_at: opened.started_at,
                totals: counters::totals(tx, slot.job, &slot.borrowed().label()).await?,
                last_success_at: ledger::last_success_at(tx, slot.borrowed()).await?,
            };
            Ok::<_, sqlx::Error>((Begin::Begun(begun), dead))
        })
        .await?;
    for lost in dead {
        warn!(run_id = lost.run_id, shard = lost.shard_index, dry_run = lost.dry_run, "closed a run that died");
    }
    Ok(begin)
}

/// One more run with this outcome.
pub(crate) fn ended(name: OutcomeName) -> Vec<Count> {
    let mut delta = Delta::default();
    delta.add(&metrics::runner::RUNS, &[name.as_str()], 1);
    delta.counts()
}

/// Renews the lease until it is lost, and gives signs of life. Returns only when it is lost.
pub(crate) async fn keep(ctx: &Context) -> JobError {
    let mut holds_until = Instant::now() + HOLDS;
    let mut pause = RENEW;
    loop {
        tokio::time::sleep(pause).await;
        let asked_at = Instant::now();
        match tokio::time::timeout_at(holds_until, renew(ctx)).await {
            Ok(Ok(true)) => {
                holds_until = asked_at + HOLDS;
                pause = RENEW;
            }
            Ok(Ok(false)) => return lost(),
            Ok(Err(error)) => {
                warn!(%error, "the lease could not be renewed; trying again");
                pause = RENEW_AGAIN;
            }
            Err(_) if matches!(ctx.part(), Part::Leased { .. }) => {
                return JobError::retry("lease lost: PostgreSQL did not let it be renewed before it ran out");
            }
            // Nothing depends on a dry run's sign of life.
            Err(_) => holds_until = asked_at + HOLDS,
        }
    }
}

async fn renew(ctx: &Context) -> Result<bool, runtime::DbError> {
    ctx.db
        .transaction("renew the lease", async |tx| match ctx.part() {
            Part::Leased { slot, fencing_token, row } => {
                ledger::heartbeat(tx, *row).await?;
                lease::renew(tx, slot.borrowed(), *fencing_token).await
            }
            Part::Dry { row } => ledger::heartbeat(tx, *row).await.map(|()| true),
            Part::Bystander => Ok(true),
        })
        .await
}

/// Whether this run tells the metrics of its group. Where runs share the work, the eldest does, with what all of them have
/// counted.
pub(crate) async fn speaks(ctx: &Context) -> bool {
    let Part::Leased { slot, fencing_token, .. } = ctx.part() else { return true };
    if !slot.shared {
        return true;
    }
    let looked = ctx
        .db
        .transaction("look who tells the metrics", async |tx| {
            let speaks = lease::is_eldest(tx, slot.borrowed(), *fencing_token).await?;
            Ok::<_, sqlx::Error>((speaks, counters::totals(tx, slot.job, &slot.borrowed().label()).await?))
        })
        .await;
    match looked {
        Ok((speaks, totals)) => {
            ctx.take_totals(totals);
            speaks
        }
        // The next push tells.
        Err(_) => false,
    }
}

/// Gives the lease back and writes `counts`, which came too late for the run's last transaction.
pub(crate) async fn release(ctx: &Context, counts: &[Count]) {
    let Part::Leased { slot, fencing_token, .. } = ctx.part() else { return };
    let released = ctx
        .db
        .transaction("release the lease", async |tx| {
            counters::add(tx, slot.job, &slot.borrowed().label(), counts).await?;
            lease::release(tx, slot.borrowed(), *fencing_token).await
        })
        .await;
    if let Err(error) = released {
        info!(%error, "the lease could not be released; it frees itself in {LASTS_SECONDS} s");
    }
}
