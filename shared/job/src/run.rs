//! One run: connect, take the lease, let the job work, close the ledger, tell.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant as Wall},
};

use futures::FutureExt;
use runtime::{Database, Stop};
use time::OffsetDateTime;
use tokio::{sync::Notify, time::Instant};
use tracing::{error, warn};

use crate::{
    Budget, Context, Ending, Job, JobError, Outcome, OutcomeName, Report, RunInfo, Setup,
    context::lost,
    lease_guard::{self, Begin, Begun, OwnedSlot, Part},
    process::{REVISION, version},
    progress,
    push::{self, Reporter, failed_push},
    schema,
    setup::Settings,
};

/// How long a job may take to come to an end after a stop. Together with [`CLOSING`] and a push this stays well inside
/// the 30 s that Kubernetes gives.
const FINISHING: Duration = Duration::from_secs(8);
/// Longest time for writing the end of a run.
const CLOSING: Duration = Duration::from_secs(10);

/// Longest time from SIGTERM to the end of the process: the work's end, writing it down, and two pushes. The manifests'
/// `terminationGracePeriodSeconds` must be longer.
pub const SHUTDOWN: Duration =
    FINISHING.saturating_add(CLOSING).saturating_add(push::PATIENCE).saturating_add(push::PATIENCE);

/// Runs the job once. Everything that can go wrong is in the outcome.
pub(crate) async fn run<J: Job>(
    options: &J::Options,
    setup: &Setup,
    settings: &Settings,
    prepared: &J::Prepared,
    stop: &Stop,
) -> Outcome {
    tracing::info!(
        job = J::NAME,
        run_id = settings.run_id,
        trigger = settings.trigger.as_str(),
        version = version(),
        revision = REVISION,
        shard = format!("{}/{}", setup.shard.index, setup.shard.count),
        dry_run = setup.common.dry_run,
        configuration = ?(options, &setup.common),
        "started"
    );
    let began = Wall::now();
    let reporter = Reporter::new(J::NAME, setup, settings);
    let outcome = Outcome::blank(J::NAME, &settings.run_id, setup.common.dry_run);
    let start = match stop.or(Box::pin(connect(setup, settings))).await {
        None => Err(Ok(Report::new(Ending::Stopped))),
        Some(Err(error)) => Err(Err(error)),
        Some(Ok(connections)) => {
            start(OwnedSlot::new(J::NAME, setup.shard, J::SHARED), setup, settings, connections, stop)
                .await
                .map_err(Err)
        }
    };
    let (ctx, last_success) = match start {
        Ok(Start::Run(ctx, last_success)) => (*ctx, last_success),
        Ok(Start::AlreadyRunning(note)) => {
            return Outcome { duration: began.elapsed(), ..outcome.already_running(note) };
        }
        Err(report) => {
            let outcome = Outcome { duration: began.elapsed(), ..outcome.reported(report) };
            if !settings.is_retry {
                reporter.failed_early(&outcome, setup.clock.now()).await;
            }
            return outcome;
        }
    };
    let report = supervise::<J>(prepared, &ctx, &reporter, last_success).await;
    let is_told = report.is_ok();
    let mut outcome = outcome.reported(report);
    if !is_told {
        outcome.remaining = ctx.remaining();
    }
    outcome.duration = began.elapsed();
    finish(&ctx, &mut outcome, &reporter, last_success).await;
    outcome.duration = began.elapsed();
    ctx.db.close().await;
    outcome
}

/// PostgreSQL with the schema that is expected, and Redis.
pub(crate) struct Connections {
    pub(crate) db: Database,
    pub(crate) redis: redis::aio::ConnectionManager,
    /// The database's clock.
    pub(crate) now: OffsetDateTime,
}

