//! A bounded run: until nothing is left.

use std::time::Duration;

use job::{Ending, Job, JobError, Report, batches::End};
use metrics::outbox as metric;
use outbox::{Sink, sink::SinkError};
use store::outbox::{
    pages::{self, Place},
    partitions::{self, Foreign},
    state,
};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::{
    OutboxDrain,
    drain::{Drain, Pass, Trouble},
    refused,
};

/// For how long a sink that takes nothing is waited for; then the next run tries.
const OUTAGE: Duration = Duration::from_secs(30);
/// Pause before the next pass while somebody may still bring something.
const AGAIN: Duration = Duration::from_millis(10);
/// Pause before the next look at partitions of others.
const LOOK: Duration = Duration::from_millis(250);

/// Time between two readings of the gauges.
pub(crate) const GAUGES: Duration = Duration::from_secs(15);

/// Drains until nothing is left, `MAX_EVENTS` are out or the time is over.
pub(crate) async fn run<S: Sink>(drain: &Drain<'_, S>) -> Result<Report, JobError> {
    let ended = until_empty(drain).await;
    report(drain, ended).await
}

/// How it ended, and how the outbox stands now.
pub(crate) async fn report<S: Sink>(drain: &Drain<'_, S>, ended: Result<Ended, JobError>) -> Result<Report, JobError> {
    drain.note_that_it_was_slow().await;
    let state = match drain.gauges(state::AT_THE_END).await {
        Ok(state) => Some(state),
        Err(error) => {
            // What was done stands; a statistic that could not be had must not make a failure of it.
            warn!(%error, "gauges could not be read");
            None
        }
    };
    let ended = ended?;
    let remaining = state.map_or(0, |state| state.backlog.unsigned_abs());
    let (ending, note) = match ended {
        Ended::Stopped => (Ending::Stopped, None),
        Ended::ReaderGone => (Ending::Done, Some("whoever read standard output has gone".to_owned())),
        Ended::Empty if drain.read.get() + drain.adopted.get() == 0 => (Ending::NothingToDo, None),
        Ended::Empty | Ended::Limit => (Ending::Done, None),
    };
    let note = note.or_else(|| {
        let held = state.filter(|state| state.held > 0 || state.dead_letters > 0)?;
        Some(format!(
            "{} aggregates are held back, {} events are dead letters: see dead-letters list",
            held.held, held.dead_letters
        ))
    });
    Ok(Report { ending, remaining, note })
}

/// Why it ended.
pub(crate) enum Ended {
    /// Nothing is left.
    Empty,
    /// `MAX_EVENTS` are out, or the time is over.
    Limit,
    /// It was asked to stop.
    Stopped,
    /// Whoever read standard output has gone.
    ReaderGone,
}

async fn until_empty<S: Sink>(drain: &Drain<'_, S>) -> Result<Ended, JobError> {
    let mut outage = Outage::default();
    let mut seen: Option<Vec<Foreign>> = None;
    let mut gauges_at: Option<Instant> = None;
    loop {
        if gauges_at.is_none_or(|at| at.elapsed() >= GAUGES) {
            match drain.gauges(state::AT_WORK).await {
                Ok(state) if gauges_at.is_none() => {
                    let most = drain.settings.options.max_events;
                    drain.ctx.expect_total(state.backlog.unsigned_abs().min(if most > 0 { most } else { u64::MAX }));
                }
                Ok(_) => {}
                Err(error) => warn!(%error, "gauges could not be read"),
            }
            gauges_at = Some(Instant::now());
        }
        let pass = drain.pass().await;
        if drain.ctx.stop.is_stopped() {
            return Ok(Ended::Stopped);
        }
        if drain.took.get() {
            outage = Outage::default();
        }
        match pass? {
            Pass::Whole { read, is_open } => {
                outage = Outage::default();
                if read > 0 {
                    continue;
                }
                let pause = if is_open {
                    AGAIN
                } else if others_are_at_it(drain, &mut seen).await? {
                    return Ok(Ended::Empty);
                } else {
                    LOOK
                };
                if !drain.ctx.stop.sleep(pause).await {
                    return Ok(Ended::Stopped);
                }
                if !drain.ctx.budget.working() {
                    return Ok(Ended::Limit);
                }
            }
            Pass::Yielded => {}
            Pass::Cut(End::Stopped) => return Ok(Ended::Stopped),
            Pass::Cut(_) => return out_of_time(drain, outage),
            Pass::Trouble(trouble @ (Trouble::Lost | Trouble::Sink(SinkError::Fenced(_)))) => {
                info!("partitions are not held any more; taking what is free");
                if !drain.ctx.stop.sleep(LOOK).await {
                    return Ok(Ended::Stopped);
                }
                if !drain.ctx.budget.working() {
                    return match trouble {
                        Trouble::Sink(error) => Err(refused(&error)),
                        Trouble::Lost => out_of_time(drain, outage),
                    };
                }
            }
            Pass::Trouble(Trouble::Sink(SinkError::Closed)) => return Ok(Ended::ReaderGone),
            Pass::Trouble(Trouble::Sink(error)) => {
                let Some(pause) = outage.pause(drain, &error) else { return Err(refused(&error)) };
                if outage.since.is_some_and(|since| since.elapsed() + pause > OUTAGE)
                    || drain.ctx.budget.remaining() < pause
                {
                    return Err(refused(&error));
                }
                if !drain.ctx.stop.sleep(pause).await {
                    return Ok(Ended::Stopped);
                }
            }
        }
    }
}

