//! What is answered and from what, as people read it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tidemill_core::ModelName;
use tidemill_monitor::answers::{AnswerDay, AnswerFinding, AnswerKind, FALLBACKS, reason};
use tidemill_monitor::data::{Known, PropertyDay};

use crate::answers::SkewReport;
use crate::data::{PropertyReport, date, property_report, span};
use crate::project_loop::{CycleError, ProjectLoop};

/// How many days a report shows.
const DAYS_SHOWN: i64 = 28;
/// Over how many of them features are added up.
const DAYS_ADDED: i64 = 7;
/// How many of the most shown items are named.
const ITEMS_SHOWN: usize = 3;
/// How many days of one feature are shown: as long as its sketches are kept.
const FEATURE_DAYS: i64 = 60;

/// What a model answers.
#[derive(Debug, Serialize)]
pub struct AnswersReport {
    /// The model.
    pub model: ModelName,
    /// The last whole day that was compared with those before it (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub examined: Option<String>,
    /// The share of days on which something false may be said, of data and answers together.
    pub false_alarms: f64,
    /// How surprising something must be to be told, by kind of question; null while too few days are known.
    pub thresholds: serde_json::Value,
    /// What differs, the most telling first.
    pub differs: Vec<AnswerFinding>,
    /// The versions that answered, the newest first.
    pub versions: Vec<AnsweringVersion>,
    /// Day by day, the newest first.
    pub days: Vec<DayOfAnswers>,
    /// The features as they were served over the last week.
    pub features: Vec<PropertyReport>,
    /// Values over the last week of which it is not known which feature they are of.
    pub other_values: u64,
    /// What the champion is served beside what it was trained on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trained: Option<SkewReport>,
    /// Days of one feature, the newest first, where it was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub feature: Vec<DayOfFeature>,
}

/// A version that answered.
#[derive(Debug, Serialize)]
pub struct AnsweringVersion {
    /// `will_return@3`.
    pub version: String,
    /// The first day on which it answered (UTC).
    pub first_day: String,
    /// The last one.
    pub last_day: String,
}

/// What a model answered on a day.
#[derive(Debug, Serialize)]
pub struct DayOfAnswers {
    /// Which (UTC).
    pub day: String,
    /// How many answers.
    pub answers: u64,
    /// How many of them the fallback gave, by reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fallbacks: BTreeMap<String, u64>,
    /// How many each version gave.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<u32, u64>,
    /// The mean of the versions' scores; of lists, of the log-odds of the best item that each was chosen from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<f64>,
    /// The smallest score, the quartiles and the largest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scores: Option<[f64; 5]>,
    /// The classes with their shares, the most frequent first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<(String, f64)>,
    /// Of a model that recommends: its lists, but for orders of given items and lists that go on with another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lists: Option<DayOfLists>,
}

/// What lists were like on a day.
#[derive(Debug, Serialize)]
pub struct DayOfLists {
    /// How many.
    pub lists: u64,
    /// How many items they had, on average.
    pub length: f64,
    /// The share of all places in them that the ten most shown items had.
    pub concentration: f64,
    /// The most shown items with their shares.
    pub most: Vec<(String, f64)>,
}

/// What a feature was like on a day, as it was served.
#[derive(Debug, Serialize)]
pub struct DayOfFeature {
    /// Which (UTC).
    pub day: String,
    /// In how many answers it was read.
    pub answers: u64,
    /// Its values.
    #[serde(flatten)]
    pub values: PropertyReport,
}

