//! How numbers spread around their mean, without ever subtracting two large sums.

use super::cell::add;
use crate::codec::{DecodeError, Reader, Writer};

/// Numbers, summed up as how many they are, their mean, and the sum of the squares of their distances from it.
///
/// Merging follows Chan, Golub and LeVeque, *Updating formulae and a pairwise algorithm for computing sample variances*
/// (Stanford STAN-CS-79-773, 1979). Everything stays finite: what would be larger than the largest number is that.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    count: u64,
    mean: f64,
    squares: f64,
}

impl Spread {
    /// One number.
    pub fn of(number: f64) -> Self {
        Self {
            count: 1,
            mean: number,
            squares: 0.0,
        }
    }

    /// Adds the numbers of another one.
    pub fn merge(&mut self, other: &Self) {
        let (ours, theirs) = (self.count as f64, other.count as f64);
        let share = theirs / (ours + theirs);
        let distance = add(other.mean, -self.mean);
        let between = (distance * distance * (ours * share)).min(f64::MAX);
        self.squares = add(self.squares, add(other.squares, between));
        self.mean = add(self.mean, distance * share);
        self.count = self.count.saturating_add(other.count);
    }

    /// The sample standard deviation √(Σ(x − mean)² / (n − 1)); unknown below two numbers.
    pub fn stddev(&self) -> Option<f64> {
        (self.count >= 2).then(|| (self.squares / (self.count - 1) as f64).sqrt())
    }

    pub(super) fn encode(&self, writer: &mut Writer) {
        writer.unsigned(self.count);
        writer.float(self.mean);
        if self.count > 1 {
            writer.float(self.squares);
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (count, mean) = (reader.amount()?, reader.float()?);
        let squares = if count > 1 { reader.float()? } else { 0.0 };
        if count == 0 || squares < 0.0 {
            return Err(DecodeError("a spread is negative"));
        }
        Ok(Self {
            count,
            mean,
            squares,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spread(numbers: &[f64]) -> Option<Spread> {
        numbers
            .iter()
            .map(|number| Spread::of(*number))
            .reduce(|mut spread, one| {
                spread.merge(&one);
                spread
            })
    }

    fn two_passes(numbers: &[f64]) -> f64 {
        let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
        let squares: f64 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
        (squares / (numbers.len() - 1) as f64).sqrt()
    }

    #[test]
    fn a_spread_needs_two_numbers() {
        let check = |numbers: &[f64], expected: Option<f64>| {
            assert_eq!(spread(numbers).and_then(|spread| spread.stddev()), expected);
        };
        check(&[], None);
        check(&[3.0], None);
        check(&[3.0, 3.0, 3.0], Some(0.0));
        check(&[1.0, 3.0], Some(2f64.sqrt()));
        check(
            &[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0],
            Some((32.0f64 / 7.0).sqrt()),
        );
        // Sums of squares would lose all of this.
        check(&[1e9 + 1.0, 1e9 + 2.0, 1e9 + 3.0], Some(1.0));
    }

    proptest! {
        #[test]
        fn merging_is_as_good_as_two_passes(
            a in prop::collection::vec(-1e6..1e6f64, 1..40), b in prop::collection::vec(0.0..1e3f64, 1..40),
        ) {
            let (Some(mut left), Some(right)) = (spread(&a), spread(&b)) else { panic!("numbers") };
            left.merge(&right);
            let all: Vec<f64> = a.into_iter().chain(b).collect();
            let (found, expected) = (left.stddev().unwrap(), two_passes(&all));
            prop_assert!((found - expected).abs() <= 1e-9 * expected, "{found} {expected}");
        }

        #[test]
        fn a_spread_is_always_finite(numbers in prop::collection::vec(
            prop_oneof![Just(f64::MAX), Just(f64::MIN), Just(f64::MIN_POSITIVE), Just(0.0), any::<f64>().prop_filter("finite", |x| x.is_finite())],
            2..30,
        ), cut: prop::sample::Index) {
            let (a, b) = numbers.split_at(cut.index(numbers.len()));
            let merged = match (spread(a), spread(b)) {
                (Some(mut a), Some(b)) => {
                    a.merge(&b);
                    a
                }
                (a, b) => a.or(b).unwrap(),
            };
            let found = merged.stddev().unwrap();
            prop_assert!(found.is_finite() && found >= 0.0 && merged.mean.is_finite(), "{merged:?}");
        }
    }
}
