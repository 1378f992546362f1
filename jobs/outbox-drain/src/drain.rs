//! One drain: what it holds in its hands, and a pass over the partitions that are ours.
//!
//! A pass reads from the floor upwards, publishes and deletes, each a page ahead of the next, until there is nothing more.
//! Between two passes nothing is in flight: then partitions change hands, floors move, and what is due again or came late
//! is gone back for.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    time::Duration,
};

use job::{
    Context, JobError,
    batches::{self, End, Sizer},
};
use metrics::outbox as metric;
use outbox::{Sink, sink::SinkError};
use store::outbox::{held, pages, state};
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::{
    heldback::HeldBack,
    horizon::{Horizon, Start},
    lanes::Lanes,
    latency::Latency,
    options::Settings,
    pace::Pace,
    page::Places,
};

/// Pages that are read ahead of the one that is being deleted.
const IN_FLIGHT: usize = 6;
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
    /// Events read in this run.
    pub(crate) read: Cell<u64>,
    horizon: RefCell<Horizon>,
    /// When it was read which aggregates are held back; none: it is to be read anew.
    pub(crate) held_at: Cell<Option<Instant>>,
    soft: Cell<i64>,
    /// The pass reads no further page.
    pub(crate) yields: Cell<bool>,
    cut_short: Cell<bool>,
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
    /// It was long enough, or the partitions are to be shared anew; what was read is published and deleted.
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
            horizon: RefCell::default(),
            held_at: Cell::default(),
            soft: Cell::default(),
            yields: Cell::default(),
            cut_short: Cell::default(),
        }
    }

    /// One pass.
    ///
    /// # Errors
    /// PostgreSQL fails, or a bug.
    pub(crate) async fn pass(&self) -> Result<Pass, JobError> {
        self.trouble.take();
        self.yields.set(false);
        if let Err(trouble) = self.share().await? {
            return Ok(Pass::Trouble(self.in_doubt(trouble)));
        }
        self.load_held().await?;
        let start = self.look().await?;
        self.place(start);
        let before = self.read.get();
        let sizer = Sizer::new(self.settings.options.batch_size as usize, IN_FLIGHT, Duration::ZERO);
        self.pace.borrow_mut().nothing_under_way();
        let end = tokio::select! {
            biased;
            end = batches::run(self.ctx, sizer, self) => end,
            () = self.keep() => Ok(End::Flow),
            never = self.end_long_pass() => match never {},
            never = self.watch() => match never {},
        };
        let end = match end {
            Ok(end) => end,
            Err(error) => {
                self.in_doubt(Trouble::Lost);
                return Err(error);
            }
        };
        if let Some(trouble) = self.trouble.take() {
            return Ok(Pass::Trouble(self.in_doubt(trouble)));
        }
        if end != End::Exhausted || self.limit_reached() {
            self.lanes.borrow_mut().doubt();
            self.begin_again();
            return Ok(Pass::Cut(end));
        }
        if self.yields.get() {
            self.yielded(start);
            return Ok(Pass::Yielded);
        }
        self.whole(start).await?;
        Ok(Pass::Whole { read: self.read.get() - before, is_open: start.is_open })
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
        let due = self.held.borrow_mut().take_due();
        if !due.is_empty() {
            let what = "let go of aggregates";
            self.ctx.db.transaction(what, async |tx| held::free(tx, &due).await).await?;
        }
        Ok(())
    }

    async fn end_long_pass(&self) -> Infallible {
        tokio::time::sleep(LONGEST_PASS).await;
        self.yields.set(true);
        std::future::pending().await
    }

    /// The floor moves up to where every bucket of a partition was read, at most to where nothing can appear any more.
    fn yielded(&self, start: Start) {
        self.begin_again();
        let mut lanes = self.lanes.borrow_mut();
        let places = self.places.borrow();
        let unread: Vec<(i16, i64)> = places.iter().map(|place| (lanes.partition(place.bucket), place.after)).collect();
        for (partition, own) in lanes.iter_mut() {
            let read = unread.iter().filter(|(of, _)| *of == partition).map(|(_, after)| *after).min();
            own.floor = own.floor.max(read.unwrap_or(start.hard).min(start.hard));
        }
    }

    fn in_doubt(&self, trouble: Trouble) -> Trouble {
        let mut lanes = self.lanes.borrow_mut();
        match trouble {
            Trouble::Lost | Trouble::Sink(SinkError::Fenced) => lanes.lose(),
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
        let held = self.ctx.db.transaction(what, async |tx| held::load(tx, &buckets).await).await?;
        self.held.borrow_mut().replace(&held);
        self.held_at.set(Some(now));
        Ok(())
    }

    /// Where the pass begins.
    async fn look(&self) -> Result<Start, JobError> {
        let look = self.ctx.db.transaction("look for open transactions", async |tx| pages::look(tx).await).await?;
        let now = Instant::now();
        self.db_time.set(Some((look.now, now)));
        let mut start = self.horizon.borrow_mut().take_in(look, now);
        start.go_back |= self.cut_short.get();
        Ok(start)
    }

    fn place(&self, start: Start) {
        let lanes = self.lanes.borrow();
        let due = self.held.borrow().lowest_due();
        let soft = self.soft.get();
        let mut places = Places::default();
        for (partition, own) in lanes.iter() {
            let from = if start.go_back || own.is_fresh { own.floor } else { own.floor.max(soft) };
            for (bucket, _) in lanes.buckets().into_iter().filter(|&(_, of)| of == partition) {
                let due = due.get(&bucket).map_or(i64::MAX, |seq| seq - 1);
                places.add(bucket, from.min(due));
            }
        }
        *self.places.borrow_mut() = places;
    }

    /// Gauges for the push; how the outbox stands.
    ///
    /// # Errors
    /// PostgreSQL fails.
    pub(crate) async fn gauges(&self) -> Result<state::State, JobError> {
        let state = self.ctx.db.transaction("read gauges", async |tx| state::state(tx).await).await?;
        self.ctx.gauge(&metric::BACKLOG, &[], state.backlog as f64);
        self.ctx.gauge(&metric::OLDEST, &[], state.oldest_seconds.unwrap_or(0.0).max(0.0));
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
