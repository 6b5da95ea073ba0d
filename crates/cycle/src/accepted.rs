//! A new dataset beside those before it: whether it may be learnt from, as far as the gate looks at data.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_core::Timestamp;
use tidemill_core::project::{GateRules, PredictModel};
use tidemill_evaluate::gate::leak::{Alone, leaks};
use tidemill_evaluate::gate::{DataQuality, NewDataset};
use tidemill_evaluate::{Check, Metric, Rows, ScoresView, TaskKind};
use tidemill_features::dataset::{Dataset, DatasetRecord};
use tidemill_serve::Package;

use crate::project_loop::{CycleError, ProjectLoop};

/// How many earlier datasets say how many rows one has.
const DATASETS_MAX: usize = 40;

/// What a new dataset is compared with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Before {
    /// The newest moment that the dataset could have had that the champion was made from.
    pub(crate) accepted_until: Option<Timestamp>,
    /// How many rows earlier datasets had that were asked for likewise, the oldest first.
    pub(crate) rows: Vec<u64>,
    /// Features that were not in answers what they are in training when that was last compared, with in how many answers; and how many
    /// were ever read again.
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
        let accepted_until = match self.slot(name)?.champion() {
            Some(champion) => self.accepted_until(model, champion.number).await?,
            None => None,
        };
        let is_from = record.from.is_some();
        let mut rows: Vec<u64> = self
            .datasets(name, None, DATASETS_MAX)
            .await?
            .into_iter()
            .map(|kept| kept.note.record)
            // a dataset that was built again or by a person at the same time says nothing new
            .filter(|kept| kept.known_until < record.known_until)
            .filter(|kept| kept.sample == record.sample && kept.from.is_some() == is_from)
            .map(|kept| kept.rows)
            .collect();
        rows.reverse();
        let consistency = self.consistency()?;
        let compared_at = consistency.compared_at;
        let differing = consistency.features.into_iter();
        Ok(Before {
            accepted_until,
            rows,
            differing: differing
                .filter(|(_, found)| found.found_at.is_some() && found.found_at == compared_at)
                .map(|(feature, found)| (feature, found.count()))
                .collect(),
            read_again: consistency.answers,
        })
    }

    async fn accepted_until(
        &self,
        model: &PredictModel,
        number: u32,
    ) -> Result<Option<Timestamp>, CycleError> {
        let detail = self.run_detail(&model.name, number).await?;
        let record = detail.and_then(|detail| detail.dataset);
        Ok(record.map(|record| record.known_until - model.target.within()))
    }
}

/// Judges the rows themselves: volume, freshness, and each feature beside its own past.
pub(crate) fn judge(
    model: &PredictModel,
    dataset: &Dataset,
    before: &Before,
) -> (Vec<Check>, DataQuality) {
    let moments: Vec<i64> = dataset.moments.iter().map(|one| one.micros()).collect();
    let newest = dataset.record.known_until - model.target.within();
    let new = NewDataset {
        features: &dataset.features,
        moments_us: &moments,
        newest_us: newest.micros(),
        accepted_until_us: before.accepted_until.map(Timestamp::micros),
        earlier_rows: &before.rows,
        trusted: &model.gate.trusted,
    };
    let (mut checks, quality) = new.judge();
    checks.push(as_answered(&model.gate, dataset, before));
    (unless_trusted(checks, &model.gate), quality)
}

/// What somebody vouches for by the name of the check passes.
pub(crate) fn unless_trusted(checks: Vec<Check>, gate: &GateRules) -> Vec<Check> {
    let checks = checks.into_iter();
    checks
        .map(|check| check.unless_trusted(&gate.trusted))
        .collect()
}

/// Whether answers had the very values that training sees.
fn as_answered(gate: &GateRules, dataset: &Dataset, before: &Before) -> Check {
    let columns = dataset.features.columns().iter();
    let names: BTreeSet<&str> = columns.map(|column| column.name.as_str()).collect();
    let differing = before.differing.iter();
    let (trusted, differing): (Vec<_>, Vec<_>) = differing
        .filter(|(feature, _)| names.contains(feature.as_str()))
        .partition(|(feature, _)| gate.trusted.contains_key(*feature));
    let mut sentence = match differing.first() {
        Some((feature, count)) => format!(
            "{} features were not in answers what they are in training: {feature} in {count} of {}; `tidemill features check` says more",
            differing.len(),
            before.read_again
        ),
        None => format!(
            "in {} answers that were read again the features were what they are in training",
            before.read_again
        ),
    };
    for (feature, count) in trusted {
        let reason = gate.trusted.get(feature).map_or("", String::as_str);
        sentence.push_str(&format!(
            "; {feature} was not in {count}, and is trusted: {reason}"
        ));
    }
    Check::at_most("data:as_answered", differing.len() as f64, 0.0, sentence)
}

/// Whether a feature alone tells the target too well, beside what the champion tells of these rows.
pub(crate) fn leak(
    gate: &GateRules,
    record: &DatasetRecord,
    champion: Option<&Package>,
    rows: &Rows<'_>,
    reigning: Option<&ScoresView<'_>>,
) -> Result<Check, CycleError> {
    let known: BTreeSet<&str> = champion
        .into_iter()
        .flat_map(|package| package.columns.iter().map(|column| column.name.as_str()))
        .collect();
    let alone: Vec<Alone<'_>> = record
        .columns
        .iter()
        .filter_map(|column| {
            Some(Alone {
                feature: &column.name,
                value: column.alone.as_ref()?.value,
                is_known: known.contains(column.name.as_str()),
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
    let mut check = leaks(&alone, measure, auc, &gate.trusted);
    let is_known = |name: &&String| {
        name.starts_with("data:") || record.columns.iter().any(|column| column.name == **name)
    };
    for name in gate.trusted.keys().filter(|name| !is_known(name)) {
        let said = format!("; gate.trusted names {name}, which is no feature of this model");
        check.sentence.push_str(&said);
    }
    Ok(check)
}
