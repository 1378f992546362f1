//! Where reading goes on, and how much a page may hold.

use std::collections::VecDeque;

use store::outbox::pages::{Page, Place, Stored};

/// A page holds at most so many bytes, or one event: what is in memory at a time is some times this.
pub(crate) const PAGE_BYTES: usize = 1024 * 1024;
/// Events of a first page: how large they are is not known yet.
const FIRST_PAGE: usize = 64;

/// Where reading goes on in each bucket that has more.
#[derive(Debug)]
pub(crate) struct Places {
    places: VecDeque<Place>,
    /// How many events fit a page, as far as is known.
    fit: usize,
}

impl Default for Places {
    fn default() -> Self {
        Self { places: VecDeque::new(), fit: FIRST_PAGE }
    }
}

impl Places {
    /// Begins anew: each bucket is read from behind its number.
    pub(crate) fn begin(&mut self, places: impl Iterator<Item = Place>) {
        self.places = places.collect();
    }

    /// Where reading goes on, in each bucket that has more.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Place> {
        self.places.iter()
    }

    /// The buckets that are next, and how many events of each, so that `most` events come at most. Until
    /// [`Places::advance`] a page counts as one that failed, maybe since it was too large.
    pub(crate) fn ask(&mut self, most: usize) -> Asked {
        let fit = std::mem::replace(&mut self.fit, FIRST_PAGE);
        let rows = most.min(fit).max(1);
        let places: Vec<Place> = self.places.iter().take(rows).copied().collect();
        let each = rows / places.len().max(1);
        Asked { places, each, fit }
    }

    /// Moves on behind what was read.
    pub(crate) fn advance(&mut self, asked: &Asked, page: &Page) {
        let mut read = [(0, 0); store::outbox::BUCKETS as usize];
        for event in &page.events {
            if let Some((count, last)) = read.get_mut(usize::from(event.bucket.unsigned_abs())) {
                *count += 1;
                *last = event.seq;
            }
        }
        for mut place in self.places.drain(..asked.places.len()).collect::<Vec<_>>() {
            let (count, last) = read[usize::from(place.bucket.unsigned_abs())];
            if count > 0 {
                place.after = last;
            }
            if count >= asked.each || page.is_cut {
                self.places.push_back(place);
            }
        }
        self.fit = asked.fit;
        if !page.events.is_empty() {
            let bytes: usize = page.events.iter().map(Stored::size).sum();
            let largest = PAGE_BYTES / (bytes / page.events.len()).max(1);
            self.fit = largest.min(asked.fit * 4).max(1);
        }
    }
}

/// What a page is to hold.
pub(crate) struct Asked {
    /// From where each bucket is read.
    pub(crate) places: Vec<Place>,
    /// At most so many events of each.
    pub(crate) each: usize,
    fit: usize,
}

#[cfg(test)]
mod tests {
    use store::{outbox::pages::Stored, tid::Tid};
    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::*;

    fn places(buckets: i16) -> Places {
        let mut places = Places::default();
        places.begin((0..buckets).map(|bucket| Place { bucket, after: 0 }));
        places
    }

    /// A page with so many events of every bucket that was asked for.
    fn page(asked: &Asked, of_each: usize, bytes: usize) -> Page {
        let stored = |bucket: i16, seq: i64| Stored {
            bucket,
            seq,
            event_id: Uuid::nil(),
            aggregate_type: String::new(),
            aggregate_id: String::new(),
            brand_id: Uuid::nil(),
            event_type: String::new(),
            occurred_at: OffsetDateTime::UNIX_EPOCH,
            payload: "x".repeat(bytes),
            at: Tid::default(),
        };
        let events = asked.places.iter().flat_map(|place| (1..).take(of_each).map(|seq| stored(place.bucket, seq)));
        Page { events: events.collect(), is_cut: false }
    }

    #[test]
    fn pages_grow_with_what_is_known_and_shrink_with_large_events() {
        let mut places = places(64);
        let first = places.ask(1000);
        assert_eq!((first.places.len(), first.each), (64, 1));
        places.advance(&first, &page(&first, 1, 200));
        let second = places.ask(1000);
        assert_eq!((second.places.len(), second.each), (64, 4));
        places.advance(&second, &page(&second, 4, 1024 * 1024));
        let third = places.ask(1000);
        assert_eq!((third.places.len(), third.each), (1, 1), "one event of a megabyte is a page");
        // It fails: maybe it was too large after all.
        assert_eq!(places.ask(1000).places.len(), 64);
    }

    #[test]
    fn every_bucket_has_its_turn_and_leaves_when_it_is_read() {
        let mut places = places(5);
        let asked = places.ask(3);
        assert_eq!(asked.places.iter().map(|place| place.bucket).collect::<Vec<_>>(), [0, 1, 2]);
        let mut read = page(&asked, 1, 1);
        read.events.remove(1);
        places.advance(&asked, &read);
        assert_eq!(places.iter().map(|place| place.bucket).collect::<Vec<_>>(), [3, 4, 0, 2]);
        assert_eq!(places.iter().map(|place| place.after).collect::<Vec<_>>(), [0, 0, 1, 1]);
    }
}
