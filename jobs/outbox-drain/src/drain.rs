//! One drain: what it holds in its hands, and a pass over the partitions that are ours.
//!
//! A pass reads from the floor upwards, publishes and deletes, each a page ahead of the next, until there is nothing more.
//! Between two passes nothing is in flight: then partitions change hands, floors move, and what is due again or came late
//! is gone back for.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    convert::Infallible,
    time::Duration,
};

use job::{
    Context, JobError,
    batches::{self, End, Sizer},
};
use metrics::outbox as metric;
use outbox::{Sink, sink::SinkError};
use runtime::Snapshot;
use store::outbox::{held, partitions, state};
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::{
    heldback::HeldBack,
    horizon::{Horizon, Start},
    lanes::Lanes,
    latency::Latency,
    options::Settings,
    pace::Pace,
    places::Places,
    suspicion::Suspicion,
};

/// Events that are read ahead of those that are being deleted: some 100 ms of work, as long as a disk may take for a commit now
/// and then.
const AHEAD: usize = 12_000;
/// Pages that are read ahead for a sink that takes one after the other: each may last seconds, and a pass ends after the last.
const AHEAD_ONE_BY_ONE: usize = 3;
/// Longest pass: what came late, is due again, or belongs to others now is seen after it.
const LONGEST_PASS: Duration = Duration::from_secs(10);
/// Time between two looks at who shares the work, and at what is held back.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A drain at work.
pub(crate) struct Drain<'a, S> {
    /// The runner's side: database, budget, checkpoints.
    pub ctx: &'a Context,
    /// What operators set.
    pub settings: &'a Settings,
    /// Where events go.
    pub sink: S,
    pub(crate) lanes: RefCell<Lanes>,
    pub(crate) held: RefCell<HeldBack>,
    pub(crate) places: RefCell<Places>,
    pub(crate) turn: tokio::sync::Mutex<()>,
    pub(crate) trouble: RefCell<Option<Trouble>>,
    pub(crate) latency: RefCell<Latency>,
    pub(crate) pace: RefCell<Pace>,
    /// The database's clock when this process's stood at the instant.
    pub(crate) db_time: Cell<Option<(OffsetDateTime, Instant)>>,
    /// Events read in this run, and those of them that are published and deleted, or held back.
    pub(crate) read: Cell<u64>,
    pub(crate) settled: Cell<u64>,
    /// Events that an earlier owner had published, and that this run deleted.
    pub(crate) adopted: Cell<u64>,
    pub(crate) suspicion: RefCell<Suspicion>,
    /// The lowest number in each bucket that was read in this pass and not tried to the end.
    left: RefCell<HashMap<i16, i64>>,
    /// The sink has taken something in this pass.
    pub(crate) took: Cell<bool>,
    pub(crate) horizon: RefCell<Horizon>,
    /// In which all pages of a pass are read: an event is met with all earlier ones of its aggregate or not at all.
    pub(crate) snapshot: RefCell<Option<Snapshot>>,
    /// When it was read which aggregates are held back; none: it is to be read anew.
    pub(crate) held_at: Cell<Option<Instant>>,
    /// Where reading begins unless a pass must go back.
    pub(crate) soft: Cell<i64>,
    /// The pass reads no further page.
    pub(crate) yields: Cell<bool>,
    /// The last pass was cut short: the next goes back.
    pub(crate) cut_short: Cell<bool>,
    /// How often the fencing tokens were raised to the sink's.
    pub(crate) raised: Cell<u32>,
}

/// Why a pass could not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The sink.
    Sink(SinkError),
    /// A partition is not ours any more.
    Lost,
}

/// How a pass ended.
#[derive(Debug)]
pub(crate) enum Pass {
    /// Everything of ours is read, published and deleted.
    Whole {
        /// Events met.
        read: u64,
        /// Some transaction is open that may bring more.
        is_open: bool,
    },
    /// It was long enough, or the partitions are to be shared anew; what was read and published is deleted.
    Yielded,
    /// `MAX_EVENTS`, the budget, or a stop.
    Cut(End),
    /// It could not go on; everything is in doubt.
    Trouble(Trouble),
}

