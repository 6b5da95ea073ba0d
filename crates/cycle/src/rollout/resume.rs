//! Versions that take over, between the catalog and memory: loaded for the first time, and again after a restart.

use std::collections::HashMap;
use std::sync::Arc;

use tidemill_core::feature::FeatureValue;
use tidemill_serve::registry::Slot;
use tidemill_serve::rollout::Wake;
use tidemill_serve::{Challenger, Champion, Package};
use tidemill_store::catalog::{Rollout, RolloutStage};

use super::place::{Place, TakesOver};
use crate::project_loop::{CycleError, ProjectLoop};
use crate::promote::SYSTEM;
use crate::run::{RunDetail, describe};

/// Who acts when the project file says so.
const PROJECT_FILE: &str = "project file";

impl ProjectLoop {
    /// Goes on with the rollouts that the catalog has, with the features as they are now.
    ///
    /// # Errors
    /// When the catalog fails.
    pub(crate) async fn resume_rollouts(&self) -> Result<(), CycleError> {
        let _one_at_a_time = self.rollouts.changing.lock().await;
        for place in self.places() {
            let (catalog, model) = (&self.stores.catalog, place.model());
            let newest = catalog.rollouts(&self.project.name, model, 1).await?;
            let Some(rollout) = newest.into_iter().next() else {
                continue;
            };
            self.rollouts.keep(rollout.clone());
            if rollout.is_under_way() {
                self.resume(place, rollout).await?;
            }
        }
        Ok(())
    }

    async fn resume(&self, place: Place<'_>, rollout: Rollout) -> Result<(), CycleError> {
        let back = RolloutStage::RolledBack;
        let champion = place.champion();
        if champion == Some(rollout.version) {
            let reason = "it had become champion when the process ended";
            let ended = RolloutStage::Promoted;
            return self.conclude(place, rollout, ended, SYSTEM, reason).await;
        }
        if place.rules().is_none() {
            let reason = "the project file asks for no rollout any more; `tidemill promote` lets the version answer";
            return self
                .conclude(place, rollout, back, PROJECT_FILE, reason)
                .await;
        }
        if champion.is_none() {
            let reason = "no version answers that it could be compared with";
            return self.conclude(place, rollout, back, SYSTEM, reason).await;
        }
        match self.challenger(place, &rollout).await {
            Ok(challenger) => {
                place.set_challenger(challenger);
                Ok(())
            }
            Err(CycleError::Store(error)) => Err(error.into()),
            Err(error) => {
                let reason = format!("it cannot be loaded: {}", describe(&error));
                self.conclude(place, rollout, back, SYSTEM, &reason).await
            }
        }
    }

    /// The version of a rollout, proved, to be put beside the champion.
    pub(super) async fn challenger(
        &self,
        place: Place<'_>,
        rollout: &Rollout,
    ) -> Result<TakesOver, CycleError> {
        let (model, number, share) = (&rollout.model, rollout.version, rollout.share);
        let rules = place.rules().cloned().unwrap_or_default();
        let wake = self.alarm();
        match place {
            Place::Predict(slot) => {
                let detail = self.run_detail(model, number).await?;
                let version = self.load(model, number).await?;
                check_schema(slot, &version)?;
                let missing = missing_in_training(&version.package, detail);
                let challenger = Challenger::new(model, version, missing, share, &rules, wake);
                Ok(TakesOver::Scores(Arc::new(challenger)))
            }
            Place::Recommend(_) => {
                let version = self.load_recommender(model, number).await?;
                let golden = version.package.golden.iter().map(|list| &list.person[..]);
                let columns = version.package.person_features().len();
                let missing = (0..columns).map(|place| missing_in(golden.clone(), place));
                let missing = missing.collect();
                let challenger = Challenger::new(model, version, missing, share, &rules, wake);
                Ok(TakesOver::Lists(Arc::new(challenger)))
            }
        }
    }

    pub(super) fn alarm(&self) -> Wake {
        let alarm = self.rollouts.alarm.clone();
        Arc::new(move || alarm.notify_one())
    }
}

/// That a version answers the question of the model, from features that there are.
fn check_schema(slot: &Slot, version: &Champion) -> Result<(), CycleError> {
    let refused = |why: String| CycleError::NotAllowed(why);
    let package = &version.package;
    if package.task != slot.task {
        let (found, wanted) = (&package.task, &slot.task);
        return Err(refused(format!(
            "it answers another question: {found:?} instead of {wanted:?}"
        )));
    }
    let columns = package.fitted.check_columns(version.features.columns());
    columns.map_err(|error| refused(error.to_string()))
}

/// The share of the training rows in which each column was missing; from the golden rows where the dataset was not recorded.
fn missing_in_training(package: &Package, detail: Option<RunDetail>) -> Vec<f64> {
    let record = detail.and_then(|detail| detail.dataset);
    let recorded: HashMap<String, f64> = record
        .map(|record| {
            let rows = record.rows.max(1) as f64;
            let columns = record.columns.into_iter();
            columns
                .map(|column| (column.name, column.missing as f64 / rows))
                .collect()
        })
        .unwrap_or_default();
    let golden = package.golden.iter().map(|row| &row.features[..]);
    let columns = package.columns.iter().enumerate();
    columns
        .map(|(place, column)| {
            let known = recorded.get(&column.name).copied();
            known.unwrap_or_else(|| missing_in(golden.clone(), place))
        })
        .collect()
}

/// The share of rows in which a column is missing; without any row nothing is known, and everything may be missing.
fn missing_in<'r>(rows: impl ExactSizeIterator<Item = &'r [FeatureValue]>, column: usize) -> f64 {
    let all = rows.len();
    let is_missing = |row: &&[FeatureValue]| {
        let value = row.get(column);
        value.is_none_or(|value| *value == FeatureValue::Missing)
    };
    match all {
        0 => 1.0,
        all => rows.filter(is_missing).count() as f64 / all as f64,
    }
}
