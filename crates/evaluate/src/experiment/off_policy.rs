//! What another policy would have earned, from the log of the present one: its actions, with which probabilities it took them,
//! and what came of them.

use serde::{Deserialize, Serialize};

/// An action that was taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Logged {
    /// What came of it.
    pub reward: f64,
    /// With which probability it was taken.
    pub propensity: f64,
    /// With which probability the other policy would have taken it.
    pub probability: f64,
    /// What a model expects of it.
    pub expected: f64,
    /// What a model expects of the other policy's choice in the same situation: the mean over its actions.
    pub expected_of_policy: f64,
}

/// What the other policy would have earned for each action.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OffPolicy {
    /// How many actions.
    pub actions: usize,
    /// How many actions of its own they are worth: `(Σw)² / Σw²` with `w = probability / propensity` (Kish 1965).
    pub effective: f64,
    /// Inverse propensity scoring: `mean(w r)` (Horvitz and Thompson 1952). Without bias, and noisy.
    pub inverse_propensity: Value,
    /// The same, normalised: `Σ w r / Σ w` (Swaminathan and Joachims, NeurIPS 2015). Less noisy, nearly without bias.
    pub self_normalised: Value,
    /// Doubly robust: `mean(q̂(policy) + w (r − q̂))` (Dudík, Langford, Li, ICML 2011). Right if either the model or the propensities are.
    pub doubly_robust: Value,
}

/// An estimate and its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Value {
    /// The estimate.
    pub value: f64,
    /// Low and high.
    pub interval: (f64, f64),
}

/// Fewer effective actions than this say too little.
pub const EFFECTIVE_MIN: f64 = 100.0;

/// Estimates what another policy would have earned; `None` where the log has less than [`EFFECTIVE_MIN`] effective actions of it, or
/// a propensity that is not above 0.
pub fn off_policy(log: &[Logged]) -> Option<OffPolicy> {
    if log.iter().any(|one| one.propensity <= 0.0) {
        return None;
    }
    let weight = |one: &Logged| one.probability / one.propensity;
    let (sum, squares) = log
        .iter()
        .map(weight)
        .fold((0.0, 0.0), |(sum, squares), w| (sum + w, squares + w * w));
    let effective = if squares > 0.0 {
        sum * sum / squares
    } else {
        0.0
    };
    if effective < EFFECTIVE_MIN {
        return None;
    }
    let n = log.len() as f64;
    let mean_of = |value: &dyn Fn(&Logged) -> f64| mean(log.iter().map(value), n);
    let normalised = log.iter().map(|one| weight(one) * one.reward).sum::<f64>() / sum;
    // the delta method: how a ratio of means varies
    let around = mean_of(&|one| weight(one) * (one.reward - normalised) * n / sum);
    let width = (around.interval.1 - around.interval.0) / 2.0;
    Some(OffPolicy {
        actions: log.len(),
        effective,
        inverse_propensity: mean_of(&|one| weight(one) * one.reward),
        self_normalised: Value {
            value: normalised,
            interval: (normalised - width, normalised + width),
        },
        doubly_robust: mean_of(&|one| {
            one.expected_of_policy + weight(one) * (one.reward - one.expected)
        }),
    })
}

/// A mean with the interval of the normal distribution.
fn mean(values: impl Iterator<Item = f64> + Clone, n: f64) -> Value {
    let value = values.clone().sum::<f64>() / n;
    let variance = values.map(|one| (one - value).powi(2)).sum::<f64>() / (n - 1.0);
    let half = 1.959_963_984_540_054 * (variance / n).sqrt();
    Value {
        value,
        interval: (value - half, value + half),
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Two actions; the second earns 0.6, the first 0.2; the log takes the second one time in five, the other policy nine times in ten.
    fn log(actions: usize, expected: [f64; 2]) -> Vec<Logged> {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let row = |_| {
            let action = usize::from(random.random::<f64>() < 0.2);
            let reward = f64::from(u8::from(random.random::<f64>() < [0.2, 0.6][action]));
            Logged {
                reward,
                propensity: [0.8, 0.2][action],
                probability: [0.1, 0.9][action],
                expected: expected[action],
                expected_of_policy: 0.1 * expected[0] + 0.9 * expected[1],
            }
        };
        (0..actions).map(row).collect()
    }

    #[test]
    fn the_other_policy_earns_what_it_would() {
        const TRUTH: f64 = 0.1 * 0.2 + 0.9 * 0.6;
        let found = off_policy(&log(20_000, [0.2, 0.6])).unwrap();
        for estimate in [
            found.inverse_propensity,
            found.self_normalised,
            found.doubly_robust,
        ] {
            let (low, high) = estimate.interval;
            assert!(low < TRUTH && TRUTH < high, "{estimate:?}");
        }
        let width = |value: Value| value.interval.1 - value.interval.0;
        assert!(width(found.doubly_robust) < width(found.inverse_propensity));
        assert!(
            (4_000.0..6_000.0).contains(&found.effective),
            "{}",
            found.effective
        );
        // a wrong model does no harm where the propensities are right
        let found = off_policy(&log(20_000, [0.9, 0.0])).unwrap();
        let (low, high) = found.doubly_robust.interval;
        assert!(low < TRUTH && TRUTH < high, "{found:?}");
    }

    #[test]
    fn too_little_is_withheld() {
        assert_eq!(off_policy(&log(300, [0.2, 0.6])), None);
        assert_eq!(off_policy(&[]), None);
        let mut broken = log(20_000, [0.2, 0.6]);
        broken[7].propensity = 0.0;
        assert_eq!(off_policy(&broken), None);
    }
}
