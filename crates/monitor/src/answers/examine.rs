//! Looks at a whole day of answers beside the past, and says what differs.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tidemill_core::ModelName;
use tidemill_core::decision::Fallback;
use tidemill_store::StoreError;

use super::finding::{AnswerFinding, LABEL, LIST, SCORE, reason, tell};
use super::sketch::{AnswerDay, AnswerKind, FALLBACKS};
use super::watch::{AnswerWatch, models, versions};
use crate::days::{
    Day, Family, History, Measure, Position, PropertyDay, Question, Rate, Statistic, Surprises,
    VALUES_MIN, compared_values, learn_values, of_probabilities, of_values, shifts, stays,
};

/// The most questions that are asked about one model; those about features that came after others are not.
const TRACKS_MAX: usize = 2_500;

/// How many days are looked at before what was learnt is stored, where many wait.
const DAYS_AT_ONCE: usize = 30;

/// What the watch found last.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AnswersExamined {
    /// The last whole day that was looked at.
    pub day: Option<i64>,
    /// The largest surprise of each past day.
    pub surprises: Surprises,
    /// What differs, the most telling first.
    pub findings: Vec<AnswerFinding>,
    /// The version that answered most on the last day of each model.
    pub(super) leads: BTreeMap<String, Lead>,
}

/// The version that answers most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lead {
    pub(super) version: u32,
    definition_hash: String,
    /// Since which day.
    pub(super) since: i64,
    /// Which one did before.
    pub(super) before: Option<u32>,
}

/// What a model answered on a day.
#[derive(Default)]
struct ModelDay {
    /// All answers, those of the fallback included.
    total: u64,
    fallbacks: [u64; 4],
    /// The version that answered most, where there are enough answers to say something.
    lead: Option<(u32, AnswerDay)>,
    /// The features as they were served, of every version that reads the same definitions as that one.
    features: BTreeMap<String, PropertyDay>,
}

impl AnswerWatch {
    /// Looks at every whole day before `today` that was not looked at yet, each beside what was known then. `false_alarms` is the share of
    /// days on which something false may be said, all questions together. Returns whether there was a new day.
    ///
    /// # Errors
    /// When the state store fails; the days that were looked at stay so.
    pub fn examine(&self, today: i64, false_alarms: f64) -> Result<bool, StoreError> {
        let position = self.position();
        let subjects = position.subjects.values();
        let Some((first, last)) = subjects
            .clone()
            .map(|known| known.first)
            .min()
            .zip(subjects.map(|known| known.last).max())
        else {
            return Ok(false);
        };
        // of the very first day only a part may be known
        let from = self.examined_day().unwrap_or(first) + 1;
        if from >= today {
            return Ok(false);
        }
        self.commit()?;
        // nothing can be said of days on which nothing was answered
        let from = if from > last { today - 1 } else { from };
        for first in (from..today).step_by(DAYS_AT_ONCE) {
            let until = today.min(first + DAYS_AT_ONCE as i64);
            // held for so long, for those who read; what a day was like is stored with what was learnt from it, or none of both is
            let mut examined = self.examined.lock();
            let (mut next, mut histories) = (examined.clone(), BTreeMap::new());
            for day in first..until {
                self.examine_day(day, &position, false_alarms, (&mut next, &mut histories))?;
            }
            let histories = histories.into_iter().collect();
            self.days.store_examined(next.day, &next, histories)?;
            *examined = next;
        }
        Ok(true)
    }

    /// What differs on the newest whole day.
    pub fn findings(&self) -> Vec<AnswerFinding> {
        self.examined.lock().findings.clone()
    }

    /// The last whole day that was looked at.
    pub fn examined_day(&self) -> Option<i64> {
        self.examined.lock().day
    }

    /// How surprising something must be to be told, by family; absent where too little is known.
    pub fn thresholds(&self, false_alarms: f64) -> BTreeMap<Family, Option<f64>> {
        let examined = self.examined.lock();
        let of = |family| {
            let threshold = examined.surprises.threshold(family, share(false_alarms));
            (family, threshold)
        };
        Family::OF_ANSWERS.into_iter().map(of).collect()
    }

