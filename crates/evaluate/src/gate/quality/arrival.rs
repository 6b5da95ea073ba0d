//! How much came, how fresh it is, and how fast it comes.

use super::super::windows::Windows;
use super::super::{Check, number};
use super::{FALSE_ALARMS, NewDataset};
use crate::usual::{Distance, PAST_MIN, student_quantile};

/// With fewer earlier datasets a new one needs [`VOLUME_SHARE`] of the rows of the last.
const DATASETS_MIN: usize = PAST_MIN + 1;
/// See [`DATASETS_MIN`].
const VOLUME_SHARE: f64 = 0.5;
/// How far the logarithms of the sizes of datasets lie apart at least.
const VOLUME_SPREAD_MIN: f64 = 0.05;
/// A dataset is old when nothing came for so many times the longest gap between its rows …
const GAP_TIMES: f64 = 2.0;
/// … and at least so long: what is brought once a day, and not at weekends, is no older than that.
const GAP_MIN_DAYS: f64 = 3.0;
/// Rows of less time know no holidays yet: their longest gap says nothing.
const GAPS_FROM_DAYS: f64 = 56.0;
/// Rows that come more than this much faster or slower are told, if that is unusual: the logarithm of the ratio.
const PACE_EFFECT_MIN: f64 = 0.5;
/// No window spans less, so that its logarithm is finite.
const SPAN_DAYS_MIN: f64 = 1e-6;
const DAY_US: f64 = 86_400e6;

impl NewDataset<'_> {
    /// At least as many rows as the sizes of earlier datasets say.
    pub(super) fn volume(&self) -> Check {
        let name = "data:volume";
        let rows = self.moments_us.len();
        let Some(last) = self.earlier_rows.last().filter(|rows| **rows > 0) else {
            let sentence = format!("{rows} rows; there is no earlier dataset to compare with");
            return Check::not_judged(name, sentence);
        };
        let times = rows as f64 / *last as f64;
        let (threshold, why) = match growth(self.earlier_rows) {
            Some(threshold) => (
                threshold,
                format!(
                    "as the sizes of {} earlier datasets say",
                    self.earlier_rows.len()
                ),
            ),
            None => (
                VOLUME_SHARE,
                format!("as long as fewer than {DATASETS_MIN} earlier ones are known"),
            ),
        };
        let sentence = format!(
            "{rows} rows are {} times as many as the last dataset had ({last}); at least {} times as many have to be there, {why}",
            number(times),
            number(threshold)
        );
        Check::at_least(name, times, threshold, sentence)
    }

    /// The newest row is not much older than the newest could be, beside the gaps between rows.
    pub(super) fn freshness(&self) -> Check {
        let name = "data:freshness";
        let mut moments = self.moments_us.to_vec();
        moments.sort_unstable();
        let (Some(oldest), Some(newest)) = (moments.first(), moments.last()) else {
            return Check::not_judged(name, "there are no rows".to_owned());
        };
        let (reach, age) = (days(*oldest, *newest), days(*newest, self.newest_us));
        if reach < GAPS_FROM_DAYS {
            let sentence = format!(
                "the newest row is {} days older than the newest could be; what is usual is known from {GAPS_FROM_DAYS} days of rows on, \
                 and there are {}",
                number(age),
                number(reach)
            );
            return Check::not_judged(name, sentence);
        }
        let gaps = moments.iter().zip(moments.iter().skip(1));
        let longest = gaps.map(|(from, to)| days(*from, *to)).fold(0.0, f64::max);
        let threshold = (GAP_TIMES * longest).max(GAP_MIN_DAYS);
        let sentence = format!(
            "the newest row is {} days older than the newest could be; up to {} days are usual, as the longest gap between rows is {}",
            number(age),
            number(threshold),
            number(longest)
        );
        Check::at_most(name, age, threshold, sentence)
    }

    /// How fast rows come in the judged windows, beside those before. `moments_us` are those of the rows that were cut into windows.
    pub(super) fn pace(&self, moments_us: &[i64], windows: &Windows) -> Check {
        let moment = |place: usize| moments_us.get(place).copied().unwrap_or(self.newest_us);
        let spans: Vec<f64> = windows
            .all
            .iter()
            .map(|window| {
                let from = moment(window.start.saturating_sub(1));
                days(from, moment(window.end - 1)).max(SPAN_DAYS_MIN)
            })
            .collect();
        let rows = windows.rows() as f64;
        let mut sum = 0.0;
        let distances: Vec<Distance> = spans
            .iter()
            .enumerate()
            .map(|(place, span)| {
                // the first has nothing before it, and is not looked at
                let before = place.max(1) as f64;
                let usual = if place == 0 { *span } else { sum / before };
                sum += span;
                Distance {
                    value: (span / usual).ln().abs(),
                    chance: (1.0 / rows + 1.0 / (rows * before)).sqrt(),
                }
            })
            .collect();
        let (value, threshold) = windows.farthest(&distances, PACE_EFFECT_MIN);
        // where rows were left out, each stands for several
        let rows = rows * self.moments_us.len() as f64 / moments_us.len().max(1) as f64;
        let newest = spans.last().copied().unwrap_or(SPAN_DAYS_MIN);
        let before = (sum - newest) / (spans.len() - 1).max(1) as f64;
        let sentence = format!(
            "{} rows a day came in the newest window, {} before; the logarithm of the ratio is {} at most, up to {} is usual",
            number(rows / newest),
            number(rows / before.max(SPAN_DAYS_MIN)),
            number(value),
            number(threshold)
        );
        Check::at_most("data:pace", value, threshold, sentence)
    }
}

fn days(from_us: i64, to_us: i64) -> f64 {
    to_us.saturating_sub(from_us).max(0) as f64 / DAY_US
}

/// How much of the last dataset a new one has at least, as the past says (a one-sided prediction interval of the logarithm of the
/// ratio, at 1 %); `None` with too few datasets.
fn growth(rows: &[u64]) -> Option<f64> {
    if rows.len() < DATASETS_MIN || rows.contains(&0) {
        return None;
    }
    let pairs = rows.iter().zip(rows.iter().skip(1));
    let ratios: Vec<f64> = pairs
        .map(|(before, after)| (*after as f64 / *before as f64).ln())
        .collect();
    let n = ratios.len() as f64;
    let mean = ratios.iter().sum::<f64>() / n;
    let squares = ratios
        .iter()
        .map(|ratio| (ratio - mean).powi(2))
        .sum::<f64>();
    let spread = (squares / (n - 1.0)).sqrt().max(VOLUME_SPREAD_MIN);
    let t = student_quantile(FALSE_ALARMS, ratios.len() - 1);
    Some((mean - t * spread * (1.0 + 1.0 / n).sqrt()).exp().min(1.0))
}
