//! What a job's code holds during a run.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use metrics::{Gauge, Snapshot};
use redis::aio::ConnectionManager;
use runtime::{Clock, Database, Random, Stop, db::StatementError};
use sqlx::PgConnection;
use store::{counters, counters::Count, lease, ledger, ledger::Tally};

use crate::{Budget, Delta, JobError, RunInfo, lease_guard::Part};

/// Connections, time and the run's numbers.
#[derive(Debug)]
pub struct Context {
    /// PostgreSQL.
    pub db: Database,
    /// Redis.
    pub redis: ConnectionManager,
    /// Whether to stop.
    pub stop: Stop,
    /// Time of this machine.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
    /// Which run this is.
    pub run: RunInfo,
    /// How long it may take.
    pub budget: Budget,
    part: Part,
    numbers: Mutex<Numbers>,
}

/// The run's numbers in memory: what is written, and what the next checkpoint writes.
#[derive(Debug, Default)]
struct Numbers {
    written: Tally,
    details: BTreeMap<&'static str, u64>,
    pending: Delta,
    totals: HashMap<(String, String), i64>,
    gauges: Vec<(&'static Gauge, Vec<String>, f64)>,
    expected: Option<u64>,
}

impl Context {
    #[expect(clippy::too_many_arguments, reason = "one caller, which names every one of them")]
    pub(crate) fn new(
        db: Database,
        redis: ConnectionManager,
        stop: Stop,
        clock: Clock,
        random: Random,
        run: RunInfo,
        budget: Budget,
        part: Part,
    ) -> Self {
        Self { db, redis, stop, clock, random, run, budget, part, numbers: Mutex::default() }
    }

    /// One batch: checks that the lease still stands, lets `work` write, and writes what it counted, in one
    /// transaction that `what` names in errors. The numbers are in memory only after the commit.
    ///
    /// # Errors
    /// The lease is lost or the database fails (a retry helps), or a statement is wrong; and, in a dry run, always.
    pub async fn checkpoint<T, E>(
        &self,
        what: &'static str,
        work: impl AsyncFnOnce(&mut PgConnection, &mut Delta) -> Result<T, E>,
    ) -> Result<T, JobError>
    where
        E: Into<StatementError>,
    {
        let Part::Leased { slot, fencing_token, row } = &self.part else {
            return Err(JobError::bug(format_args!("{what}: a checkpoint outside a real run")));
        };
        let mut carried = Carried { ctx: self, delta: std::mem::take(&mut self.numbers().pending) };
        let mut delta = carried.delta.clone();
        let written = self
            .db
            .transaction(what, async |tx| {
                if !lease::holds(tx, slot.borrowed(), *fencing_token).await? {
                    return Ok(None);
                }
                let done = work(tx, &mut delta).await.map_err(Into::into)?;
                let totals = counters::add(tx, slot.job, &slot.label(), &delta.counts()).await?;
                let tally = ledger::add(tx, *row, delta.tally(), delta.details()).await?;
                Ok::<_, StatementError>(Some((done, totals, tally)))
            })
            .await?;
        let Some((done, totals, tally)) = written else { return Err(lost()) };
        carried.delta = Delta::default();
        let mut numbers = self.numbers();
        numbers.take_totals(totals);
        numbers.written = tally.unwrap_or(numbers.written);
        for (&name, n) in delta.details() {
            *numbers.details.entry(name).or_default() += n;
        }
        drop(numbers);
        Ok(done)
    }

    /// Counts what a dry run would have done; in memory, for its own ledger row and the summary.
    pub fn count(&self, delta: Delta) {
        self.numbers().pending.merge(delta);
    }

    /// Adds numbers that belong to no batch (calls to an upstream, its errors) to what the next checkpoint writes.
    pub fn note_counters(&self, note: impl FnOnce(&mut Delta)) {
        let mut delta = Delta::default();
        note(&mut delta);
        self.numbers().pending.merge(delta);
    }

    /// Sets a gauge for the next push; `labels` in the order of its labels.
    pub fn gauge(&self, gauge: &'static Gauge, labels: &[&str], value: f64) {
        let labels: Vec<String> = labels.iter().map(|&label| label.to_owned()).collect();
        let mut numbers = self.numbers();
        numbers.gauges.retain(|(known, at, _)| known.name != gauge.name || *at != labels);
        numbers.gauges.push((gauge, labels, value));
    }

    /// Says how many items the run will look at, for progress.
    pub fn expect_total(&self, items: u64) {
        self.numbers().expected = Some(items);
    }

    /// How many items the run will look at, if it said so.
    pub(crate) fn expected(&self) -> Option<u64> {
        self.numbers().expected
    }

    /// What is counted so far.
    pub(crate) fn tally(&self) -> Tally {
        let numbers = self.numbers();
        let (written, pending) = (numbers.written, numbers.pending.tally());
        Tally {
            scanned: written.scanned + pending.scanned,
            changed: written.changed + pending.changed,
            skipped: written.skipped + pending.skipped,
            failed: written.failed + pending.failed,
        }
    }

    /// The job's own numbers so far.
    pub(crate) fn details(&self) -> BTreeMap<&'static str, u64> {
        let numbers = self.numbers();
        let mut details = numbers.details.clone();
        for (&name, n) in numbers.pending.details() {
            *details.entry(name).or_default() += n;
        }
        details
    }

    pub(crate) fn part(&self) -> &Part {
        &self.part
    }

    /// What is counted and not written yet.
    pub(crate) fn pending(&self) -> Delta {
        self.numbers().pending.clone()
    }

    /// Takes over totals that were written or read.
    pub(crate) fn take_totals(&self, totals: Vec<Count>) {
        self.numbers().take_totals(totals);
    }

    /// The job's counters as of the last checkpoint, and its gauges.
    pub(crate) fn snapshot(&self, job: &str) -> Snapshot {
        let numbers = self.numbers();
        let known = metrics::counters(job);
        let mut snapshot = Snapshot::of(&known);
        for ((metric, labels), total) in &numbers.totals {
            if let Some(counter) = known.iter().find(|counter| counter.name == metric) {
                let values: Vec<&str> =
                    if counter.labels.is_empty() { Vec::new() } else { labels.split(',').collect() };
                snapshot.counter(counter, &values, u64::try_from(*total).unwrap_or(0));
            }
        }
        numbers.add_gauges(&mut snapshot);
        snapshot
    }

    /// The job's gauges alone.
    pub(crate) fn gauges_alone(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        self.numbers().add_gauges(&mut snapshot);
        snapshot
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Numbers {
    fn take_totals(&mut self, totals: Vec<Count>) {
        self.totals.extend(totals.into_iter().map(|count| ((count.metric, count.labels), count.value)));
    }

    fn add_gauges(&self, snapshot: &mut Snapshot) {
        for (gauge, labels, value) in &self.gauges {
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            snapshot.gauge(gauge, &labels, *value);
        }
    }
}

/// Another run holds the lease now, or could.
pub(crate) fn lost() -> JobError {
    JobError::retry("lease lost: it ran out, and another run may have taken over; nothing of this batch was written")
}

/// Pending numbers that a checkpoint tries to write. If it fails or is dropped they are pending again.
struct Carried<'a> {
    ctx: &'a Context,
    delta: Delta,
}

impl Drop for Carried<'_> {
    fn drop(&mut self) {
        self.ctx.numbers().pending.merge(std::mem::take(&mut self.delta));
    }
}
