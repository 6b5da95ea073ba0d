//! Judges the questions about a day beside the past, and remembers the day.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_store::StoreError;

use super::calibrate::{Surprises, TOLD_TIMES};
use super::exceeded::{Exceeded, Hint};
use super::history::{History, Judged, Window};
use super::property::PropertyDay;
use super::statistic::{Family, Measure, Statistic, VALUES_MIN};

/// What was told stays told while it is at least this share of the threshold.
const STAYS_SHARE: f64 = 0.5;
/// How many days a week and the four before it are.
pub(crate) const SHIFT_DAYS: i64 = 35;
/// A finding stays while nothing comes that could say otherwise, for at most so many days.
const STAYS_DAYS: i64 = 7;
/// How many past slow changes must be known before one is told.
const SHIFTS_MIN: usize = 42;

/// One question about one day.
pub(crate) struct Question<'d> {
    pub(crate) property: String,
    pub(crate) statistic: Statistic,
    pub(crate) measure: Measure,
    pub(crate) values: Option<&'d PropertyDay>,
    /// Whether another level begins with this day.
    pub(crate) begins: bool,
}

/// How surprising something must be.
#[derive(Clone, Copy)]
pub(crate) struct Rate<'s> {
    /// The largest surprises of past days.
    pub(crate) surprises: &'s Surprises,
    /// The share of days on which each family may say something false.
    pub(crate) share: f64,
    /// The most questions that are asked about one subject; those about properties that came after others are not.
    pub(crate) tracks_max: usize,
}

/// What one day of everything came to.
#[derive(Default)]
pub(crate) struct Day {
    pub(crate) day: i64,
    pub(crate) largest: BTreeMap<Family, f64>,
    pub(crate) exceeded: Vec<Exceeded>,
    /// What was asked: subject, property and question.
    pub(crate) asked: BTreeSet<(String, String, Statistic)>,
}

impl Day {
    pub(crate) fn of(day: i64) -> Self {
        Self {
            day,
            ..Self::default()
        }
    }

    /// Judges one question; returns the property if something is to be said about it. What is declared elsewhere is only remembered.
    pub(crate) fn judge(
        &mut self,
        subject: &str,
        question: Question<'_>,
        history: &mut History,
        rate: Rate<'_>,
        declared: bool,
    ) -> Option<String> {
        let Question {
            property,
            statistic,
            measure,
            values,
            begins,
        } = question;
        let (day, family) = (self.day, statistic.family());
        let key = (property.clone(), statistic);
        if !history.tracks.contains_key(&key) && history.tracks.len() >= rate.tracks_max {
            return None;
        }
        self.asked
            .insert((subject.to_owned(), property.clone(), statistic));
        let hint = Hint::of(statistic, history.values.get(&property), values);
        let track = history.tracks.entry(key).or_default();
        let judged = track.judge(statistic, day, &measure, begins);
        let score = judged.and_then(|judged| judged.score);
        let score = score.filter(|_| family != Family::Shift || track.windows.len() >= SHIFTS_MIN);
        let threshold = rate.surprises.threshold(family, rate.share);
        let was_told = track.is_told();
        let mut told = false;
        if let (Some(score), false) = (score, declared) {
            told = threshold.is_some_and(|threshold| {
                score > threshold || (was_told && score > threshold * STAYS_SHARE)
            });
            if !was_told {
                let counted = match threshold {
                    Some(threshold) => score.min(TOLD_TIMES * threshold),
                    None => score,
                };
                let largest = self.largest.entry(family).or_default();
                *largest = largest.max(counted);
            }
        }
        track.push(Window {
            day,
            value: measure.value,
            weight: measure.weight,
            deviation: judged.map(|judged| judged.deviation),
            told,
            begins,
        });
        if let (true, Some(judged), Some(threshold)) = (told, judged, threshold) {
            let of = (subject, property.as_str(), statistic);
            self.exceeded
                .push(Exceeded::of(of, &judged, &measure, threshold, hint));
        }
        told.then_some(property)
    }

    /// Remembers the largest surprises of the day.
    pub(crate) fn push_largest(&self, surprises: &mut Surprises, families: &[Family]) {
        for family in families {
            if let Some(largest) = self.largest.get(family) {
                surprises.push(*family, *largest);
            }
        }
    }
}

/// Whether something that was found before stays although nothing came that could say otherwise.
pub(crate) fn stays(
    of_day: &Day,
    found_on: i64,
    (subject, property, statistic): (&str, &str, Statistic),
) -> bool {
    let asked = (subject.to_owned(), property.to_owned(), statistic);
    of_day.day - found_on < STAYS_DAYS && !of_day.asked.contains(&asked)
}

/// Which values are new and which have vanished, for properties of which the usual ones are known.
pub(crate) fn compared_values<'d>(
    properties: &'d BTreeMap<String, PropertyDay>,
    history: &History,
    begins: bool,
) -> Vec<Question<'d>> {
    let mut questions = Vec::new();
    for (property, values) in properties {
        let known = history.values.get(property);
        let Some((new, vanished)) = known.and_then(|known| known.compare(values)) else {
            continue;
        };
        for (statistic, measure) in [
            (Statistic::NewValues, new),
            (Statistic::VanishedValues, vanished),
        ] {
            questions.push(Question {
                property: property.clone(),
                statistic,
                measure,
                values: Some(values),
                begins,
            });
        }
    }
    questions
}

