//! Whether a dataset is as those before it: how much, how fresh, what is missing, which values, how they are distributed.
//!
//! Nothing here has a fixed threshold for what drifts. The rows are cut into windows in the order of time; each past window beside
//! everything before it says how far a window may be ([`Usual`]). A window is what a run of then would have found new.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use tidemill_core::feature::FeatureTable;

use super::windows::{Column, Question, cut};
use super::{Check, number};
use crate::usual::{Distance, PAST_MIN, Usual, student_quantile};

/// The share of runs in which something false may be said about the features of a dataset.
pub const FALSE_ALARMS: f64 = 0.01;
/// The rows that are looked at, evenly over time where there are more.
pub const ROWS_MAX: usize = 20_000;
/// The fewest rows of a window.
const WINDOW_ROWS_MIN: usize = 30;
/// The most windows: older rows are compared with, and not cut.
const WINDOWS_MAX: usize = 60;
/// The last window is compared with those before it only where there are so many in all: the first has nothing before it.
const WINDOWS_MIN: usize = PAST_MIN + 2;
/// With fewer earlier datasets a new one needs [`VOLUME_SHARE`] of the rows of the last.
const DATASETS_MIN: usize = PAST_MIN + 1;
/// See [`DATASETS_MIN`].
const VOLUME_SHARE: f64 = 0.5;
/// How far the logarithms of the sizes of datasets lie apart at least.
const VOLUME_SPREAD_MIN: f64 = 0.05;
/// A dataset is old when nothing came for so many times the longest gap between its rows …
const GAP_TIMES: f64 = 2.0;
/// … and at least so long.
const GAP_MIN_DAYS: f64 = 1.0;
/// Rows that come more than this much faster or slower are told, if that is unusual.
const PACE_EFFECT_MIN: f64 = 0.5;
/// A feature is told to be constant where that had this probability at most, were it as before.
const CONSTANT_PROBABILITY: f64 = 1e-6;
/// The most features that are listed.
const LISTED_MAX: usize = 20;
const DAY_US: f64 = 86_400e6;

/// The rows that a model is to be learnt from, and what came before.
#[derive(Debug, Clone)]
pub struct NewDataset<'a> {
    /// The features, a row per moment.
    pub features: &'a FeatureTable,
    /// When each row was observed, in microseconds.
    pub moments_us: &'a [i64],
    /// The newest moment whose outcome could be certain.
    pub newest_us: i64,
    /// The last dataset from which a version was made that answers: what it is called, and up to when it had rows.
    pub accepted: Option<(&'a str, i64)>,
    /// How many rows earlier datasets of the model had, the oldest first.
    pub earlier_rows: &'a [u64],
    /// How many it has now, where [`features`](Self::features) are not all of them.
    pub rows: u64,
    /// Features that are not judged, and why.
    pub trusted: &'a BTreeMap<String, String>,
    /// The share of runs in which something false may be said about the features.
    pub false_alarms: f64,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataQuality {
    /// How many rows a window has; 0 where there are too few for windows.
    pub window_rows: usize,
    /// How many past windows say what is usual.
    pub windows: usize,
    /// How many new windows were judged.
    pub judged: usize,
    /// Among how many questions the false alarms were divided.
    pub questions: usize,
    /// The features that are farthest from what is usual, the farthest first; at most 20.
    pub features: Vec<FeatureQuality>,
}

/// How far a feature is from what it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureQuality {
    /// The feature.
    pub feature: String,
    /// What was asked.
    pub question: Question,
    /// How far it is.
    pub value: f64,
    /// How far it may be.
    pub threshold: f64,
    /// Whether it is farther.
    pub told: bool,
    /// Why it may be, where the project file says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted: Option<String>,
}

