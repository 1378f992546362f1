//! A page of events on its way: read, sorted by partition, published. What becomes of it then is in `settle.rs`.

use std::time::Duration;

use futures::future::join_all;
use job::{
    JobError,
    batches::{Batch, Flow},
};
use outbox::{
    Aggregate, Event, Sink,
    sink::{self, Fate, Finding, Lane, Published, SinkError, Verdict},
};
use serde_json::value::RawValue;
use store::{
    outbox::{
        held,
        pages::{self, Stored},
    },
    tid::Tid,
};
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::{
    drain::{Drain, Trouble},
    lanes::lane,
    places::PAGE_BYTES,
};

/// A deletion that takes longer may have met somebody who changes the table.
const IN_THE_WAY: Duration = Duration::from_millis(500);

/// Events of one partition.
pub(crate) struct Claimed {
    /// Whose they are.
    pub(crate) lane: Lane,
    /// When the server started at which they were read.
    pub(crate) server: OffsetDateTime,
    /// Number of the batch.
    pub(crate) number: u64,
    /// In the order of their numbers.
    pub(crate) events: Vec<Event>,
    /// One for each event.
    pub(crate) keys: Vec<Key>,
}

/// How an event is found again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    /// Cut of its aggregate's hash.
    pub(crate) bucket: i16,
    /// By which the drain knows its aggregate.
    pub(crate) aggregate: u64,
    /// Where its row lies.
    pub(crate) at: Tid,
}

/// The same, published or not.
pub(crate) struct Worked {
    /// What was to be published.
    pub(crate) claimed: Claimed,
    /// One for each event.
    pub(crate) fates: Vec<Fate>,
    /// The number of the partition's last event, where the sink numbers.
    pub(crate) last_number: Option<i64>,
}

impl<S: Sink> Batch for Drain<'_, S> {
    type Claimed = Vec<Claimed>;
    type Worked = Vec<Worked>;
    const ACTS: bool = true;

    async fn claim(&self, size: usize) -> Result<Option<Vec<Claimed>>, JobError> {
        loop {
            if self.limit_reached() || self.yields.get() || self.trouble.borrow().is_some() {
                self.end_snapshot().await;
                return Ok(None);
            }
            let asked = self.places.borrow_mut().ask(size);
            if asked.places.is_empty() {
                self.end_snapshot().await;
                return Ok(None);
            }
            self.pace.borrow_mut().read.begin();
            let each = i64::try_from(asked.each).unwrap_or(i64::MAX);
            let reading = async |tx: &mut _| pages::read(tx, &asked.places, each, PAGE_BYTES).await;
            let Some(mut snapshot) = self.snapshot.take() else {
                return Err(JobError::bug("reading events outside a pass"));
            };
            let page = snapshot.read("read events", reading).await?;
            if self.yields.get() {
                // Somebody may wait for it to go.
                snapshot.end().await;
            } else {
                self.snapshot.replace(Some(snapshot));
            }
            self.places.borrow_mut().advance(&asked, &page);
            self.pace.borrow_mut().read.end();
            if !page.events.is_empty() {
                return self.sort(page.events).map(Some);
            }
        }
    }

    async fn work(&self, mut claimed: Vec<Claimed>) -> Result<Vec<Worked>, JobError> {
        let _turn = if S::PIPELINED { None } else { Some(self.turn.lock().await) };
        if !S::PIPELINED {
            // What the page before brought to light was not known when this one was read.
            for claimed in &mut claimed {
                self.leave_out_held(claimed);
                self.put_back_due(claimed);
            }
        }
        if !self.lanes.borrow().hold(Instant::now()) {
            self.trouble.borrow_mut().get_or_insert(Trouble::Lost);
        }
        if !self.ctx.budget.working() || self.trouble.borrow().is_some() {
            // The loop may see the end of the time a little later, and take the pass for a whole one.
            for claimed in &claimed {
                claimed.events.iter().zip(&claimed.keys).for_each(|(event, key)| self.put_off(key.bucket, event.seq));
            }
            return Ok(claimed.into_iter().map(left).collect());
        }
        self.pace.borrow_mut().published.begin();
        let answers = join_all(claimed.iter().map(|claimed| self.publish(claimed))).await;
        self.pace.borrow_mut().published.end();
        let mut published: Vec<Published> =
            claimed.iter().zip(answers).map(|(claimed, answer)| answered(claimed, answer)).collect();
        self.judge(&claimed, &mut published).await;
        Ok(claimed.into_iter().zip(published).map(|(claimed, answer)| self.heard(claimed, answer)).collect())
    }

    async fn checkpoint(&self, worked: Vec<Vec<Worked>>) -> Result<Flow, JobError> {
        let worked: Vec<Worked> = worked.into_iter().flatten().collect();
        self.pace.borrow_mut().settled.begin();
        let settled = {
            let mut settling = std::pin::pin!(self.settle(&worked));
            tokio::select! {
                biased;
                settled = &mut settling => settled?,
                () = tokio::time::sleep(IN_THE_WAY) => {
                    // It may wait for somebody who waits for our snapshot to go.
                    self.yields.set(true);
                    self.end_snapshot().await;
                    settling.await?
                }
            }
        };
        self.pace.borrow_mut().settled.end();
        if !settled {
            *self.trouble.borrow_mut() = Some(Trouble::Lost);
            return Ok(Flow::Stop);
        }
        // A batch of which nobody knows may be published all the same: only the next owner's question can tell.
        for worked in worked.iter().filter(|worked| worked.fates.iter().all(|fate| *fate == Fate::Published)) {
            self.sink.confirmed(worked.claimed.lane, worked.claimed.number);
        }
        self.say_if_slow().await;
        // In trouble nothing more is claimed or published; what another page has published is written all the same.
        Ok(Flow::Continue)
    }
}

