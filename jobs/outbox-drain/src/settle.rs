//! What becomes of pages that the sink has answered about: published events are deleted, rejected ones held back or buried,
//! in one transaction under the tokens of their partitions.

use std::{cell::Cell, collections::BTreeMap};

use job::JobError;
use metrics::outbox as metric;
use outbox::{
    Sink,
    sink::{Fate, Rejection},
};
use store::outbox::{
    held::{self, Rejected},
    pages,
    partitions::{self, Owned},
};
use tracing::warn;

use crate::{drain::Drain, heldback::HeldBack, options::DeadLetterPolicy, page::Worked};

impl<S: Sink> Drain<'_, S> {
    /// Writes it; `false`: a partition is not ours any more, and nothing was written.
    pub(crate) async fn settle(&self, worked: &[Worked]) -> Result<bool, JobError> {
        let told = Told::of(worked, &self.held.borrow());
        if told.seqs.is_empty() && told.rejected.is_empty() {
            return Ok(true);
        }
        let options = &self.settings.options;
        let most = i32::try_from(options.max_attempts).unwrap_or(i32::MAX);
        let passes = options.dead_letter_policy == DeadLetterPolicy::Pass;
        let lost = Cell::new(false);
        let mut dead = Vec::new();
        let written = self
            .ctx
            .checkpoint("settle events", async |tx, delta| {
                if !partitions::settle(tx, &told.owned).await? {
                    lost.set(true);
                    // Any error: the transaction is rolled back.
                    return Err(sqlx::Error::RowNotFound);
                }
                pages::delete(tx, &told.buckets, &told.seqs).await?;
                let published = told.seqs.len() as u64;
                delta.scanned += published + told.rejected.len() as u64;
                delta.changed += published;
                delta.add(&metric::PUBLISHED, &[options.outbox_sink.name()], published);
                for (rejected, rejection) in &told.rejected {
                    match held::hold(tx, rejected).await? {
                        Some(attempts) if rejection.for_good || attempts >= most => {
                            held::bury(tx, rejected, attempts, passes).await?;
                            dead.push((rejected, attempts));
                            delta.failed += 1;
                            delta.add(&metric::DEAD_LETTERED, &[], 1);
                        }
                        _ => {
                            delta.skipped += 1;
                            delta.add(&metric::RETRIED, &[], 1);
                        }
                    }
                }
                Ok(())
            })
            .await;
        if lost.get() {
            return Ok(false);
        }
        written?;
        for (rejected, attempts) in &dead {
            warn!(
                seq = rejected.seq,
                aggregate_type = rejected.aggregate_type,
                aggregate_id = rejected.aggregate_id,
                attempts,
                reason = rejected.reason,
                "event dead-lettered"
            );
        }
        if passes && !dead.is_empty() {
            // Later events of these aggregates were left: they go on with the next pass, not before.
            self.held_at.set(None);
        }
        Ok(true)
    }
}

/// What pages are to write.
struct Told<'a> {
    owned: Owned,
    buckets: Vec<i16>,
    seqs: Vec<i64>,
    rejected: Vec<(Rejected<'a>, &'a Rejection)>,
}

impl<'a> Told<'a> {
    fn of(worked: &'a [Worked], held: &HeldBack) -> Self {
        let mut told = Self { owned: Owned::default(), buckets: Vec::new(), seqs: Vec::new(), rejected: Vec::new() };
        let mut lanes: BTreeMap<u16, (i64, i64)> = BTreeMap::new();
        for Worked { claimed, fates, last_number } in worked {
            let lane = lanes.entry(claimed.lane.partition).or_insert((claimed.lane.token, 0));
            lane.1 = lane.1.max(last_number.unwrap_or(0));
            for ((event, &(bucket, key)), fate) in claimed.events.iter().zip(&claimed.keys).zip(fates) {
                match fate {
                    Fate::Published => {
                        told.buckets.push(bucket);
                        told.seqs.push(event.seq);
                    }
                    Fate::Rejected(rejection) => {
                        let rejected = Rejected {
                            aggregate_type: &event.aggregate.kind,
                            aggregate_id: &event.aggregate.id,
                            bucket,
                            seq: event.seq,
                            from: held.from(key).unwrap_or(event.seq),
                            reason: &rejection.reason,
                            retry_after: rejection.retry_after.unwrap_or_default().as_secs_f64(),
                        };
                        told.rejected.push((rejected, rejection));
                    }
                    Fate::Left => {}
                }
            }
        }
        for (partition, (token, number)) in lanes {
            told.owned.add(i16::try_from(partition).unwrap_or(i16::MAX), token, 0, number);
        }
        told
    }
}