impl NewDataset<'_> {
    /// Looks at everything.
    pub fn judge(&self) -> (Vec<Check>, DataQuality) {
        let rows = self.in_time();
        let windows = self.windows(&rows);
        let enough = windows.len() >= WINDOWS_MIN;
        let mut quality = DataQuality {
            window_rows: windows.first().filter(|_| enough).map_or(0, Range::len),
            windows: 0,
            judged: 0,
            questions: 0,
            features: Vec::new(),
        };
        let mut checks = vec![self.volume(), self.freshness(&rows)];
        if !enough {
            let sentence = format!(
                "features are not judged yet: {} rows make fewer than {WINDOWS_MIN} windows of {WINDOW_ROWS_MIN}",
                rows.len()
            );
            checks.push(passed("data:features", sentence));
            return (checks, quality);
        }
        let judged = self.judged(&rows, &windows);
        let columns = self.features.columns();
        quality.windows = judged[0] - 1;
        quality.judged = judged.len();
        quality.questions = (columns.len() * Question::ALL.len() + 1) * judged.len();
        let table = self.features.take(&rows);
        let mut constant = Vec::new();
        let mut never_varied = 0;
        for (place, column) in columns.iter().enumerate() {
            let values = Column::new(table.values(place));
            if !values.varies() {
                never_varied += 1;
                continue;
            }
            let seen: Vec<_> = windows.iter().map(|window| values.see(window)).collect();
            let trusted = self.trusted.get(&column.name);
            for (asked, question) in Question::ALL.into_iter().enumerate() {
                let distances: Vec<Distance> =
                    seen.iter().map(|seen| seen.distances[asked].1).collect();
                let far = farthest(&distances, &judged, |usual, distance| {
                    let usual =
                        usual.threshold(distance.chance, self.false_alarms, quality.questions);
                    usual.max(question.effect_min())
                });
                quality.features.push(FeatureQuality {
                    feature: column.name.clone(),
                    question,
                    value: far.0,
                    threshold: far.1,
                    told: far.0 > far.1,
                    trusted: trusted.cloned(),
                });
            }
            let past = seen[1..judged[0]].iter().map(|seen| seen.most_frequent);
            let past = past.fold(0.0, f64::max);
            let is_constant = judged.iter().any(|window| {
                let seen = &seen[*window];
                let exponent = i32::try_from(seen.present).unwrap_or(i32::MAX);
                seen.most_frequent >= 1.0 && past.powi(exponent) < CONSTANT_PROBABILITY
            });
            if is_constant && trusted.is_none() {
                constant.push(column.name.as_str());
            }
        }
        let far = |one: &FeatureQuality| one.value / one.threshold.max(f64::MIN_POSITIVE);
        quality.features.sort_by(|one, other| {
            let by_distance = far(other).total_cmp(&far(one));
            by_distance.then_with(|| one.feature.cmp(&other.feature))
        });
        for question in Question::ALL {
            checks.push(of_question(question, &quality));
        }
        checks.push(constants(&constant, never_varied, columns.len()));
        checks.push(self.pace(&rows, &windows, &judged, &quality));
        quality.features.truncate(LISTED_MAX);
        (checks, quality)
    }

    /// Rows in the order of time, evenly taken where there are too many.
    fn in_time(&self) -> Vec<usize> {
        let mut rows: Vec<usize> = (0..self.moments_us.len()).collect();
        rows.sort_by_key(|row| self.moments_us[*row]);
        let step = rows.len().div_ceil(ROWS_MAX).max(1);
        rows.into_iter().step_by(step).collect()
    }

    /// Windows of as many rows as are new, but so that there are enough of them.
    fn windows(&self, rows: &[usize]) -> Vec<Range<usize>> {
        let new = self.first_new(rows).map_or(0, |first| rows.len() - first);
        let most = rows.len() / WINDOWS_MIN;
        let window = if new == 0 { most } else { new.min(most) };
        cut(rows.len(), window.max(WINDOW_ROWS_MIN), WINDOWS_MAX)
    }

    /// The place of the first row that the last accepted dataset did not have.
    fn first_new(&self, rows: &[usize]) -> Option<usize> {
        let (_, until) = self.accepted?;
        Some(rows.partition_point(|row| self.moments_us[*row] <= until))
    }

    /// The windows that hold new rows and have enough past ones before them; the last one at least.
    fn judged(&self, rows: &[usize], windows: &[Range<usize>]) -> Vec<usize> {
        let last = windows.len() - 1;
        let first = self.first_new(rows).unwrap_or(rows.len());
        let is_new = |place: &usize| windows[*place].start >= first || *place == last;
        (PAST_MIN + 1..=last).filter(is_new).collect()
    }

    fn volume(&self) -> Check {
        let Some(last) = self.earlier_rows.last().filter(|rows| **rows > 0) else {
            let sentence = format!(
                "{} rows; there is no earlier dataset to compare with",
                self.rows
            );
            return passed("data:volume", sentence);
        };
        let times = self.rows as f64 / *last as f64;
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
        Check {
            name: "data:volume".to_owned(),
            value: times,
            threshold,
            interval: None,
            passed: times >= threshold,
            sentence: format!(
                "{} rows are {} times as many as the last dataset had ({last}); at least {} times as many have to be there, {why}",
                self.rows,
                number(times),
                number(threshold)
            ),
        }
    }

    fn freshness(&self, rows: &[usize]) -> Check {
        let Some(newest) = rows.last().map(|row| self.moments_us[*row]) else {
            return passed("data:freshness", "there are no rows".to_owned());
        };
        let days = |from: i64, to: i64| to.saturating_sub(from).max(0) as f64 / DAY_US;
        let mut moments = self.moments_us.to_vec();
        moments.sort_unstable();
        let gaps = moments.windows(2).map(|pair| days(pair[0], pair[1]));
        let longest = gaps.fold(0.0, f64::max);
        let threshold = (GAP_TIMES * longest).max(GAP_MIN_DAYS);
        let age = days(newest, self.newest_us);
        Check {
            name: "data:freshness".to_owned(),
            value: age,
            threshold,
            interval: None,
            passed: age <= threshold,
            sentence: format!(
                "the newest row is {} days older than the newest could be; up to {} days are usual, as the longest gap between rows is {}",
                number(age),
                number(threshold),
                number(longest)
            ),
        }
    }

    /// How fast rows come in the new windows, beside those before.
    fn pace(
        &self,
        rows: &[usize],
        windows: &[Range<usize>],
        judged: &[usize],
        quality: &DataQuality,
    ) -> Check {
        let spans: Vec<f64> = windows
            .iter()
            .map(|window| {
                let moment = |place: usize| self.moments_us[rows[place]];
                let from = moment(window.start.saturating_sub(1));
                ((moment(window.end - 1) - from) as f64 / DAY_US).max(1e-6)
            })
            .collect();
        let mut sum = spans[0];
        let mut distances = vec![Distance {
            value: 0.0,
            chance: 1.0,
        }];
        for (place, span) in spans.iter().enumerate().skip(1) {
            let usual = sum / place as f64;
            let rows = windows[place].len() as f64;
            distances.push(Distance {
                value: (span / usual).ln().abs(),
                chance: (1.0 / rows + 1.0 / (rows * place as f64)).sqrt(),
            });
            sum += span;
        }
        let (value, threshold) = farthest(&distances, judged, |usual, distance| {
            let usual = usual.threshold(distance.chance, self.false_alarms, quality.questions);
            usual.max(PACE_EFFECT_MIN)
        });
        let rows = quality.window_rows as f64;
        let last = spans.len() - 1;
        let before = spans[..last].iter().sum::<f64>() / last as f64;
        Check {
            name: "data:pace".to_owned(),
            value,
            threshold,
            interval: None,
            passed: value <= threshold,
            sentence: format!(
                "{} rows a day came in the newest window, {} before; the logarithm of the ratio is {} at most, up to {} is usual",
                number(rows / spans[last]),
                number(rows / before),
                number(value),
                number(threshold)
            ),
        }
    }
}

