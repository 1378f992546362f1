//! From where reading must begin so that no late event is missed.
//!
//! A transaction takes an event's number long before others can see the event. So a number that was read says nothing of
//! the lower ones, until every transaction that could still bring one has ended: then nothing below can appear any more,
//! and what was drained below need not be read again, dead rows and all.
//!
//! A transaction that stays open for long would hold the floor back, and with it, since it also keeps dead rows from being
//! cleaned up, make every pass read them again. So reading goes on above it, at a soft floor; when it has ended, one pass
//! begins at the true floor again.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use store::outbox::pages::{Look, Unseen};
use tokio::time::Instant;

/// A transaction open for longer is not waited for.
const STRAGGLES: Duration = Duration::from_millis(250);
/// Most marks that are kept; the ones between do no harm by going.
const MARKS: usize = 32;

/// What was seen of the numbers and of the transactions that may still bring some.
#[derive(Debug, Default)]
pub(crate) struct Horizon {
    marks: VecDeque<Mark>,
    seen: HashMap<String, Instant>,
    /// Transactions that a soft floor in use has left out, with their ids as far as they are known.
    left_out: HashMap<String, Option<u32>>,
    hard: i64,
    soft: i64,
}

#[derive(Debug)]
struct Mark {
    number: i64,
    waiting: HashSet<String>,
}

/// Where a pass begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    /// Nothing at this number or below can appear any more.
    pub hard: i64,
    /// Nothing at this number or below can appear but by transactions that are left out.
    pub soft: i64,
    /// One that was left out has ended: what it brought lies above the floor.
    pub go_back: bool,
    /// Some that are not left out are open: a further pass may find more.
    pub is_open: bool,
}

impl Horizon {
    /// Nothing at this number or below can appear any more, as far as is known.
    pub(crate) fn hard(&self) -> i64 {
        self.hard
    }

    /// Whether a snapshot may see what a transaction brought that is left out: then reading in it must begin at the true floor,
    /// or a later event of an aggregate would be met without the earlier one.
    pub(crate) fn is_overtaken(&self, unseen: &Unseen) -> bool {
        let is_hidden = |(transaction, id): (&String, &Option<u32>)| match id {
            Some(id) => unseen.hides(*id),
            None => unseen.hides_waiting(transaction),
        };
        !self.left_out.iter().all(is_hidden)
    }

    /// Whether any transaction is left out.
    pub(crate) fn leaves_out(&self) -> bool {
        !self.left_out.is_empty()
    }

    /// Takes in a look that was had before the pass reads.
    pub(crate) fn take_in(&mut self, look: Look, now: Instant) -> Start {
        let ids: HashMap<String, Option<u32>> = look.open.into_iter().map(|open| (open.transaction, open.id)).collect();
        let open: HashSet<String> = ids.keys().cloned().collect();
        // A prepared transaction that has outlived a crash of the server goes by another name.
        let is_reborn = open.iter().any(|one| one.starts_with("-1/") && !self.seen.contains_key(one));
        if is_reborn {
            self.marks.clear();
            self.left_out.clear();
            self.soft = self.hard;
        }
        self.seen.retain(|transaction, _| open.contains(transaction));
        for transaction in &open {
            self.seen.entry(transaction.clone()).or_insert(now);
        }
        let left_out = self.left_out.len();
        self.left_out.retain(|transaction, _| open.contains(transaction));
        let go_back = is_reborn || self.left_out.len() < left_out;

        for mark in &mut self.marks {
            mark.waiting.retain(|transaction| open.contains(transaction));
        }
        self.marks.push_back(Mark { number: look.last, waiting: open });
        let straggles = |transaction: &String| {
            self.left_out.contains_key(transaction)
                || self.seen.get(transaction).is_some_and(|since| now.duration_since(*since) >= STRAGGLES)
        };
        if let Some(settled) = self.marks.iter().rposition(|mark| mark.waiting.is_empty()) {
            self.hard = self.hard.max(self.marks[settled].number);
            self.soft = self.soft.max(self.hard);
            self.marks.drain(..=settled);
        }
        let soft = self.marks.iter().rposition(|mark| mark.waiting.iter().all(straggles));
        let mut newly = HashSet::new();
        if let Some(mark) = soft.map(|place| &self.marks[place]) {
            self.soft = self.soft.max(mark.number);
            newly.clone_from(&mark.waiting);
        }
        let is_open = self.marks.back().is_some_and(|mark| !mark.waiting.iter().all(straggles));
        let left_out = self.left_out.keys().cloned().chain(newly).collect::<HashSet<_>>();
        self.left_out = left_out.into_iter().map(|one| (one.clone(), ids.get(&one).copied().flatten())).collect();
        if self.marks.len() > MARKS {
            self.marks.remove(1);
        }
        Start { hard: self.hard, soft: self.soft, go_back, is_open }
    }
}

