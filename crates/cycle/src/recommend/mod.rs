//! Models that recommend: learnt from what everybody took, examined on what they took then, promoted if they pass.

mod accepted;
mod background;
mod divide;
mod examine;
mod fresh;
mod impressions;
mod recommender;
mod run;
mod shown;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tidemill_core::project::{ItemDeclaration, RecommendModel};
use tidemill_core::{FeatureTable, ModelName, Timestamp};
use tidemill_features::ModelFeatures;
use tidemill_features::dataset::{InteractionLog, interactions};
use tidemill_learn::recommend::{Background, Holdout, Recommender, Record, Segment};
use tidemill_monitor::alerts::Alert;
use tidemill_serve::PackageError;
use tidemill_serve::recommend::{
    RecommendChampion, RecommendPackage, RecommendSlot, Rulebook, SignalOf,
};
use tidemill_store::EventTable;
use tidemill_store::lake::EventsSnapshot;

use crate::examine::Compared;
use crate::lanes::Lane;
use crate::project_loop::{CycleError, ProjectLoop};
use crate::register::Progress;
use crate::schedule::{COOL_DOWN, alarm};
use background::{Catalogues, Persons, texts};
use divide::{Divided, divide};
pub(crate) use examine::METRIC_NAME;
pub use examine::RecommendExamination;
use impressions::shown_lists;
pub use recommender::recommender_of;
pub(crate) use run::RecommendRun;
pub(crate) use shown::Shown;

