//! Versions in memory: one champion per model, swapped without stopping anybody.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use tidemill_core::decision::Answer;
use tidemill_core::event::PersonKey;
use tidemill_core::feature::FeatureValue;
use tidemill_core::project::{PredictModel, Project};
use tidemill_core::{ModelName, Timestamp};
use tidemill_features::{Engine, FeatureError, FeatureRow, ModelFeatures};
use tidemill_learn::{Reason, Task};

use crate::package::{Package, ignorance, task_of};
use crate::recommend::RecommendSlot;
use crate::rollout::Challenger;

/// Why a version did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It panicked.
    #[error("it panicked")]
    Panicked,
    /// It gave something that is no number, or not as many numbers as were asked for.
    #[error("it gave no number")]
    NotFinite,
    /// Its features could not be read.
    #[error("read its features")]
    Unreadable(#[source] FeatureError),
    /// Its list was shorter than the champion's for the same question.
    #[error("it gave a shorter list than the champion")]
    Short,
}

/// What a version says about a person.
pub struct Scored {
    /// What it read.
    pub row: FeatureRow,
    /// Its scores, all finite; none where nothing is known of the person.
    pub scores: Vec<f64>,
}

/// A version in memory with what it needs to answer: the one that does, or one that wants to.
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

impl Champion {
    /// The scores of a row, all of them finite. A version that panics has failed, and nothing else: what it leaves behind is dropped with
    /// its scores.
    ///
    /// # Errors
    /// When it panics or gives no numbers.
    pub fn scores(&self, row: &[FeatureValue]) -> Result<Vec<f64>, Failure> {
        let scores = catch_unwind(AssertUnwindSafe(|| self.package.scores(row)));
        let scores = scores.map_err(|_| Failure::Panicked)?;
        let is_answer = scores.len() == self.package.task.width()
            && scores.iter().all(|score| score.is_finite());
        is_answer.then_some(scores).ok_or(Failure::NotFinite)
    }

    /// The `most` strongest reasons for the answer to a row.
    ///
    /// # Errors
    /// When it panics.
    pub fn reasons(&self, row: &[FeatureValue], most: usize) -> Result<Vec<Reason>, Failure> {
        let reasons = catch_unwind(AssertUnwindSafe(|| self.package.reasons(row, most)));
        reasons.map_err(|_| Failure::Panicked)
    }

    /// Reads what is known of a person and scores it.
    ///
    /// # Errors
    /// As [`scores`](Self::scores), and when the features cannot be read.
    pub fn attempt(&self, person: &PersonKey, moment: Timestamp) -> Result<Scored, Failure> {
        // locks are given back when a thread unwinds
        let read = AssertUnwindSafe(|| self.engine.read(person, moment, &self.features));
        let row = catch_unwind(read).map_err(|_| Failure::Panicked)?;
        let row = row.map_err(Failure::Unreadable)?;
        let scores = match row.known {
            true => self.scores(&row.values)?,
            false => Vec::new(),
        };
        Ok(Scored { row, scores })
    }
}

/// A model of the project with what answers it now.
pub struct Slot {
    /// The question.
    pub model: PredictModel,
    /// Its kind.
    pub task: Task,
    champion: ArcSwapOption<Champion>,
    challenger: ArcSwapOption<Challenger>,
    fallback: ArcSwap<Answer>,
}

impl Slot {
    fn new(model: &PredictModel) -> Self {
        let task = task_of(&model.target);
        let fallback = ArcSwap::from_pointee(ignorance(&task));
        Self {
            model: model.clone(),
            task,
            champion: ArcSwapOption::empty(),
            challenger: ArcSwapOption::empty(),
            fallback,
        }
    }

    /// The same model with the same champion, apart from everybody: what happens there is heard by nobody.
    pub fn apart(&self) -> Self {
        let apart = Self::new(&self.model);
        apart.champion.store(self.champion.load_full());
        apart.fallback.store(self.fallback());
        apart
    }

    /// The version that takes over, where one does.
    pub fn challenger(&self) -> Option<Arc<Challenger>> {
        self.challenger.load_full()
    }

    /// Lets a version take over, or from now on none.
    pub fn set_challenger(&self, challenger: Option<Arc<Challenger>>) {
        self.challenger.store(challenger);
    }

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
        Self {
            slots: project
                .models
                .iter()
                .map(|(name, model)| (name.clone(), Slot::new(model)))
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
