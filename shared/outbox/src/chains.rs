//! Publishing event by event: aggregates beside each other, the events of an aggregate one after the other, each sent
//! only when the one before it is known to be taken. So whatever fails, an aggregate's events arrive without a gap.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    pin::pin,
    time::Duration,
};

use futures::{StreamExt, stream};
use tokio::{
    sync::Semaphore,
    task::yield_now,
    time::{Instant, timeout},
};

use crate::{
    Aggregate, Event,
    sink::{Batch, Fate, Published, Rejection, SinkError, Verdict},
};

/// After so long no further attempt is begun: what arrived is deleted before much more does, since an interruption between
/// the two repeats it.
const SLICE: Duration = Duration::from_secs(2);
/// An attempt that lasts longer gives its permit to others, and waits on: some that hang must not keep everybody from theirs.
/// More than half a slice, so that in one at most twice as many of them begin as there are permits.
const PATIENCE: Duration = Duration::from_millis(1200);
/// After so many limits in a row, with nothing taken between them, the rest is left: the limit is the whole sink's.
const LIMITS: usize = 3;

/// How an attempt ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The sink has the event.
    Taken,
    /// The sink answered, and did not take it.
    Refused(Rejection),
    /// The sink took the call and gave no answer. If others get one, the event is to blame; else the sink.
    Silence(String),
    /// It is not about this event: nothing more is tried.
    Stop(SinkError),
}

/// Tries the events, at most `width` at once, and begins no try after two seconds; says what became of them, where
/// [`crate::judge`] has the last word. At least one is tried.
pub(crate) async fn publish(batch: Batch<'_>, width: usize, attempt: impl AsyncFn(&Event) -> End) -> Published {
    publish_with(&Semaphore::new(width), batch, width, attempt).await
}

/// The same where the tries of all partitions share `permits`: each needs one for its first moments, and they are given in the
/// order of asking, to events that were rejected before behind the others. The
/// two seconds go on while one is waited for, since what others have published meanwhile is deleted only when all are through.
/// At least one event of all partitions is tried.
pub(crate) async fn publish_with(
    permits: &Semaphore,
    batch: Batch<'_>,
    width: usize,
    attempt: impl AsyncFn(&Event) -> End,
) -> Published {
    let Batch { events, fresh, .. } = batch;
    let ends: RefCell<Vec<Option<End>>> = RefCell::new(events.iter().map(|_| None).collect());
    let (anything_taken, silence, stopped) = (Cell::new(false), Cell::new(false), Cell::new(false));
    let limits_in_a_row = Cell::new(0);
    let ends_at = Instant::now() + SLICE;
    let may_go_on = || {
        let is_over = stopped.get() || limits_in_a_row.get() >= LIMITS || Instant::now() >= ends_at;
        !is_over && (!silence.get() || anything_taken.get())
    };
    let (attempt, ends_ref) = (&attempt, &ends);
    let (taken, silent, stop, may_go_on) = (&anything_taken, &silence, &stopped, &may_go_on);
    let limits = &limits_in_a_row;
    stream::iter(chains(events))
        .for_each_concurrent(width, async |chain: Vec<usize>| {
            if chain.first().is_some_and(|first| *first >= fresh) {
                // The fresh ones of all partitions ask when they are polled for the first time.
                yield_now().await;
            }
            for place in chain {
                // It is never closed.
                let Ok(permit) = permits.acquire().await else { return };
                // Not before: the wait may have been long.
                if !may_go_on() {
                    return;
                }
                let mut attempting = pin!(attempt(&events[place]));
                let end = timeout(PATIENCE, &mut attempting).await;
                drop(permit);
                let end = match end {
                    Ok(end) => end,
                    Err(_) => attempting.await,
                };
                let goes_on = matches!(end, End::Taken);
                match &end {
                    End::Taken => {
                        taken.set(true);
                        limits.set(0);
                    }
                    End::Refused(rejection) if rejection.verdict == Verdict::Limited => limits.set(limits.get() + 1),
                    End::Refused(_) => {}
                    End::Silence(_) => silent.set(true),
                    End::Stop(_) => stop.set(true),
                }
                ends_ref.borrow_mut()[place] = Some(end);
                if !goes_on {
                    return;
                }
            }
        })
        .await;
    conclude(ends.into_inner())
}

/// The places of each aggregate's events, aggregates in the order of their first event.
fn chains(events: &[Event]) -> Vec<Vec<usize>> {
    let mut numbers: HashMap<&Aggregate, usize> = HashMap::new();
    let mut chains: Vec<Vec<usize>> = Vec::new();
    for (place, event) in events.iter().enumerate() {
        let number = *numbers.entry(&event.aggregate).or_insert_with(|| {
            chains.push(Vec::new());
            chains.len() - 1
        });
        chains[number].push(place);
    }
    chains
}

/// What each end says by itself. There is at most one failure an aggregate.
fn conclude(ends: Vec<Option<End>>) -> Published {
    let mut trouble = None;
    let fate = |end: Option<End>| match end {
        Some(End::Taken) => Fate::Published,
        Some(End::Refused(rejection)) => Fate::Rejected(rejection),
        Some(End::Silence(reason)) => Fate::Rejected(Rejection { reason, verdict: Verdict::Silent, retry_after: None }),
        Some(End::Stop(error)) => {
            trouble.get_or_insert(error);
            Fate::Left
        }
        None => Fate::Left,
    };
    let fates = ends.into_iter().map(fate).collect();
    Published { fates, last_number: None, trouble }
}

#[cfg(test)]
mod tests;
