//! Versions between the catalog, the artifacts and memory: loading, activating, explaining.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_core::decision::Answer;
use tidemill_core::feature::{FeatureColumn, FeatureValue};
use tidemill_core::{Decision, DecisionId, ModelName, Outcome, Timestamp, VersionId};
use tidemill_learn::Reason;
use tidemill_serve::{Champion, Package};
use tidemill_store::ArtifactHash;
use tidemill_store::catalog::Version;

use crate::project_loop::{CycleError, ProjectLoop};
use crate::run::RunDetail;

/// What the loop remembers about each model, by its name.
const MODEL_STATE: &str = "model_state";
/// How many reasons an explanation names.
const REASONS_MAX: usize = 10;

/// What the loop remembers about a model between runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelState {
    /// The plain answer, as the newest run found it.
    pub fallback: Option<Answer>,
    /// When the newest run began.
    pub last_run: Option<Timestamp>,
    /// What it was asked, as [`definition_of`](crate::schedule) sums it up; another one is a reason to train.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    /// How many targets were certain when it began.
    pub last_targets: u64,
    /// Of a model that recommends: what everybody takes, as the newest run found it, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub popular: Vec<String>,
    /// Observations so far at the end of recent days: (day since the epoch, count), oldest first.
    pub observed: Vec<(i64, u64)>,
}

/// A decision with everything that was known then, and why.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// The decision as it was logged.
    pub decision: Decision,
    /// The features by name.
    pub features: Vec<NamedFeature>,
    /// Why, strongest first; empty for a fallback.
    pub reasons: Vec<Reason>,
    /// What happened afterwards, once it is certain.
    pub outcome: Option<Outcome>,
}

/// A feature with its name and its meaning.
#[derive(Debug, Clone, Serialize)]
pub struct NamedFeature {
    /// `user.orders_30d`.
    pub name: String,
    /// `orders in the last 30 days`.
    pub label: String,
    /// The value.
    pub value: FeatureValue,
}

impl NamedFeature {
    /// Puts names to a row of values.
    pub fn row(columns: &[FeatureColumn], values: &[FeatureValue]) -> Vec<Self> {
        columns
            .iter()
            .zip(values)
            .map(|(column, value)| Self {
                name: column.name.clone(),
                label: column.label.clone(),
                value: value.clone(),
            })
            .collect()
    }
}

impl ProjectLoop {
    /// What is remembered about a model.
    ///
    /// # Errors
    /// When the state store fails or the entry is damaged.
    pub fn model_state(&self, model: &ModelName) -> Result<ModelState, CycleError> {
        let place = (MODEL_STATE, model.as_str());
        let kept = self.kept(place, || format!("the state of model {model}"))?;
        Ok(kept.unwrap_or_default())
    }

    pub(crate) fn put_model_state(
        &self,
        model: &ModelName,
        state: &ModelState,
    ) -> Result<(), CycleError> {
        let place = (MODEL_STATE, model.as_str());
        self.keep(place, state, "encode the state of a model")
    }

    /// One version as it is registered.
    ///
    /// # Errors
    /// When there is no such version or the catalog fails.
    pub async fn version(&self, model: &ModelName, number: u32) -> Result<Version, CycleError> {
        let version = self
            .stores
            .catalog
            .version(&self.project.name, model, number)
            .await?;
        version.ok_or_else(|| CycleError::UnknownVersion(format!("{model}@{number}")))
    }

    /// What is known of the run that made a version of a model that predicts; `None` where it was registered without one.
    pub(crate) async fn run_detail(
        &self,
        model: &ModelName,
        number: u32,
    ) -> Result<Option<RunDetail>, CycleError> {
        let detail = self.version(model, number).await?.detail;
        Ok(serde_json::from_value(detail).ok())
    }

    /// The packaged model of a version, proved to answer as its trainer did.
    ///
    /// # Errors
    /// When there is no such version, or its artifact is damaged.
    pub async fn package(&self, model: &ModelName, number: u32) -> Result<Package, CycleError> {
        let version = self.version(model, number).await?;
        let called = VersionId {
            model: model.clone(),
            number,
        };
        self.read_package(&version.artifact, called).await
    }

