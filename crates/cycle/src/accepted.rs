//! A new dataset beside those before it: whether it may be learnt from, as far as the gate looks at data.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_core::project::PredictModel;
use tidemill_core::{ModelName, Timestamp};
use tidemill_evaluate::gate::leak::{Alone, leaks};
use tidemill_evaluate::gate::quality::FALSE_ALARMS;
use tidemill_evaluate::gate::{DataQuality, NewDataset};
use tidemill_evaluate::{Check, Metric, Rows, ScoresView, TaskKind};
use tidemill_features::dataset::{Dataset, DatasetRecord};
use tidemill_serve::Package;

use crate::project_loop::{CycleError, ProjectLoop};
use crate::run::RunDetail;

/// How many earlier datasets say how many rows one has.
const DATASETS_MAX: usize = 40;

/// What a new dataset is compared with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Before {
    /// The dataset that the champion was made from: what it is called, and the newest moment that it could have had.
    pub(crate) accepted: Option<(String, Timestamp)>,
    /// How many rows earlier datasets had that were asked for likewise, the oldest first.
    pub(crate) rows: Vec<u64>,
    /// Features that were found to differ between answering and training, with in how many answers; and how many were read again.
    pub(crate) differing: BTreeMap<String, u64>,
    pub(crate) read_again: u64,
}

impl ProjectLoop {
    /// What is known of the datasets before a new one.
    pub(crate) async fn before(
        &self,
        model: &PredictModel,
        record: &DatasetRecord,
    ) -> Result<Before, CycleError> {
        let name = &model.name;
        let accepted = match self.slot(name)?.champion() {
            Some(champion) => self.accepted_until(model, champion.number).await?,
            None => None,
        };
        let mut rows: Vec<u64> = self
            .datasets(name, None, DATASETS_MAX)
            .await?
            .into_iter()
            .map(|kept| kept.note.record)
            // a dataset that was built again or by a person at the same time says nothing new
            .filter(|kept| kept.known_until < record.known_until)
            .filter(|kept| {
                kept.sample == record.sample && kept.from.is_some() == record.from.is_some()
            })
            .map(|kept| kept.rows)
            .collect();
        rows.reverse();
        let consistency = self.consistency()?;
        let differs = consistency.features.into_iter();
        Ok(Before {
            accepted,
            rows,
            differing: differs
                .map(|(feature, found)| (feature, found.count()))
                .collect(),
            read_again: consistency.answers,
        })
    }

    async fn accepted_until(
        &self,
        model: &PredictModel,
        number: u32,
    ) -> Result<Option<(String, Timestamp)>, CycleError> {
        let detail = self.version(&model.name, number).await?.detail;
        let detail: Option<RunDetail> = serde_json::from_value(detail).ok();
        let record = detail.and_then(|detail| detail.dataset);
        let until = record.map(|record| record.known_until - model.target.within());
        Ok(until.map(|until| (called(&model.name, number), until)))
    }
}

fn called(model: &ModelName, number: u32) -> String {
    format!("{model}@{number}")
}

/// Judges the rows themselves: volume, freshness, and each feature beside its own past.
pub(crate) fn judge(
    model: &PredictModel,
    dataset: &Dataset,
    before: &Before,
) -> (Vec<Check>, DataQuality) {
    let moments: Vec<i64> = dataset.moments.iter().map(|one| one.micros()).collect();
    let newest = dataset.record.known_until - model.target.within();
    let accepted = before.accepted.as_ref();
    let new = NewDataset {
        features: &dataset.features,
        moments_us: &moments,
        newest_us: newest.micros(),
        accepted: accepted.map(|(called, until)| (called.as_str(), until.micros())),
        earlier_rows: &before.rows,
        rows: dataset.record.rows,
        trusted: &model.gate.trusted,
        false_alarms: FALSE_ALARMS,
    };
    let (mut checks, quality) = new.judge();
    checks.push(consistent(dataset, before));
    (checks, quality)
}

/// Whether answers had the very values that training sees.
fn consistent(dataset: &Dataset, before: &Before) -> Check {
    let columns = dataset.features.columns().iter();
    let names: BTreeSet<&str> = columns.map(|column| column.name.as_str()).collect();
    let differing = before.differing.iter();
    let differing: Vec<(&String, &u64)> = differing
        .filter(|(feature, count)| **count > 0 && names.contains(feature.as_str()))
        .collect();
    let sentence = match differing.first() {
        Some((feature, count)) => format!(
            "{} features were not in answers what they are in training: {feature} in {count} of {}; `tidemill features check` says more",
            differing.len(),
            before.read_again
        ),
        None => format!(
            "in {} answers that were read again all features were what they are in training",
            before.read_again
        ),
    };
    Check {
        name: "data:as_answered".to_owned(),
        value: differing.len() as f64,
        threshold: 0.0,
        interval: None,
        passed: differing.is_empty(),
        sentence,
    }
}

/// Whether a feature alone tells the target too well, beside what the champion tells of these rows.
pub(crate) fn leak(
    model: &PredictModel,
    record: &DatasetRecord,
    champion: Option<&Package>,
    rows: &Rows<'_>,
    reigning: Option<&ScoresView<'_>>,
) -> Result<Check, CycleError> {
    let alone: Vec<Alone<'_>> = record
        .columns
        .iter()
        .filter_map(|column| {
            let reads = |package: &Package| {
                let mut columns = package.columns.iter();
                columns.any(|known| known.name == column.name)
            };
            Some(Alone {
                feature: &column.name,
                value: column.alone.as_ref()?.value,
                is_known: champion.is_some_and(reads),
            })
        })
        .collect();
    let measure = match rows.task() {
        TaskKind::Regression => "correlation",
        TaskKind::Binary | TaskKind::Multiclass { .. } => "AUC",
    };
    let auc = match (rows.task(), reigning) {
        (TaskKind::Binary, Some(scores)) => Metric::Auc.compute(rows, scores)?,
        _ => None,
    };
    Ok(leaks(&alone, measure, auc, &model.gate.trusted))
}
