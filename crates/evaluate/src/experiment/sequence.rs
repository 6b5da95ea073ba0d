//! Intervals that hold whenever one looks: asymptotic confidence sequences (Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas:
//! "Time-uniform central limit theory and asymptotic confidence sequences", arXiv 2103.06476, equations 9 and 134).

use serde::{Deserialize, Serialize};

/// Fewer observations than this say nothing: the variance is not known well enough yet for what holds asymptotically to hold.
pub const OBSERVATIONS_MIN: f64 = 100.0;

/// A confidence sequence for a mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sequence {
    /// How often at most it is ever wrong.
    pub alpha: f64,
    /// The number of observations at which it is narrowest for its width later; it stays the same while an experiment lives.
    pub tuned_for: f64,
}

impl Default for Sequence {
    /// 5 %, tuned for 5,000.
    fn default() -> Self {
        Self {
            alpha: 0.05,
            tuned_for: 5_000.0,
        }
    }
}

impl Sequence {
    /// The half-width around the mean of `n` observations with that standard deviation; infinite below [`OBSERVATIONS_MIN`]:
    /// `σ √(2 (nρ² + 1) / (n²ρ²) · ln(√(nρ² + 1) / α))` with `ρ² = (−2 ln α + ln(−2 ln α + 1)) / n*`.
    pub fn half_width(&self, n: f64, deviation: f64) -> f64 {
        let log = |spread: f64| (spread.sqrt() / self.alpha).ln();
        self.width(self.alpha, n, deviation, log)
    }

    /// How far below the mean the bound of a one-sided sequence is.
    pub fn one_sided(&self, n: f64, deviation: f64) -> f64 {
        let log = |spread: f64| (1.0 + spread.sqrt() / (2.0 * self.alpha)).ln();
        self.width(2.0 * self.alpha, n, deviation, log)
    }

    fn width(&self, alpha: f64, n: f64, deviation: f64, log: impl Fn(f64) -> f64) -> f64 {
        if n < OBSERVATIONS_MIN || !deviation.is_finite() {
            return f64::INFINITY;
        }
        let tail = -2.0 * alpha.ln();
        let rho = (tail + (tail + 1.0).ln()) / self.tuned_for;
        let spread = n * rho + 1.0;
        deviation * (2.0 * spread / (n * n * rho) * log(spread)).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_wider_than_a_single_look_and_narrows() {
        let sequence = Sequence::default();
        let widths = [100.0, 1_000.0, 5_000.0, 100_000.0].map(|n| sequence.half_width(n, 1.0));
        assert!(
            widths.windows(2).all(|pair| pair[1] < pair[0]),
            "{widths:?}"
        );
        let single = 1.96 / 5_000.0_f64.sqrt();
        assert!(
            (1.2..1.8).contains(&(widths[2] / single)),
            "{}",
            widths[2] / single
        );
        assert!(sequence.one_sided(5_000.0, 1.0) < widths[2]);
        assert_eq!(sequence.half_width(99.0, 1.0), f64::INFINITY);
    }
}
