//! Whether something happens more often than it may, however often one looks.

/// Alternatives that a rate is tried against: odds that are 2, 4, 8, … times as high as they may be.
const DOUBLINGS: i32 = 20;

/// The evidence that events of probability at most `limit` do not explain `hits` of `trials`: a mixture of likelihood ratios
/// against higher odds, with equal weights. Each of them is a supermartingale that starts at 1 where the rate is at most `limit`, so
/// by Ville's inequality the evidence ever reaches `1/α` with probability at most `α`, however often one looks and for whatever
/// reason one stops (Robbins: "Statistical methods related to the law of the iterated logarithm", Ann. Math. Statist. 41, 1970).
///
/// `limit` is between 0 and 1, both excluded; otherwise the evidence is 1, which says nothing.
pub fn rate_evidence(hits: u64, trials: u64, limit: f64) -> f64 {
    if !(limit > 0.0 && limit < 1.0) {
        return 1.0;
    }
    let (hits, misses) = (hits as f64, trials.saturating_sub(hits) as f64);
    let odds = limit / (1.0 - limit);
    let ratio = |doubling: i32| {
        let raised = odds * 2f64.powi(doubling);
        // p'/p and (1-p')/(1-p), by odds, so that nothing is lost close to 1
        let hit = 2f64.powi(doubling) * (1.0 + odds) / (1.0 + raised);
        let miss = (1.0 + odds) / (1.0 + raised);
        (hits * hit.ln() + misses * miss.ln()).exp()
    };
    (1..=DOUBLINGS).map(ratio).sum::<f64>() / f64::from(DOUBLINGS)
}

/// Whether a rate is surely above `limit`: a rate that is not is ever said to be with probability at most `alpha`.
pub fn is_rate_above(hits: u64, trials: u64, limit: f64, alpha: f64) -> bool {
    rate_evidence(hits, trials, limit) >= 1.0 / alpha
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn a_rate_at_its_limit_is_seldom_ever_called_too_high() {
        let mut random = ChaCha8Rng::seed_from_u64(9);
        for limit in [0.001, 0.01, 0.5] {
            let mut wrong = 0;
            for _ in 0..500 {
                let mut hits = 0;
                let is_ever = (1..=3_000).any(|trials| {
                    hits += u64::from(random.random::<f64>() < limit);
                    is_rate_above(hits, trials, limit, 0.05)
                });
                wrong += u32::from(is_ever);
            }
            assert!(wrong <= 25, "{wrong} of 500 at {limit}");
        }
    }

    #[test]
    fn a_rate_that_is_too_high_is_found_soon() {
        // everything fails where one in a thousand may
        assert!(is_rate_above(2, 2, 0.001, 0.01));
        // all slow answers are those of one of two
        assert!(!is_rate_above(5, 5, 0.5, 0.01));
        assert!(is_rate_above(14, 14, 0.5, 0.01));
        // three times as often as it may, after a while
        assert!(!is_rate_above(3, 100, 0.01, 0.01));
        assert!(is_rate_above(60, 2_000, 0.01, 0.01));
        assert!(!is_rate_above(0, 1_000_000, 0.01, 0.01));
        assert_eq!(rate_evidence(7, 7, 0.0), 1.0);
    }
}
