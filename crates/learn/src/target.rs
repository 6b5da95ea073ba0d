//! How a regression target is seen while learning: as it is, or by its logarithm.

use serde::{Deserialize, Serialize};

/// From the raw score to the value that is answered.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TargetForm {
    /// raw, but never below the floor.
    Identity {
        /// 0 for targets that are never negative.
        floor: Option<f64>,
    },
    /// factor · e^raw − 1, learnt on ln(1 + y). The factor undoes the bias of transforming back: the smearing of
    /// Duan (1983) in its ratio form, Σ w (y + 1) / Σ w e^raw, so that totals agree.
    Log1p {
        /// Positive.
        smearing: f64,
        /// Raw scores above this count as this. For a linear model the score that one training row in a hundred exceeds:
        /// a straight line must not run off exponentially. For trees the largest raw target.
        raw_max: f64,
    },
    /// e^raw: the mean of a compound Poisson-gamma (Tweedie) variable, which is often exactly zero.
    Log,
}

impl TargetForm {
    /// The value that a raw score stands for. Exponents are bounded so that the value is finite.
    pub(crate) fn value(self, raw: f64) -> f64 {
        match self {
            Self::Identity { floor } => floor.map_or(raw, |floor| raw.max(floor)),
            Self::Log1p { smearing, raw_max } => (smearing * raw.min(raw_max).exp() - 1.0).max(0.0),
            Self::Log => raw.min(300.0).exp(),
        }
    }

    /// The logarithmic form before its factor is known.
    pub(crate) fn log1p(targets: &[f64]) -> Self {
        Self::Log1p {
            smearing: 1.0,
            raw_max: targets.iter().copied().fold(0.0, f64::max).ln_1p(),
        }
    }

    /// The raw target that is learnt.
    pub(crate) fn raw_target(self, target: f64) -> f64 {
        match self {
            Self::Identity { .. } | Self::Log => target,
            Self::Log1p { .. } => target.ln_1p(),
        }
    }

    /// The same form with scores bounded to all but the highest hundredth of these.
    pub(crate) fn bounded(self, raw: &[f64]) -> Self {
        let Self::Log1p { smearing, .. } = self else {
            return self;
        };
        let mut sorted = raw.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let raw_max = sorted[(sorted.len() - 1) * 99 / 100];
        Self::Log1p { smearing, raw_max }
    }

    /// The same form with the factor that makes totals agree on these rows.
    pub(crate) fn smeared(self, raw: &[f64], targets: &[f64], weights: &[f64]) -> Self {
        let Self::Log1p { raw_max, .. } = self else {
            return self;
        };
        let mut totals = (0.0, 0.0);
        for ((raw, target), weight) in raw.iter().zip(targets).zip(weights) {
            totals.0 += weight * (target + 1.0);
            totals.1 += weight * raw.min(raw_max).exp();
        }
        let smearing = totals.0 / totals.1;
        Self::Log1p {
            smearing: if smearing.is_finite() && smearing > 0.0 {
                smearing
            } else {
                1.0
            },
            raw_max,
        }
    }
}

/// Whether targets look like spend: never negative, and with a tail that makes the variance mostly the tail's
/// (standard deviation above the mean). Only then are logarithmic forms tried.
pub(crate) fn is_skewed(targets: &[f64], weights: &[f64]) -> bool {
    if targets.iter().any(|&target| target < 0.0) {
        return false;
    }
    let total: f64 = weights.iter().sum();
    let mean = targets.iter().zip(weights).map(|(y, w)| y * w).sum::<f64>() / total;
    let variance = targets
        .iter()
        .zip(weights)
        .map(|(y, w)| w * (y - mean) * (y - mean))
        .sum::<f64>()
        / total;
    mean > 0.0 && variance.sqrt() > mean
}

/// Tweedie deviance with variance power 1.5 for targets ≥ 0 and predictions > 0, averaged by weight:
/// 2 (y^½/(½·(−½)) − y μ^(−½)/(−½) + μ^½/½), Jørgensen (1987). It is minimised by the mean, as the squared error is,
/// but is not decided by the few largest values. A prediction below a hundredth of the mean target counts as that: a value
/// of zero that turns out to be one unit must not cost infinitely much.
pub(crate) fn tweedie_deviance(targets: &[f64], predictions: &[f64], weights: &[f64]) -> f64 {
    let total: f64 = targets.iter().zip(weights).map(|(y, w)| y * w).sum();
    let floor = (0.01 * total / weights.iter().sum::<f64>()).max(1e-9);
    let mut sums = (0.0, 0.0);
    for ((&y, &prediction), &weight) in targets.iter().zip(predictions).zip(weights) {
        let mu = prediction.max(floor);
        let deviance = 2.0 * (-4.0 * y.sqrt() + 2.0 * y / mu.sqrt() + 2.0 * mu.sqrt());
        sums.0 += weight * deviance;
        sums.1 += weight;
    }
    sums.0 / sums.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smearing_makes_totals_agree() {
        let targets = [0.0, 3.0, 50.0];
        let weights = [1.0, 2.0, 1.0];
        let raw = [0.1, 1.2, 3.0];
        let form = TargetForm::log1p(&targets).smeared(&raw, &targets, &weights);
        let total = |values: &[f64]| values.iter().zip(&weights).map(|(v, w)| v * w).sum::<f64>();
        let predicted: Vec<f64> = raw.iter().map(|&raw| form.value(raw)).collect();
        assert!((total(&predicted) - total(&targets)).abs() < 1e-9);
    }

    #[test]
    fn deviance_is_smallest_at_the_mean() {
        let (targets, weights) = ([0.0, 0.0, 9.0], [1.0; 3]);
        let at = |mu: f64| tweedie_deviance(&targets, &[mu; 3], &weights);
        assert!(at(3.0) < at(2.9) && at(3.0) < at(3.1));
        assert_eq!(tweedie_deviance(&[4.0], &[4.0], &[1.0]), 0.0);
    }

    #[test]
    fn spend_is_skewed_and_temperature_is_not() {
        assert!(is_skewed(&[0.0, 0.0, 0.0, 90.0], &[1.0; 4]));
        assert!(!is_skewed(&[18.0, 19.0, 21.0, 20.0], &[1.0; 4]));
        assert!(!is_skewed(&[-1.0, 0.0, 0.0, 90.0], &[1.0; 4]));
    }
}
