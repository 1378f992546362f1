//! What a job's code holds during a run.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use metrics::{Gauge, Snapshot};
use redis::aio::ConnectionManager;
use runtime::{Clock, Database, DbError, Random, Stop, db::StatementError};
use sqlx::PgConnection;
use store::{
    checkpoint::{self, Holder, Numbers, Sealed},
    counters::Count,
    ledger::Tally,
};
use time::OffsetDateTime;

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
    /// One checkpoint after the other: they would wait for each other at the ledger row anyway, and of one in doubt it can
    /// be told whether it was written.
    turn: tokio::sync::Mutex<()>,
    numbers: Mutex<Counted>,
}

/// The run's numbers in memory: what is written, and what the next checkpoint writes.
#[derive(Debug, Default)]
struct Counted {
    /// Batches that are known to be written.
    checkpoints: i64,
    written: Tally,
    details: BTreeMap<&'static str, u64>,
    pending: Delta,
    /// A batch that failed or was dropped, maybe in the middle of its commit.
    doubtful: Option<Doubtful>,
    totals: HashMap<(String, String), i64>,
    gauges: Vec<(&'static Gauge, Vec<String>, f64)>,
    note: Option<String>,
    expected: Option<u64>,
    remaining: u64,
    in_order_at: Option<OffsetDateTime>,
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
        Self {
            db,
            redis,
            stop,
            clock,
            random,
            run,
            budget,
            part,
            turn: tokio::sync::Mutex::default(),
            numbers: Mutex::default(),
        }
    }

    /// One batch: lets `work` write, checks that the lease still stands, and writes what `work` counted, in one
    /// transaction that `what` names in errors. The numbers are in memory only after the commit. A subcommand, which is no run,
    /// has no lease, and its numbers count nowhere.
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
        if let Part::Bystander = self.part {
            let apart = async |tx: &mut PgConnection| work(tx, &mut Delta::default()).await.map_err(Into::into);
            return Ok(self.db.transaction(what, apart).await?);
        }
        let Part::Leased { slot, fencing_token, row } = &self.part else {
            return Err(JobError::bug(format_args!("{what}: a checkpoint outside a real run")));
        };
        let _turn = self.turn.lock().await;
        self.settle().await?;
        let holder = Holder { slot: slot.borrowed(), fencing_token: *fencing_token, row: *row };
        let mut in_hand = InHand::take(self);
        let fenced_off = Cell::new(false);
        let written = self
            .db
            .transaction(what, async |tx| {
                let done = work(tx, &mut in_hand.batch).await.map_err(Into::into)?;
                let counts = in_hand.batch.counts();
                let numbers =
                    Numbers { tally: in_hand.batch.tally(), details: in_hand.batch.details(), counts: &counts };
                let sealed = checkpoint::seal(tx, holder, numbers).await?;
                fenced_off.set(sealed.is_none());
                // Any error: the transaction is rolled back.
                Ok::<_, StatementError>((done, sealed.ok_or(sqlx::Error::RowNotFound)?))
            })
            .await;
        if fenced_off.get() {
            in_hand.put_back();
            return Err(lost());
        }
        let (done, sealed) = written?;
        in_hand.written(sealed);
        Ok(done)
    }

    /// Finds out whether a batch whose commit was never answered was written, so that its numbers are counted once.
    ///
    /// # Errors
    /// The database fails.
    pub(crate) async fn settle(&self) -> Result<(), DbError> {
        let (Part::Leased { row, .. }, true) = (&self.part, self.numbers().doubtful.is_some()) else { return Ok(()) };
        let written = self
            .db
            .transaction("look whether the last batch was written", async |tx| checkpoint::written(tx, *row).await)
            .await?;
        let mut numbers = self.numbers();
        let Some(doubtful) = numbers.doubtful.take() else { return Ok(()) };
        match written {
            Some(checkpoints) if checkpoints > numbers.checkpoints => {
                numbers.checkpoints = checkpoints;
                numbers.written = numbers.written + doubtful.batch.tally();
                numbers.add_details(&doubtful.batch);
            }
            _ => numbers.pending.merge(doubtful.before),
        }
        Ok(())
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

    /// Writes what an operator should know into the run's row while it goes on, where `status` shows it; none takes it back.
    ///
    /// # Errors
    /// The database fails.
    pub async fn note(&self, note: Option<&str>) -> Result<(), DbError> {
        let (Part::Leased { row, .. } | Part::Dry { row }) = &self.part else { return Ok(()) };
        self.numbers().note = note.map(str::to_owned);
        self.db.transaction("write a note", async |tx| store::ledger::note(tx, *row, note).await).await
    }

    /// What was noted last: the run's end repeats it.
    pub(crate) fn noted(&self) -> Option<String> {
        self.numbers().note.clone()
    }

    /// Says how many items are due and not reached, as far as is known now: what a run that fails leaves behind, since it
    /// makes no report.
    pub fn remains(&self, items: u64) {
        self.numbers().remaining = items;
    }

    /// What was said last.
    pub fn remaining(&self) -> u64 {
        self.numbers().remaining
    }

    /// Says that a worker gets on, or has nothing to do, at this time by the database's clock: to those who watch, that is as
    /// good as a run that ended well.
    pub fn in_order(&self, at: OffsetDateTime) {
        self.numbers().in_order_at = Some(at);
    }

    /// When a worker said so.
    pub(crate) fn in_order_at(&self) -> Option<OffsetDateTime> {
        self.numbers().in_order_at
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
        numbers.written + numbers.pending.tally()
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

    fn numbers(&self) -> MutexGuard<'_, Counted> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    fn add_details(&mut self, delta: &Delta) {
        for (&name, n) in delta.details() {
            *self.details.entry(name).or_default() += n;
        }
    }

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

/// The numbers of a batch of which nobody knows whether it was written.
#[derive(Debug)]
struct Doubtful {
    /// What was pending before it.
    before: Delta,
    /// That, and what the batch counted.
    batch: Delta,
}

/// The numbers that a checkpoint tries to write. If it fails or is dropped they are in doubt.
struct InHand<'a> {
    ctx: &'a Context,
    before: Delta,
    batch: Delta,
    over: bool,
}

impl<'a> InHand<'a> {
    fn take(ctx: &'a Context) -> Self {
        let before = std::mem::take(&mut ctx.numbers().pending);
        Self { ctx, batch: before.clone(), before, over: false }
    }

    fn written(mut self, sealed: Sealed) {
        self.over = true;
        let mut numbers = self.ctx.numbers();
        numbers.checkpoints = sealed.checkpoints;
        numbers.written = sealed.tally;
        numbers.take_totals(sealed.totals);
        numbers.add_details(&self.batch);
    }

    fn put_back(mut self) {
        self.over = true;
        self.ctx.numbers().pending.merge(std::mem::take(&mut self.before));
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        if !self.over {
            let (before, batch) = (std::mem::take(&mut self.before), std::mem::take(&mut self.batch));
            self.ctx.numbers().doubtful = Some(Doubtful { before, batch });
        }
    }
}
