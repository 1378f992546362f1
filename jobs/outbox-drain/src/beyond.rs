//! Partitions beyond the fair share: shares that are cut in different ways (workers beside the pods of an Indexed Job) may leave
//! some over, and nobody's events may wait for as long as all of them live.

use std::time::Duration;

use tokio::time::Instant;

/// A partition that nobody has taken for so long is left over.
const LEFT_OVER: Duration = Duration::from_secs(3);
/// For so long they are kept before it is tried whether somebody else takes them.
const KEPT: Duration = Duration::from_secs(30);

/// Those that we hold, and those that may be taken.
#[derive(Debug, Default)]
pub(crate) struct Beyond {
    count: usize,
    held_since: Option<Instant>,
    /// Since when some have been left over.
    left_over: Option<Instant>,
    /// When that was last looked at, and how many runs shared then.
    looked_at: Option<Instant>,
    runs: i64,
}

impl Beyond {
    /// How many we hold.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// How many may be taken where so many are `free` and so many `runs` share: all, once that has lasted.
    pub(crate) fn may_take(&mut self, free: i64, runs: i64, now: Instant) -> i64 {
        let lasts = |since: Option<Instant>, time: Duration| since.is_some_and(|at| now.duration_since(at) >= time);
        if self.runs != runs || lasts(self.held_since, KEPT) {
            // Shares are cut anew, or whoever could not take his may by now.
            *self = Self { runs, looked_at: self.looked_at, ..Self::default() };
        }
        if lasts(self.looked_at.replace(now), LEFT_OVER) {
            // Nobody knows what happened in between.
            self.left_over = None;
        }
        if free == 0 {
            self.left_over = None;
            return 0;
        }
        let since = *self.left_over.get_or_insert(now);
        if now.duration_since(since) >= LEFT_OVER { free } else { 0 }
    }

    /// So many were taken.
    pub(crate) fn took(&mut self, count: usize, now: Instant) {
        if count > 0 {
            self.count += count;
            self.held_since.get_or_insert(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What may be taken at each of these tenths of a second, with so many free and so many runs.
    fn at(beyond: &mut Beyond, began: Instant, looks: &[(u64, i64, i64)]) -> Vec<i64> {
        let look = |&(tenths, free, runs)| beyond.may_take(free, runs, began + Duration::from_millis(100 * tenths));
        looks.iter().map(look).collect()
    }

    #[test]
    fn what_is_free_for_three_seconds_of_looking_is_taken() {
        let (mut beyond, began) = (Beyond::default(), Instant::now());
        assert_eq!(at(&mut beyond, began, &[(0, 2, 3), (10, 2, 3), (20, 2, 3), (30, 2, 3)]), [0, 0, 0, 2]);
    }

    #[test]
    fn who_takes_it_or_comes_or_a_pause_of_looking_begins_the_wait_anew() {
        let began = Instant::now();
        for between in [(10, 0, 3), (10, 2, 4)] {
            let looks = [(0, 2, 3), between, (20, 2, between.2), (30, 2, between.2)];
            assert_eq!(at(&mut Beyond::default(), began, &looks), [0; 4], "{between:?}");
        }
        assert_eq!(at(&mut Beyond::default(), began, &[(0, 2, 3), (40, 2, 3), (60, 2, 3)]), [0; 3]);
    }

    #[test]
    fn what_is_held_is_offered_again_after_half_a_minute_and_when_runs_come_or_go() {
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        let mut beyond = Beyond::default();
        beyond.may_take(2, 3, began);
        beyond.took(2, began);
        beyond.may_take(0, 3, after(29));
        assert_eq!(beyond.count(), 2);
        beyond.may_take(0, 3, after(30));
        assert_eq!(beyond.count(), 0);
        beyond.took(2, after(31));
        beyond.may_take(0, 2, after(32));
        assert_eq!(beyond.count(), 0);
    }
}
