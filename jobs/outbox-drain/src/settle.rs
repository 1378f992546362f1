//! What becomes of pages that the sink has answered about: published events are deleted, rejected ones held back or buried,
//! in one transaction under the tokens of their partitions.

use std::{cell::Cell, collections::BTreeMap};

use job::JobError;
use metrics::outbox as metric;
use outbox::{
    Event, Sink,
    sink::{Fate, Lane, Rejection, Verdict},
};
use store::outbox::{
    held::{self, Rejected},
    pages::{self, Done},
    partitions::{self, Owned},
};
use time::OffsetDateTime;
use tracing::warn;

use crate::{drain::Drain, heldback::HeldBack, options::DeadLetterPolicy, page::Worked};

impl<S: Sink> Drain<'_, S> {
    /// Writes it; `false`: a partition is not ours any more, and nothing was written.
    pub(crate) async fn settle(&self, worked: &[Worked]) -> Result<bool, JobError> {
        let told = Told::of(worked, &self.held.borrow(), self.settings.stream());
        if told.done.is_empty() && told.rejected.is_empty() {
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
                pages::delete(tx, &told.done).await?;
                let published = told.done.len() as u64;
                delta.scanned += published + told.rejected.len() as u64;
                delta.changed += published;
                delta.add(&metric::PUBLISHED, &[options.outbox_sink.name()], published);
                for Refusal { rejected, rejection, event } in &told.rejected {
                    match held::hold(tx, rejected).await? {
                        Some(attempts) if rejection.verdict == Verdict::ForGood || attempts >= most => {
                            held::bury(tx, rejected, attempts, passes).await?;
                            dead.push((event, rejected.reason, attempts));
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
        self.settled.set(self.settled.get() + (told.done.len() + told.rejected.len()) as u64);
        for (lane, number) in &told.numbers {
            self.lanes.borrow_mut().acknowledge(*lane, *number);
        }
        for (event, reason, attempts) in &dead {
            warn!(
                event_id = %event.event_id,
                event_type = event.event_type,
                aggregate_type = event.aggregate.kind,
                aggregate_id = event.aggregate.id,
                seq = event.seq,
                attempts,
                reason,
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
    /// The number of the last event in each partition.
    numbers: Vec<(Lane, i64)>,
    done: Done,
    rejected: Vec<Refusal<'a>>,
}

/// An event that was rejected.
struct Refusal<'a> {
    rejected: Rejected<'a>,
    rejection: &'a Rejection,
    event: &'a Event,
}

impl<'a> Told<'a> {
    fn of(worked: &'a [Worked], held: &HeldBack, stream: Option<&str>) -> Self {
        let mut told =
            Self { owned: Owned::of(stream), numbers: Vec::new(), done: Done::default(), rejected: Vec::new() };
        let mut lanes: BTreeMap<u16, (i64, OffsetDateTime, i64)> = BTreeMap::new();
        for Worked { claimed, fates, last_number } in worked {
            let lane = lanes.entry(claimed.lane.partition).or_insert((claimed.lane.token, claimed.server, 0));
            lane.2 = lane.2.max(last_number.unwrap_or(0));
            for ((event, key), fate) in claimed.events.iter().zip(&claimed.keys).zip(fates) {
                match fate {
                    Fate::Published => told.done.add(key.bucket, event.seq, key.at),
                    Fate::Rejected(rejection) => {
                        let rejected = Rejected {
                            aggregate_type: &event.aggregate.kind,
                            aggregate_id: &event.aggregate.id,
                            bucket: key.bucket,
                            seq: event.seq,
                            version: held.version(key.aggregate),
                            reason: &rejection.reason,
                            retry_after: rejection.retry_after.unwrap_or_default().as_secs_f64(),
                        };
                        told.rejected.push(Refusal { rejected, rejection, event });
                    }
                    Fate::Left => {}
                }
            }
        }
        for (partition, (token, server, number)) in lanes {
            told.numbers.push((Lane { partition, token }, number));
            told.owned.add(i16::try_from(partition).unwrap_or(i16::MAX), token, server, 0, number);
        }
        told
    }
}
