//! What can be wrong with a stream, and how it is noticed.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::RangeInclusive,
};

use outbox::stream::Entry;
use serde_json::{Value, json};
use store::outbox::{held::key, state::Stranded};
use uuid::Uuid;

/// Faults of a kind that are listed one by one; all are counted.
const LISTED: usize = 1000;
/// Gaps of a partition that are kept open for entries that come late.
const GAPS: usize = 10_000;

/// Everything that was found wrong.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Entries that no drain wrote.
    pub foreign: u64,
    missing: Kind,
    doubled: Kind,
    reordered: Kind,
    waiting: Kind,
    stranded: Kind,
}

/// Faults of one kind.
#[derive(Debug, Default)]
struct Kind {
    count: u64,
    listed: Vec<(String, Value)>,
}

impl Kind {
    /// The same thing noticed in two ways, by its number and by its aggregate, is one fault.
    fn add(&mut self, count: u64, line: String, fields: Value) {
        if self.listed.iter().any(|(listed, _)| *listed == line) {
            return;
        }
        self.count += count;
        if self.listed.len() < LISTED {
            self.listed.push((line, fields));
        }
    }
}

impl Faults {
    fn missing(&mut self, partition: u16, numbers: &RangeInclusive<i64>) {
        let (first, last) = (*numbers.start(), *numbers.end());
        let count = u64::try_from(last - first + 1).unwrap_or(0);
        let which = if first == last { format!("number {first}") } else { format!("numbers {first} to {last}") };
        self.missing.add(
            count,
            format!("missing: partition {partition}, {which}: acknowledged or passed over, and not on the stream"),
            json!({"partition": partition, "first": first, "last": last}),
        );
    }

    fn doubled(&mut self, entry: &Entry) {
        self.doubled.add(1, format!("doubled: {}", entry.describe()), entry_json(entry));
    }

    fn reordered(&mut self, entry: &Entry) {
        self.reordered.add(1, format!("out of order: {}", entry.describe()), entry_json(entry));
    }

    /// An event that is on the stream and still in the outbox.
    pub(crate) fn waiting(&mut self, event: Uuid, seq: i64) {
        let line = format!(
            "published and still in the outbox: event {event}, seq {seq}: it goes out again unless the drain finds it"
        );
        self.waiting.add(1, line, json!({"event_id": event, "seq": seq}));
    }

    /// A dead letter that is on the stream.
    pub(crate) fn dead(&mut self, event: Uuid) {
        let line = format!("published and a dead letter: event {event}: discard it");
        self.waiting.add(1, line, json!({"event_id": event, "dead_letter": true}));
    }

    /// An event in the outbox that no run reads any more.
    pub(crate) fn stranded(&mut self, partition: i16, event: &Stranded) {
        let Stranded { seq, event_id, aggregate_type, aggregate_id, .. } = event;
        self.stranded.add(
            1,
            format!(
                "stranded: partition {partition}, event {event_id}, seq {seq} of {aggregate_type}:{aggregate_id}: \
                 waits below the floor, where no run reads"
            ),
            json!({
                "partition": partition, "seq": seq, "event_id": event_id, "aggregate_type": aggregate_type,
                "aggregate_id": aggregate_id,
            }),
        );
    }

    /// In one order, however many passes found them.
    pub(crate) fn sort(&mut self) {
        for kind in [&mut self.missing, &mut self.doubled, &mut self.reordered, &mut self.waiting, &mut self.stranded] {
            kind.listed.sort_by(|one, other| one.0.cmp(&other.0));
        }
    }

    pub(crate) fn missing_count(&self) -> u64 {
        self.missing.count
    }

    pub(crate) fn doubled_count(&self) -> u64 {
        self.doubled.count
    }

    pub(crate) fn reordered_count(&self) -> u64 {
        self.reordered.count
    }

    pub(crate) fn waiting_count(&self) -> u64 {
        self.waiting.count
    }

    pub(crate) fn stranded_count(&self) -> u64 {
        self.stranded.count
    }

    /// Nothing is wrong.
    pub(crate) fn is_none(&self) -> bool {
        self.kinds().iter().all(|kind| kind.count == 0)
    }

    fn kinds(&self) -> [&Kind; 5] {
        [&self.missing, &self.doubled, &self.reordered, &self.waiting, &self.stranded]
    }

    /// A line each, as many as are listed.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        self.kinds().into_iter().flat_map(|kind| kind.listed.iter().map(|(line, _)| line.clone()))
    }

    /// For tools.
    pub(crate) fn to_json(&self, entries: u64) -> Value {
        let list = |kind: &Kind| kind.listed.iter().map(|(_, fields)| fields.clone()).collect::<Value>();
        json!({
            "entries": entries, "foreign": self.foreign,
            "missing_count": self.missing.count, "missing": list(&self.missing),
            "doubled_count": self.doubled.count, "doubled": list(&self.doubled),
            "reordered_count": self.reordered.count, "reordered": list(&self.reordered),
            "published_and_waiting_count": self.waiting.count, "published_and_waiting": list(&self.waiting),
            "stranded_count": self.stranded.count, "stranded": list(&self.stranded),
        })
    }
}

