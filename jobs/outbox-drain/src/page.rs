//! A page of events on its way: read, sorted by partition, published. What becomes of it then is in `settle.rs`.

use futures::future::join_all;
use job::{
    JobError,
    batches::{Batch, Flow},
};
use outbox::{
    Aggregate, Event, Sink,
    sink::{self, Fate, Finding, Lane, Published, SinkError},
};
use serde_json::value::RawValue;
use store::outbox::{
    held,
    pages::{self, Page, Place, Stored},
};
use tokio::time::Instant;

use crate::{
    drain::{Drain, Trouble},
    lanes::lane,
};

/// A page holds at most so many bytes of payload, or one event: what is in memory at a time is some times this.
const PAGE_BYTES: usize = 2 * 1024 * 1024;
/// Events of a first page: how large they are is not known yet.
const FIRST_PAGE: usize = 256;

/// Where reading goes on in each bucket that has more.
#[derive(Debug)]
pub(crate) struct Places {
    places: Vec<Place>,
    /// How many events fit a page, as far as is known.
    fit: usize,
}

impl Default for Places {
    fn default() -> Self {
        Self { places: Vec::new(), fit: FIRST_PAGE }
    }
}

impl Places {
    /// Reads a bucket from behind this number.
    pub(crate) fn add(&mut self, bucket: i16, after: i64) {
        self.places.push(Place { bucket, after });
    }

    /// Where reading goes on, in each bucket that has more.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Place> {
        self.places.iter()
    }

    /// Moves on behind what was read, at most `each` of every bucket.
    fn advance(&mut self, page: &Page, each: usize) {
        let mut read = [(0, 0); store::outbox::BUCKETS as usize];
        for event in &page.events {
            if let Some((count, last)) = read.get_mut(usize::from(event.bucket.unsigned_abs())) {
                *count += 1;
                *last = event.seq;
            }
        }
        self.places.retain_mut(|place| {
            let (count, last) = read[usize::from(place.bucket.unsigned_abs())];
            if count > 0 {
                place.after = last;
            }
            count >= each || page.is_cut
        });
        let bytes: usize = page.events.iter().map(|event| event.payload.len() + 1).sum();
        let largest = PAGE_BYTES / (bytes / page.events.len().max(1)).max(1);
        self.fit = largest.min(self.fit * 4).max(1);
    }
}

/// Events of one partition.
pub(crate) struct Claimed {
    /// Whose they are.
    pub(crate) lane: Lane,
    /// Number of the batch.
    pub(crate) number: u64,
    /// In the order of their numbers.
    pub(crate) events: Vec<Event>,
    /// Bucket and hash of the aggregate of each.
    pub(crate) keys: Vec<(i16, u64)>,
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

    async fn claim(&self, size: usize) -> Result<Option<Vec<Claimed>>, JobError> {
        if self.limit_reached() || self.yields.get() || self.trouble.borrow().is_some() {
            return Ok(None);
        }
        let (places, each) = {
            let places = self.places.borrow();
            let rows = size.min(places.fit);
            (places.places.clone(), rows.div_ceil(places.places.len().max(1)))
        };
        if places.is_empty() {
            return Ok(None);
        }
        self.pace.borrow_mut().read.begin();
        let most = i64::try_from(each).unwrap_or(i64::MAX);
        let page =
            self.ctx.db.transaction("read events", async |tx| pages::read(tx, &places, most, PAGE_BYTES).await).await?;
        self.places.borrow_mut().advance(&page, each);
        self.pace.borrow_mut().read.end();
        if page.events.is_empty() {
            return Ok(None);
        }
        self.sort(page.events).map(Some)
    }