/// The distance of the judged window that is farthest beyond its threshold, and that threshold.
fn farthest(
    distances: &[Distance],
    judged: &[usize],
    threshold: impl Fn(&Usual, Distance) -> f64,
) -> (f64, f64) {
    // what is judged together is not usual for one another
    let past = distances[1..judged[0]].iter().copied();
    let Some(usual) = Usual::of(past) else {
        return (0.0, 0.0);
    };
    let of = judged.iter().map(|window| {
        let distance = distances[*window];
        (distance.value, threshold(&usual, distance))
    });
    let share = |pair: &(f64, f64)| pair.0 / pair.1.max(f64::MIN_POSITIVE);
    of.max_by(|one, other| share(one).total_cmp(&share(other)))
        .unwrap_or((0.0, 0.0))
}

/// How much of the last dataset a new one has at least, as the past says (a one-sided prediction interval of the logarithm of the
/// ratio, at 1 %); `None` with too few datasets.
fn growth(rows: &[u64]) -> Option<f64> {
    if rows.len() < DATASETS_MIN || rows.contains(&0) {
        return None;
    }
    let ratios: Vec<f64> = rows
        .windows(2)
        .map(|pair| (pair[1] as f64 / pair[0] as f64).ln())
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

fn of_question(question: Question, quality: &DataQuality) -> Check {
    let (name, what) = match question {
        Question::Missing => ("data:nulls", "is missing otherwise than before"),
        Question::Range => ("data:ranges", "has values that never were"),
        Question::Distribution => ("data:drift", "is distributed otherwise than before"),
    };
    let of = quality
        .features
        .iter()
        .filter(|one| one.question == question);
    let asked = of.clone().count();
    let judged = || of.clone().filter(|one| one.trusted.is_none());
    let told: Vec<&str> = judged()
        .filter(|one| one.told)
        .map(|one| one.feature.as_str())
        .collect();
    let mut sentence = match (judged().next(), told.len()) {
        (None, _) => format!("none of {asked} features is judged"),
        (Some(worst), 0) => format!(
            "none of {asked} features {what}; the farthest is {} ({} of {} that are usual)",
            worst.feature,
            number(worst.value),
            number(worst.threshold)
        ),
        (Some(worst), count) => format!(
            "{} of {asked} features {what}: {}; {} is at {}, up to {} is usual ({} past windows of {} rows; {})",
            count,
            listed(&told),
            worst.feature,
            number(worst.value),
            number(worst.threshold),
            quality.windows,
            quality.window_rows,
            question.statistic()
        ),
    };
    let trusted = of.clone().filter(|one| one.told);
    for one in trusted {
        if let Some(reason) = &one.trusted {
            sentence = format!("{sentence}; {} is too, and trusted: {reason}", one.feature);
        }
    }
    let worst = judged().next();
    Check {
        name: name.to_owned(),
        value: worst.map_or(0.0, |worst| worst.value),
        threshold: worst.map_or(0.0, |worst| worst.threshold),
        interval: None,
        passed: told.is_empty(),
        sentence,
    }
}

fn constants(constant: &[&str], never_varied: usize, columns: usize) -> Check {
    let mut sentence = match constant.len() {
        0 => format!("all {} features that vary still do", columns - never_varied),
        count => format!(
            "{count} of {columns} features have varied and have one value only in the newest rows: {}",
            listed(constant)
        ),
    };
    if never_varied > 0 {
        sentence = format!("{sentence}; {never_varied} never did and tell nothing");
    }
    Check {
        name: "data:constant".to_owned(),
        value: constant.len() as f64,
        threshold: 0.0,
        interval: None,
        passed: constant.is_empty(),
        sentence,
    }
}

/// At most three names.
fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 3;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len() {
        0..=SHOWN => shown,
        more => format!("{shown} and {} more", more - SHOWN),
    }
}

fn passed(name: &str, sentence: String) -> Check {
    Check {
        name: name.to_owned(),
        value: 0.0,
        threshold: 0.0,
        interval: None,
        passed: true,
        sentence,
    }
}

#[cfg(test)]
mod tests;