pub(crate) async fn connect(setup: &Setup, settings: &Settings) -> Result<Connections, JobError> {
    let (Some(options), Some(url)) = (&settings.database, &settings.redis) else {
        return Err(JobError::bug("connecting without DATABASE_URL or REDIS_URL"));
    };
    let db = Database::new(options.clone(), setup.common.database_max_connections);
    let (_, now) = schema::check(&db).await?;
    let redis =
        if settings.needs_redis { runtime::redis::connect(url).await? } else { runtime::redis::connect_anew(url)? };
    Ok(Connections { db, redis, now })
}

enum Start {
    Run(Box<Context>, Option<OffsetDateTime>),
    AlreadyRunning(String),
}

async fn start(
    slot: OwnedSlot,
    setup: &Setup,
    settings: &Settings,
    connections: Connections,
    stop: &Stop,
) -> Result<Start, JobError> {
    // Not cut short by a stop: a lease that was taken without being known would last until it runs out.
    let begin = lease_guard::begin(&connections.db, slot, settings, setup.common.dry_run).await?;
    let Begun { part, started_at, totals, last_success_at } = match begin {
        Begin::Begun(begun) => begun,
        Begin::AlreadyRunning(note) => {
            connections.db.close().await;
            return Ok(Start::AlreadyRunning(note));
        }
    };
    let ctx = context(setup, settings, connections, stop, part, started_at);
    ctx.take_totals(totals);
    Ok(Start::Run(Box::new(ctx), last_success_at))
}

pub(crate) fn context(
    setup: &Setup,
    settings: &Settings,
    connections: Connections,
    stop: &Stop,
    part: Part,
    started_at: OffsetDateTime,
) -> Context {
    let run = RunInfo {
        run_id: settings.run_id.clone(),
        shard: setup.shard,
        trigger: settings.trigger,
        dry_run: setup.common.dry_run,
        started_at,
        output: setup.common.output,
        is_worker: settings.is_worker,
    };
    let budget = if settings.is_worker {
        Budget::endless(stop.clone())
    } else {
        Budget::start(setup.common.max_runtime, stop.clone())
    };
    let Connections { db, redis, .. } = connections;
    Context::new(db, redis, stop.clone(), setup.clock.clone(), setup.random.clone(), run, budget, part)
}