fn entry_json(entry: &Entry) -> Value {
    json!({
        "entry": entry.id, "partition": entry.partition, "n": entry.n, "seq": entry.seq, "event_id": entry.event_id,
        "aggregate_type": entry.aggregate_type, "aggregate_id": entry.aggregate_id,
    })
}

/// The numbers of each partition.
#[derive(Debug, Default)]
pub(crate) struct Numbers(BTreeMap<u16, Partition>);

#[derive(Debug)]
struct Partition {
    last: i64,
    /// Before the first entry: the stream may have been trimmed.
    head: Option<RangeInclusive<i64>>,
    gaps: Vec<RangeInclusive<i64>>,
}

impl Numbers {
    /// The next entry of the stream.
    pub(crate) fn meet(&mut self, entry: &Entry, faults: &mut Faults) {
        let n = entry.n;
        let partition = self.0.entry(entry.partition).or_insert_with(|| Partition {
            last: n - 1,
            head: (n > 1).then(|| 1..=n - 1),
            gaps: Vec::new(),
        });
        if n > partition.last {
            if n > partition.last + 1 && partition.gaps.len() < GAPS {
                partition.gaps.push(partition.last + 1..=n - 1);
            } else if n > partition.last + 1 {
                faults.missing(entry.partition, &(partition.last + 1..=n - 1));
            }
            partition.last = n;
            return;
        }
        // A number that was passed over and comes late is out of order; one that was there is doubled, which its event
        // tells.
        let Some(place) = partition.gaps.iter().position(|gap| gap.contains(&n)) else {
            if partition.head.as_ref().is_some_and(|head| head.contains(&n)) {
                faults.reordered(entry);
            }
            return;
        };
        let gap = partition.gaps.swap_remove(place);
        partition.gaps.extend([*gap.start()..=n - 1, n + 1..=*gap.end()].into_iter().filter(|rest| !rest.is_empty()));
        faults.reordered(entry);
    }

    /// Whether the first numbers of several partitions are away, of every one that is there, and no more than were `removed`:
    /// trimming does that. Somebody who deletes entries one by one hardly does, and what Redis has lost was never removed.
    pub(crate) fn look_trimmed(&self, acknowledged: &HashMap<u16, i64>, removed: u64) -> bool {
        let absent =
            acknowledged.iter().filter(|(partition, _)| !self.0.contains_key(partition)).map(|(_, &last)| last);
        let heads = self.0.values().filter_map(|partition| partition.head.as_ref()).map(|head| *head.end());
        let away: i64 = heads.chain(absent).sum();
        self.0.len() > 1 && self.0.values().all(|partition| partition.head.is_some()) && away.unsigned_abs() <= removed
    }

    /// The stream is at its end; what PostgreSQL knows to be published must have been there.
    pub(crate) fn close(self, acknowledged: &HashMap<u16, i64>, is_trimmed: bool, faults: &mut Faults) {
        let mut partitions = self.0;
        for (&partition, &number) in acknowledged {
            let found = partitions.remove(&partition);
            let last = found.as_ref().map_or(0, |found| found.last);
            if let Some(Partition { head, gaps, .. }) = found {
                for gap in gaps.iter().chain(head.iter().filter(|_| !is_trimmed)) {
                    faults.missing(partition, gap);
                }
                if number > last {
                    faults.missing(partition, &(last + 1..=number));
                }
            } else if number > 0 && !is_trimmed {
                faults.missing(partition, &(1..=number));
            }
        }
        for (partition, found) in partitions {
            for gap in &found.gaps {
                faults.missing(partition, gap);
            }
        }
    }
}

/// Events and aggregates met so far.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    events: HashSet<Uuid>,
    aggregates: HashMap<u64, i64>,
}

impl Ids {
    /// An event that was met before is doubled.
    pub(crate) fn meet_event(&mut self, entry: &Entry, faults: &mut Faults) {
        if !self.events.insert(entry.event_id) {
            faults.doubled(entry);
        }
    }

    /// An event below an earlier one of its aggregate is out of order.
    pub(crate) fn meet_aggregate(&mut self, entry: &Entry, faults: &mut Faults) {
        let last = self.aggregates.entry(key(&entry.aggregate_type, &entry.aggregate_id)).or_insert(i64::MIN);
        if entry.seq < *last {
            faults.reordered(entry);
        }
        *last = entry.seq.max(*last);
    }

    /// Whether the event was met.
    pub(crate) fn has(&self, event: Uuid) -> bool {
        self.events.contains(&event)
    }
}
