//! How long events take from their time to the sink's answer, in a fixed number of counters.

use std::time::Duration;

/// Each counter spans a factor of √2, from a tenth of a millisecond to some hours.
const STEPS: usize = 56;
const FIRST: f64 = 0.0001;

/// Counts by how long it took.
#[derive(Debug)]
pub(crate) struct Latency([u64; STEPS]);

impl Default for Latency {
    fn default() -> Self {
        Self([0; STEPS])
    }
}

impl Latency {
    /// Counts one.
    pub(crate) fn add(&mut self, took: Duration) {
        let step = ((took.as_secs_f64() / FIRST).log2() * 2.0).ceil().clamp(0.0, (STEPS - 1) as f64);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and STEPS")]
        let step = step as usize;
        self.0[step] += 1;
    }

    /// The value that this share of them does not exceed, in seconds, at most √2 too high; none when there is none.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let all: u64 = self.0.iter().sum();
        let mut left = (all as f64 * share).ceil();
        for (step, &count) in self.0.iter().enumerate() {
            left -= count as f64;
            if all > 0 && left <= 0.0 {
                return Some(FIRST * (step as f64 / 2.0).exp2());
            }
        }
        None
    }

    /// Begins again.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_at_most_a_step_too_high() {
        let mut latency = Latency::default();
        assert_eq!(latency.quantile(0.5), None);
        for millis in 1..=1000 {
            latency.add(Duration::from_millis(millis));
        }
        for (share, exact) in [(0.5, 0.5), (0.99, 0.99), (0.01, 0.01)] {
            let told = latency.quantile(share).unwrap();
            assert!(told >= exact * 0.99 && told <= exact * 1.42, "{share}: {told}");
        }
    }
}
