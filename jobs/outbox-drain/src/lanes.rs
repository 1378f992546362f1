//! Which partitions are ours, and for how long.

use std::{collections::BTreeMap, time::Duration};

use outbox::sink::Lane;
use store::outbox::{
    BUCKETS,
    partitions::{LASTS_SECONDS, Owned, Split, Taken},
};
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::beyond::Beyond;

/// Time between two signs of life.
pub(crate) const RENEW: Duration = Duration::from_millis(2500);
/// For how long partitions count as ours without one: less than the database's view, counted from before we asked.
const HOLDS: Duration = Duration::from_secs(LASTS_SECONDS as u64 - 2);

/// A partition of ours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Own {
    /// Our fencing token.
    pub token: i64,
    /// When the server started at which we took it.
    pub server: OffsetDateTime,
    /// Where a pass begins that must miss nothing.
    pub floor: i64,
    /// Number of the last event that PostgreSQL knows to be published.
    pub acknowledged: i64,
    /// The number that PostgreSQL knows counts the events of another stream.
    pub is_renamed: bool,
    /// Number of the next batch.
    pub next: u64,
    /// The sink must be asked what is in flight before anything is read.
    pub is_unknown: bool,
    /// No pass has read it whole yet.
    pub is_fresh: bool,
}

/// All partitions of ours.
#[derive(Debug)]
pub(crate) struct Lanes {
    own: BTreeMap<i16, Own>,
    partitions: i16,
    holds_until: Instant,
    /// There are enough partitions for every run to hold one.
    pub is_one_for_each: bool,
    /// What we hold beyond our fair share.
    pub beyond: Beyond,
    /// When the shares were last looked at.
    pub looked_at: Option<Instant>,
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            own: BTreeMap::new(),
            partitions: 1,
            holds_until: Instant::now(),
            is_one_for_each: true,
            beyond: Beyond::default(),
            looked_at: None,
        }
    }
}

impl Lanes {
    /// How many of the partitions of this share we should have, one of `split.runs` runs.
    pub(crate) fn fair(split: Split, index: i16, count: i16) -> usize {
        if split.is_closed {
            return 0;
        }
        Self::all(split, index, count).div_ceil(runs(split))
    }

    /// Whether there are enough for every run to hold one.
    pub(crate) fn one_for_each(split: Split, index: i16, count: i16) -> bool {
        !split.is_closed && Self::all(split, index, count) >= runs(split)
    }

    fn all(split: Split, index: i16, count: i16) -> usize {
        (0..split.partitions).filter(|partition| partition % count == index).count()
    }

    /// Takes over what was taken.
    pub(crate) fn add(&mut self, taken: &[Taken]) {
        for taken in taken {
            let own = Own {
                token: taken.fencing_token,
                server: taken.server,
                floor: taken.floor,
                acknowledged: taken.acknowledged,
                is_renamed: taken.is_renamed,
                next: 1,
                is_unknown: true,
                is_fresh: true,
            };
            self.own.insert(taken.partition, own);
        }
    }

    /// Into how many partitions the outbox is split. With another number than before nothing is ours any more.
    pub(crate) fn split(&mut self, partitions: i16) {
        if self.partitions != partitions {
            self.own.clear();
            self.partitions = partitions;
        }
    }

    /// They are ours for some time from `asked_at` on.
    pub(crate) fn renewed(&mut self, asked_at: Instant) {
        self.holds_until = asked_at + HOLDS;
    }

    /// Whether they are still ours, as far as can be known without asking.
    pub(crate) fn hold(&self, now: Instant) -> bool {
        now < self.holds_until
    }

    /// Until when.
    pub(crate) fn holds_until(&self) -> Instant {
        self.holds_until
    }

    /// PostgreSQL knows by now that so many events of the partition are published.
    pub(crate) fn acknowledge(&mut self, lane: Lane, number: i64) {
        let own = i16::try_from(lane.partition).ok().and_then(|partition| self.own.get_mut(&partition));
        if let Some(own) = own.filter(|own| own.token == lane.token) {
            own.acknowledged = own.acknowledged.max(number);
        }
    }

    /// Nothing is ours any more.
    pub(crate) fn lose(&mut self) {
        self.own.clear();
        self.beyond = Beyond::default();
        self.looked_at = None;
    }

    /// What is in flight is not known any more: a pass was cut short, or the sink failed.
    pub(crate) fn doubt(&mut self) {
        for own in self.own.values_mut() {
            own.is_unknown = true;
            own.is_fresh = true;
        }
    }

    /// Gives some up beyond `most`; they are still in the database.
    pub(crate) fn give_up(&mut self, most: usize) -> Vec<(i16, Own)> {
        let mut gone = Vec::new();
        while self.own.len() > most {
            gone.extend(self.own.pop_last());
        }
        gone
    }

    /// Ours, by partition.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (i16, &Own)> {
        self.own.iter().map(|(&partition, own)| (partition, own))
    }

    /// Ours, by partition.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (i16, &mut Own)> {
        self.own.iter_mut().map(|(&partition, own)| (partition, own))
    }

    /// The partition under this number, if it is ours.
    pub(crate) fn get(&self, partition: i16) -> Option<&Own> {
        self.own.get(&partition)
    }

    /// The partition under this number, if it is ours.
    pub(crate) fn get_mut(&mut self, partition: i16) -> Option<&mut Own> {
        self.own.get_mut(&partition)
    }

    /// Their numbers.
    pub(crate) fn partitions(&self) -> Vec<i16> {
        self.own.keys().copied().collect()
    }

    /// The buckets of our partitions, each with its partition.
    pub(crate) fn buckets(&self) -> Vec<(i16, i16)> {
        let with_partition = |bucket: i16| (bucket, bucket % self.partitions);
        (0..BUCKETS).map(with_partition).filter(|(_, partition)| self.own.contains_key(partition)).collect()
    }

    /// The partition of a bucket.
    pub(crate) fn partition(&self, bucket: i16) -> i16 {
        bucket % self.partitions
    }

    /// Into how many partitions the outbox is split.
    pub(crate) fn count(&self) -> i16 {
        self.partitions
    }

    /// All of them with their floors, to be written.
    pub(crate) fn owned(&self) -> Owned {
        let mut owned = Owned::default();
        for (&partition, own) in &self.own {
            owned.add(partition, own.token, own.server, own.floor, 0);
        }
        owned
    }
}

/// A partition as a sink knows it.
pub(crate) fn lane(partition: i16, token: i64) -> Lane {
    Lane { partition: partition.unsigned_abs(), token }
}

fn runs(split: Split) -> usize {
    usize::try_from(split.runs).unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_gets_its_share_and_nobody_while_closed() {
        let split = |runs, is_closed| Split { partitions: 16, is_closed, runs };
        assert_eq!(Lanes::fair(split(1, false), 0, 1), 16);
        assert_eq!(Lanes::fair(split(3, false), 0, 1), 6);
        assert_eq!(Lanes::fair(split(1, false), 3, 5), 3);
        assert_eq!(Lanes::fair(split(1, true), 0, 1), 0);
    }
}
