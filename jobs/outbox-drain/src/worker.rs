//! A worker: passes without an end, and sleep in between.
//!
//! Polling is the truth. While it sleeps for long it asks to be told of new events; a hint only ends a sleep.

use std::{future::Future, path::Path, time::Duration};

use identity::codes::ExitCode;
use job::{Ending, JobError, Report, batches::End};
use outbox::{Sink, sink::SinkError};
use store::outbox::{CHANNEL, state::want_hints};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::{
    drain::{Drain, Pass, Trouble},
    refused,
    run::{Ended, GAUGES, Outage, report},
};

/// Sleep after a pass that found something, and the first of those that found nothing; each is twice as long as the last.
const SHORTEST: Duration = Duration::from_millis(4);
/// Longest sleep: without hints an event waits no longer than this.
const LONGEST: Duration = Duration::from_secs(1);
/// From this length on hints are worth asking for.
const WITH_HINTS: Duration = Duration::from_millis(250);

/// Publishes until it is told to stop.
pub(crate) async fn work<S: Sink>(drain: &Drain<'_, S>) -> Result<Report, JobError> {
    if !drain.settings.options.enable_outbox_poller {
        return Err(JobError::config("ENABLE_OUTBOX_POLLER: false, but a worker does nothing else; set it to true"));
    }
    match without_end(drain).await {
        // To count takes time that a stop does not give where PostgreSQL hangs: what the last gauges said will do.
        Ok(Ended::Stopped) => Ok(Report { ending: Ending::Stopped, remaining: drain.ctx.remaining(), note: None }),
        ended => report(drain, ended).await,
    }
}

async fn without_end<S: Sink>(drain: &Drain<'_, S>) -> Result<Ended, JobError> {
    let mut hints = Hints::listen(drain).await;
    let mut outage = Outage::default();
    let mut sleep = SHORTEST;
    let mut gauges_at: Option<Instant> = None;
    loop {
        let mut is_deaf = false;
        let pass = drain.pass().await;
        if drain.ctx.stop.is_stopped() {
            return Ok(Ended::Stopped);
        }
        if drain.took.get() {
            outage = Outage::default();
            beat(drain);
        }
        match pass {
            Ok(Pass::Whole { read, .. }) => {
                outage = Outage::default();
                if read == 0 && drain.has_its_share() {
                    beat(drain);
                }
                sleep = if read > 0 { SHORTEST } else { (sleep * 2).min(LONGEST) };
            }
            Ok(Pass::Yielded) => sleep = Duration::ZERO,
            Ok(Pass::Cut(End::Stopped)) => return Ok(Ended::Stopped),
            // MAX_EVENTS are out.
            Ok(Pass::Cut(_)) => return Ok(Ended::Limit),
            Ok(Pass::Trouble(Trouble::Lost | Trouble::Sink(SinkError::Fenced(_)))) => {
                info!("partitions are not held any more; taking what is free");
                sleep = WITH_HINTS;
            }
            Ok(Pass::Trouble(Trouble::Sink(SinkError::Closed))) => return Ok(Ended::ReaderGone),
            Ok(Pass::Trouble(Trouble::Sink(error))) => match outage.pause(drain, &error) {
                // A hint says that there is more to publish, not that the sink is back.
                Some(pause) => (sleep, is_deaf) = (pause, true),
                None => return Err(refused(&error)),
            },
            Err(error) if error.exit_code() == ExitCode::Temporary => {
                warn!(%error, "trying again");
                sleep = LONGEST;
            }
            Err(error) => return Err(error),
        }
        if gauges_at.is_none_or(|at| at.elapsed() >= GAUGES) {
            gauges_at = Some(Instant::now());
            if let Err(error) = drain.gauges(store::outbox::state::AT_WORK).await {
                warn!(%error, "gauges could not be read");
            }
        }
        let asleep = hints.sleep(drain, sleep, is_deaf);
        if drain.ctx.stop.or(Box::pin(asleep)).await.is_none() {
            return Ok(Ended::Stopped);
        }
    }
}

/// It gets on, or there is nothing to do: that is what a probe wants to know.
fn beat<S: Sink>(drain: &Drain<'_, S>) {
    if let Some(now) = drain.db_now() {
        drain.ctx.in_order(now);
    }
    let Some(path) = &drain.settings.options.worker_heartbeat_file else { return };
    if let Err(error) = write_beat(path, drain.ctx.clock.now().unix_timestamp()) {
        warn!(%error, path = %path.display(), "the heartbeat could not be written");
    }
}

/// Written beside and moved over it: a probe never reads half a number.
fn write_beat(path: &Path, at: i64) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    std::fs::write(&beside, at.to_string())?;
    std::fs::rename(&beside, path)
}

/// Notifications of new events.
struct Hints(Option<sqlx::postgres::PgListener>);

impl Hints {
    async fn listen<S: Sink>(drain: &Drain<'_, S>) -> Self {
        match drain.ctx.db.listen(CHANNEL).await {
            Ok(listener) => Self(Some(listener)),
            Err(error) => {
                info!(%error, "no hints of new events; polling alone");
                Self(None)
            }
        }
    }

    async fn sleep<S: Sink>(&mut self, drain: &Drain<'_, S>, time: Duration, is_deaf: bool) {
        let Some(listener) = self.0.as_mut().filter(|_| time >= WITH_HINTS && !is_deaf) else {
            return tokio::time::sleep(time).await;
        };
        ask(drain, time.as_secs_f64()).await;
        let woken = async {
            // A listener that fails for good would wake us without end.
            if listener.recv().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        if until(time, woken).await {
            ask(drain, 0.0).await;
            while listener.next_buffered().is_some() {}
        }
    }
}

/// Whether it came before the time was over.
async fn until(time: Duration, event: impl Future<Output = ()>) -> bool {
    tokio::time::timeout(time, event).await.is_ok()
}

async fn ask<S: Sink>(drain: &Drain<'_, S>, seconds: f64) {
    let asked = drain.ctx.db.transaction("ask for hints", async |tx| want_hints(tx, seconds).await).await;
    if let Err(error) = asked {
        info!(%error, "hints could not be asked for; polling alone");
    }
}
