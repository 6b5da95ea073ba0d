//! Whether what was served is what a training would see: a sample of the logged answers is read again from the lake, and every value
//! compared to the bit. What differs is the training/serving skew that no metric of a model shows.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_core::{
    Decision, DecisionId, FeatureColumn, FeatureTable, FeatureValue, ModelName, Timestamp,
};
use tidemill_features::dataset::Served;
use tidemill_store::StoreError;
use tidemill_store::lake::Sequenced;

use crate::project_loop::{CycleError, ProjectLoop};

/// The table and the key of the report so far.
const CONSISTENCY: &str = "consistency";
const REPORT: &str = "report";
/// Decisions that are read at a time.
const DECISIONS: usize = 20_000;
/// The most answers of one check; the next one goes on behind them.
const ANSWERS_MAX: usize = 200_000;

/// What was found since the features are defined as they are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ConsistencyReport {
    /// The definitions of the features.
    pub definition_hash: String,
    /// When answers were last compared; absent before the first time.
    pub checked_at: Option<Timestamp>,
    /// When answers were last compared and there were any.
    #[serde(default)]
    pub compared_at: Option<Timestamp>,
    /// The last decision that was looked at.
    pub decision: u64,
    /// Answers that were read again.
    pub answers: u64,
    /// Values of theirs that were compared.
    pub values: u64,
    /// Of these, those that differ.
    pub mismatches: u64,
    /// Answers that were not read again, and why.
    pub left_out: BTreeMap<LeftOut, u64>,
    /// The features that differ.
    pub features: BTreeMap<String, Mismatches>,
}

/// Why an answer was not read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftOut {
    /// A fallback answered, without features.
    Fallback,
    /// It read no features: it recommends from what was taken alone, or nothing is known of the person.
    NoFeatures,
    /// It is not in the sample.
    NotSampled,
    /// Its version reads features that were defined otherwise.
    OtherDefinitions,
}

/// How the values of a feature differ.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Mismatches {
    /// Online there was no value, offline there is one.
    pub missing_online: u64,
    /// Online there was a value, offline there is none.
    pub missing_offline: u64,
    /// There are two values.
    pub different: u64,
    /// An answer in which they differ.
    pub example: Option<DecisionId>,
    /// The check that found one last.
    #[serde(default)]
    pub found_at: Option<Timestamp>,
}

impl Mismatches {
    /// How many values differ.
    pub fn count(&self) -> u64 {
        self.missing_online + self.missing_offline + self.different
    }
}

/// Answers to be read again, with the names of their features.
#[derive(Default)]
struct Sample {
    served: Vec<Served>,
    answers: Vec<(DecisionId, Arc<ReadColumns>, Vec<FeatureValue>)>,
}

impl ProjectLoop {
    /// Reads a share of the answers again that were given since the last time, and adds what is found to the report.
    ///
    /// # Errors
    /// When a store fails. What has been compared before stays in the report.
    pub async fn check_consistency(
        self: &Arc<Self>,
        share: f64,
    ) -> Result<ConsistencyReport, CycleError> {
        let this = self.clone();
        self.beside(async move {
            let _one_at_a_time = this.running.lock().await;
            this.compare(share).await
        })
        .await
    }

    /// What was found so far.
    ///
    /// # Errors
    /// When the state store fails or the entry is damaged.
    pub fn consistency(&self) -> Result<ConsistencyReport, CycleError> {
        let place = (CONSISTENCY, REPORT);
        let kept = self.kept(place, || "the report of consistency".to_owned())?;
        Ok(kept.unwrap_or_default())
    }

    /// Leaves out the answers up to a place.
    pub(crate) fn skip_consistency(&self, up_to: u64) -> Result<(), CycleError> {
        let mut report = self.consistency()?;
        report.decision = report.decision.max(up_to);
        self.note(&report)
    }

