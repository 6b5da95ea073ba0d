//! Versions that take over, between the catalog and memory: loaded for the first time, and again after a restart.

use std::collections::HashMap;
use std::sync::Arc;

use tidemill_core::feature::FeatureValue;
use tidemill_core::project::RolloutRules;
use tidemill_serve::registry::Slot;
use tidemill_serve::rollout::Wake;
use tidemill_serve::{Challenger, Champion, GoldenRow, Package};
use tidemill_store::catalog::{Rollout, RolloutStage, Version};

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
        for slot in self.registry.slots() {
            let (catalog, model) = (&self.stores.catalog, &slot.model.name);
            let newest = catalog.rollouts(&self.project.name, model, 1).await?;
            let Some(rollout) = newest.into_iter().next() else {
                continue;
            };
            self.rollouts.keep(rollout.clone());
            if rollout.is_under_way() {
                self.resume(slot, rollout).await?;
            }
        }
        Ok(())
    }

    async fn resume(&self, slot: &Slot, rollout: Rollout) -> Result<(), CycleError> {
        let back = RolloutStage::RolledBack;
        let champion = slot.champion().map(|champion| champion.number);
        if champion == Some(rollout.version) {
            let reason = "it had become champion when the process ended";
            let ended = RolloutStage::Promoted;
            return self.conclude(slot, rollout, ended, SYSTEM, reason).await;
        }
        if slot.model.rollout.is_none() {
            let reason = "the project file asks for no rollout any more; `tidemill promote` lets the version answer";
            return self
                .conclude(slot, rollout, back, PROJECT_FILE, reason)
                .await;
        }
        if champion.is_none() {
            let reason = "no version answers that it could be compared with";
            return self.conclude(slot, rollout, back, SYSTEM, reason).await;
        }
        match self.challenger(slot, &rollout).await {
            Ok(challenger) => {
                slot.set_challenger(Some(challenger));
                Ok(())
            }
            Err(CycleError::Store(error)) => Err(error.into()),
            Err(error) => {
                let reason = format!("it cannot be loaded: {}", describe(&error));
                self.conclude(slot, rollout, back, SYSTEM, &reason).await
            }
        }
    }

    /// The version of a rollout, proved and put in place beside the champion.
    pub(super) async fn challenger(
        &self,
        slot: &Slot,
        rollout: &Rollout,
    ) -> Result<Arc<Challenger>, CycleError> {
        let (model, number) = (&rollout.model, rollout.version);
        let rules = slot.model.rollout.clone().unwrap_or_default();
        let registered = self.version(model, number).await?;
        let version = self.load(model, number).await?;
        check_schema(slot, &version)?;
        let missing = missing_in_training(&version.package, &registered);
        Ok(Arc::new(Challenger::new(
            model,
            version,
            missing,
            rollout.share,
            &rules,
            self.alarm(),
        )))
    }

    pub(super) fn at_share(
        &self,
        slot: &Slot,
        challenger: &Challenger,
        share: f64,
        rules: &RolloutRules,
    ) -> Challenger {
        Challenger::new(
            &slot.model.name,
            challenger.version.clone(),
            challenger.missing_in_training.clone(),
            share,
            rules,
            self.alarm(),
        )
    }

    fn alarm(&self) -> Wake {
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
fn missing_in_training(package: &Package, version: &Version) -> Vec<f64> {
    let detail: Option<RunDetail> = serde_json::from_value(version.detail.clone()).ok();
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
    let in_golden = |place: usize| {
        let rows = package.golden.iter();
        let is_missing = |row: &&GoldenRow| {
            let value = row.features.get(place);
            value.is_none_or(|value| *value == FeatureValue::Missing)
        };
        let missing = rows.filter(is_missing).count();
        // without any row nothing is known, and everything may be missing
        match package.golden.len() {
            0 => 1.0,
            rows => missing as f64 / rows as f64,
        }
    };
    let columns = package.columns.iter().enumerate();
    columns
        .map(|(place, column)| {
            let known = recorded.get(&column.name).copied();
            known.unwrap_or_else(|| in_golden(place))
        })
        .collect()
}
