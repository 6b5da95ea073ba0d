//! The difference between two arms.

use serde::{Deserialize, Serialize};

use super::sequence::Sequence;

/// Sums over the people of one arm: what each brought (`y`) and what was known of them before they were treated (`x`). Arms can be
/// added up in any order.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Arm {
    /// How many people.
    pub people: u64,
    y: f64,
    yy: f64,
    x: f64,
    xx: f64,
    xy: f64,
}

impl Arm {
    /// Adds a person.
    pub fn add(&mut self, y: f64, x: f64) {
        self.people += 1;
        self.y += y;
        self.yy += y * y;
        self.x += x;
        self.xx += x * x;
        self.xy += x * y;
    }

    /// Adds another arm's people.
    pub fn merge(&mut self, other: &Self) {
        self.people += other.people;
        self.y += other.y;
        self.yy += other.yy;
        self.x += other.x;
        self.xx += other.xx;
        self.xy += other.xy;
    }

    fn n(&self) -> f64 {
        self.people as f64
    }

    /// What a person brought on average.
    pub fn mean(&self) -> f64 {
        self.y / self.n()
    }

    fn mean_before(&self) -> f64 {
        self.x / self.n()
    }

    fn variance(&self) -> f64 {
        moment(self.yy, self.y, self.y, self.n())
    }

    fn variance_before(&self) -> f64 {
        moment(self.xx, self.x, self.x, self.n())
    }

    fn covariance(&self) -> f64 {
        moment(self.xy, self.x, self.y, self.n())
    }
}

/// The sample (co)variance out of sums.
fn moment(products: f64, one: f64, other: f64, n: f64) -> f64 {
    (products - one * other / n) / (n - 1.0)
}

/// How much more people of one arm brought than those of another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The mean of the control.
    pub control: f64,
    /// The mean of the treatment.
    pub treatment: f64,
    /// The difference, after what was known before has been taken out.
    pub difference: f64,
    /// An interval of the difference that holds whenever one looks; `None` while there are too few people.
    pub interval: Option<(f64, f64)>,
    /// The standard error of the difference.
    pub standard_error: f64,
    /// By which share knowing what was before has made the variance smaller.
    pub variance_reduction: f64,
}

/// Compares two arms by the difference of their means. What was known before is taken out with CUPED (Deng, Xu, Kohavi, Walker: "Improving
/// the sensitivity of online controlled experiments by utilizing pre-experiment data", WSDM 2013): `y − θ (x − x̄)` with `θ = cov(x, y) / var(x)` over
/// both arms; where it says nothing, nothing changes.
pub fn compare(control: &Arm, treatment: &Arm, sequence: &Sequence) -> Comparison {
    let arms = [control, treatment];
    // pooled within the arms, so that a difference between them does not look like a relation
    let pooled =
        |of: fn(&Arm) -> f64| -> f64 { arms.iter().map(|arm| of(arm) * (arm.n() - 1.0)).sum() };
    let (before, covariance) = (pooled(Arm::variance_before), pooled(Arm::covariance));
    let theta = if before > 0.0 {
        covariance / before
    } else {
        0.0
    };
    let variance = |arm: &Arm| {
        let adjusted =
            arm.variance() + theta * theta * arm.variance_before() - 2.0 * theta * arm.covariance();
        adjusted.max(0.0) / arm.n()
    };
    let plain: f64 = arms.iter().map(|arm| arm.variance() / arm.n()).sum();
    let adjusted: f64 = arms.iter().map(|arm| variance(arm)).sum();
    let difference = treatment.mean()
        - control.mean()
        - theta * (treatment.mean_before() - control.mean_before());
    let n = control.n() + treatment.n();
    let fewest = control.people.min(treatment.people) as f64;
    let standard_error = adjusted.sqrt();
    // the mean of n observations with this deviation has that standard error
    let half_width = match fewest * 2.0 >= super::sequence::OBSERVATIONS_MIN {
        true => sequence.half_width(n, standard_error * n.sqrt()),
        false => f64::INFINITY,
    };
    Comparison {
        control: control.mean(),
        treatment: treatment.mean(),
        difference,
        interval: half_width
            .is_finite()
            .then_some((difference - half_width, difference + half_width)),
        standard_error,
        variance_reduction: if plain > 0.0 {
            1.0 - adjusted / plain
        } else {
            0.0
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(rows: &[(f64, f64)]) -> Arm {
        let mut arm = Arm::default();
        rows.iter().for_each(|(y, x)| arm.add(*y, *x));
        arm
    }

    #[test]
    fn what_was_known_before_is_taken_out() {
        let control: Vec<(f64, f64)> = (0..200)
            .map(|n| (f64::from(n % 20), f64::from(n % 20)))
            .collect();
        let treatment: Vec<(f64, f64)> = control.iter().map(|(y, x)| (y + 1.0, *x)).collect();
        let compared = compare(&arm(&control), &arm(&treatment), &Sequence::default());
        assert!((compared.difference - 1.0).abs() < 1e-9);
        assert!(compared.variance_reduction > 0.999, "{compared:?}");
        let (low, high) = compared.interval.unwrap();
        assert!(low > 0.99 && high < 1.01);
        let blind: Vec<(f64, f64)> = control.iter().map(|(y, _)| (*y, 0.0)).collect();
        let compared = compare(&arm(&blind), &arm(&blind), &Sequence::default());
        assert_eq!(
            (compared.difference, compared.variance_reduction),
            (0.0, 0.0)
        );
    }

    #[test]
    fn arms_add_up() {
        let rows: Vec<(f64, f64)> = (0..50)
            .map(|n| (f64::from(n), f64::from(n * n % 7)))
            .collect();
        let mut both = arm(&rows[..20]);
        both.merge(&arm(&rows[20..]));
        assert_eq!(both, arm(&rows));
        let few = compare(&arm(&rows[..20]), &arm(&rows[20..]), &Sequence::default());
        assert_eq!(few.interval, None, "too few people");
    }
}