impl<'a, S: Sink> Drain<'a, S> {
    /// A drain that owns nothing yet.
    pub(crate) fn new(ctx: &'a Context, settings: &'a Settings, sink: S) -> Self {
        Self {
            ctx,
            settings,
            sink,
            lanes: RefCell::default(),
            held: RefCell::default(),
            places: RefCell::default(),
            turn: tokio::sync::Mutex::default(),
            trouble: RefCell::default(),
            latency: RefCell::default(),
            pace: RefCell::default(),
            db_time: Cell::default(),
            read: Cell::default(),
            settled: Cell::default(),
            adopted: Cell::default(),
            suspicion: RefCell::default(),
            left: RefCell::default(),
            took: Cell::default(),
            horizon: RefCell::default(),
            snapshot: RefCell::default(),
            held_at: Cell::default(),
            soft: Cell::default(),
            yields: Cell::default(),
            cut_short: Cell::default(),
            raised: Cell::default(),
        }
    }

    /// One pass.
    ///
    /// # Errors
    /// PostgreSQL fails, or a bug.
    pub(crate) async fn pass(&self) -> Result<Pass, JobError> {
        let pass = tokio::select! {
            biased;
            pass = self.try_pass() => pass,
            never = self.watch() => match never {},
        };
        self.end_snapshot().await;
        if matches!(pass, Err(_) | Ok(Pass::Trouble(Trouble::Lost))) {
            // It may be another server, with an earlier state, that answers next: what it says counts.
            self.in_doubt(Trouble::Lost);
            self.horizon.take();
            self.soft.set(0);
        }
        pass
    }

    async fn try_pass(&self) -> Result<Pass, JobError> {
        self.trouble.take();
        self.yields.set(false);
        self.took.set(false);
        self.left.borrow_mut().clear();
        // What was read and came to nothing counts for nobody.
        self.read.set(self.settled.get());
        self.pace.borrow_mut().nothing_under_way();
        self.pace.borrow_mut().shared.begin();
        if let Err(trouble) = self.share().await? {
            return Ok(Pass::Trouble(self.in_doubt(trouble)));
        }
        self.load_held().await?;
        let start = self.look().await?;
        let start = self.begin_to_read(start).await?;
        self.place(start);
        self.pace.borrow_mut().shared.end();
        let before = self.read.get();
        let size = self.settings.options.batch_size as usize;
        let in_flight = if S::PIPELINED { (AHEAD / size.max(1)).clamp(3, 12) } else { AHEAD_ONE_BY_ONE };
        let sizer = Sizer::new(size, in_flight, Duration::ZERO);
        let end = tokio::select! {
            biased;
            end = batches::run(self.ctx, sizer, self) => end,
            () = self.keep() => Ok(End::Flow),
            never = self.end_long_pass() => match never {},
        };
        self.suspicion.borrow_mut().pass_ended(self.took.get());
        let end = end?;
        if let Some(trouble) = self.trouble.take() {
            return Ok(Pass::Trouble(self.in_doubt(trouble)));
        }
        let is_limited = self.limit_reached();
        if end != End::Exhausted || is_limited && self.settled.get() >= self.settings.options.max_events {
            self.lanes.borrow_mut().doubt();
            self.begin_again();
            return Ok(Pass::Cut(end));
        }
        if is_limited {
            // Some of what was read was not tried: there is room for others.
            self.begin_again();
            return Ok(Pass::Yielded);
        }
        if self.yields.get() || !self.left.borrow().is_empty() {
            self.yielded(start).await?;
            return Ok(Pass::Yielded);
        }
        self.whole(start).await?;
        Ok(Pass::Whole { read: self.read.get() - before, is_open: start.is_open })
    }

    /// The database's clock, once a pass has looked at it.
    pub(crate) fn db_now(&self) -> Option<OffsetDateTime> {
        self.db_time.get().map(|(at, since)| at + since.elapsed())
    }

    /// `MAX_EVENTS` are read.
    pub(crate) fn limit_reached(&self) -> bool {
        let most = self.settings.options.max_events;
        most > 0 && self.read.get() >= most
    }

    /// Everything of ours was read from the floor up: the floor moves, and what was due is let go.
    async fn whole(&self, start: Start) -> Result<(), JobError> {
        self.cut_short.set(false);
        self.soft.set(start.soft);
        for (_, own) in self.lanes.borrow_mut().iter_mut() {
            own.floor = own.floor.max(start.hard);
            own.is_fresh = false;
        }
        self.let_go(|_| true).await?;
        self.take_note_back().await;
        Ok(())
    }

    /// Lets go of what was due in buckets that were read to the end.
    async fn let_go(&self, is_read: impl Fn(i16) -> bool) -> Result<(), JobError> {
        let due = self.held.borrow_mut().take_due(is_read);
        if due.is_empty() {
            return Ok(());
        }
        let what = "let go of aggregates";
        Ok(self.ctx.db.transaction(what, async |tx| held::free(tx, &due).await).await?)
    }

