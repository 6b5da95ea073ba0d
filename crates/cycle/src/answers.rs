//! What is answered: whether it is as it was, whether it is what versions were trained on, and as people read it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use tidemill_core::{Decision, FeatureColumn, ModelName};
use tidemill_monitor::alerts::{AlertKind, Finding};
use tidemill_monitor::answers::{
    AnswerDay, AnswerFinding, ReadFeatures, Reads, Skew, SkewedFeature, Watched, skew,
};
use tidemill_monitor::data::DataFinding;
use tidemill_serve::recommend::RecommendSlot;
use tidemill_serve::registry::Slot;
use tidemill_store::lake::Sequenced;

use crate::data::{date, with_it};
use crate::project_loop::{CycleError, ProjectLoop};

/// How many decisions are counted at a time.
const DECISIONS: usize = 5_000;
/// The same on the real clock, where others answer meanwhile and may have to wait for the processor.
const DECISIONS_BESIDE_ANSWERS: usize = 16;
/// Over how many days what is served is compared with training.
const SERVED_DAYS: i64 = 14;
/// With fewer answers nothing is said about that.
const SERVED_MIN: u64 = 200;
/// A fault of the data explains what differs of the answers so long after it was found at most, in days.
const EXPLAINS_DAYS: i64 = 7;
/// How many skewed features are named.
const SKEWED_NAMED: usize = 5;

/// The features of versions that are served otherwise than they were trained on, as of a day.
pub(crate) type SkewOfDay = (i64, Vec<OfVersion>);

/// A version with what of its features is skewed, the farthest first.
#[derive(Debug, Clone)]
pub(crate) struct OfVersion {
    model: ModelName,
    number: u32,
    answers: u64,
    features: Vec<SkewedFeature>,
}

/// What a version is served beside what it was trained on.
#[derive(Debug, Clone, Serialize)]
pub struct SkewReport {
    /// The version: `will_return@3`.
    pub version: String,
    /// The first of the days that were looked at (UTC).
    pub since: String,
    /// Its features, the farthest first.
    #[serde(flatten)]
    pub skew: Skew,
}

impl ProjectLoop {
    /// Counts the decisions that were logged since the last time.
    ///
    /// # Errors
    /// When a store fails; what was counted stays counted.
    pub async fn count_answers(self: &Arc<Self>) -> Result<(), CycleError> {
        let limit = match self.clock.is_virtual() {
            true => DECISIONS,
            false => DECISIONS_BESIDE_ANSWERS,
        };
        let mut reads = BTreeMap::new();
        loop {
            let after = self.answers.place();
            if after >= self.decisions.last() {
                return Ok(());
            }
            let this = self.clone();
            let read = move || this.decisions.read(after, limit);
            let decisions = tokio::task::spawn_blocking(read)
                .await
                .map_err(|_| CycleError::Ended("reading decisions"))??;
            if decisions.is_empty() {
                return Ok(()); // those that were logged last have been erased
            }
            self.learn_reads(&decisions, &mut reads).await;
            let known = reads.iter();
            let reads: Reads = known
                .filter_map(|(version, of)| Some((version.clone(), of.clone()?)))
                .collect();
            let this = self.clone();
            let count = move || {
                let watched = |model: &ModelName| this.watched(model);
                this.answers.apply(&decisions, &watched, &reads)
            };
            tokio::task::spawn_blocking(count)
                .await
                .map_err(|_| CycleError::Ended("counting answers"))??;
        }
    }

    /// What a model of the project is asked for; `None` of one that is not declared any more.
    fn watched(&self, model: &ModelName) -> Option<Watched> {
        let predicts = self.project.models.contains_key(model);
        let recommends = || self.project.recommenders.contains_key(model);
        match predicts {
            true => Some(Watched::Predictions),
            false => recommends().then_some(Watched::Lists),
        }
    }

    /// What the versions read that gave these answers; nothing of one that cannot be loaded any more.
    async fn learn_reads(
        &self,
        decisions: &[Sequenced<Decision>],
        known: &mut BTreeMap<(ModelName, u32), Option<Arc<ReadFeatures>>>,
    ) {
        let versions = decisions.iter().map(|decision| &decision.value);
        let versions: BTreeSet<(ModelName, u32)> = versions
            .filter_map(|decision| Some((decision.model.clone(), decision.version?)))
            .filter(|version| self.project.has_model(&version.0) && !known.contains_key(version))
            .collect();
        for version in versions {
            let (model, number) = &version;
            let of = self.read_by(model, *number).await;
            let of = of.inspect_err(|error| {
                tracing::warn!(%model, number, %error, "it is not known what a version read: its features are not watched");
            });
            known.insert(version, of.ok().map(Arc::new));
        }
    }