#[cfg(test)]
mod tests {
    use store::outbox::pages::Open;

    use super::*;

    fn look(last: i64, open: &[&str]) -> Look {
        let open = open.iter().map(|&one| Open { transaction: one.to_owned(), id: None });
        Look { now: time::OffsetDateTime::UNIX_EPOCH, last, open: open.collect() }
    }

    #[test]
    fn the_floor_waits_for_whoever_was_open() {
        let (mut horizon, now) = (Horizon::default(), Instant::now());
        assert_eq!(horizon.take_in(look(10, &[]), now).hard, 10);
        let start = horizon.take_in(look(20, &["3/1"]), now);
        assert_eq!((start.hard, start.soft, start.is_open), (10, 10, true));
        // Another one is open by now, and the first has ended: 20 is settled, 30 is not.
        let start = horizon.take_in(look(30, &["4/1"]), now);
        assert_eq!((start.hard, start.soft, start.go_back), (20, 20, false));
        let start = horizon.take_in(look(30, &[]), now);
        assert_eq!((start.hard, start.is_open), (30, false));
    }

    #[test]
    fn one_that_stays_open_is_left_out_and_its_end_sends_us_back() {
        let (mut horizon, now) = (Horizon::default(), Instant::now());
        horizon.take_in(look(10, &[]), now);
        horizon.take_in(look(20, &["3/1"]), now);
        let later = now + STRAGGLES;
        let start = horizon.take_in(look(30, &["3/1"]), later);
        assert_eq!((start.hard, start.soft, start.is_open, start.go_back), (10, 30, false, false));
        // A fresh one beside it is waited for.
        let start = horizon.take_in(look(40, &["3/1", "4/1"]), later);
        assert_eq!((start.hard, start.soft, start.is_open), (10, 30, true));
        let start = horizon.take_in(look(50, &[]), later);
        assert_eq!((start.hard, start.soft, start.go_back), (50, 50, true));
        assert!(!horizon.take_in(look(50, &[]), later).go_back, "once");
    }

    #[test]
    fn a_prepared_transaction_that_a_crash_renames_is_waited_for_anew() {
        let (mut horizon, now) = (Horizon::default(), Instant::now());
        horizon.take_in(look(10, &[]), now);
        horizon.take_in(look(20, &["13/239"]), now);
        let later = now + STRAGGLES;
        assert_eq!(horizon.take_in(look(30, &["13/239"]), later).soft, 30);
        let start = horizon.take_in(look(30, &["-1/744"]), later);
        assert_eq!((start.hard, start.soft, start.go_back), (10, 10, true));
        assert_eq!(horizon.take_in(look(30, &[]), later).hard, 30);
    }

    #[test]
    fn marks_are_bounded_and_the_eldest_stays() {
        let (mut horizon, now) = (Horizon::default(), Instant::now());
        for number in 1..1000 {
            let own = format!("{number}/1");
            horizon.take_in(look(number, &["0/1", &own]), now);
        }
        assert!(horizon.marks.len() <= MARKS);
        assert_eq!(horizon.take_in(look(1000, &[]), now).hard, 1000);
    }
}
