//! How a dataset came about: enough to judge it, and to build it again bit for bit.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tidemill_core::feature::ColumnValues;
use tidemill_core::project::{Sample, Target};
use tidemill_core::{FeatureColumn, ModelName, Offset, Timestamp};
use tidemill_store::ArtifactHash;
use tidemill_store::lake::EventsSnapshot;

use super::Dataset;
use super::asked::Asked;
use super::counts::Counts;
use super::fortnights::Fortnights;
use super::leaks::{SuspiciousFeature, Telling};
use super::statistics::{ColumnStatistics, TargetStatistics};

/// Why an observation is not in the dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drop {
    /// Its event is about nobody.
    NoPerson,
    /// Its event arrived more than a day after it happened.
    Late,
    /// It is before the history that the model learns from.
    BeforeStart,
    /// Its horizon has not passed.
    Censored,
    /// Only a share of the observations is learnt from, and it is not in that share.
    Sampled,
}

impl Drop {
    /// All reasons.
    pub(super) const ALL: [Self; 5] = [
        Self::NoPerson,
        Self::Late,
        Self::BeforeStart,
        Self::Censored,
        Self::Sampled,
    ];

    /// As it is written.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::NoPerson => "no_person",
            Self::Late => "late",
            Self::BeforeStart => "before_start",
            Self::Censored => "censored",
            Self::Sampled => "sampled",
        }
    }
}

/// How a dataset came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatasetRecord {
    /// The model.
    pub model: ModelName,
    /// The hash of the feature definitions.
    pub definition_hash: String,
    /// The project file in the artifacts with which it was built, the features that were suggested included.
    #[serde(default)]
    pub project_file: Option<ArtifactHash>,
    /// What the choice of a share of the observations and the training are seeded with.
    #[serde(default)]
    pub seed: u64,
    /// Which share of the observations became rows, where not all did.
    #[serde(default)]
    pub sample: Option<Sample>,
    /// The snapshot of the events, where the caller built it from one.
    #[serde(default)]
    pub events: Option<EventsSnapshot>,
    /// The last event that was read.
    pub last_offset: Offset,
    /// Up to when everything that happened was known.
    pub known_until: Timestamp,
    /// The earliest moment that was asked for.
    #[serde(default)]
    pub from: Option<Timestamp>,
    /// Observations before anything was dropped.
    pub observed: u64,
    /// How many were dropped, and why.
    pub dropped: BTreeMap<Drop, u64>,
    /// Rows.
    pub rows: u64,
    /// SHA-256 over every bit of the rows, in hexadecimal: what is built again is the same where this is.
    #[serde(default)]
    pub digest: String,
    /// Conditions and expressions that failed on a row, which counts as not fulfilled or missing.
    pub expression_failures: u64,
    /// The columns of the features.
    pub features: Vec<FeatureColumn>,
    /// The classes of a next-action model, by the index that is their target.
    #[serde(default)]
    pub classes: Option<Vec<String>>,
    /// What the targets are like.
    pub target: TargetStatistics,
    /// What each feature is like.
    pub columns: Vec<ColumnStatistics>,
    /// Features that alone nearly decide the target.
    pub suspicious: Vec<SuspiciousFeature>,
}

/// The record of a dataset of one of the models of a pass, before its rows are known.
pub(super) fn begin(asked: &Asked, counts: &Counts, model: usize) -> DatasetRecord {
    let of_model = &asked.models[model];
    let of_counts = &counts.models[model];
    DatasetRecord {
        model: of_model.model.name.clone(),
        definition_hash: asked.set.hash().to_owned(),
        project_file: None,
        seed: of_model.model.training.seed,
        sample: of_model.model.sample,
        events: None,
        last_offset: counts.last_offset,
        known_until: asked.known_until,
        from: of_model.from,
        observed: of_counts.observed,
        dropped: of_counts.dropped.clone(),
        rows: 0,
        digest: String::new(),
        expression_failures: counts.failures + of_counts.condition_failures,
        features: Vec::new(),
        classes: of_model.tracker.classes().map(<[String]>::to_vec),
        target: TargetStatistics::default(),
        columns: Vec::new(),
        suspicious: Vec::new(),
    }
}

impl Dataset {
    /// SHA-256 over every bit of the rows and the names of their columns, in hexadecimal.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let mut text = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        let columns = self.features.columns();
        columns.iter().for_each(|column| text(&column.name));
        self.entities
            .iter()
            .for_each(|person| text(person.as_str()));
        for (moment, offset) in self.moments.iter().zip(&self.offsets) {
            hash.update(moment.micros().to_le_bytes());
            hash.update(offset.0.to_le_bytes());
        }
        let numbers = |hash: &mut Sha256, numbers: &[f64]| {
            for number in numbers {
                hash.update(number.to_bits().to_le_bytes());
            }
        };
        numbers(&mut hash, &self.targets);
        numbers(&mut hash, &self.weights);
        for column in 0..columns.len() {
            match self.features.values(column) {
                ColumnValues::Number(column) => numbers(&mut hash, column),
                ColumnValues::Category(texts) => {
                    for text in texts {
                        let text = text.as_deref();
                        hash.update(
                            text.map_or(u64::MAX, |text| text.len() as u64)
                                .to_le_bytes(),
                        );
                        hash.update(text.unwrap_or_default());
                    }
                }
            }
        }
        let digest = hash.finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Writes down in the record what the rows are like.
    pub(super) fn describe(&mut self, target: &Target) {
        let classes = self.record.classes.as_deref();
        let telling = Telling::new(target, classes, &self.targets);
        let fortnights = Fortnights::new(&self.moments);
        let columns: Vec<usize> = (0..self.features.columns().len()).collect();
        let columns: Vec<ColumnStatistics> = columns
            .par_iter()
            .map(|&column| {
                let values = self.features.values(column);
                let statistics = ColumnStatistics::of(&self.features, column);
                ColumnStatistics {
                    alone: telling.alone(values),
                    varies: fortnights.vary(&statistics, values),
                    ..statistics
                }
            })
            .collect();
        let target = TargetStatistics::of(&self.targets, &self.weights, classes);
        let digest = self.digest();
        let record = &mut self.record;
        record.digest = digest;
        record.rows = self.targets.len() as u64;
        record.features = self.features.columns().to_vec();
        record.target = target;
        record.suspicious = columns.iter().filter_map(SuspiciousFeature::of).collect();
        record.columns = columns;
    }
}
