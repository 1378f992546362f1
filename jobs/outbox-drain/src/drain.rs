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

use futures::future::join_all;
use job::{
    Context, JobError,
    batches::{self, End, Sizer},
};
use metrics::outbox as metric;
use outbox::{
    Sink,
    sink::{Adopted, SinkError},
};
use store::outbox::{
    held, pages,
    partitions::{self, Owned},
    state,
};
use time::OffsetDateTime;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::{
    heldback::HeldBack,
    horizon::{Horizon, Start},
    lanes::{Lanes, Own, RENEW, lane},
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
const LOOK_AGAIN: Duration = Duration::from_secs(1);

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
            self.cut_short.set(true);
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

    /// Everything of ours was read from the floor up: the floor moves, and what waits in vain is let go.
    async fn whole(&self, start: Start) -> Result<(), JobError> {
        self.cut_short.set(false);
        self.soft.set(start.soft);
        for (_, own) in self.lanes.borrow_mut().iter_mut() {
            own.floor = own.floor.max(start.hard);
            own.is_fresh = false;
        }
        let empty = self.held.borrow_mut().take_empty();
        if !empty.is_empty() {
            let what = "let go of aggregates that have no event";
            self.ctx.db.transaction(what, async |tx| held::free(tx, &empty).await).await?;
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
        self.cut_short.set(true);
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
        self.cut_short.set(true);
        trouble
    }

    /// Takes and gives partitions so that every run has its share, and asks the sink what was in flight in new ones.
    async fn share(&self) -> Result<Result<(), Trouble>, JobError> {
        let now = Instant::now();
        let is_old = |at: Option<Instant>| at.is_none_or(|at| now.duration_since(at) >= LOOK_AGAIN);
        if is_old(self.lanes.borrow().looked_at) && !self.take_share(now).await? {
            return Ok(Err(Trouble::Lost));
        }
        let unknown: Vec<(i16, Own)> =
            self.lanes.borrow().iter().filter(|(_, own)| own.is_unknown).map(|(p, own)| (p, *own)).collect();
        if unknown.is_empty() {
            return Ok(Ok(()));
        }
        let asked =
            unknown.iter().map(|(partition, own)| self.sink.adopt(lane(*partition, own.token), own.acknowledged));
        let answers = join_all(asked).await;
        let mut adopted = Vec::new();
        for ((partition, own), answer) in unknown.into_iter().zip(answers) {
            match answer {
                Ok(answer) => adopted.push((partition, own, answer)),
                Err(error) => return Ok(Err(Trouble::Sink(error))),
            }
        }
        self.adopt(adopted).await.map(|ours| if ours { Ok(()) } else { Err(Trouble::Lost) })
    }

    /// `false`: some were lost meanwhile.
    async fn take_share(&self, asked_at: Instant) -> Result<bool, JobError> {
        let share = self.settings.share;
        let job = <crate::OutboxDrain as job::Job>::NAME;
        let owned = self.lanes.borrow().owned();
        let held = self.lanes.borrow().partitions();
        let stream = self.settings.stream();
        let shared = self
            .ctx
            .db
            .transaction("share the partitions", async |tx| {
                partitions::alive(tx, job, &self.ctx.run.run_id, self.settings.share).await?;
                if !owned.is_empty() && !partitions::settle(tx, &owned).await? {
                    return Ok(None);
                }
                let split = partitions::split(tx, job, share).await?;
                let fair = Lanes::fair(split, share.index, share.count);
                let mut taken = Vec::new();
                if fair > held.len() {
                    let most = i64::try_from(fair - held.len()).unwrap_or(0);
                    taken = partitions::take(tx, &self.ctx.run.run_id, share, &stream, &held, most).await?;
                }
                Ok::<_, sqlx::Error>(Some((split, fair, taken)))
            })
            .await?;
        let Some((split, fair, taken)) = shared else { return Ok(false) };
        let surplus = {
            let mut lanes = self.lanes.borrow_mut();
            lanes.split(split.partitions);
            lanes.renewed(asked_at);
            lanes.looked_at = Some(asked_at);
            lanes.add(&taken);
            lanes.give_up(fair)
        };
        if !taken.is_empty() || !surplus.is_empty() {
            self.held_at.set(None);
            info!(taken = taken.len(), given_up = surplus.len(), runs = split.runs, "partitions changed hands");
        }
        self.leave(&surplus).await;
        Ok(true)
    }

    /// Deletes what an earlier owner published; `false`: the partitions are not ours any more.
    async fn adopt(&self, adopted: Vec<(i16, Own, Adopted)>) -> Result<bool, JobError> {
        let mut owned = Owned::default();
        let mut lost = 0;
        for (partition, own, answer) in &adopted {
            let last = answer.last_number.unwrap_or(0).max(own.acknowledged);
            owned.add(*partition, own.token, 0, last);
            if let Some(known) = answer.last_number.filter(|known| *known < own.acknowledged) {
                lost += own.acknowledged.abs_diff(known);
                error!(
                    partition,
                    acknowledged = own.acknowledged,
                    known,
                    "the stream has lost events that it had acknowledged: run reconcile"
                );
            }
        }
        self.ctx.note_counters(|delta| delta.add(&metric::LOST, &[], lost));
        let buckets = self.lanes.borrow().buckets();
        let ours = self
            .ctx
            .db
            .transaction("delete what is published already", async |tx| {
                if !partitions::settle(tx, &owned).await? {
                    return Ok(false);
                }
                for (partition, _, answer) in &adopted {
                    let of = buckets.iter().filter(|(_, other)| other == partition).map(|&(bucket, _)| bucket);
                    let of: Vec<i16> = of.collect();
                    for seqs in answer.published.chunks(5000) {
                        pages::delete_adopted(tx, &of, seqs).await?;
                    }
                }
                Ok::<_, sqlx::Error>(true)
            })
            .await?;
        if !ours {
            return Ok(false);
        }
        let mut lanes = self.lanes.borrow_mut();
        for (partition, own, answer) in adopted {
            self.sink.confirmed(lane(partition, own.token), 0);
            if let Some(own) = lanes.get_mut(partition) {
                own.acknowledged = own.acknowledged.max(answer.last_number.unwrap_or(0));
                own.next = 1;
                own.is_unknown = false;
            }
        }
        Ok(true)
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

    /// Gives signs of life during a pass; ends when the partitions are lost.
    async fn keep(&self) {
        loop {
            tokio::time::sleep(RENEW).await;
            let (owned, until) = {
                let lanes = self.lanes.borrow();
                (lanes.owned(), lanes.holds_until())
            };
            if owned.is_empty() {
                continue;
            }
            let asked_at = Instant::now();
            let renewing = async |tx: &mut sqlx::PgConnection| {
                let job = <crate::OutboxDrain as job::Job>::NAME;
                partitions::alive(tx, job, &self.ctx.run.run_id, self.settings.share).await?;
                let ours = partitions::settle(tx, &owned).await?;
                Ok::<_, sqlx::Error>((ours, partitions::split(tx, job, self.settings.share).await?))
            };
            let renewed = self.ctx.db.transaction("renew partitions", renewing);
            match tokio::time::timeout_at(until, renewed).await {
                Ok(Ok((true, split))) => {
                    self.lanes.borrow_mut().renewed(asked_at);
                    let share = self.settings.share;
                    if Lanes::fair(split, share.index, share.count) < owned.len() {
                        self.yields.set(true);
                    }
                }
                Ok(Err(error)) => warn!(%error, "partitions could not be renewed; trying again"),
                Ok(Ok((false, _))) | Err(_) => {
                    *self.trouble.borrow_mut() = Some(Trouble::Lost);
                    return;
                }
            }
        }
    }

    /// Gives everything up.
    pub(crate) async fn leave_all(&self) {
        let all = self.lanes.borrow_mut().give_up(0);
        self.leave(&all).await;
    }

    async fn leave(&self, lanes: &[(i16, Own)]) {
        if lanes.is_empty() {
            return;
        }
        // Nothing depends on it: what is not forgotten now is adopted and forgotten by the next owner.
        for (partition, own) in lanes {
            let _ = self.sink.leave(lane(*partition, own.token)).await;
        }
        let mut owned = Owned::default();
        for (partition, own) in lanes {
            owned.add(*partition, own.token, own.floor, 0);
        }
        let left = self.ctx.db.transaction("give partitions up", async |tx| partitions::leave(tx, &owned).await).await;
        if let Err(error) = left {
            info!(%error, "partitions could not be given up; they are free in some seconds");
        }
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