    async fn compare(self: &Arc<Self>, share: f64) -> Result<ConsistencyReport, CycleError> {
        self.catch_up().await?;
        self.land(true).await?;
        let engine = self.engine();
        let mut report = self.consistency()?;
        if report.definition_hash != engine.set().hash() {
            report = ConsistencyReport {
                definition_hash: engine.set().hash().to_owned(),
                decision: report.decision,
                ..ConsistencyReport::default()
            };
        }
        let snapshot = self.stores.lake.events_snapshot(&self.project.name).await?;
        let sample = self.sample(share, snapshot.last, &mut report).await?;
        if !sample.served.is_empty() {
            report.compared_at = Some(self.clock.now());
            let table = self
                .stores
                .lake
                .event_table(&self.project.name, snapshot)
                .await?;
            let lane = self.training.lanes(1).free().await?;
            let all = engine.set().select_all();
            let Sample { served, answers } = sample;
            let again = self.read_again(&all, served, table, &lane).await?;
            for (row, (id, version, values)) in answers.iter().enumerate() {
                report.add(*id, &version.columns, values, &again, row);
            }
        }
        report.checked_at = Some(self.clock.now());
        self.note(&report)?;
        Ok(report)
    }

    /// The answers that are read again, out of those that follow the last one that was looked at.
    async fn sample(
        &self,
        share: f64,
        landed: tidemill_core::Offset,
        report: &mut ConsistencyReport,
    ) -> Result<Sample, CycleError> {
        let mut versions: BTreeMap<(ModelName, u32), Arc<ReadColumns>> = BTreeMap::new();
        let mut sample = Sample::default();
        loop {
            let decisions = self.decisions.read(report.decision, DECISIONS)?;
            if decisions.is_empty() {
                return Ok(sample);
            }
            for Sequenced { sequence, value } in decisions {
                if value.offset > landed || sample.served.len() >= ANSWERS_MAX {
                    return Ok(sample);
                }
                report.decision = sequence;
                let Some(number) = value.version else {
                    *report.left_out.entry(LeftOut::Fallback).or_insert(0) += 1;
                    continue;
                };
                if value.features.is_empty() {
                    *report.left_out.entry(LeftOut::NoFeatures).or_insert(0) += 1;
                    continue;
                }
                if !is_in_share(value.id, share) {
                    *report.left_out.entry(LeftOut::NotSampled).or_insert(0) += 1;
                    continue;
                }
                let key = (value.model.clone(), number);
                let columns = match versions.get(&key) {
                    Some(columns) => columns.clone(),
                    None => {
                        let columns = Arc::new(self.read_columns(&value.model, number).await?);
                        versions.insert(key, columns.clone());
                        columns
                    }
                };
                if columns.definition_hash != report.definition_hash {
                    *report
                        .left_out
                        .entry(LeftOut::OtherDefinitions)
                        .or_insert(0) += 1;
                    continue;
                }
                sample.add(value, columns)?;
            }
        }
    }

    /// What a version reads.
    async fn read_columns(
        &self,
        model: &ModelName,
        number: u32,
    ) -> Result<ReadColumns, CycleError> {
        if self.is_recommender(model) {
            let package = self.recommend_package(model, number).await?;
            return Ok(ReadColumns {
                columns: package.person_features(),
                definition_hash: package.definition_hash,
            });
        }
        let package = self.package(model, number).await?;
        Ok(ReadColumns {
            columns: package.columns,
            definition_hash: package.definition_hash,
        })
    }

    fn note(&self, report: &ConsistencyReport) -> Result<(), CycleError> {
        let place = (CONSISTENCY, REPORT);
        self.keep(place, report, "encode the report of consistency")?;
        let project = self.project.name.as_str();
        self.metrics
            .set_consistency(project, report.values, report.mismatches);
        if report.mismatches > 0 {
            let features: Vec<&str> = report.features.keys().map(String::as_str).collect();
            tracing::error!(
                project,
                mismatches = report.mismatches,
                ?features,
                "what was served is not what training sees"
            );
        }
        Ok(())
    }
}

/// The features that a version reads, and the definitions that they are of.
struct ReadColumns {
    definition_hash: String,
    columns: Vec<FeatureColumn>,
}