/// The time is over, maybe in the middle of a try.
fn out_of_time<S: Sink>(drain: &Drain<'_, S>, outage: Outage) -> Result<Ended, JobError> {
    match outage.error {
        Some(error) if !drain.took.get() => Err(refused(&error)),
        _ => Ok(Ended::Limit),
    }
}

/// An outage of the sink, from its first sign on: the circuit is open, and each pass is a try.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    since: Option<Instant>,
    /// Its last sign.
    error: Option<SinkError>,
    tries: u32,
}

impl Outage {
    /// How long to wait before the next try; none when no try helps.
    pub(crate) fn pause<S: Sink>(&mut self, drain: &Drain<'_, S>, error: &SinkError) -> Option<Duration> {
        let SinkError::Unavailable { retry_after, .. } = error else { return None };
        if self.since.is_none() {
            drain.ctx.note_counters(|delta| delta.add(&metric::OUTAGES, &[], 1));
        }
        self.since.get_or_insert_with(Instant::now);
        self.error = Some(error.clone());
        self.tries += 1;
        let base = Duration::from_millis(250 * 2_u64.pow(self.tries.min(6)));
        let pause = drain.ctx.random.jitter(base).max(retry_after.unwrap_or_default());
        warn!(%error, pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX), "the sink takes nothing");
        Some(pause)
    }
}

/// Whether everything that is left is in the hands of runs that live. One that died holds its partitions for some seconds
/// more: then we wait and take them. So we do while the number of partitions is being changed, when nobody holds one.
async fn others_are_at_it<S: Sink>(drain: &Drain<'_, S>, seen: &mut Option<Vec<Foreign>>) -> Result<bool, JobError> {
    let share = drain.settings.share;
    let own = drain.lanes.borrow().partitions();
    let (is_closed, foreign, left) = drain
        .ctx
        .db
        .transaction("look at the partitions of others", async |tx| {
            // Ours may be of before a change of their number.
            let split = partitions::split(tx, OutboxDrain::NAME, share).await?;
            let foreign = partitions::foreign(tx, share, &own).await?;
            let places: Vec<Place> = (0..store::outbox::BUCKETS)
                .filter_map(|bucket| {
                    let of = foreign.iter().find(|foreign| foreign.partition == bucket % split.partitions)?;
                    Some(Place { bucket, after: of.floor })
                })
                .collect();
            pages::by_the_key(tx).await?;
            let left = !places.is_empty() && !pages::read(tx, &places, 1, 1).await?.events.is_empty();
            Ok::<_, sqlx::Error>((split.is_closed, foreign, left))
        })
        .await?;
    if !left {
        return Ok(true);
    }
    if is_closed {
        *seen = None;
        return Ok(false);
    }
    let before = seen.get_or_insert_with(|| foreign.clone());
    // Whoever has given a sign of life since the first look is alive.
    let is_alive = |now: &Foreign| {
        let then = before.iter().find(|then| then.partition == now.partition);
        then.is_some_and(|then| now.expires_at > then.expires_at)
    };
    Ok(foreign.iter().all(is_alive))
}