/// The job's own part, with everything that goes on beside it, on one task: renewals, pushes, progress, limits.
async fn supervise<J: Job>(
    prepared: &J::Prepared,
    ctx: &Context,
    reporter: &Reporter<'_>,
    last_success: Option<OffsetDateTime>,
) -> Result<Report, JobError> {
    let began = Instant::now();
    let work = AssertUnwindSafe(J::run(prepared, ctx)).catch_unwind();
    let patience = async {
        ctx.stop.stopped().await;
        tokio::time::sleep(FINISHING).await;
    };
    let done = Notify::new();
    let limited = async {
        let report = tokio::select! {
            biased;
            result = work => result.unwrap_or_else(|panic| Err(panicked(&*panic))),
            error = lease_guard::keep(ctx) => Err(error),
            () = patience => Ok(Report {
                ending: Ending::Stopped,
                remaining: ctx.remaining(),
                note: Some(format!("did not finish within {} s of being asked to stop", FINISHING.as_secs())),
            }),
            () = tokio::time::sleep_until(ctx.budget.ends_at()) => {
                Err(JobError::retry("MAX_RUNTIME is over and the work did not end by itself"))
            }
            never = progress::show(ctx, began) => match never {},
        };
        done.notify_one();
        report
    };
    futures::join!(limited, reporter.during(ctx, began, last_success, &done)).0
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> JobError {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    JobError::bug(format_args!("panicked: {}", text.unwrap_or("no message")))
}

/// Writes how the run ended, tells it, and gives the lease back last: until then nobody else pushes to our group.
async fn finish(ctx: &Context, outcome: &mut Outcome, reporter: &Reporter<'_>, last_success: Option<OffsetDateTime>) {
    outcome.note = match (outcome.note.take(), ctx.noted()) {
        (Some(told), Some(noted)) => Some(format!("{told}; {noted}")),
        (told, noted) => told.or(noted),
    };
    let closed = close(ctx, outcome).await;
    outcome.tally = ctx.tally();
    outcome.details = ctx.details();
    match closed {
        Ok(Closed::Ours { last_success, speaks }) => {
            let mut late = crate::Delta::default();
            if speaks && !reporter.ended(ctx, outcome, last_success, true).await {
                failed_push(&mut late);
            }
            lease_guard::release(ctx, &late.counts()).await;
        }
        // Whoever took over has closed our row and pushes to our group.
        Ok(Closed::TakenOver) => fail(outcome, &lost()),
        Err(error) => {
            error!(%error, "the end of the run could not be written; the next run closes it as lost");
            fail(outcome, &error);
            if !reporter.ended(ctx, outcome, last_success, false).await {
                warn!("nor could it be pushed");
            }
        }
    }
}

/// A success that could not be written down is none; a failure keeps its own reason.
fn fail(outcome: &mut Outcome, error: &JobError) {
    if outcome.name != OutcomeName::Failed && outcome.name != OutcomeName::Stopped {
        outcome.name = OutcomeName::Failed;
        outcome.exit = error.exit_code();
        outcome.error = Some(error.to_string());
    }
}

enum Closed {
    /// `speaks`: we are the one to tell it.
    Ours {
        last_success: Option<OffsetDateTime>,
        speaks: bool,
    },
    TakenOver,
}

async fn close(ctx: &Context, outcome: &Outcome) -> Result<Closed, JobError> {
    let twice = async {
        match close_once(ctx, outcome).await {
            // A connection that a stop has cut in the middle shows here.
            Err(error) if error.exit_code().retry_helps() => close_once(ctx, outcome).await,
            result => result,
        }
    };
    tokio::time::timeout(CLOSING, twice)
        .await
        .unwrap_or_else(|_| Err(JobError::retry("PostgreSQL did not answer in time (close the run)")))
}

async fn close_once(ctx: &Context, outcome: &Outcome) -> Result<Closed, JobError> {
    let closing = store::ledger::Closing {
        outcome: outcome.name.as_str(),
        remaining: outcome.remaining,
        note: outcome.note.as_deref(),
        error: outcome.error.as_deref(),
    };
    ctx.settle().await?;
    let delta = ctx.pending();
    let (slot, fencing_token, row) = match ctx.part() {
        Part::Leased { slot, fencing_token, row } => (slot, *fencing_token, *row),
        &Part::Dry { row } => {
            ctx.db
                .transaction("close the run's row", async |tx| {
                    store::ledger::add(tx, row, delta.tally(), delta.details()).await?;
                    store::ledger::close(tx, row, closing).await
                })
                .await?;
            return Ok(Closed::Ours { last_success: None, speaks: true });
        }
        Part::Bystander => return Ok(Closed::Ours { last_success: None, speaks: true }),
    };
    let mut counts = delta.counts();
    counts.extend(lease_guard::ended(outcome.name));
    let closed = ctx
        .db
        .transaction("close the run", async |tx| {
            // Keeps others out while the end is told.
            if !store::lease::renew(tx, slot.borrowed(), fencing_token).await? {
                return Ok(None);
            }
            // Closed although the lease is ours: an earlier try was committed and its answer lost.
            if store::ledger::add(tx, row, delta.tally(), delta.details()).await? {
                store::counters::add(tx, slot.job, &slot.borrowed().label(), &counts).await?;
                store::ledger::close(tx, row, closing).await?;
            }
            let totals = store::counters::totals(tx, slot.job, &slot.borrowed().label()).await?;
            let last_success = store::ledger::last_success_at(tx, slot.borrowed()).await?;
            let speaks = !slot.shared || store::lease::is_eldest(tx, slot.borrowed(), fencing_token).await?;
            Ok::<_, sqlx::Error>(Some((totals, last_success, speaks)))
        })
        .await?;
    let Some((totals, last_success, speaks)) = closed else { return Ok(Closed::TakenOver) };
    ctx.take_totals(totals);
    Ok(Closed::Ours { last_success, speaks })
}
