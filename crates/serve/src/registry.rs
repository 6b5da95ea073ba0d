//! Versions in memory: one champion per model, swapped without stopping anybody.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use tidemill_core::ModelName;
use tidemill_core::decision::Answer;
use tidemill_core::project::{PredictModel, Project};
use tidemill_features::{Engine, ModelFeatures};
use tidemill_learn::Task;

use crate::package::{Package, ignorance, task_of};
use crate::recommend::RecommendSlot;

/// The version that answers, with what it needs to.
pub struct Champion {
    /// Its number.
    pub number: u32,
    /// The packaged model.
    pub package: Package,
    /// Which of the engine's features it reads.
    pub features: ModelFeatures,
    /// Where it reads them: a version keeps the engine whose definitions it was activated with, so that two
    /// definitions never mix in one answer.
    pub engine: Arc<Engine>,
}

/// A model of the project with what answers it now.
pub struct Slot {
    /// The question.
    pub model: PredictModel,
    /// Its kind.
    pub task: Task,
    champion: ArcSwapOption<Champion>,
    fallback: ArcSwap<Answer>,
}

impl Slot {
    /// The version that answers. A request keeps the one that it got, whatever is swapped meanwhile.
    pub fn champion(&self) -> Option<Arc<Champion>> {
        self.champion.load_full()
    }

    /// Lets another version answer from now on, or none.
    pub fn set_champion(&self, champion: Option<Arc<Champion>>) {
        self.champion.store(champion);
    }

    /// The plain answer.
    pub fn fallback(&self) -> Arc<Answer> {
        self.fallback.load_full()
    }

    /// Sets the plain answer: what the newest run found to be the base rate.
    pub fn set_fallback(&self, answer: Answer) {
        self.fallback.store(Arc::new(answer));
    }
}

/// The models of one project. Models come and go with the project file, so the set itself never changes.
pub struct Registry {
    slots: BTreeMap<ModelName, Slot>,
    recommenders: BTreeMap<ModelName, RecommendSlot>,
}

impl Registry {
    /// A registry in which every model still answers with its fallback.
    pub fn new(project: &Project) -> Self {
        let slot = |model: &PredictModel| {
            let task = task_of(&model.target);
            let fallback = ArcSwap::from_pointee(ignorance(&task));
            Slot {
                model: model.clone(),
                task,
                champion: ArcSwapOption::empty(),
                fallback,
            }
        };
        Self {
            slots: project
                .models
                .iter()
                .map(|(name, model)| (name.clone(), slot(model)))
                .collect(),
            recommenders: project
                .recommenders
                .iter()
                .map(|(name, model)| (name.clone(), RecommendSlot::new(model)))
                .collect(),
        }
    }

    /// A model that recommends.
    pub fn recommender(&self, model: &ModelName) -> Option<&RecommendSlot> {
        self.recommenders.get(model)
    }

    /// All models that recommend, in the order of their names.
    pub fn recommenders(&self) -> impl Iterator<Item = &RecommendSlot> {
        self.recommenders.values()
    }

    /// A model that predicts.
    pub fn slot(&self, model: &ModelName) -> Option<&Slot> {
        self.slots.get(model)
    }

    /// All models that predict, in the order of their names.
    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.values()
    }
}
