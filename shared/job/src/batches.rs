//! The one batch loop: claim, work, checkpoint.
//!
//! Claims are read ahead and worked on while a checkpoint is being written, all on one task. Checkpoints are written
//! one after the other in the order of the claims, so that what is written is always a beginning of what was claimed.
//! Batches that are ready at the same time share a checkpoint: where writing is what takes the time, its commits are what
//! can be saved.

use std::{cell::Cell, collections::VecDeque, future::Future, pin::pin, time::Duration};

use futures::{
    FutureExt, StreamExt,
    future::{Fuse, FusedFuture},
    stream::FuturesOrdered,
};
use tokio::time::Instant;

use crate::{Context, JobError};

#[cfg(test)]
mod tests;

/// A batch should be written in this time at most.
const TARGET: Duration = Duration::from_secs(1);
/// Batches share a checkpoint as long as it takes no longer than this; more of them would save little and lock much.
const TOGETHER: Duration = Duration::from_millis(250);
/// How long what is in hand may go on once the work must end; then it is dropped, and a checkpoint rolled back.
const PATIENCE: Duration = Duration::from_secs(5);

/// The steps of a job's batch. All take `&self`, since they overlap; a cursor lives in a `Cell`.
#[expect(async_fn_in_trait, reason = "one task, so that no future has to be Send")]
pub trait Batch {
    /// What was read.
    type Claimed;
    /// What is to be written.
    type Worked;
    /// Work has effects outside: when the time for work is over or a stop comes, what is in hand is finished and written, as
    /// far as it takes no longer than a few seconds, instead of dropped.
    const ACTS: bool = false;

    /// Reads the next items, at most `size`; `None` when there are no more. Must not depend on checkpoints, which are
    /// still to come when it is called.
    ///
    /// # Errors
    /// End the loop once the batches before are written.
    async fn claim(&self, size: usize) -> Result<Option<Self::Claimed>, JobError>;

    /// Decides, without a side effect unless [`Batch::ACTS`]: it may be dropped at any point.
    ///
    /// # Errors
    /// End the loop once the batches before are written.
    async fn work(&self, claimed: Self::Claimed) -> Result<Self::Worked, JobError>;

    /// Writes batches, in the order of their claims and at least one, in one transaction ([`Context::checkpoint`]).
    ///
    /// # Errors
    /// End the loop.
    async fn checkpoint(&self, worked: Vec<Self::Worked>) -> Result<Flow, JobError>;
}

/// Whether the loop goes on after a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// With the next batch.
    Continue,
    /// No further checkpoint is written.
    Stop,
}

/// Why the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Everything that was claimed is written, and there is no more.
    Exhausted,
    /// A checkpoint said [`Flow::Stop`].
    Flow,
    /// The time for work is over ([`crate::Budget`]).
    OutOfTime,
    /// A stop was asked for.
    Stopped,
}

/// How large batches are and how fast they follow each other.
#[derive(Debug)]
pub struct Sizer {
    most: usize,
    in_flight: usize,
    delay: Duration,
    size: Cell<usize>,
    /// How long the last checkpoint took for each batch.
    pace: Cell<Duration>,
}

impl Sizer {
    /// Batches of at most `most` items (at least 1), of which at most `in_flight` (at least 1) are read ahead of the
    /// checkpoint in hand (and so written with the next one), with a pause of `delay` before each claim but the first.
    pub fn new(most: usize, in_flight: usize, delay: Duration) -> Self {
        Self {
            most: most.max(1),
            in_flight: in_flight.max(1),
            delay,
            size: Cell::new(most.max(1)),
            pace: Cell::new(TOGETHER),
        }
    }

    /// How many batches may share the next checkpoint.
    fn together(&self) -> usize {
        usize::try_from(TOGETHER.as_micros() / self.pace.get().as_micros().max(1)).unwrap_or(usize::MAX).max(1)
    }

    /// Learns from how long a batch took to write: smaller ones when it was slow, larger ones when it was fast.
    fn learn(&self, took: Duration) {
        self.pace.set(took);
        let size = self.size.get();
        if took > TARGET {
            self.size.set((size / 2).max(1));
        } else if took < TARGET / 4 {
            self.size.set((size + size.div_ceil(4)).min(self.most));
        }
    }
}