/// The fewest persons of the examined period that are worth comparing on.
const CASES_MIN: usize = 30;

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
    /// One hash of everything that decides what is learnt.
    #[serde(default)]
    pub definition: String,
    /// How far it has come.
    #[serde(default)]
    pub progress: Progress,
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
    pub(crate) fn recommenders_due(
        &self,
        alerts: &[Alert],
    ) -> Result<Vec<(ModelName, &'static str)>, CycleError> {
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
            let rested = model.retrain.every.unwrap_or(COOL_DOWN);
            if state.definition.as_ref().is_some_and(is_redefined) {
                due.push((model.name.clone(), "new_definition"));
            } else if let (true, Some(alarm)) = (
                new > 0 && now >= last + COOL_DOWN,
                alarm((&model.name, &model.retrain), Some(last), &[], alerts),
            ) {
                due.push((model.name.clone(), alarm.as_str()));
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

    /// Everything that was taken up to the run's snapshot, and the events that it is from.
    async fn taken(
        self: &Arc<Self>,
        model: &RecommendModel,
        detail: &mut RecommendDetail,
        lane: &Lane,
    ) -> Result<(InteractionLog, Arc<dyn EventTable>), CycleError> {
        let Some(snapshot) = detail.snapshot else {
            return Err(CycleError::Ended("reading what was taken"));
        };
        let table = self
            .stores
            .lake
            .event_table(&self.project.name, snapshot)
            .await?;
        let signals: Vec<String> = model.signals.keys().cloned().collect();
        let Some(items) = self.project.items.clone() else {
            return Ok((InteractionLog::default(), table));
        };
        let events = table.clone();
        let taken = lane.compute(move || {
            let signals: Vec<&str> = signals.iter().map(String::as_str).collect();
            interactions(&*events, &items.id, &signals)
        });
        let log = taken.await??;
        detail.signals = log.taken.len();
        detail.persons = log.persons.len();
        detail.items = log.items.len();
        detail.incomplete = log.incomplete;
        Ok((log, table))
    }

    /// Divides what was taken, holds a part back, and reads what was known of items and people then.
    async fn prepare(
        self: &Arc<Self>,
        model: &RecommendModel,
        log: InteractionLog,
        (table, lane): (Arc<dyn EventTable>, &Lane),
        now: Timestamp,
    ) -> Result<Learning, CycleError> {
        let (declared, items) = (model.clone(), self.project.items.clone());
        let events = table.clone();
        let learning = lane
            .compute(move || Learning::prepare(&declared, items.as_ref(), (log, &*events), now));
        let mut learning = learning.await??;
        if learning.divided.cases.len() >= CASES_MIN {
            let period = (learning.held_back_from, learning.divided.examined_from);
            let decisions = self.shown_between(model, period)?;
            let weights = weights_of(model);
            learning.holdout.shown =
                shown_lists(&decisions, model, &learning.log, &weights, period.1);
            let features = self.engine().set().select_for_lists(model)?;
            let Learning { log, divided, .. } = &learning;
            let cases = (&learning.holdout, divided);
            let persons = self
                .persons_of(&features, log, cases, (table.clone(), lane))
                .await?;
            if let Some(segment) = &model.segment {
                let moments = [learning.held_back_from, learning.divided.examined_from];
                let segments = self
                    .segments_at(&segment.text, &learning.log, moments, (table, lane))
                    .await?;
                learning.divide_people(&segment.text, &persons, segments);
            }
            learning.background.persons = persons.held_back;
            features
                .set()
                .hash()
                .clone_into(&mut learning.definition_hash);
            learning.examined = persons.examined;
        }
        Ok(learning)
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
            Some(number) => Some(self.load_recommender(&model.name, number).await?),
            None => None,
        };
        slot.set_champion(champion);
        Ok(())
    }

    /// A version with the features that it reads, as they are now.
    pub(crate) async fn load_recommender(
        &self,
        model: &ModelName,
        number: u32,
    ) -> Result<Arc<RecommendChampion>, CycleError> {
        let package = self.recommend_package(model, number).await?;
        let person = self.person_features(&package);
        // what is damaged inside must not take those along that are loaded with it
        let made = AssertUnwindSafe(|| RecommendChampion::new(number, package, person));
        let made = catch_unwind(made).map_err(|_| CycleError::Package {
            version: format!("{model}@{number}"),
            source: PackageError::Damaged("it panics when it is loaded".to_owned()),
        })?;
        Ok(Arc::new(made))
    }

    /// The features of people that a version reads, out of those that are kept now.
    fn person_features(&self, package: &RecommendPackage) -> Option<ModelFeatures> {
        let columns = package.person_features();
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        if names.is_empty() {
            return None;
        }
        let selected = self.engine().set().select_columns(&names);
        selected
            .inspect_err(|error| {
                let model = &package.model;
                tracing::warn!(%model, %error, "it recommends without what it knew of people, until it is trained again");
            })
            .ok()
    }

    pub(crate) async fn recommend_package(
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

/// What a run learns from and examines on.
struct Learning {
    /// The items that nobody took are at its end.
    log: InteractionLog,
    divided: Divided,
    recommender: Recommender,
    /// When what is held back to choose by begins.
    held_back_from: Timestamp,
    holdout: Holdout,
    background: Background,
    /// The features of those who are examined.
    examined: FeatureTable,
    /// The definitions of these features.
    definition_hash: String,
}

impl Learning {
    fn prepare(
        model: &RecommendModel,
        items: Option<&ItemDeclaration>,
        (mut log, events): (InteractionLog, &dyn EventTable),
        now: Timestamp,
    ) -> Result<Self, CycleError> {
        let weights = weights_of(model);
        let mut divided = divide(model, &log, &weights, now);
        let recommender = recommender_of(model)?;
        let mut background = Background::default();
        let mut holdout = recommender.hold_back(&divided.train);
        let first = holdout.cases.iter().map(|case| case.now).min();
        let held_back_from = first.map_or(divided.examined_from, |seconds| {
            Timestamp::from_micros(seconds.saturating_mul(1_000_000))
        });
        if let Some(declared) = items {
            let moments = (held_back_from, divided.examined_from);
            let catalogues = Catalogues::read(events, &log, moments)?;
            log.items.extend(catalogues.never_taken(&log));
            background = catalogues.background(declared, &log.items);
        }
        divided.train = divided.train.with_items(log.items.len());
        holdout.fit = holdout.fit.with_items(log.items.len());
        Ok(Self {
            log,
            divided,
            recommender,
            held_back_from,
            holdout,
            background,
            examined: FeatureTable::new(Vec::new()),
            definition_hash: String::new(),
        })
    }

    /// Says of which segment everybody is: of those whom cases are about when they are asked, of all when what is held back begins and when
    /// what is examined does.
    fn divide_people(
        &mut self,
        segment: &str,
        persons: &Persons,
        [then, now]: [Vec<Option<Segment>>; 2],
    ) {
        self.holdout.fit.set_segments(then);
        self.divided.train.set_segments(now);
        let shown = self.holdout.shown.iter_mut().map(|list| &mut list.case);
        let held_back = self.holdout.cases.iter_mut().chain(shown);
        for (case, segment) in held_back.zip(texts(&persons.held_back, segment)) {
            case.segment = segment;
        }
        let examined = self.divided.cases.iter_mut();
        for (case, segment) in examined.zip(texts(&persons.examined, segment)) {
            case.segment = segment;
        }
    }
}

fn weights_of(model: &RecommendModel) -> Vec<f32> {
    let weights = model.signals.values();
    weights.map(|weight| *weight as f32).collect()
}

fn signals_of(model: &RecommendModel) -> Vec<SignalOf> {
    let signals = model.signals.iter();
    signals
        .map(|(event, weight)| SignalOf {
            event: event.clone(),
            weight: *weight as f32,
        })
        .collect()
}

/// One hash of everything that decides what is learnt.
pub(crate) fn definition_of(model: &RecommendModel) -> String {
    let features = model.features.iter().flatten();
    let features: Vec<&str> = features.map(|pattern| pattern.text.as_str()).collect();
    let named = model.sources.iter().flatten();
    let named: Vec<_> = named
        .map(|source| (&source.name.text, source.weight))
        .collect();
    // nothing where nothing is pinned: what was learnt before there were pins stays what it was
    let pinned = match (named.as_slice(), model.ranker) {
        ([], None) => String::new(),
        pinned => format!(" {pinned:?}"),
    };
    let segment = model.segment.as_ref();
    let segment = segment.map_or(String::new(), |segment| format!(" by {}", segment.text));
    let text = format!(
        "{:?} {:?} {:?} {features:?}{pinned}{segment}",
        model.signals, model.within, model.repeat
    );
    let digest = Sha256::digest(text);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