    fn examine_day(
        &self,
        day: i64,
        position: &Position,
        false_alarms: f64,
        (next, histories): (&mut AnswersExamined, &mut BTreeMap<String, History>),
    ) -> Result<(), StoreError> {
        next.day = Some(day);
        let mut of_day = Day::of(day);
        for model in models(position) {
            let known = versions(position, &model);
            let first = known.iter().map(|(_, known)| known.first).min();
            let of_model = self.model_day(day, position, &model)?;
            if of_model.total < VALUES_MIN || first.is_none_or(|first| day <= first) {
                continue;
            }
            let rate = Rate {
                surprises: &next.surprises,
                share: share(false_alarms),
                tracks_max: TRACKS_MAX,
            };
            let lead = next.leads.remove(model.as_str());
            let begins = Begins::of(&of_model, lead.as_ref());
            let mut history = match histories.remove(model.as_str()) {
                Some(history) => history,
                None => self.history(&model)?,
            };
            let features_on = |past: i64| Ok(self.model_day(past, position, &model)?.features);
            let of = (&model, &of_model, begins);
            judge_model(of, &mut history, rate, &mut of_day, &features_on)?;
            let lead = Lead::after(lead, &of_model, day);
            next.leads
                .extend(lead.map(|lead| (model.to_string(), lead)));
            histories.insert(model.to_string(), history);
        }
        of_day.push_largest(&mut next.surprises, &Family::OF_ANSWERS);
        let before = std::mem::take(&mut next.findings);
        let exceeded = std::mem::take(&mut of_day.exceeded);
        next.findings = tell(exceeded, &before, day, &next.leads);
        for finding in before {
            let asked = (
                finding.model.as_str(),
                finding.property.as_str(),
                finding.statistic,
            );
            let is_told = |told: &AnswerFinding| told.subject() == finding.subject();
            if stays(&of_day, finding.day, asked) && !next.findings.iter().any(is_told) {
                next.findings.push(finding);
            }
        }
        Ok(())
    }

    fn model_day(
        &self,
        day: i64,
        position: &Position,
        model: &ModelName,
    ) -> Result<ModelDay, StoreError> {
        let mut of_model = ModelDay::default();
        let mut of_versions = Vec::new();
        for (version, known) in versions(position, model) {
            if !(known.first..=known.last).contains(&day) {
                continue;
            }
            let sketch = self.day(day, model, version)?;
            of_model.total += sketch.count;
            for (count, more) in of_model.fallbacks.iter_mut().zip(sketch.fallbacks) {
                *count += more;
            }
            of_versions.extend(version.map(|version| (version, sketch)));
        }
        let lead = of_versions
            .iter()
            .max_by_key(|(_, sketch)| sketch.answered());
        let lead = lead.filter(|(_, sketch)| sketch.answered() >= VALUES_MIN);
        let Some((number, lead)) = lead.cloned() else {
            return Ok(of_model);
        };
        of_model.features.clone_from(&lead.features);
        for (_, other) in of_versions.iter().filter(|(other, sketch)| {
            *other != number && sketch.definition_hash == lead.definition_hash
        }) {
            for (name, values) in &other.features {
                let feature = of_model.features.entry(name.clone()).or_default();
                feature.merge(values);
            }
        }
        of_model.lead = Some((number, lead));
        Ok(of_model)
    }
}

/// What begins anew with a day.
#[derive(Clone, Copy)]
struct Begins {
    /// Another version answers.
    version: bool,
    /// Its features are defined otherwise.
    definitions: bool,
}

impl Begins {
    fn of(day: &ModelDay, before: Option<&Lead>) -> Self {
        let (Some((number, lead)), Some(before)) = (&day.lead, before) else {
            return Self {
                version: false,
                definitions: false,
            };
        };
        Self {
            version: *number != before.version,
            definitions: lead.definition_hash != before.definition_hash,
        }
    }
}

impl Lead {
    /// The version that answers most after a day.
    fn after(before: Option<Self>, of_model: &ModelDay, day: i64) -> Option<Self> {
        let Some((number, lead)) = &of_model.lead else {
            return before;
        };
        Some(match before {
            Some(before) if before.version == *number => Self {
                definition_hash: lead.definition_hash.clone(),
                ..before
            },
            before => Self {
                version: *number,
                definition_hash: lead.definition_hash.clone(),
                since: day,
                before: before.map(|before| before.version),
            },
        })
    }
}