impl ProjectLoop {
    /// What a model answers; with the days of one of its features where one is named.
    ///
    /// # Errors
    /// When there is no such model, or a store fails.
    pub async fn answers_report(
        self: &Arc<Self>,
        model: &ModelName,
        feature: Option<String>,
    ) -> Result<AnswersReport, CycleError> {
        let champion = match self.is_recommender(model) {
            true => None, // it is trained on lists, and not on rows
            false => self.slot(model)?.champion(),
        };
        self.count_answers().await?;
        let trained = match champion.map(|champion| champion.number) {
            Some(number) => self.skew_report(model, number).await?,
            None => None,
        };
        let (this, model) = (self.clone(), model.clone());
        let read = move || this.report_of(&model, feature.as_deref(), trained);
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|_| CycleError::Ended("reading what was answered"))?
    }

    fn report_of(
        &self,
        model: &ModelName,
        feature: Option<&str>,
        trained: Option<SkewReport>,
    ) -> Result<AnswersReport, CycleError> {
        let today = self.clock.now().day();
        let versions = self.answers.versions(model);
        let (mut days, mut week) = (Vec::new(), AnswerDay::default());
        for past in 0..DAYS_SHOWN {
            let of_versions = self.of_day(today - past, model, &versions)?;
            if past < DAYS_ADDED {
                of_versions.values().for_each(|day| week.merge(day));
            }
            days.push(day_of_answers(today - past, &of_versions));
        }
        let rates = self.false_alarms();
        let mut differs = self.answers.findings();
        differs.retain(|finding| finding.models.contains(model));
        let answering = versions.iter().rev().filter_map(|(version, known)| {
            Some(AnsweringVersion {
                version: format!("{model}@{}", (*version)?),
                first_day: date(known.first),
                last_day: date(known.last),
            })
        });
        let thresholds = self.answers.thresholds(rates.of_answers);
        Ok(AnswersReport {
            model: model.clone(),
            examined: self.answers.examined_day().map(date),
            false_alarms: rates.all,
            thresholds: serde_json::to_value(thresholds).unwrap_or_default(),
            differs,
            versions: answering.collect(),
            days,
            features: week
                .features
                .iter()
                .map(|(name, values)| property_report(name, values, values.count()))
                .collect(),
            other_values: week.other_values,
            trained,
            feature: match feature {
                Some(feature) => self.days_of_feature(feature, &[model])?,
                None => Vec::new(),
            },
        })
    }

    /// What each version of a model answered on a day, and its fallback.
    fn of_day(
        &self,
        day: i64,
        model: &ModelName,
        versions: &[(Option<u32>, Known)],
    ) -> Result<BTreeMap<Option<u32>, AnswerDay>, CycleError> {
        let of_day = versions
            .iter()
            .filter(|(_, known)| (known.first..=known.last).contains(&day));
        let read = |(version, _): &(Option<u32>, Known)| {
            Ok((*version, self.answers.day(day, model, *version)?))
        };
        of_day.map(read).collect()
    }

    /// What a feature was like day by day, as it was served to some models; the newest day first. Empty where none was asked lately.
    ///
    /// # Errors
    /// When a store fails.
    pub async fn feature_served(
        self: &Arc<Self>,
        feature: &str,
        models: Vec<ModelName>,
    ) -> Result<Vec<DayOfFeature>, CycleError> {
        self.count_answers().await?;
        let (this, feature) = (self.clone(), feature.to_owned());
        let read = move || {
            let models: Vec<&ModelName> = models.iter().collect();
            this.days_of_feature(&feature, &models)
        };
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|_| CycleError::Ended("reading what was served"))?
    }

    fn days_of_feature(
        &self,
        feature: &str,
        models: &[&ModelName],
    ) -> Result<Vec<DayOfFeature>, CycleError> {
        let today = self.clock.now().day();
        let versions = models
            .iter()
            .map(|model| (*model, self.answers.versions(model)));
        let versions: Vec<_> = versions.collect();
        let mut days = Vec::new();
        for day in (today - FEATURE_DAYS + 1..=today).rev() {
            let mut values = PropertyDay::default();
            for (model, versions) in &versions {
                for sketch in self.of_day(day, model, versions)?.values() {
                    if let Some(of_version) = sketch.features.get(feature) {
                        values.merge(of_version);
                    }
                }
            }
            if values.count() > 0 {
                days.push(DayOfFeature {
                    day: date(day),
                    answers: values.count(),
                    values: property_report(feature, &values, values.count()),
                });
            }
        }
        Ok(days)
    }
}

fn day_of_answers(day: i64, of_versions: &BTreeMap<Option<u32>, AnswerDay>) -> DayOfAnswers {
    let mut whole = AnswerDay::default();
    of_versions.values().for_each(|of| whole.merge(of));
    let fallbacks = FALLBACKS.iter().zip(whole.fallbacks);
    let fallbacks = fallbacks.filter(|(_, count)| *count > 0);
    let named = fallbacks.map(|(fallback, count)| (reason(*fallback).to_owned(), count));
    let versions = of_versions
        .iter()
        .filter_map(|(version, of)| Some(((*version)?, of.count)));
    let numbers = whole.scores.numbers.as_ref();
    DayOfAnswers {
        day: date(day),
        answers: whole.count,
        fallbacks: named.collect(),
        versions: versions.filter(|(_, count)| *count > 0).collect(),
        mean: numbers.map(|numbers| numbers.sum / whole.scores.present().max(1) as f64),
        scores: numbers.map(span),
        classes: property_report("", &whole.labels, whole.labels.count()).values,
        lists: day_of_lists(&whole),
    }
}

fn day_of_lists(day: &AnswerDay) -> Option<DayOfLists> {
    let (lengths, shown) = (&day.lists.lengths, &day.lists.shown);
    let sum = lengths.numbers.as_ref()?.sum;
    (day.kind == AnswerKind::List).then(|| DayOfLists {
        lists: lengths.present(),
        length: sum / lengths.present().max(1) as f64,
        concentration: shown.concentration().map_or(0.0, |share| share.value),
        most: shown.most(ITEMS_SHOWN),
    })
}