/// Runs the batches of `batch` until there are no more, a checkpoint stops it, the time for work is over, or a stop is
/// asked for.
///
/// # Errors
/// The first error of a step, in the order of the claims; what was claimed before it is written.
pub async fn run<B: Batch>(ctx: &Context, sizer: Sizer, batch: &B) -> Result<End, JobError> {
    let quit = async {
        tokio::select! {
            biased;
            () = ctx.stop.stopped() => End::Stopped,
            () = tokio::time::sleep_until(ctx.budget.work_ends_at()) => End::OutOfTime,
        }
    };
    run_until(quit, ctx.budget.answers_end_at(), &sizer, batch).await
}

async fn run_until<B: Batch>(
    quit: impl Future<Output = End>,
    latest: Instant,
    sizer: &Sizer,
    batch: &B,
) -> Result<End, JobError> {
    let mut quit = pin!(quit);
    let mut claim = pin!(Fuse::terminated());
    let mut checkpoint = pin!(Fuse::terminated());
    let mut works = FuturesOrdered::new();
    let mut ready = VecDeque::new();
    let mut exhausted = false;
    let mut delay = Duration::ZERO;
    loop {
        if checkpoint.is_terminated() && !ready.is_empty() {
            checkpoint.set(write(batch, sizer, beginning(&mut ready, sizer.together())?).fuse());
        }
        if !exhausted && claim.is_terminated() && works.len() + ready.len() < sizer.in_flight {
            claim.set(read(batch, sizer, delay).fuse());
            delay = sizer.delay;
        }
        if checkpoint.is_terminated() && claim.is_terminated() && works.is_empty() {
            return Ok(End::Exhausted);
        }
        tokio::select! {
            biased;
            end = &mut quit => {
                let finish = Box::pin(async {
                    if !checkpoint.is_terminated() && checkpoint.as_mut().await? == Flow::Stop {
                        return Ok(());
                    }
                    // What is ready does not wait for what may never be.
                    let mut is_more = B::ACTS;
                    while is_more {
                        while !ready.is_empty() {
                            if write(batch, sizer, beginning(&mut ready, usize::MAX)?).await? == Flow::Stop {
                                return Ok(());
                            }
                        }
                        let next = works.next().await;
                        is_more = next.is_some();
                        ready.extend(next);
                    }
                    Ok::<_, JobError>(())
                });
                if let Ok(finished) = tokio::time::timeout_at((Instant::now() + PATIENCE).min(latest), finish).await {
                    finished?;
                } else {
                    tracing::warn!("what was in hand took too long to finish and is rolled back");
                }
                return Ok(end);
            }
            written = &mut checkpoint => {
                if written? == Flow::Stop {
                    return Ok(End::Flow);
                }
            }
            Some(worked) = works.next(), if !works.is_empty() => ready.push_back(worked),
            claimed = &mut claim => match claimed.transpose() {
                None => exhausted = true,
                Some(claimed) => {
                    exhausted = claimed.is_err();
                    works.push_back(work(batch, claimed));
                }
            },
        }
    }
}

async fn read<B: Batch>(batch: &B, sizer: &Sizer, delay: Duration) -> Result<Option<B::Claimed>, JobError> {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    batch.claim(sizer.size.get()).await
}

// An error of a claim goes through the queue like a batch, so that it is told after the batches before it are written.
async fn work<B: Batch>(batch: &B, claimed: Result<B::Claimed, JobError>) -> Result<B::Worked, JobError> {
    batch.work(claimed?).await
}

/// What is ready, at most `most` and up to the first error; the error once it is the first.
fn beginning<T>(ready: &mut VecDeque<Result<T, JobError>>, most: usize) -> Result<Vec<T>, JobError> {
    let good = ready.iter().take(most).take_while(|worked| worked.is_ok()).count();
    ready.drain(..good.max(1)).collect()
}

async fn write<B: Batch>(batch: &B, sizer: &Sizer, worked: Vec<B::Worked>) -> Result<Flow, JobError> {
    let began = Instant::now();
    let batches = u32::try_from(worked.len()).unwrap_or(u32::MAX).max(1);
    let flow = batch.checkpoint(worked).await?;
    sizer.learn(began.elapsed() / batches);
    Ok(flow)
}