    async fn end_long_pass(&self) -> Infallible {
        tokio::time::sleep(LONGEST_PASS).await;
        self.yields.set(true);
        std::future::pending().await
    }

    /// An event was read and not tried to the end.
    pub(crate) fn put_off(&self, bucket: i16, seq: i64) {
        let mut left = self.left.borrow_mut();
        let lowest = left.entry(bucket).or_insert(seq);
        *lowest = seq.min(*lowest);
    }

    /// The floor moves up to where every bucket of a partition was read and dealt with, at most to where nothing can appear
    /// any more.
    async fn yielded(&self, start: Start) -> Result<(), JobError> {
        self.begin_again();
        let unread: HashMap<i16, i64> = {
            let (places, left) = (self.places.borrow(), self.left.borrow());
            let mut unread: HashMap<i16, i64> = left.iter().map(|(&bucket, &seq)| (bucket, seq - 1)).collect();
            for place in places.iter() {
                let after = unread.entry(place.bucket).or_insert(place.after);
                *after = place.after.min(*after);
            }
            unread
        };
        {
            let mut lanes = self.lanes.borrow_mut();
            let count = lanes.count();
            for (partition, own) in lanes.iter_mut() {
                let of = unread.iter().filter(|(bucket, _)| **bucket % count == partition);
                let read = of.map(|(_, after)| *after).min();
                own.floor = own.floor.max(read.unwrap_or(start.hard).min(start.hard));
            }
        }
        self.let_go(|bucket| !unread.contains_key(&bucket)).await
    }

    fn in_doubt(&self, trouble: Trouble) -> Trouble {
        let mut lanes = self.lanes.borrow_mut();
        match trouble {
            Trouble::Lost | Trouble::Sink(SinkError::Fenced(_)) => lanes.lose(),
            Trouble::Sink(_) => lanes.doubt(),
        }
        self.begin_again();
        trouble
    }

    /// The next pass begins again from what the database knows: what was rejected and not written down is tried again.
    fn begin_again(&self) {
        self.cut_short.set(true);
        self.held_at.set(None);
    }

    async fn load_held(&self) -> Result<(), JobError> {
        let now = Instant::now();
        if self.held_at.get().is_some_and(|at| now.duration_since(at) < LOOK_AGAIN) {
            return Ok(());
        }
        let buckets: Vec<i16> = self.lanes.borrow().buckets().iter().map(|&(bucket, _)| bucket).collect();
        let what = "read which aggregates are held back";
        let mut held = self.held.take();
        held.clear();
        self.held_at.set(None);
        let loading = async |tx: &mut sqlx::PgConnection| held::load(tx, &buckets, |one| held.add(one)).await;
        self.ctx.db.transaction(what, loading).await?;
        self.held.replace(held);
        self.held_at.set(Some(now));
        Ok(())
    }

    /// Gauges for the push; how the outbox stands, with up to so many events counted one by one.
    ///
    /// # Errors
    /// PostgreSQL fails.
    pub(crate) async fn gauges(&self, counted: i32) -> Result<state::State, JobError> {
        let owned = self.lanes.borrow().owned();
        let reading = async |tx: &mut sqlx::PgConnection| {
            // What is counted begins at the floors: the present ones. Whether all are still ours is of no matter here.
            if !owned.is_empty() {
                partitions::settle(tx, &owned).await?;
            }
            state::state(tx, counted).await
        };
        let state = self.ctx.db.transaction("read gauges", reading).await?;
        self.ctx.remains(state.backlog.unsigned_abs());
        self.ctx.gauge(&metric::BACKLOG, &[], state.backlog as f64);
        self.ctx.gauge(&metric::OLDEST, &[], state.oldest_seconds.unwrap_or(0.0).max(0.0));
        self.ctx.gauge(&metric::UNREAD, &[], state.unread_seconds.unwrap_or(0.0).max(0.0));
        self.ctx.gauge(&metric::HELD, &[], state.held as f64);
        self.ctx.gauge(&metric::DEAD_LETTERS, &[], state.dead_letters as f64);
        let mut latency = self.latency.borrow_mut();
        for (share, label) in [(0.5, "0.5"), (0.99, "0.99")] {
            if let Some(seconds) = latency.quantile(share) {
                self.ctx.gauge(&metric::LATENCY, &[label], seconds);
            }
        }
        latency.clear();
        Ok(state)
    }
}
