//! Models that recommend: learnt from what everybody took, examined on what they took then, promoted if they pass.

mod divide;
mod examine;
mod shown;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tidemill_core::clock::Stopwatch;
use tidemill_core::project::RecommendModel;
use tidemill_core::{ModelName, Span, Timestamp};
use tidemill_features::dataset::{InteractionLog, interactions};
use tidemill_learn::recommend::{Question, Recommender, Record};
use tidemill_serve::recommend::{
    RecommendChampion, RecommendPackage, RecommendSlot, Rulebook, SignalOf,
};
use tidemill_store::catalog::{Run, RunState};
use tidemill_store::lake::EventsSnapshot;

use crate::examine::Compared;
use crate::project_loop::{CycleError, ProjectLoop};
use crate::run::describe;
use divide::{divide, most_taken};
use examine::Examining;
pub(crate) use examine::METRIC_NAME;
pub use examine::RecommendExamination;
pub(crate) use shown::Shown;

/// The fewest persons of the examined period that are worth comparing on.
const CASES_MIN: usize = 30;
/// From this budget on, all sources are tried and their parameters searched for.
const THOROUGH_FROM: f64 = 0.5;
/// Histories whose lists prove a packaged model.
const GOLDEN: usize = 20;

/// Everything about a run of a model that recommends.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RecommendDetail {
    /// Which events it saw.
    pub snapshot: Option<EventsSnapshot>,
    /// How much was taken, by how many persons, of how many items.
    pub signals: usize,
    /// Persons.
    pub persons: usize,
    /// Items.
    pub items: usize,
    /// Events that say what somebody likes but not who, or not what.
    pub incomplete: u64,
    /// When the examined period begins; nothing from there on was learnt from.
    pub examined_from: Option<Timestamp>,
    /// Persons who took something then.
    pub cases: usize,
    /// Which sources were chosen, and what each is worth.
    pub record: Option<Record>,
    /// What the examination found.
    pub examination: Option<RecommendExamination>,
    /// How long it took, in seconds of real time.
    pub seconds: RecommendSeconds,
}

/// How long each stage took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct RecommendSeconds {
    /// Reading what everybody took.
    pub read: f64,
    /// Choosing and fitting.
    pub fit: f64,
    /// Examining.
    pub examine: f64,
}

impl ProjectLoop {
    /// A model that recommends.
    ///
    /// # Errors
    /// When there is none with that name.
    pub fn recommender(&self, model: &ModelName) -> Result<&RecommendSlot, CycleError> {
        let slot = self.registry.recommender(model);
        slot.ok_or_else(|| CycleError::UnknownModel(model.to_string()))
    }

    /// Whether a model recommends.
    pub fn is_recommender(&self, model: &ModelName) -> bool {
        self.registry.recommender(model).is_some()
    }

    /// When a model that recommends is trained next by its schedule.
    pub(crate) fn next_recommend_run(
        &self,
        model: &RecommendModel,
    ) -> Result<Option<Timestamp>, CycleError> {
        let last = self.model_state(&model.name)?.last_run;
        let now = self.clock.now();
        let every = model.retrain.every;
        Ok(every.map(|every| last.map_or(now, |last| last + every)))
    }

    /// The models that recommend and are due, with why.
    pub(crate) fn recommenders_due(&self) -> Result<Vec<(ModelName, &'static str)>, CycleError> {
        let now = self.clock.now();
        let seen = self.engine().seen();
        let mut due = Vec::new();
        for slot in self.registry.recommenders() {
            let model = &slot.model;
            let count = |event: &String| seen.events.get(event).map_or(0, |event| event.count);
            let taken: u64 = model.signals.keys().map(count).sum();
            if taken == 0 {
                continue;
            }
            let state = self.model_state(&model.name)?;
            let is_redefined = |asked: &String| *asked != definition_of(model);
            let Some(last) = state.last_run else {
                due.push((model.name.clone(), "schedule"));
                continue;
            };
            let new = taken.saturating_sub(state.last_targets);
            let enough = model.retrain.min_new_targets.is_none_or(|min| new >= min);
            let rested = model.retrain.every.unwrap_or(Span::from_seconds(3_600));
            if state.definition.as_ref().is_some_and(is_redefined) {
                due.push((model.name.clone(), "new_definition"));
            } else if now >= last + rested && enough {
                let why = if model.retrain.every.is_some() {
                    "schedule"
                } else {
                    "new_targets"
                };
                due.push((model.name.clone(), why));
            }
        }
        Ok(due)
    }