    async fn read_by(&self, model: &ModelName, number: u32) -> Result<ReadFeatures, CycleError> {
        let of = |columns: &[FeatureColumn], hash: &str| ReadFeatures {
            names: columns.iter().map(|column| column.name.clone()).collect(),
            definition_hash: hash.to_owned(),
        };
        // nearly always the one that answers
        if self.is_recommender(model) {
            let champion = self.recommender(model)?.champion();
            if let Some(champion) = champion.filter(|champion| champion.number == number) {
                let package = &champion.package;
                return Ok(of(&package.person_features(), &package.definition_hash));
            }
            let package = self.recommend_package(model, number).await?;
            return Ok(of(&package.person_features(), &package.definition_hash));
        }
        let champion = self.slot(model)?.champion();
        if let Some(champion) = champion.filter(|champion| champion.number == number) {
            let package = &champion.package;
            return Ok(of(&package.columns, &package.definition_hash));
        }
        let package = self.package(model, number).await?;
        Ok(of(&package.columns, &package.definition_hash))
    }

    /// What of the answers is not as before, on the newest whole day; looks at days that are over.
    pub(crate) async fn differing_answers(
        self: &Arc<Self>,
    ) -> Result<Vec<AnswerFinding>, CycleError> {
        self.count_answers().await?;
        let (this, now) = (self.clone(), self.clock.now());
        let share = self.false_alarms().of_answers;
        let examine = move || {
            // everything that was answered before today has been counted
            this.answers.examine(now.day(), share)?;
            this.answers.commit_if_due(now)
        };
        tokio::task::spawn_blocking(examine)
            .await
            .map_err(|_| CycleError::Ended("looking at the answers"))??;
        Ok(self.answers.findings())
    }

    /// Names what differs of the answers beside the fault of the data that explains it; returns what none does.
    pub(crate) fn unexplained(
        &self,
        of_data: &mut [DataFinding],
        of_answers: Vec<AnswerFinding>,
    ) -> Vec<AnswerFinding> {
        let (engine, mut rest) = (self.engine(), Vec::new());
        let set = engine.set();
        let sources: BTreeMap<&str, _> = set
            .columns()
            .iter()
            .map(|column| column.name.as_str())
            .zip(set.sources())
            .collect();
        let reads = |feature: &str, event: &str| {
            let of = sources.get(feature);
            of.is_some_and(|of| {
                of.events.contains(event) || (of.all_events && !event.starts_with('$'))
            })
        };
        for finding in of_answers {
            let (mut features, mut signals) = (finding.features.clone(), Vec::new());
            if features.is_empty() && finding.is_of_answers() {
                (features, signals) = self.read_by_champion(&finding.model);
            }
            let explains = |fault: &&mut DataFinding| {
                let reads = signals.contains(&fault.event)
                    || features.iter().any(|name| reads(name, &fault.event));
                reads && (0..=EXPLAINS_DAYS).contains(&(finding.day - fault.day).abs())
            };
            match of_data.iter_mut().find(explains) {
                Some(fault) => fault.also.push(format!(
                    "{} {}: {}",
                    finding.kind.as_str().replace('_', " "),
                    finding.subject(),
                    finding.noticed
                )),
                None => rest.push(finding),
            }
        }
        rest
    }

    /// The features that a model's champion reads, and the events that it knows people's tastes by, where it recommends.
    fn read_by_champion(&self, model: &ModelName) -> (Vec<String>, Vec<String>) {
        let names = |columns: Vec<FeatureColumn>| {
            let columns = columns.into_iter();
            columns.map(|column| column.name).collect()
        };
        if let Some(champion) = self.slot(model).ok().and_then(Slot::champion) {
            return (names(champion.package.columns.clone()), Vec::new());
        }
        let recommender = self.registry.recommender(model);
        match recommender.and_then(RecommendSlot::champion) {
            Some(champion) => {
                let signals = champion.package.signals.iter();
                let events = signals.map(|signal| signal.event.clone()).collect();
                (names(champion.package.person_features()), events)
            }
            None => (Vec::new(), Vec::new()),
        }
    }

    /// The versions that are served otherwise than they were trained on, but for features that are told to have changed.
    pub(crate) async fn skewed(
        self: &Arc<Self>,
        differs: &[AnswerFinding],
    ) -> Result<Vec<Finding>, CycleError> {
        let today = self.clock.now().day();
        let known = self.skewed.lock().clone();
        let versions = match known.filter(|(day, _)| *day == today) {
            Some((_, versions)) => versions,
            None => {
                let versions = self.skewed_versions().await?;
                *self.skewed.lock() = Some((today, versions.clone()));
                versions
            }
        };
        let has_changed = |name: &String| differs.iter().any(|told| told.features.contains(name));
        let findings = versions.into_iter().filter_map(|mut of| {
            of.features.retain(|feature| !has_changed(&feature.name));
            told_skew(&of)
        });
        Ok(findings.collect())
    }

