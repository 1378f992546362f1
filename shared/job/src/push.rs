//! A run's metrics on their way out: to the Pushgateway, to the textfile, or nowhere. Failing to tell never changes how
//! a run ends.

use std::{path::Path, time::Duration};

use metrics::{
    Group, Pusher, Snapshot,
    runner::{CAPPED, DURATION, EXIT_CODE, IN_PROGRESS, LAST_RUN, LAST_SUCCESS, PUSH_FAILURES, RECORDS},
};
use time::OffsetDateTime;
use tokio::{sync::Notify, time::Instant};

use crate::{Context, Delta, Outcome, OutcomeName, Setup, lease_guard, setup::Settings};

/// Longest time for one push; a Pushgateway that hangs may cost two of them at the end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(6);
/// For metrics without labels.
const NONE: &[&str] = &[];

/// Where a run's metrics go.
#[derive(Debug)]
pub(crate) struct Reporter<'a> {
    job: &'static str,
    pusher: Option<&'a Pusher>,
    textfile: Option<&'a Path>,
    group: &'a Group,
    interval: Duration,
}

impl<'a> Reporter<'a> {
    /// A dry run tells nobody.
    pub(crate) fn new(job: &'static str, setup: &'a Setup, settings: &'a Settings) -> Self {
        let real = !setup.common.dry_run;
        Self {
            job,
            pusher: settings.pusher.as_ref().filter(|_| real),
            textfile: setup.common.metrics_textfile.as_deref().filter(|_| real),
            group: &settings.group,
            interval: setup.common.metrics_push_interval,
        }
    }

    /// Tells at once and then again and again how the run stands, until `done`. A push under way is not cut off: it
    /// could arrive after the one that tells the end.
    pub(crate) async fn during(
        &self,
        ctx: &Context,
        began: Instant,
        last_success: Option<OffsetDateTime>,
        done: &Notify,
    ) {
        if self.pusher.is_none() && self.textfile.is_none() {
            return;
        }
        loop {
            if lease_guard::speaks(ctx).await && !self.send(&self.now(ctx, began, last_success)).await {
                ctx.note_counters(failed_push);
            }
            if tokio::time::timeout(self.interval, done.notified()).await.is_ok() {
                return;
            }
        }
    }

    fn now(&self, ctx: &Context, began: Instant, last_success: Option<OffsetDateTime>) -> Snapshot {
        let mut snapshot = ctx.snapshot(self.job);
        snapshot.gauge(&IN_PROGRESS, NONE, 1.0).gauge(&DURATION, NONE, began.elapsed().as_secs_f64());
        let in_order = ctx.in_order_at();
        if let Some(at) = in_order {
            snapshot.gauge(&LAST_RUN, NONE, seconds(at)).gauge(&EXIT_CODE, NONE, 0.0);
        }
        success(&mut snapshot, in_order.or(last_success));
        snapshot
    }

    /// Tells how the run ended; `false` when that did not arrive. `counters_known`: the totals in memory are those of
    /// the database.
    pub(crate) async fn ended(
        &self,
        ctx: &Context,
        outcome: &Outcome,
        last_success: Option<OffsetDateTime>,
        counters_known: bool,
    ) -> bool {
        // Totals that fall behind would read as counters that start again.
        let mut snapshot = if counters_known { ctx.snapshot(self.job) } else { ctx.gauges_alone() };
        let tally = outcome.tally;
        let records = [
            ("scanned", tally.scanned),
            ("changed", tally.changed),
            ("skipped", tally.skipped),
            ("failed", tally.failed),
            ("remaining", outcome.remaining),
        ];
        for (label, n) in records {
            snapshot.gauge(&RECORDS, &[label], n as f64);
        }
        snapshot.gauge(&IN_PROGRESS, NONE, 0.0).gauge(&DURATION, NONE, outcome.duration.as_secs_f64());
        match outcome.name {
            OutcomeName::Capped => snapshot.gauge(&CAPPED, NONE, 1.0),
            OutcomeName::Done | OutcomeName::NothingToDo => snapshot.gauge(&CAPPED, NONE, 0.0),
            // One that did not come to its end says nothing of what is held: it stays as it was.
            _ => &mut snapshot,
        };
        success(&mut snapshot, last_success);
        end(&mut snapshot, outcome, ctx.clock.now());
        self.send(&snapshot).await
    }

    /// Tells that a run failed before it could know whether another one is at it: only what cannot be wrong then.
    pub(crate) async fn failed_early(&self, outcome: &Outcome, now: OffsetDateTime) {
        let mut snapshot = Snapshot::default();
        end(&mut snapshot, outcome, now);
        self.send(&snapshot).await;
    }

    async fn send(&self, snapshot: &Snapshot) -> bool {
        let mut arrived = true;
        if let Some(pusher) = self.pusher {
            match tokio::time::timeout(PATIENCE, pusher.push(snapshot)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "metrics could not be pushed");
                    arrived = false;
                }
                Err(_) => {
                    tracing::warn!("metrics could not be pushed: no end within {} s", PATIENCE.as_secs());
                    arrived = false;
                }
            }
        }
        if let Some(path) = self.textfile
            && let Err(error) = metrics::write_textfile(path, self.group, snapshot)
        {
            tracing::warn!(%error, "metrics could not be written to METRICS_TEXTFILE");
            arrived = false;
        }
        arrived
    }
}

/// One push that failed.
pub(crate) fn failed_push(delta: &mut Delta) {
    delta.add(&PUSH_FAILURES, &[], 1);
}

fn end(snapshot: &mut Snapshot, outcome: &Outcome, now: OffsetDateTime) {
    snapshot.gauge(&LAST_RUN, NONE, seconds(now)).gauge(&EXIT_CODE, NONE, f64::from(outcome.exit as u8));
}

fn success(snapshot: &mut Snapshot, at: Option<OffsetDateTime>) {
    if let Some(at) = at {
        snapshot.gauge(&LAST_SUCCESS, NONE, seconds(at));
    }
}

fn seconds(at: OffsetDateTime) -> f64 {
    (at - OffsetDateTime::UNIX_EPOCH).as_seconds_f64()
}