    async fn work(&self, mut claimed: Vec<Claimed>) -> Result<Vec<Worked>, JobError> {
        let _turn = if S::PIPELINED { None } else { Some(self.turn.lock().await) };
        if !S::PIPELINED {
            // What the page before brought to light was not known when this one was read.
            for claimed in &mut claimed {
                self.leave_out_held(claimed);
            }
        }
        if !self.lanes.borrow().hold(Instant::now()) {
            self.trouble.borrow_mut().get_or_insert(Trouble::Lost);
        }
        if self.trouble.borrow().is_some() {
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
        let settled = self.settle(&worked).await?;
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
        let stops = self.trouble.borrow().is_some();
        Ok(if stops { Flow::Stop } else { Flow::Continue })
    }
}

impl<S: Sink> Drain<'_, S> {
    /// By partition, in the order of the numbers, without what is held back.
    fn sort(&self, mut stored: Vec<Stored>) -> Result<Vec<Claimed>, JobError> {
        stored.sort_unstable_by_key(|event| event.seq);
        let held = self.held.borrow();
        let mut lanes = self.lanes.borrow_mut();
        let most = self.settings.options.max_events;
        let mut claimed: Vec<Claimed> = Vec::new();
        for stored in stored {
            let key = held::key(&stored.aggregate_type, &stored.aggregate_id);
            if held.waits(key) {
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
                claimed.push(Claimed { lane, number: own.next, events: Vec::new(), keys: Vec::new() });
                own.next += 1;
                claimed.len() - 1
            });
            self.read.set(self.read.get() + 1);
            claimed[place].keys.push((bucket, key));
            claimed[place].events.push(event(stored)?);
        }
        Ok(claimed)
    }

    fn leave_out_held(&self, claimed: &mut Claimed) {
        let held = self.held.borrow();
        let mut stays = claimed.keys.iter().map(|&(_, key)| !held.waits(key)).collect::<Vec<_>>().into_iter();
        let mut stays_too = stays.clone();
        claimed.events.retain(|_| stays.next().unwrap_or(false));
        claimed.keys.retain(|_| stays_too.next().unwrap_or(false));
    }

    async fn publish(&self, claimed: &Claimed) -> Result<Published, SinkError> {
        if claimed.events.is_empty() {
            return Ok(Published { fates: Vec::new(), last_number: None, trouble: None });
        }
        let batch = sink::Batch { lane: claimed.lane, number: claimed.number, events: &claimed.events };
        self.sink.publish(batch).await
    }

    /// Whom to blame for what was not taken, the events or the sink.
    async fn judge(&self, claimed: &[Claimed], published: &mut [Published]) {
        let is_silent = |fate: &Fate| matches!(fate, Fate::Rejected(rejection) if rejection.is_silent);
        let in_trouble = published.iter().any(|answer| answer.trouble.is_some());
        if !in_trouble && let Some(first) = published.iter().position(|answer| answer.fates.iter().any(is_silent)) {
            // Some had an answer and some had none: an event that the sink cannot bear, or a sink that has just gone.
            let findings = self.sink.check().await;
            let gone = findings.into_iter().find_map(|finding| match finding {
                Finding::Bad(error @ SinkError::Unavailable { .. }) => Some(error),
                _ => None,
            });
            published[first].trouble = gone;
        }
        let held = self.held.borrow();
        let was_held: Vec<Vec<bool>> =
            claimed.iter().map(|claimed| claimed.keys.iter().map(|&(_, key)| held.is_due(key)).collect()).collect();
        outbox::judge(published, |batch, event| was_held[batch][event]);
    }

    fn heard(&self, claimed: Claimed, published: Published) -> Worked {
        if let Some(error) = published.trouble {
            self.trouble.borrow_mut().get_or_insert(Trouble::Sink(error));
        }
        let now = self.db_time.get().map(|(at, since)| at + since.elapsed());
        let mut latency = self.latency.borrow_mut();
        let mut held = self.held.borrow_mut();
        for ((event, &(bucket, key)), fate) in claimed.events.iter().zip(&claimed.keys).zip(&published.fates) {
            match fate {
                Fate::Published => {
                    if let Some(now) = now {
                        latency.add((now - event.occurred_at).try_into().unwrap_or_default());
                    }
                }
                Fate::Rejected(_) => held.reject(key, bucket, event.seq),
                Fate::Left => {}
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
