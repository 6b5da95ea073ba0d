//! Whether arms are as large as they were meant to be. Where they are not, something decides who is counted, and no comparison of
//! them can be trusted.

/// A test that may be looked at after every person: the sequential multinomial test of Lindon and Malek ("Anytime-valid inference
/// for multinomial count data", NeurIPS 2022, arXiv 2011.03567). With a Dirichlet prior `a` around the shares `θ`,
/// `O = Γ(Σa) / Γ(Σa + n) · Π Γ(aᵢ + sᵢ) / Γ(aᵢ) · Π θᵢ^−sᵢ`, and the chance that `O` ever reaches `1/u` is at most `u` where the shares are right.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleRatio {
    shares: Vec<f64>,
    counts: Vec<u64>,
}

/// How much the prior believes in the shares: as much as this many people.
const CONCENTRATION: f64 = 1_000.0;

impl SampleRatio {
    /// Of arms that were meant to have these shares, which sum to 1.
    pub fn new(shares: &[f64]) -> Self {
        Self {
            shares: shares.to_vec(),
            counts: vec![0; shares.len()],
        }
    }

    /// Counts people of an arm.
    pub fn add(&mut self, arm: usize, people: u64) {
        self.counts[arm] += people;
    }

    /// A p-value that holds whenever one looks: the smallest `u` at which the shares would be refused now.
    pub fn p_value(&self) -> f64 {
        let n: u64 = self.counts.iter().sum();
        let mut log = ln_gamma(CONCENTRATION) - ln_gamma(CONCENTRATION + n as f64);
        for (share, count) in self.shares.iter().zip(&self.counts) {
            let (prior, count) = (share * CONCENTRATION, *count as f64);
            log += ln_gamma(prior + count) - ln_gamma(prior) - count * share.ln();
        }
        (-log).exp().min(1.0)
    }

    /// Whether the comparison must not be shown: below 0.001 nobody believes in chance.
    pub fn is_broken(&self) -> bool {
        self.p_value() < 0.001
    }
}

/// ln Γ(x) for x > 0 by Lanczos' approximation (SIAM J. Numer. Anal. 1964; g = 7, 9 terms), with a relative error of about 10⁻¹⁵.
fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let t = x + 7.5;
    let series = TERMS[1..]
        .iter()
        .zip(1..)
        .fold(TERMS[0], |sum, (term, k)| sum + term / (x + f64::from(k)));
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + series.ln()
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn the_gamma_function_is_that_of_factorials() {
        for (x, factorial) in [(1.0, 1.0_f64), (5.0, 24.0), (11.0, 3_628_800.0)] {
            assert!((ln_gamma(x) - factorial.ln()).abs() < 1e-12 * factorial.ln().max(1.0));
        }
        assert!((ln_gamma(0.5) - std::f64::consts::PI.sqrt().ln()).abs() < 1e-12);
        assert!((ln_gamma(1e6) - 12_815_504.569_147_612).abs() < 1e-3);
    }

    #[test]
    fn right_shares_are_seldom_ever_refused_and_wrong_ones_soon() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let mut refused = 0;
        for _ in 0..300 {
            let mut ratio = SampleRatio::new(&[0.1, 0.9]);
            let mut lowest: f64 = 1.0;
            for _ in 0..3_000 {
                ratio.add(usize::from(random.random::<f64>() >= 0.1), 1);
                lowest = lowest.min(ratio.p_value());
            }
            refused += u32::from(lowest < 0.05);
        }
        assert!(refused <= 15, "{refused} of 300 at 5 %");
        // one in twenty of one arm is lost
        let mut ratio = SampleRatio::new(&[0.5, 0.5]);
        ratio.add(0, 20_000);
        ratio.add(1, 19_000);
        assert!(ratio.is_broken(), "{}", ratio.p_value());
        let mut ratio = SampleRatio::new(&[0.5, 0.5]);
        ratio.add(0, 20_100);
        ratio.add(1, 19_900);
        assert!(!ratio.is_broken(), "{}", ratio.p_value());
    }
}