impl<S: Sink> Drain<'_, S> {
    /// By partition, in the order of the numbers, without what is held back.
    fn sort(&self, mut stored: Vec<Stored>) -> Result<Vec<Claimed>, JobError> {
        stored.sort_unstable_by_key(|event| event.seq);
        let (held, suspicion) = (self.held.borrow(), self.suspicion.borrow());
        let mut lanes = self.lanes.borrow_mut();
        let most = self.settings.options.max_events;
        let mut claimed: Vec<Claimed> = Vec::new();
        for stored in stored {
            let key = held::key(&stored.aggregate_type, &stored.aggregate_id);
            if held.waits(key) {
                // It waits for a later one, which must not make anybody forget this.
                if held.from(key).is_some_and(|from| stored.seq < from) {
                    self.put_off(stored.bucket, stored.seq);
                }
                continue;
            }
            if suspicion.leaves_out(key) {
                self.put_off(stored.bucket, stored.seq);
                continue;
            }
            if most > 0 && self.read.get() >= most {
                break;
            }
            let (bucket, partition) = (stored.bucket, lanes.partition(stored.bucket));
            let Some(own) = lanes.get_mut(partition) else {
                return Err(JobError::bug(format_args!("read bucket {bucket}, which is not ours")));
            };
            let lane = lane(partition, own.token);
            let place = claimed.iter().position(|claimed| claimed.lane == lane).unwrap_or_else(|| {
                claimed.push(Claimed {
                    lane,
                    server: own.server,
                    number: own.next,
                    events: Vec::new(),
                    keys: Vec::new(),
                });
                own.next += 1;
                claimed.len() - 1
            });
            self.read.set(self.read.get() + 1);
            claimed[place].keys.push(Key { bucket, aggregate: key, at: stored.at });
            claimed[place].events.push(event(stored)?);
        }
        Ok(claimed)
    }

    fn leave_out_held(&self, claimed: &mut Claimed) {
        let held = self.held.borrow();
        let mut stays = claimed.keys.iter().map(|key| !held.waits(key.aggregate)).collect::<Vec<_>>().into_iter();
        let mut stays_too = stays.clone();
        claimed.events.retain(|_| stays.next().unwrap_or(false));
        claimed.keys.retain(|_| stays_too.next().unwrap_or(false));
    }

    /// Those that were rejected before come behind the others, all of an aggregate: they may take the sink's time once more.
    fn put_back_due(&self, claimed: &mut Claimed) {
        let held = self.held.borrow();
        let mut both: Vec<(Event, Key)> = claimed.events.drain(..).zip(claimed.keys.drain(..)).collect();
        both.sort_by_key(|(_, key)| held.is_due(key.aggregate));
        (claimed.events, claimed.keys) = both.into_iter().unzip();
    }

    async fn publish(&self, claimed: &Claimed) -> Result<Published, SinkError> {
        if claimed.events.is_empty() {
            return Ok(Published { fates: Vec::new(), last_number: None, trouble: None });
        }
        let fresh = if S::PIPELINED {
            claimed.events.len()
        } else {
            let held = self.held.borrow();
            claimed.keys.iter().take_while(|key| !held.is_due(key.aggregate)).count()
        };
        let batch = sink::Batch { lane: claimed.lane, number: claimed.number, events: &claimed.events, fresh };
        self.sink.publish(batch).await
    }

    /// Whom to blame for what was not taken, the events or the sink.
    async fn judge(&self, claimed: &[Claimed], published: &mut [Published]) {
        let was_held: Vec<Vec<bool>> = {
            let held = self.held.borrow();
            claimed.iter().map(|c| c.keys.iter().map(|key| held.is_due(key.aggregate)).collect()).collect()
        };
        let was_held = |batch: usize, event: usize| was_held[batch][event];
        let verdicts: Vec<(usize, usize, Verdict)> = published
            .iter()
            .enumerate()
            .flat_map(|(batch, answer)| {
                answer.fates.iter().enumerate().filter_map(move |(event, fate)| match fate {
                    Fate::Rejected(rejection) => Some((batch, event, rejection.verdict)),
                    _ => None,
                })
            })
            .collect();
        let rejected: Vec<u64> =
            verdicts.iter().map(|&(batch, event, _)| claimed[batch].keys[event].aggregate).collect();
        let knows_life = self.suspicion.borrow_mut().knows_life(&rejected, self.took.get());
        let in_trouble = |published: &[Published]| published.iter().any(|answer| answer.trouble.is_some());
        let was_in_trouble = in_trouble(published);
        // Some had an answer and some had none, or one that failed before fails alone: events that the sink cannot bear, or
        // a sink that has just gone.
        let is_alive = knows_life || outbox::shows_life(published);
        let is_unclear = |&&(batch, event, verdict): &&(usize, usize, Verdict)| match verdict {
            Verdict::Silent => true,
            Verdict::Failed => !is_alive && was_held(batch, event),
            Verdict::ForGood | Verdict::Refused | Verdict::Gone | Verdict::Limited => false,
        };
        if !was_in_trouble && let Some(&(batch, ..)) = verdicts.iter().find(is_unclear) {
            let findings = self.sink.check().await;
            published[batch].trouble = findings.into_iter().find_map(|finding| match finding {
                Finding::Bad(error @ SinkError::Unavailable { .. }) => Some(error),
                Finding::Warning(text) if !is_alive => Some(SinkError::unavailable(text)),
                _ => None,
            });
        }
        outbox::judge(published, knows_life, was_held);
        if !was_in_trouble && in_trouble(published) {
            let mut suspicion = self.suspicion.borrow_mut();
            for (batch, event, _) in verdicts.into_iter().filter(|(.., verdict)| *verdict != Verdict::ForGood) {
                suspicion.suspect(claimed[batch].keys[event].aggregate);
            }
        }
    }

    fn heard(&self, claimed: Claimed, published: Published) -> Worked {
        if let Some(error) = published.trouble {
            self.trouble.borrow_mut().get_or_insert(Trouble::Sink(error));
        }
        let now = self.db_now();
        let mut latency = self.latency.borrow_mut();
        let mut held = self.held.borrow_mut();
        for ((event, key), fate) in claimed.events.iter().zip(&claimed.keys).zip(&published.fates) {
            match fate {
                Fate::Published => {
                    self.took.set(true);
                    if let Some(now) = now {
                        latency.add((now - event.occurred_at).try_into().unwrap_or_default());
                    }
                }
                Fate::Rejected(_) => held.wait(key.aggregate, key.bucket, event.seq),
                Fate::Left if held.waits(key.aggregate) => {}
                // Time was over, or the sink did not look well for a moment. Nothing later of the aggregate may overtake it.
                Fate::Left => {
                    held.wait(key.aggregate, key.bucket, event.seq);
                    self.put_off(key.bucket, event.seq);
                    self.yields.set(true);
                }
            }
        }
        Worked { claimed, fates: published.fates, last_number: published.last_number }
    }
}

/// What the sink answered about a batch; nothing of it is known to be published when it failed.
fn answered(claimed: &Claimed, answer: Result<Published, SinkError>) -> Published {
    answer.unwrap_or_else(|error| Published {
        fates: vec![Fate::Left; claimed.events.len()],
        last_number: None,
        trouble: Some(error),
    })
}

fn left(claimed: Claimed) -> Worked {
    Worked { fates: vec![Fate::Left; claimed.events.len()], claimed, last_number: None }
}

fn event(stored: Stored) -> Result<Event, JobError> {
    let payload = RawValue::from_string(stored.payload)
        .map_err(|error| JobError::data(format_args!("event {}: the payload is no JSON: {error}", stored.event_id)))?;
    Ok(Event {
        seq: stored.seq,
        event_id: stored.event_id,
        aggregate: Aggregate { kind: stored.aggregate_type, id: stored.aggregate_id },
        brand_id: stored.brand_id,
        event_type: stored.event_type,
        occurred_at: stored.occurred_at,
        payload,
    })
}
