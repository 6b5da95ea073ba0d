//! Latencies: every one is kept, so that percentiles are exact.

use std::time::Duration;

use serde::Serialize;

/// What a set of latencies looks like, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Latencies {
    /// How many.
    pub(crate) count: u64,
    /// Half are at most this.
    pub(crate) p50_us: u64,
    /// 99 of 100 are at most this.
    pub(crate) p99_us: u64,
    /// 999 of 1,000 are at most this.
    pub(crate) p999_us: u64,
    /// The longest.
    pub(crate) max_us: u64,
    /// Their mean.
    pub(crate) mean_us: f64,
}

impl Latencies {
    /// Summarises; nothing where there are none. A percentile is the nearest rank: the smallest latency that at least
    /// that share does not exceed.
    pub(crate) fn of(mut latencies: Vec<Duration>) -> Option<Self> {
        latencies.sort_unstable();
        let last = *latencies.last()?;
        let micros = |latency: Duration| u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let rank = |per_mille: usize| {
            let rank = (latencies.len() * per_mille).div_ceil(1_000);
            micros(latencies[rank.max(1) - 1])
        };
        let total: Duration = latencies.iter().sum();
        Some(Self {
            count: latencies.len() as u64,
            p50_us: rank(500),
            p99_us: rank(990),
            p999_us: rank(999),
            max_us: micros(last),
            mean_us: total.as_nanos() as f64 / 1e3 / latencies.len() as f64,
        })
    }
}

/// The middle of the values: the mean of the two in the middle where their number is even. NaN where there are none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let latencies = (1..=1_000).rev().map(Duration::from_micros).collect();
        let summary = Latencies::of(latencies).unwrap();
        assert_eq!(
            summary,
            Latencies {
                count: 1_000,
                p50_us: 500,
                p99_us: 990,
                p999_us: 999,
                max_us: 1_000,
                mean_us: 500.5,
            }
        );
        let one = Latencies::of(vec![Duration::from_micros(7)]).unwrap();
        assert_eq!((one.p50_us, one.p999_us, one.max_us), (7, 7, 7));
        assert_eq!(Latencies::of(Vec::new()), None);
    }

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
    }
}
