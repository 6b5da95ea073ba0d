//! Whether a dataset is as those before it: how much, how fresh, what is missing, which values, how they are distributed.
//!
//! Nothing here has a fixed threshold for what drifts. The rows are cut into windows in the order of time; each past window beside
//! everything before it says how far a window may be (`usual`). A window is what a run of then would have found new.

mod arrival;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidemill_core::feature::FeatureTable;

use super::windows::{Column, Question, Seen, WINDOW_ROWS_MIN, WINDOWS_MIN, Windows};
use super::{Check, number};

/// The share of runs in which something false may be said about the features of a dataset.
pub(super) const FALSE_ALARMS: f64 = 0.01;
/// The rows that are looked at, evenly over time where there are more.
const ROWS_MAX: usize = 20_000;
/// A feature is told to be constant where that had this probability at most, were it as before.
const CONSTANT_PROBABILITY: f64 = 1e-6;
/// The most features that are listed.
const LISTED_MAX: usize = 20;

/// The rows that a model is to be learnt from, and what came before.
#[derive(Debug, Clone)]
pub struct NewDataset<'a> {
    /// The features, a row per moment.
    pub features: &'a FeatureTable,
    /// When each row was observed, in microseconds.
    pub moments_us: &'a [i64],
    /// The newest moment whose outcome could be certain.
    pub newest_us: i64,
    /// Up to when the last dataset had rows from which a version was made that answers.
    pub accepted_until_us: Option<i64>,
    /// How many rows earlier datasets of the model had, the oldest first.
    pub earlier_rows: &'a [u64],
    /// Features that are not judged, and why.
    pub trusted: &'a BTreeMap<String, String>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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

/// The features that have one value only in new rows.
#[derive(Default)]
struct Constants<'a> {
    /// They have varied before.
    now: Vec<&'a str>,
    /// The same, with why they may.
    trusted: Vec<(&'a str, &'a str)>,
    /// How many never varied.
    always: usize,
}

impl NewDataset<'_> {
    /// Looks at everything.
    pub fn judge(&self) -> (Vec<Check>, DataQuality) {
        let mut checks = vec![self.volume(), self.freshness()];
        let in_time = self.in_time();
        let moments: Vec<i64> = in_time.iter().map(|(moment, _)| *moment).collect();
        let columns = self.features.columns();
        // of each feature, and how fast rows come
        let questions = columns.len() * Question::ALL.len() + 1;
        let first_new = self
            .accepted_until_us
            .map(|until| moments.partition_point(|moment| *moment <= until));
        let windows = Windows::cut(moments.len(), first_new, questions);
        let Some(windows) = windows else {
            let sentence = format!(
                "features are not judged yet: {} rows make fewer than {WINDOWS_MIN} windows of {WINDOW_ROWS_MIN}",
                moments.len()
            );
            checks.push(Check::not_judged("data:features", sentence));
            return (checks, DataQuality::default());
        };
        let mut quality = DataQuality {
            window_rows: windows.rows(),
            windows: windows.past(),
            judged: windows.judged.len(),
            questions: windows.questions,
            features: Vec::new(),
        };
        let rows: Vec<usize> = in_time.into_iter().map(|(_, row)| row).collect();
        let table = self.features.take(&rows);
        let mut constants = Constants::default();
        for (place, column) in columns.iter().enumerate() {
            let values = Column::new(table.values(place));
            if !values.varies() {
                constants.always += 1;
                continue;
            }
            let seen: Vec<Seen> = windows.all.iter().map(|one| values.see(one)).collect();
            let trusted = self.trusted.get(&column.name);
            let asked = Question::ALL.map(|question| {
                FeatureQuality::of(&column.name, question, &seen, &windows, trusted)
            });
            quality.features.extend(asked);
            match (is_constant(&seen, &windows), trusted) {
                (true, Some(reason)) => constants.trusted.push((&column.name, reason)),
                (true, None) => constants.now.push(&column.name),
                (false, _) => {}
            }
        }
        quality.farthest_first();
        checks.extend(Question::ALL.map(|question| of_question(question, &quality)));
        checks.push(constants.check(columns.len()));
        checks.push(self.pace(&moments, &windows));
        quality.features.truncate(LISTED_MAX);
        (checks, quality)
    }

    /// The moments and places of the rows in the order of time, evenly taken where there are too many.
    fn in_time(&self) -> Vec<(i64, usize)> {
        let mut rows: Vec<(i64, usize)> = self.moments_us.iter().copied().zip(0..).collect();
        rows.sort_unstable();
        let step = rows.len().div_ceil(ROWS_MAX).max(1);
        rows.into_iter().step_by(step).collect()
    }
}