    /// The packaged model in an artifact, proved to answer as its trainer did.
    pub(crate) async fn read_package(
        &self,
        artifact: &ArtifactHash,
        called: impl ToString,
    ) -> Result<Package, CycleError> {
        let bytes = self.stores.artifacts.get(artifact).await?;
        Package::from_bytes(&bytes).map_err(|source| CycleError::Package {
            version: called.to_string(),
            source,
        })
    }

    /// Loads the champions of all models into memory. A champion that cannot be loaded is an error in the log
    /// and leaves its model with the fallback: a damaged artifact must not stop the others.
    pub(crate) async fn activate_all(&self) -> Result<(), CycleError> {
        for slot in self.registry.slots() {
            let model = &slot.model.name;
            if let Some(fallback) = self.model_state(model)?.fallback {
                slot.set_fallback(fallback);
            }
            let number = self
                .stores
                .catalog
                .champion(&self.project.name, model)
                .await?;
            if let Err(error) = self.activate(model, number).await {
                tracing::error!(%model, error = %error, "the champion cannot be loaded: the fallback answers");
                slot.set_champion(None);
            }
        }
        for slot in self.registry.recommenders() {
            let model = &slot.model.name;
            let popular = self.model_state(model)?.popular;
            slot.set_popular(
                popular
                    .iter()
                    .map(|item| Arc::from(item.as_str()))
                    .collect(),
            );
            let number = self
                .stores
                .catalog
                .champion(&self.project.name, model)
                .await?;
            if let Err(error) = self.activate_recommender(slot, number).await {
                tracing::error!(%model, error = %error, "the champion cannot be loaded: what everybody takes is recommended");
                slot.set_champion(None);
            }
        }
        self.resume_rollouts().await
    }

    /// Lets a version answer from now on, or the fallback.
    pub(crate) async fn activate(
        &self,
        model: &ModelName,
        number: Option<u32>,
    ) -> Result<(), CycleError> {
        if let Some(slot) = self.registry.recommender(model) {
            return self.activate_recommender(slot, number).await;
        }
        let slot = self.slot(model)?;
        let champion = match number {
            Some(number) => Some(self.load(model, number).await?),
            None => None,
        };
        slot.set_champion(champion);
        Ok(())
    }

    /// A version with the features that it reads, as they are now.
    ///
    /// # Errors
    /// When there is no such version, its artifact is damaged, or it reads features that there are not.
    pub(crate) async fn load(
        &self,
        model: &ModelName,
        number: u32,
    ) -> Result<Arc<Champion>, CycleError> {
        let package = self.package(model, number).await?;
        let engine = self.engine();
        let names: Vec<&str> = package
            .columns
            .iter()
            .map(|column| column.name.as_str())
            .collect();
        let features = engine.set().select_columns(&names)?;
        Ok(Arc::new(Champion {
            number,
            package,
            features,
            engine,
        }))
    }

    /// A decision from the log or the lake.
    ///
    /// # Errors
    /// When a store fails.
    pub async fn decision(&self, id: DecisionId) -> Result<Option<Decision>, CycleError> {
        match self.decisions.get(id)? {
            Some(decision) => Ok(Some(decision)),
            None => Ok(self.stores.lake.decision(&self.project.name, id).await?),
        }
    }

    /// Everything that was known at a decision, why it was answered so, and what happened then.
    ///
    /// # Errors
    /// When a store fails or the version's artifact is damaged.
    pub async fn explain(&self, id: DecisionId) -> Result<Option<Explanation>, CycleError> {
        let Some(decision) = self.decision(id).await? else {
            return Ok(None);
        };
        let mut explanation = Explanation {
            decision,
            features: Vec::new(),
            reasons: Vec::new(),
            outcome: None,
        };
        let decision = &explanation.decision;
        match decision.version {
            Some(number) if self.is_recommender(&decision.model) => {
                let package = self.recommend_package(&decision.model, number).await?;
                let columns = package.person_features();
                if columns.len() == decision.features.len() {
                    explanation.features = NamedFeature::row(&columns, &decision.features);
                }
            }
            Some(number) => {
                let package = self.package(&decision.model, number).await?;
                explanation.features = NamedFeature::row(&package.columns, &decision.features);
                explanation.reasons = package.reasons(&decision.features, REASONS_MAX);
            }
            None => {}
        }
        explanation.outcome = self.joiner.outcome(decision)?;
        Ok(Some(explanation))
    }
}
