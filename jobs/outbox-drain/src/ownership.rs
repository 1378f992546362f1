//! Which partitions are ours: taking a share, asking what an earlier owner left in flight, signs of life, giving up.

use std::cell::Cell;

use futures::future::join_all;
use job::{Job, JobError};
use metrics::outbox as metric;
use outbox::{
    Sink,
    sink::{Remembered, SinkError},
};
use store::outbox::{
    BUCKETS, pages,
    partitions::{self, Owned, Share},
};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::{
    OutboxDrain,
    drain::{Drain, LOOK_AGAIN, Trouble},
    lanes::{Lanes, Own, RENEW, lane},
    restored::Answer,
};

impl<S: Sink> Drain<'_, S> {
    /// Takes and gives partitions so that every run has its share, and asks the sink what was in flight in new ones.
    pub(crate) async fn share(&self) -> Result<Result<(), Trouble>, JobError> {
        let now = Instant::now();
        let is_old = |at: Option<Instant>| at.is_none_or(|at| now.duration_since(at) >= LOOK_AGAIN);
        if is_old(self.lanes.borrow().looked_at) && !self.take_share(now).await? {
            return Ok(Err(Trouble::Lost));
        }
        self.ask().await
    }

    /// Asks the sink what is in flight where that is not known.
    async fn ask(&self) -> Result<Result<(), Trouble>, JobError> {
        let unknown: Vec<(i16, Own)> =
            self.lanes.borrow().iter().filter(|(_, own)| own.is_unknown).map(|(p, own)| (p, *own)).collect();
        if unknown.is_empty() {
            return Ok(Ok(()));
        }
        let asked =
            unknown.iter().map(|(partition, own)| self.sink.adopt(lane(*partition, own.token), own.acknowledged));
        let answers = join_all(asked).await;
        let (mut adopted, mut failed, mut fence): (Vec<Answer>, _, _) = (Vec::new(), None, None);
        for ((partition, own), answer) in unknown.into_iter().zip(answers) {
            match answer {
                Ok(answer) => adopted.push((partition, own, answer)),
                Err(error) => {
                    if let SinkError::Fenced(token) = error {
                        fence = fence.max(token);
                    }
                    failed = failed.or(Some(error));
                }
            }
        }
        if let Some(token) = fence {
            self.catch_up(token).await?;
        }
        let (again, not_asked) = self.find_again(&mut adopted).await;
        failed = failed.or(not_asked);
        // Also where another one failed: what the sink has lost is told once.
        let ours = self.adopt(adopted, again).await?;
        Ok(match failed {
            _ if !ours => Err(Trouble::Lost),
            Some(error) => Err(Trouble::Sink(error)),
            None => Ok(()),
        })
    }

    /// `false`: some were lost meanwhile.
    async fn take_share(&self, asked_at: Instant) -> Result<bool, JobError> {
        let share = self.settings.share;
        let job = OutboxDrain::NAME;
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
                    taken = partitions::take(tx, &self.ctx.run.run_id, share, stream, &held, most, false).await?;
                }
                let free = partitions::free(tx, share).await?;
                let beyond = self.lanes.borrow_mut().beyond.may_take(free, split.runs, asked_at);
                let mut extra = 0;
                if beyond > 0 {
                    let held: Vec<i16> =
                        held.iter().copied().chain(taken.iter().map(|taken| taken.partition)).collect();
                    let more = partitions::take(tx, &self.ctx.run.run_id, share, stream, &held, beyond, false).await?;
                    extra = more.len();
                    taken.extend(more);
                }
                Ok::<_, sqlx::Error>(Some((split, fair, taken, extra)))
            })
            .await?;
        let Some((split, fair, taken, extra)) = shared else { return Ok(false) };
        let surplus = {
            let mut lanes = self.lanes.borrow_mut();
            lanes.split(split.partitions);
            lanes.renewed(asked_at);
            lanes.looked_at = Some(asked_at);
            lanes.is_one_for_each = Lanes::one_for_each(split, share.index, share.count);
            lanes.add(&taken);
            lanes.beyond.took(extra, asked_at);
            let most = fair + lanes.beyond.count();
            lanes.give_up(most)
        };
        if !taken.is_empty() || !surplus.is_empty() {
            self.held_at.set(None);
            info!(taken = taken.len(), given_up = surplus.len(), runs = split.runs, "partitions changed hands");
        }
        self.leave(&surplus).await;
        Ok(true)
    }

    /// Deletes what an earlier owner published; `false`: the partitions are not ours any more.
    async fn adopt(&self, adopted: Vec<Answer>, again: Vec<Remembered>) -> Result<bool, JobError> {
        let mut owned = Owned::of(self.settings.stream());
        let mut lost = 0;
        for (partition, own, answer) in &adopted {
            let last = answer.last_number.unwrap_or(0).max(own.acknowledged);
            // Where nothing comes of it, a name that was tried must not cost the numbers under the other.
            let is_to_tell = !own.is_renamed || !answer.published.is_empty();
            owned.add(*partition, own.token, own.server, 0, if is_to_tell { last } else { 0 });
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
        let buckets = self.lanes.borrow().buckets();
        let is_lost = Cell::new(false);
        let sink = self.settings.options.outbox_sink.name();
        let written = self
            .ctx
            .checkpoint("delete what is published already", async |tx, delta| {
                if !partitions::settle(tx, &owned).await? {
                    is_lost.set(true);
                    // Any error: the transaction is rolled back.
                    return Err(sqlx::Error::RowNotFound);
                }
                let mut deleted = 0;
                let mut delete = async |of: &[i16], events: &[&Remembered]| {
                    for events in events.chunks(1000) {
                        let seqs: Vec<i64> = events.iter().map(|event| event.seq).collect();
                        let tails: Vec<String> = events.iter().map(|event| event.tail.clone()).collect();
                        deleted += pages::delete_adopted(tx, of, &seqs, &tails).await?;
                    }
                    Ok::<_, sqlx::Error>(())
                };
                for (partition, _, answer) in &adopted {
                    let of = buckets.iter().filter(|(_, other)| other == partition).map(|&(bucket, _)| bucket);
                    delete(&of.collect::<Vec<_>>(), &answer.published.iter().collect::<Vec<_>>()).await?;
                }
                // The split may have been another one when they were published.
                let all: Vec<i16> = buckets.iter().map(|&(bucket, _)| bucket).collect();
                delete(&all, &again.iter().collect::<Vec<_>>()).await?;
                // Whoever published them did not come to count them.
                delta.scanned += deleted;
                delta.changed += deleted;
                delta.add(&metric::PUBLISHED, &[sink], deleted);
                delta.add(&metric::LOST, &[], lost);
                Ok(deleted)
            })
            .await;
        if is_lost.get() {
            return Ok(false);
        }
        self.adopted.set(self.adopted.get() + written?);
        let mut lanes = self.lanes.borrow_mut();
        for (partition, own, answer) in adopted {
            self.sink.confirmed(lane(partition, own.token), 0);
            if let Some(own) = lanes.get_mut(partition) {
                own.acknowledged = own.acknowledged.max(answer.last_number.unwrap_or(0));
                own.next = 1;
                own.is_unknown = false;
                own.is_renamed = false;
            }
        }
        Ok(true)
    }

    /// Whether it holds partitions, or none is left for it.
    pub(crate) fn has_its_share(&self) -> bool {
        let lanes = self.lanes.borrow();
        !lanes.is_one_for_each || !lanes.partitions().is_empty()
    }

    /// Gives signs of life during a pass; ends when the partitions are lost.
    pub(crate) async fn keep(&self) {
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
                let job = OutboxDrain::NAME;
                partitions::alive(tx, job, &self.ctx.run.run_id, self.settings.share).await?;
                let ours = partitions::settle(tx, &owned).await?;
                Ok::<_, sqlx::Error>((ours, partitions::split(tx, job, self.settings.share).await?))
            };
            let renewed = self.ctx.db.transaction("renew partitions", renewing);
            match tokio::time::timeout_at(until, renewed).await {
                Ok(Ok((true, split))) => {
                    self.lanes.borrow_mut().renewed(asked_at);
                    let share = self.settings.share;
                    if Lanes::fair(split, share.index, share.count) + self.lanes.borrow().beyond.count() < owned.len() {
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
            owned.add(*partition, own.token, own.server, own.floor, 0);
        }
        let left = self.ctx.db.transaction("give partitions up", async |tx| partitions::leave(tx, &owned).await).await;
        if let Err(error) = left {
            info!(%error, "partitions could not be given up; they are free in some seconds");
        }
    }

    /// Takes all partitions although they are closed, deletes what is published already, and gives them up: what is in
    /// flight belongs to buckets that are about to change hands. `false`: some are held.
    pub(crate) async fn clear_up(&self) -> Result<bool, JobError> {
        let all = Share { index: 0, count: 1 };
        let stream = self.settings.stream();
        let what = "take all partitions";
        let taking = async |tx: &mut sqlx::PgConnection| {
            let taken = partitions::take(tx, &self.ctx.run.run_id, all, stream, &[], BUCKETS.into(), true).await?;
            Ok::<_, sqlx::Error>((partitions::split(tx, OutboxDrain::NAME, all).await?.partitions, taken))
        };
        let (partitions, taken) = self.ctx.db.transaction(what, taking).await?;
        {
            let mut lanes = self.lanes.borrow_mut();
            lanes.split(partitions);
            lanes.add(&taken);
        }
        let asked = self.ask().await;
        self.leave_all().await;
        match asked? {
            Ok(()) => Ok(taken.len() == usize::from(partitions.unsigned_abs())),
            Err(Trouble::Lost) => Ok(false),
            Err(Trouble::Sink(error)) => Err(crate::refused(&error)),
        }
    }
}