impl DataQuality {
    fn farthest_first(&mut self) {
        let far = |one: &FeatureQuality| one.value / one.threshold.max(f64::MIN_POSITIVE);
        self.features.sort_by(|one, other| {
            let by_distance = far(other).total_cmp(&far(one));
            by_distance.then_with(|| one.feature.cmp(&other.feature))
        });
    }
}

impl FeatureQuality {
    fn of(
        feature: &str,
        question: Question,
        seen: &[Seen],
        windows: &Windows,
        trusted: Option<&String>,
    ) -> Self {
        let distances: Vec<_> = seen.iter().map(|seen| seen.distance(question)).collect();
        let (value, threshold) = windows.farthest(&distances, question.effect_min());
        Self {
            feature: feature.to_owned(),
            question,
            value,
            threshold,
            told: value > threshold,
            trusted: trusted.cloned(),
        }
    }
}

/// Whether a judged window has one value only, which was unlikely before.
fn is_constant(seen: &[Seen], windows: &Windows) -> bool {
    let past = seen.iter().take(windows.judged.start).skip(1);
    let past = past.map(|seen| seen.most_frequent).fold(0.0, f64::max);
    seen.iter().skip(windows.judged.start).any(|seen| {
        let exponent = i32::try_from(seen.present).unwrap_or(i32::MAX);
        seen.most_frequent >= 1.0 && past.powi(exponent) < CONSTANT_PROBABILITY
    })
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
            "{count} of {asked} features {what}: {}; {} is at {}, up to {} is usual ({} past windows of {} rows; {})",
            listed(&told),
            worst.feature,
            number(worst.value),
            number(worst.threshold),
            quality.windows,
            quality.window_rows,
            question.statistic()
        ),
    };
    for one in of.clone().filter(|one| one.told) {
        if let Some(reason) = &one.trusted {
            sentence.push_str(&format!("; {} is too, and trusted: {reason}", one.feature));
        }
    }
    let worst = judged().next();
    let (value, threshold) = worst.map_or((0.0, 0.0), |worst| (worst.value, worst.threshold));
    Check::at_most(name, value, threshold, sentence)
}

impl Constants<'_> {
    fn check(&self, features: usize) -> Check {
        let mut sentence = match self.now.len() {
            0 => format!(
                "all {} features that vary still do",
                features - self.always - self.trusted.len()
            ),
            count => format!(
                "{count} of {features} features have varied and have one value only in the newest rows: {}",
                listed(&self.now)
            ),
        };
        for (feature, reason) in &self.trusted {
            sentence.push_str(&format!(
                "; {feature} has one value only, and is trusted: {reason}"
            ));
        }
        if self.always > 0 {
            sentence.push_str(&format!("; {} never did and tell nothing", self.always));
        }
        Check::at_most("data:constant", self.now.len() as f64, 0.0, sentence)
    }
}

/// At most three names.
fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<&str> = names.iter().take(SHOWN).copied().collect();
    let shown = shown.join(", ");
    match names.len() {
        0..=SHOWN => shown,
        more => format!("{shown} and {} more", more - SHOWN),
    }
}

#[cfg(test)]
mod tests;