/// Learns which values properties usually have, from a day on which nothing was said about them.
pub(crate) fn learn_values(history: &mut History, properties: &BTreeMap<String, PropertyDay>) {
    for (property, values) in properties {
        let track = |statistic| history.tracks.get(&(property.clone(), statistic));
        let of_values = [Statistic::NewValues, Statistic::VanishedValues].map(track);
        let is_watched = track(Statistic::Missing).is_some();
        if of_values.iter().flatten().any(|track| track.is_told()) || !is_watched {
            continue;
        }
        let begins_anew = of_values.iter().flatten().any(|track| track.begins_anew());
        if values.values.is_empty() && !history.values.contains_key(property) {
            continue;
        }
        let known = history.values.entry(property.clone()).or_default();
        if begins_anew {
            known.forget();
        }
        known.learn(values);
    }
}

/// The last week beside the four before it, for properties and scores of which nothing sudden was said in that time, and within what begins
/// anew since then. `properties_on` reads what came on a day.
pub(crate) fn shifts(
    day: i64,
    history: &History,
    told: &BTreeSet<String>,
    properties_on: &dyn Fn(i64) -> Result<BTreeMap<String, PropertyDay>, StoreError>,
) -> Result<Vec<Question<'static>>, StoreError> {
    let mut questions = Vec::new();
    let of_other_level = |property: &str| {
        let missing = history
            .tracks
            .get(&(property.to_owned(), Statistic::Missing));
        missing.is_some_and(|track| track.begun_within(day, SHIFT_DAYS))
    };
    let sudden: BTreeSet<&str> = history
        .tracks
        .iter()
        .filter(|((_, statistic), track)| {
            statistic.family() != Family::Shift && track.told_within(day, SHIFT_DAYS)
        })
        .map(|((property, _), _)| property.as_str())
        .collect();
    let is_sudden = |property: &str| told.contains(property) || sudden.contains(property);
    for (statistic, of) in [
        (Statistic::LocationShift, Statistic::Location),
        (Statistic::MissingShift, Statistic::Missing),
        (Statistic::ScoreShift, Statistic::ScoreLevel),
    ] {
        for ((property, _), track) in history.tracks.iter().filter(|((_, known), _)| *known == of) {
            let is_of_day = track.windows.back().is_some_and(|window| window.day == day);
            if is_sudden(property) || !is_of_day {
                continue;
            }
            if let Some(mut measure) = track.shift(day) {
                measure.noise = 0.01;
                questions.push(Question {
                    property: property.clone(),
                    statistic,
                    measure,
                    values: None,
                    begins: false,
                });
            }
        }
    }
    let with_values = history.values.iter().filter(|(property, known)| {
        !known.is_open_ended
            && known.days >= SHIFT_DAYS.unsigned_abs()
            && !is_sudden(property)
            && !of_other_level(property)
    });
    let properties: Vec<&String> = with_values.map(|(property, _)| property).collect();
    if !properties.is_empty() {
        questions.extend(mix_shifts(day, &properties, properties_on)?);
    }
    Ok(questions)
}

/// How far the shares of values of the last week are from those of the four weeks before.
fn mix_shifts(
    day: i64,
    properties: &[&String],
    properties_on: &dyn Fn(i64) -> Result<BTreeMap<String, PropertyDay>, StoreError>,
) -> Result<Vec<Question<'static>>, StoreError> {
    let mut counts: BTreeMap<&str, [BTreeMap<String, u64>; 2]> = BTreeMap::new();
    for past in 0..SHIFT_DAYS {
        let of_day = properties_on(day - past)?;
        for property in properties {
            let Some(values) = of_day.get(*property) else {
                continue;
            };
            let of = counts.entry(property).or_default();
            let part = &mut of[usize::from(past >= 7)];
            for (value, count) in &values.values {
                *part.entry(value.clone()).or_default() += count;
            }
        }
    }
    let mut questions = Vec::new();
    for (property, [week, before]) in counts {
        let totals = [&week, &before].map(|part| part.values().sum::<u64>() as f64);
        if totals.iter().any(|total| *total < VALUES_MIN as f64) {
            continue;
        }
        let share = |part: &BTreeMap<String, u64>, value: &str, total: f64| {
            part.get(value).copied().unwrap_or(0) as f64 / total
        };
        let values: BTreeSet<&String> = week.keys().chain(before.keys()).collect();
        let moved = values
            .iter()
            .map(|value| (share(&week, value, totals[0]) - share(&before, value, totals[1])).abs());
        questions.push(Question {
            property: property.to_owned(),
            statistic: Statistic::MixShift,
            measure: Measure {
                value: moved.sum::<f64>() / 2.0,
                weight: totals[0],
                noise: 0.01,
            },
            values: None,
            begins: false,
        });
    }
    Ok(questions)
}

impl Exceeded {
    /// Of a question whose answer is beyond a threshold.
    pub(crate) fn of(
        (subject, property, statistic): (&str, &str, Statistic),
        judged: &Judged,
        measure: &Measure,
        threshold: f64,
        hint: Hint,
    ) -> Self {
        Self {
            subject: subject.to_owned(),
            property: property.to_owned(),
            statistic,
            before: judged.expected,
            now: measure.value,
            weight: measure.weight,
            surprise: judged.score.unwrap_or(0.0) / threshold,
            hint,
        }
    }
}