    /// Learns, examines, registers, promotes. The caller holds the lock of runs.
    pub(crate) async fn train_recommender(
        self: &Arc<Self>,
        model: &ModelName,
        trigger: &str,
        actor: &str,
    ) -> Result<Run, CycleError> {
        let now = self.clock.now();
        let mut run = self.new_run(model, trigger, now);
        self.stores.catalog.put_run(&run).await?;
        let declared = self.recommender(model)?.model.clone();
        let seen = self.engine().seen();
        let count = |event: &String| seen.events.get(event).map_or(0, |event| event.count);
        let mut state = self.model_state(model)?;
        state.last_run = Some(now);
        state.last_targets = declared.signals.keys().map(count).sum();
        state.definition = Some(definition_of(&declared));
        self.put_model_state(model, &state)?;
        let mut detail = RecommendDetail::default();
        match self.learn(&declared, &mut run, &mut detail, actor).await {
            Ok(()) => {}
            Err(error) => {
                run.state = RunState::Failed;
                run.summary = describe(&error);
                tracing::error!(%model, error = run.summary, "the run failed");
            }
        }
        self.close(&mut run, &detail).await?;
        Ok(run)
    }

    async fn learn(
        self: &Arc<Self>,
        model: &RecommendModel,
        run: &mut Run,
        detail: &mut RecommendDetail,
        actor: &str,
    ) -> Result<(), CycleError> {
        let stopwatch = Stopwatch::start();
        let log = self.taken(model, detail).await?;
        detail.seconds.read = stopwatch.seconds();
        let champion = self.recommender(&model.name)?.champion();
        let (this, declared) = (self.clone(), model.clone());
        let made = tokio::task::spawn_blocking(move || {
            let log = log;
            this.training
                .install(|| this.make_recommender(&declared, &log, champion.as_deref()))
        })
        .await
        .map_err(|_| CycleError::Ended("training"))?;
        let Made {
            package,
            popular,
            divided_from,
            cases,
            examination,
            seconds,
        } = made;
        self.note_popular(model, popular)?;
        detail.examined_from = Some(divided_from);
        detail.cases = cases;
        detail.seconds.fit = seconds.fit;
        detail.seconds.examine = seconds.examine;
        let (Some(package), Some(examination)) = (package, examination) else {
            run.state = RunState::Skipped;
            run.summary = format!(
                "there is too little to learn from yet: {cases} persons took something in the newest period, {CASES_MIN} are needed"
            );
            return Ok(());
        };
        detail.record = Some(package.fitted.record().clone());
        detail.examination = Some(examination.clone());
        let bytes = package.to_bytes().map_err(|source| CycleError::Package {
            version: model.name.to_string(),
            source,
        })?;
        let artifact = self.stores.artifacts.put(bytes).await?;
        self.add_version(run, artifact, detail, &examination.verdict, actor)
            .await
    }

    /// Everything that was taken so far.
    async fn taken(
        self: &Arc<Self>,
        model: &RecommendModel,
        detail: &mut RecommendDetail,
    ) -> Result<InteractionLog, CycleError> {
        self.catch_up().await?;
        self.land(true).await?;
        self.follow_definitions().await?;
        let snapshot = self.stores.lake.events_snapshot(&self.project.name).await?;
        detail.snapshot = Some(snapshot);
        let table = self
            .stores
            .lake
            .event_table(&self.project.name, snapshot)
            .await?;
        let signals: Vec<String> = model.signals.keys().cloned().collect();
        let Some(items) = self.project.items.clone() else {
            return Ok(InteractionLog::default());
        };
        let log = tokio::task::spawn_blocking(move || {
            let signals: Vec<&str> = signals.iter().map(String::as_str).collect();
            interactions(&*table, &items.id, &signals)
        })
        .await
        .map_err(|_| CycleError::Ended("reading events"))??;
        detail.signals = log.taken.len();
        detail.persons = log.persons;
        detail.items = log.items.len();
        detail.incomplete = log.incomplete;
        Ok(log)
    }

