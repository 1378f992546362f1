//! PostgreSQL was restored, or a standby took over that lagged: the sink knows more than it does.

use job::JobError;
use outbox::{
    Sink,
    sink::{Adopted, Gap, Remembered, SinkError},
};
use store::outbox::partitions;
use tracing::{error, warn};

use crate::{
    drain::Drain,
    lanes::{Own, lane},
};

/// So many events are looked for at the sink, and deleted in one transaction, at most: a lease lasts seconds.
const MOST_FOUND: i64 = 20_000;

/// So often a process raises the tokens: partitions may know different ones, but who is fenced again and again has a rival.
const MOST_RAISED: u32 = 8;

/// A partition of ours, and what the sink says of it.
pub(crate) type Answer = (i16, Own, Adopted);

impl<S: Sink> Drain<'_, S> {
    /// The sink knows a younger owner. If PostgreSQL does not, it went back, and would give smaller tokens for as long as it
    /// took to give those that the sink has seen.
    pub(crate) async fn catch_up(&self, token: i64) -> Result<(), JobError> {
        let owned = self.lanes.borrow().owned();
        let is_again = self.raised.get() >= MOST_RAISED;
        let raising = async |tx: &mut sqlx::PgConnection| {
            let ours = partitions::settle(tx, &owned).await?;
            if ours && !is_again {
                partitions::raise_tokens(tx, token).await?;
            }
            Ok::<_, sqlx::Error>(ours)
        };
        let ours = self.ctx.db.transaction("raise the fencing tokens", raising).await?;
        if ours && is_again {
            error!(token, "the sink knows yet another fencing token: does another database write to this stream?");
        } else if ours {
            self.raised.set(self.raised.get() + 1);
            warn!(
                token,
                "the sink knows a fencing token that PostgreSQL has not given: PostgreSQL was restored; its tokens go on from there"
            );
        }
        Ok(())
    }

    /// The sink has given numbers that PostgreSQL does not know, and does not remember their events as in flight: their
    /// deletion was committed, and is lost. They are looked for at the sink. Of a partition of which not all are found, not
    /// even those in flight may be deleted: the others would go out behind them. Partitions about which the sink fails are
    /// taken out of `answers`.
    pub(crate) async fn find_again(&self, answers: &mut Vec<Answer>) -> (Vec<Remembered>, Option<SinkError>) {
        let missed: i64 = answers.iter().map(missing).sum();
        if missed == 0 {
            return (Vec::new(), None);
        }
        let gaps: Vec<Gap> = answers.iter().filter(|one| missing(one) > 0).map(gap).collect();
        let found = if missed > MOST_FOUND { Ok(Vec::new()) } else { self.sink.find(&gaps).await };
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                answers.retain(|one| missing(one) == 0);
                return (Vec::new(), Some(error));
            }
        };
        let is_found = |partition: i16| found.iter().any(|(other, _)| *other == partition.unsigned_abs());
        let lanes = answers.iter().filter(|one| missing(one) > 0).map(|&(partition, own, _)| (partition, own.token));
        let again: Vec<(i16, i64)> = lanes.filter(|&(partition, _)| !is_found(partition)).collect();
        error!(
            missed,
            published_again = ?again.iter().map(|(partition, _)| partition).collect::<Vec<_>>(),
            "PostgreSQL has lost that events were published: they are deleted, but for those of partitions that the stream does \
             not show whole"
        );
        let mut failed = None;
        for (partition, token) in again {
            // Before PostgreSQL knows all numbers: then there is no gap to be seen any more, and whoever asks next would
            // delete those in flight alone.
            if let Err(error) = self.sink.forget(lane(partition, token)).await {
                answers.retain(|(other, ..)| *other != partition);
                failed = Some(error);
            }
            for (.., answer) in answers.iter_mut().filter(|(other, ..)| *other == partition) {
                answer.published.clear();
            }
        }
        (found.into_iter().flat_map(|(_, events)| events).collect(), failed)
    }
}

/// How many events the sink has numbered that PostgreSQL does not know of, beside those in flight. Of a stream that another
/// one was named after, it need not know.
fn missing((_, own, answer): &Answer) -> i64 {
    if own.is_renamed {
        return 0;
    }
    let in_flight = i64::try_from(answer.published.len()).unwrap_or(i64::MAX);
    answer.last_number.map_or(0, |last| (last - own.acknowledged - in_flight).max(0))
}

fn gap((partition, own, answer): &Answer) -> Gap {
    let last = answer.last_number.unwrap_or(0);
    Gap { partition: partition.unsigned_abs(), after: own.acknowledged, last }
}
