//! How far the rows of a fortnight lie from all of them: what of a difference between two times is only time.

use std::collections::HashMap;
use std::sync::Arc;

use tidemill_core::feature::ColumnValues;
use tidemill_core::{Span, Timestamp};

use super::statistics::{ColumnStatistics, HISTOGRAM_BARS};

/// How long a stretch of the rows is, in days.
const DAYS: i64 = 14;
/// A fortnight with fewer rows says little about how far it may be.
const ROWS_MIN: u64 = 200;
/// With fewer fortnights nothing is said.
const COUNT_MIN: usize = 4;
/// The share of the fortnights that lie no farther than what is said of them.
const USUAL: f64 = 0.9;

/// The fortnights of a dataset's rows, the last of which ends with the newest row.
pub(super) struct Fortnights {
    of_rows: Vec<usize>,
    count: usize,
}

/// What lies in a stretch of a column.
#[derive(Clone, Default)]
struct Stretch {
    rows: u64,
    missing: u64,
    zeros: u64,
    /// By the bar of a number, or the place of a category among the most frequent; what is in none is the last.
    parts: Vec<u64>,
}

impl Fortnights {
    pub(super) fn new(moments: &[Timestamp]) -> Self {
        let last = moments.iter().max().copied().unwrap_or_default();
        let length = Span::from_days(DAYS).micros();
        let back = |moment: &Timestamp| (last.micros() - moment.micros()) / length;
        let of_rows: Vec<usize> = moments
            .iter()
            .map(|moment| usize::try_from(back(moment)).unwrap_or(0))
            .collect();
        Self {
            count: of_rows.iter().max().map_or(0, |last| last + 1),
            of_rows,
        }
    }

    /// How far a fortnight of the rows lies from all of them, as a rule: see [`ColumnStatistics::varies`].
    pub(super) fn vary(&self, column: &ColumnStatistics, values: &ColumnValues) -> Option<f64> {
        let stretches = match values {
            ColumnValues::Number(numbers) => self.of_numbers(column, numbers),
            ColumnValues::Category(texts) => self.of_categories(column, texts),
        };
        let all = stretches.iter().fold(Stretch::default(), Stretch::with);
        let ordered = matches!(values, ColumnValues::Number(_));
        let large = stretches.iter().filter(|stretch| stretch.rows >= ROWS_MIN);
        let mut far: Vec<f64> = large.map(|one| one.distance(&all, ordered)).collect();
        far.sort_unstable_by(f64::total_cmp);
        let usual = (USUAL * far.len() as f64).ceil() as usize;
        (far.len() >= COUNT_MIN).then(|| far[usual - 1])
    }

    fn of_numbers(&self, column: &ColumnStatistics, numbers: &[f64]) -> Vec<Stretch> {
        let part = |number: f64| match column.quantiles {
            // nearly all are the same: apart are those that are not
            Some(found) if column.histogram.is_empty() => usize::from(number != found.p50),
            Some(found) => found.bar_of(number),
            None => 0,
        };
        let mut stretches = self.empty(HISTOGRAM_BARS);
        for (&fortnight, &number) in self.of_rows.iter().zip(numbers) {
            let stretch = &mut stretches[fortnight];
            stretch.zeros += u64::from(number == 0.0);
            stretch.add((!number.is_nan()).then(|| part(number)));
        }
        stretches
    }

    fn of_categories(&self, column: &ColumnStatistics, texts: &[Option<Arc<str>>]) -> Vec<Stretch> {
        let top = column.top.iter().enumerate();
        let places: HashMap<&str, usize> = top
            .map(|(place, (text, _))| (text.as_str(), place))
            .collect();
        let others = column.top.len();
        let mut stretches = self.empty(others + 1);
        for (&fortnight, text) in self.of_rows.iter().zip(texts) {
            let place = text.as_deref();
            let place = place.map(|text| places.get(text).copied().unwrap_or(others));
            stretches[fortnight].add(place);
        }
        stretches
    }

    fn empty(&self, parts: usize) -> Vec<Stretch> {
        let one = Stretch {
            parts: vec![0; parts],
            ..Stretch::default()
        };
        vec![one; self.count]
    }
}

impl Stretch {
    fn add(&mut self, part: Option<usize>) {
        self.rows += 1;
        match part {
            Some(part) => self.parts[part] += 1,
            None => self.missing += 1,
        }
    }

    fn with(mut self, other: &Self) -> Self {
        self.rows += other.rows;
        self.missing += other.missing;
        self.zeros += other.zeros;
        self.parts.resize(other.parts.len(), 0);
        let parts = self.parts.iter_mut().zip(&other.parts);
        parts.for_each(|(part, more)| *part += more);
        self
    }