    /// The part of a run that computes; it runs on the training threads.
    fn make_recommender(
        &self,
        model: &RecommendModel,
        log: &InteractionLog,
        champion: Option<&RecommendChampion>,
    ) -> Made {
        let stopwatch = Stopwatch::start();
        let weights: Vec<f32> = model
            .signals
            .values()
            .map(|weight| *weight as f32)
            .collect();
        let divided = divide(model, log, &weights, self.clock.now());
        let popular = most_taken(&divided.train);
        let mut made = Made {
            package: None,
            popular: popular
                .iter()
                .map(|item| log.items[*item as usize].clone())
                .collect(),
            divided_from: divided.examined_from,
            cases: divided.cases.len(),
            examination: None,
            seconds: RecommendSeconds::default(),
        };
        if divided.cases.len() < CASES_MIN {
            return made;
        }
        let thorough = model.training.budget.unwrap_or(THOROUGH_FROM) >= THOROUGH_FROM;
        let recommender = match thorough {
            true => Recommender::new(Question::Later),
            false => Recommender::quick(Question::Later),
        };
        let most = weights.iter().copied().fold(0.0, f32::max);
        let recommender = Recommender {
            goal: most,
            seed: model.training.seed,
            exclude_seen: model.repeat.map(|repeat| !repeat),
            ..recommender
        };
        let fitted = recommender.fit(&divided.train);
        let golden = divided
            .histories
            .iter()
            .filter(|history| !history.is_empty());
        let signals = model.signals.iter();
        let package = RecommendPackage::new(
            (self.project.name.clone(), model.name.clone()),
            log.items.clone(),
            signals
                .map(|(event, weight)| SignalOf {
                    event: event.clone(),
                    weight: *weight as f32,
                })
                .collect(),
            fitted,
            popular.clone(),
            divided.examined_from,
            golden.take(GOLDEN).cloned(),
        );
        made.seconds.fit = stopwatch.seconds();
        let examining = Examining {
            model,
            log,
            cases: &divided.cases,
            resamples: self.options.resamples,
        };
        made.examination = Some(examining.examine(&package, &popular, champion));
        made.package = Some(package);
        made.seconds.examine = stopwatch.seconds() - made.seconds.fit;
        made
    }

    fn note_popular(
        &self,
        model: &RecommendModel,
        popular: Vec<Arc<str>>,
    ) -> Result<(), CycleError> {
        let mut state = self.model_state(&model.name)?;
        state.popular = popular.iter().map(ToString::to_string).collect();
        self.put_model_state(&model.name, &state)?;
        self.recommender(&model.name)?.set_popular(popular);
        Ok(())
    }

    /// Lets a version recommend from now on, or what everybody takes.
    pub(crate) async fn activate_recommender(
        &self,
        slot: &RecommendSlot,
        number: Option<u32>,
    ) -> Result<(), CycleError> {
        let model = &slot.model;
        let rules = Rulebook::compile(&self.project, model, self.engine().set())?;
        slot.set_rules(rules);
        let champion = match number {
            Some(number) => {
                let package = self.recommend_package(&model.name, number).await?;
                Some(Arc::new(RecommendChampion::new(number, package)))
            }
            None => None,
        };
        slot.set_champion(champion);
        Ok(())
    }

    async fn recommend_package(
        &self,
        model: &ModelName,
        number: u32,
    ) -> Result<RecommendPackage, CycleError> {
        let version = self.version(model, number).await?;
        let bytes = self.stores.artifacts.get(&version.artifact).await?;
        RecommendPackage::from_bytes(&bytes).map_err(|source| CycleError::Package {
            version: format!("{model}@{number}"),
            source,
        })
    }

    /// What the examination of a version promised.
    pub(crate) async fn recommend_promised(
        &self,
        model: &ModelName,
        number: u32,
    ) -> Result<Option<Compared>, CycleError> {
        let version = self.version(model, number).await?;
        let detail: Option<RecommendDetail> = serde_json::from_value(version.detail).ok();
        let examination = detail.and_then(|detail| detail.examination);
        Ok(examination.map(|examination| examination.challenger))
    }
}

/// What the working thread of a run brings back.
struct Made {
    package: Option<RecommendPackage>,
    popular: Vec<Arc<str>>,
    divided_from: Timestamp,
    cases: usize,
    examination: Option<RecommendExamination>,
    seconds: RecommendSeconds,
}

/// One hash of everything that decides what is learnt.
fn definition_of(model: &RecommendModel) -> String {
    let text = format!("{:?} {:?} {:?}", model.signals, model.within, model.repeat);
    let digest = Sha256::digest(text);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