/// The share of days on which each family may say something false.
fn share(false_alarms: f64) -> f64 {
    false_alarms / Family::OF_ANSWERS.len() as f64
}

/// Judges every question about one model on one day, and remembers the day.
fn judge_model(
    (model, of_model, begins): (&ModelName, &ModelDay, Begins),
    history: &mut History,
    rate: Rate<'_>,
    of_day: &mut Day,
    features_on: &dyn Fn(i64) -> Result<BTreeMap<String, PropertyDay>, StoreError>,
) -> Result<(), StoreError> {
    let day = of_day.day;
    let mut questions = of_fallbacks(of_model);
    if let Some((_, lead)) = &of_model.lead {
        questions.extend(of_answers(lead, history, begins.version));
    }
    let features = &of_model.features;
    questions.extend(of_features(features, begins.definitions));
    questions.extend(compared_values(features, history, begins.definitions));
    let mut told = BTreeSet::new();
    for question in questions {
        told.extend(of_day.judge(model.as_str(), question, history, rate, false));
    }
    if begins.definitions {
        for name in features.keys() {
            history.values.remove(name);
        }
    }
    learn_values(history, features);
    if let Some((_, lead)) = &of_model.lead
        && lead.kind == AnswerKind::Class
        && !told.contains(LABEL)
    {
        let known = history.values.entry(LABEL.to_owned()).or_default();
        if begins.version {
            known.forget();
        }
        known.learn(&lead.labels);
    }
    for question in shifts(day, history, &told, features_on)? {
        if question.property != LABEL {
            of_day.judge(model.as_str(), question, history, rate, false);
        }
    }
    history.forget_absent();
    history.forget_silent(day);
    Ok(())
}

/// Which share of a model's answers the fallback gave. How many are in the holdout is what a person wants.
fn of_fallbacks(of_model: &ModelDay) -> Vec<Question<'static>> {
    let counted = FALLBACKS.iter().zip(of_model.fallbacks);
    let watched = counted.filter(|(reason, _)| **reason != Fallback::Holdout);
    let question = |(fallback, count): (&Fallback, u64)| Question {
        property: reason(*fallback).to_owned(),
        statistic: Statistic::Fallbacks,
        measure: Measure::share(count as f64, of_model.total as f64),
        values: None,
        begins: false,
    };
    watched.map(question).collect()
}

/// What a version answered.
fn of_answers<'d>(lead: &'d AnswerDay, history: &History, begins: bool) -> Vec<Question<'d>> {
    let mut questions = Vec::new();
    let mut push = |property: &str, statistic, measure, values| {
        questions.push(Question {
            property: property.to_owned(),
            statistic,
            measure,
            values,
            begins,
        });
    };
    match lead.kind {
        AnswerKind::Amount => of_values(&lead.scores, &mut |statistic, measure| {
            if statistic != Statistic::Numeric {
                push(SCORE, statistic, measure, None);
            }
        }),
        AnswerKind::YesNo | AnswerKind::Class => {
            for (statistic, measure) in of_probabilities(&lead.scores) {
                push(SCORE, statistic, measure, None);
            }
        }
        AnswerKind::List => {
            let of_lists = lead.lists.questions(&lead.scores, (SCORE, LIST));
            for (property, statistic, measure) in of_lists {
                push(property, statistic, measure, None);
            }
        }
    }
    if lead.kind == AnswerKind::Class
        && let Some(moved) = history
            .values
            .get(LABEL)
            .and_then(|known| known.moved(&lead.labels))
    {
        push(LABEL, Statistic::ClassMix, moved, Some(&lead.labels));
    }
    questions
}

/// What features were like as they were served.
fn of_features(features: &BTreeMap<String, PropertyDay>, begins: bool) -> Vec<Question<'_>> {
    let mut questions = Vec::new();
    for (name, values) in features
        .iter()
        .filter(|(_, values)| values.count() >= VALUES_MIN)
    {
        let mut push = |statistic, measure| {
            questions.push(Question {
                property: name.clone(),
                statistic,
                measure,
                values: Some(values),
                begins,
            });
        };
        let missing = Measure::share(values.nulls as f64, values.count() as f64);
        push(Statistic::Missing, missing);
        of_values(values, &mut |statistic, measure| {
            // a feature has one type
            if statistic != Statistic::Numeric {
                push(statistic, measure);
            }
        });
    }
    questions
}