    async fn skewed_versions(self: &Arc<Self>) -> Result<Vec<OfVersion>, CycleError> {
        let mut versions = Vec::new();
        for model in self.project.models.keys() {
            let champion = self.slot(model)?.champion();
            let Some(number) = champion.map(|champion| champion.number) else {
                continue;
            };
            let Some(report) = self.skew_report(model, number).await? else {
                continue;
            };
            let mut features = report.skew.features;
            features.retain(SkewedFeature::is_skewed);
            if report.skew.answers >= SERVED_MIN && !features.is_empty() {
                versions.push(OfVersion {
                    model: model.clone(),
                    number,
                    answers: report.skew.answers,
                    features,
                });
            }
        }
        Ok(versions)
    }

    /// What a version was served over the last days beside what it was trained on; `None` where it has answered nothing in that time or is
    /// not known to have been trained on a dataset.
    ///
    /// # Errors
    /// When there is no such version or a store fails.
    pub async fn skew_report(
        self: &Arc<Self>,
        model: &ModelName,
        number: u32,
    ) -> Result<Option<SkewReport>, CycleError> {
        let detail = self.run_detail(model, number).await?;
        let Some(trained) = detail.and_then(|detail| detail.dataset) else {
            return Ok(None);
        };
        let (this, of) = (self.clone(), model.clone());
        let today = self.clock.now().day();
        let read = move || {
            let mut served = AnswerDay::default();
            for past in 0..SERVED_DAYS {
                served.merge(&this.answers.day(today - past, &of, Some(number))?);
            }
            Ok::<_, CycleError>(served)
        };
        let served = tokio::task::spawn_blocking(read)
            .await
            .map_err(|_| CycleError::Ended("reading what was served"))??;
        Ok((served.count > 0).then(|| SkewReport {
            version: format!("{model}@{number}"),
            since: date(today - SERVED_DAYS + 1),
            skew: skew(&served, &trained),
        }))
    }
}

/// What differs of the answers, as an alert.
pub(crate) fn told(finding: &AnswerFinding) -> Finding {
    let also = with_it(&finding.also);
    let models: Vec<&str> = finding.models.iter().map(ModelName::as_str).collect();
    let what = match finding.kind {
        AlertKind::FeatureDrifted => format!("as {} was served", models.join(", ")),
        _ => format!(
            "of {} {}",
            finding.model,
            finding.property.replace('_', " ")
        ),
    };
    Finding {
        kind: finding.kind,
        subject: finding.subject(),
        cause: format!(
            "on {}, {what}, {} — {}{also}",
            date(finding.day),
            finding.noticed,
            finding.likely
        ),
        next_step: format!(
            "`tidemill answers {model}` shows its days; look at the events that it is made of with `tidemill data`, go back with `tidemill rollback \
             {model}` where a version is the cause",
            model = finding.model
        ),
    }
}

/// How a feature differs; its missing values only where there are any.
fn how_far(feature: &SkewedFeature) -> String {
    let name = &feature.name;
    let elsewhere = format!(
        "{:.0} % of its values lie elsewhere",
        feature.distance * 100.0
    );
    let [served, trained] = [feature.missing_served, feature.missing_trained]
        .map(|share| format!("{:.1} %", share * 100.0));
    if served == "0.0 %" && trained == served {
        return format!("{name} ({elsewhere})");
    }
    format!("{name} ({elsewhere}; missing in {served} of the answers, {trained} in training)")
}

fn told_skew(of: &OfVersion) -> Option<Finding> {
    let far: Vec<String> = of.features.iter().take(SKEWED_NAMED).map(how_far).collect();
    let others = match of.features.len() - far.len() {
        0 => String::new(),
        others => format!(" and {others} others"),
    };
    let OfVersion {
        model,
        number,
        answers,
        ..
    } = of;
    (!far.is_empty()).then(|| Finding {
        kind: AlertKind::ServingSkewed,
        subject: model.to_string(),
        cause: format!(
            "over {answers} answers of the last {SERVED_DAYS} days {model}@{number} was not served what it was trained on: {}{others}",
            far.join(", ")
        ),
        next_step: format!(
            "ask at the moments that `observe` of the model names, about the people that it learns from; train with `tidemill train {model}` where the \
             world has changed; `tidemill answers {model}` shows both sides"
        ),
    })
}
