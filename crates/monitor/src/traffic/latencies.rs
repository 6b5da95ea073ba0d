//! How long things took, in buckets.

/// The number of buckets.
const BUCKETS: usize = 64;
/// The upper end of the first bucket, in microseconds.
const FIRST_US: f64 = 50.0;
/// How much larger each bucket's upper end is than the one before: the last one ends at 64 seconds.
const GROWTH: f64 = 1.25;

/// Counts of latencies in buckets that grow by a quarter, from 50 µs to a minute; what took longer is in the last one.
#[derive(Debug, Clone, PartialEq)]
pub struct Latencies {
    counts: [u32; BUCKETS],
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            counts: [0; BUCKETS],
        }
    }
}

impl Latencies {
    /// Counts one, in microseconds.
    pub fn add(&mut self, micros: u64) {
        let bucket = bucket(micros as f64);
        self.counts[bucket] = self.counts[bucket].saturating_add(1);
    }

    /// Adds those of another time or name.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count = count.saturating_add(more);
        }
    }

    /// The time within which a share of them ended, in microseconds: exact to the bucket, and evenly spread within it. `None` where
    /// there are none.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let all: u64 = self.counts.iter().map(|count| u64::from(*count)).sum();
        let wanted = all as f64 * share.clamp(0.0, 1.0);
        let (mut before, mut low, mut high) = (0.0, 0.0, FIRST_US);
        for count in self.counts {
            let count = f64::from(count);
            if count > 0.0 && before + count >= wanted {
                return Some(low + (high - low) * (wanted - before) / count);
            }
            before += count;
            (low, high) = (high, high * GROWTH);
        }
        None
    }
}

fn bucket(micros: f64) -> usize {
    if micros <= FIRST_US {
        return 0;
    }
    // at least 0 by the line above; a number beyond the last bucket belongs there
    let steps = ((micros / FIRST_US).ln() / GROWTH.ln()).ceil();
    (steps as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_bucket_of_the_truth() {
        let mut found = Latencies::default();
        assert_eq!(found.quantile(0.5), None);
        let mut all: Vec<u64> = (0..10_000_u64)
            .map(|number| 60 + number * number / 500)
            .collect();
        for micros in &all {
            found.add(*micros);
        }
        all.sort_unstable();
        for share in [0.01, 0.5, 0.95, 0.99, 1.0] {
            let place = ((all.len() as f64 * share) as usize).clamp(1, all.len()) - 1;
            let (truth, found) = (all[place] as f64, found.quantile(share).unwrap());
            assert!(
                found / truth < GROWTH && truth / found < GROWTH,
                "{share}: {found} beside {truth}"
            );
        }
    }

    #[test]
    fn what_is_beyond_the_buckets_is_counted_at_their_ends() {
        let mut found = Latencies::default();
        found.add(0);
        assert!(found.quantile(1.0).unwrap() <= FIRST_US);
        let mut other = Latencies::default();
        other.add(u64::MAX);
        found.merge(&other);
        assert!(found.quantile(1.0).unwrap() > 60e6);
        assert_eq!(bucket(FIRST_US), 0);
        assert_eq!(bucket(FIRST_US * 1.01), 1);
    }
}