impl Sample {
    fn add(&mut self, decision: Decision, columns: Arc<ReadColumns>) -> Result<(), CycleError> {
        let person = serde_json::from_value(decision.entity.into());
        let person = person.map_err(|error| {
            let (what, detail) = (format!("decision {}", decision.id), error.to_string());
            CycleError::from(StoreError::Corrupt { what, detail })
        })?;
        self.served.push(Served {
            person,
            moment: decision.moment,
            offset: decision.offset,
        });
        self.answers.push((decision.id, columns, decision.features));
        Ok(())
    }
}

impl ConsistencyReport {
    /// Compares the values of an answer with a row that was read again.
    fn add(
        &mut self,
        id: DecisionId,
        columns: &[FeatureColumn],
        values: &[FeatureValue],
        again: &FeatureTable,
        row: usize,
    ) {
        self.answers += 1;
        for (column, online) in columns.iter().zip(values) {
            let Some(place) = again.index_of(&column.name) else {
                continue; // equal definitions have equal columns
            };
            self.values += 1;
            let offline = again.value(row, place);
            if online.same_bits(&offline) {
                continue;
            }
            self.mismatches += 1;
            let found = self.features.entry(column.name.clone()).or_default();
            match (online, &offline) {
                (FeatureValue::Missing, _) => found.missing_online += 1,
                (_, FeatureValue::Missing) => found.missing_offline += 1,
                _ => found.different += 1,
            }
            found.example.get_or_insert(id);
            found.found_at = self.compared_at;
        }
    }
}

/// Whether an answer is in a share of all answers: by its random part, so that every process chooses the same.
fn is_in_share(id: DecisionId, share: f64) -> bool {
    let random = id.as_bytes().last_chunk::<4>();
    let random = random.map_or(0, |bytes| u32::from_be_bytes(*bytes));
    f64::from(random) / f64::from(u32::MAX) <= share && share > 0.0
}

#[cfg(test)]
mod tests {
    use tidemill_core::feature::{FeatureType, Unit};

    use super::*;

    fn column(name: &str) -> FeatureColumn {
        FeatureColumn {
            name: name.to_owned(),
            feature_type: FeatureType::Number,
            label: name.to_owned(),
            unit: Unit::Plain,
        }
    }

    #[test]
    fn planted_differences_are_found_and_told_apart() {
        let mut again = FeatureTable::new(vec![column("user.a"), column("user.b")]);
        again.push(&[FeatureValue::Number(1.0), FeatureValue::Missing]);
        again.push(&[FeatureValue::Number(0.0), FeatureValue::Number(2.0)]);
        let columns = [column("user.b"), column("user.a")];
        let mut report = ConsistencyReport::default();
        let id = |n: u8| DecisionId::new(Timestamp::EPOCH, [n; 10]);
        let same = [FeatureValue::Missing, FeatureValue::Number(1.0)];
        report.add(id(1), &columns, &same, &again, 0);
        assert_eq!((report.values, report.mismatches), (2, 0));
        let planted = [FeatureValue::Missing, FeatureValue::Number(-0.0)];
        report.add(id(2), &columns, &planted, &again, 1);
        let invented = [FeatureValue::Number(7.0), FeatureValue::Number(1.0)];
        report.add(id(3), &columns, &invented, &again, 0);
        assert_eq!(
            (report.answers, report.values, report.mismatches),
            (3, 6, 3)
        );
        let b = &report.features["user.b"];
        assert_eq!(
            (b.missing_online, b.missing_offline, b.different),
            (1, 1, 0)
        );
        assert_eq!(report.features["user.a"].different, 1);
        assert_eq!(report.features["user.a"].example, Some(id(2)));
    }

    #[test]
    fn a_share_is_a_share() {
        let taken = |share: f64| {
            let ids = (0..=255u8).map(|n| DecisionId::new(Timestamp::EPOCH, [n; 10]));
            ids.filter(|id| is_in_share(*id, share)).count()
        };
        assert_eq!((taken(0.0), taken(1.0)), (0, 256));
        assert!((20..=32).contains(&taken(0.1)), "{}", taken(0.1));
    }
}