    /// The share of what lies elsewhere: by Kolmogorov and Smirnov where the parts have an order, half the sum of the differences where they
    /// have none; or the difference of what is missing, where that is larger.
    fn distance(&self, all: &Self, ordered: bool) -> f64 {
        let share = |part: u64, of: u64| part as f64 / of.max(1) as f64;
        let of_missing = (share(self.missing, self.rows) - share(all.missing, all.rows)).abs();
        let (here, there) = (self.rows - self.missing, all.rows - all.missing);
        if here == 0 {
            return of_missing;
        }
        let parts = self.parts.iter().zip(&all.parts);
        let differences = parts.map(|(one, other)| share(*one, here) - share(*other, there));
        let of_values = match ordered {
            true => {
                let below = differences.scan(0.0, |below, difference| {
                    *below += difference;
                    Some(f64::abs(*below))
                });
                let of_zeros = (share(self.zeros, here) - share(all.zeros, there)).abs();
                below.fold(of_zeros, f64::max)
            }
            false => differences.map(f64::abs).sum::<f64>() / 2.0,
        };
        of_values.max(of_missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of 10 fortnights, 300 each, whose value is told by the fortnight (0 is the newest) and a number below 300.
    fn vary(value: impl Fn(u32, u32) -> Option<f64>) -> Option<f64> {
        vary_of(10, 300, value)
    }

    fn vary_of(fortnights: u32, rows: u32, value: impl Fn(u32, u32) -> Option<f64>) -> Option<f64> {
        let all = (0..fortnights).flat_map(|one| (0..rows).map(move |row| (one, row)));
        let moments: Vec<Timestamp> = all
            .clone()
            .map(|(one, row)| {
                let second = 86_400 * DAYS * i64::from(fortnights - one) - i64::from(row);
                Timestamp::from_micros(second * 1_000_000)
            })
            .collect();
        let numbers = all.map(|(one, row)| value(one, row).unwrap_or(f64::NAN));
        let values = ColumnValues::Number(numbers.collect());
        let column = ColumnStatistics::of_values("user.x", &values);
        Fortnights::new(&moments).vary(&column, &values)
    }

    #[test]
    fn what_is_the_same_all_the_time_hardly_varies() {
        let found = vary(|_, row| Some(f64::from(row)));
        assert_eq!(found, Some(0.0));
        assert_eq!(vary(|_, _| Some(3.0)), Some(0.0));
        assert_eq!(vary(|_, _| None), Some(0.0));
    }

    #[test]
    fn what_everybody_shares_lies_elsewhere_every_fortnight() {
        let found = vary(|one, _| Some(f64::from(one)));
        assert!(found.is_some_and(|far| far > 0.75), "{found:?}");
    }

    #[test]
    fn what_grows_varies_and_a_single_odd_fortnight_does_not_count() {
        let grows = vary(|one, row| Some(f64::from(row + 30 * (10 - one))));
        assert!(
            grows.is_some_and(|far| (0.3..0.6).contains(&far)),
            "{grows:?}"
        );
        let odd = vary(|one, row| (one != 3).then(|| f64::from(row)));
        assert!(odd.is_some_and(|far| far < 0.11), "{odd:?}");
    }

    #[test]
    fn few_fortnights_and_few_rows_say_nothing() {
        assert_eq!(vary_of(3, 300, |_, row| Some(f64::from(row))), None);
        assert_eq!(vary_of(10, 100, |_, row| Some(f64::from(row))), None);
        assert_eq!(vary_of(0, 300, |_, row| Some(f64::from(row))), None);
    }

    #[test]
    fn categories_vary_by_their_shares() {
        let texts = |swap: bool| -> Vec<Option<Arc<str>>> {
            let text = |one: u32, row: u32| {
                let first = row.is_multiple_of(3) != (swap && one < 5);
                Some(Arc::from(if first { "a" } else { "b" }))
            };
            let all = (0..10).flat_map(|one| (0..300).map(move |row| (one, row)));
            all.map(|(one, row)| text(one, row)).collect()
        };
        let moment = |row: i64| Timestamp::from_micros((row / 300) * DAYS * 86_400_000_000);
        let moments: Vec<Timestamp> = (0..3_000).map(moment).collect();
        for (swap, far) in [(false, 0.0), (true, 1.0 / 6.0)] {
            let values = ColumnValues::Category(texts(swap));
            let column = ColumnStatistics::of_values("user.x", &values);
            let found = Fortnights::new(&moments).vary(&column, &values).unwrap();
            assert!((found - far).abs() < 1e-9, "{found}");
        }
    }
}
