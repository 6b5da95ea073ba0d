//! From a question about a person to an answer, a reason and a logged decision.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tidemill_core::assign::is_held_out;
use tidemill_core::clock::Stopwatch;
use tidemill_core::decision::{Answer, ClassProbability, Fallback};
use tidemill_core::event::PersonKey;
use tidemill_core::project::ItemDeclaration;
use tidemill_core::{Clock, Decision, DecisionId, ModelName};
use tidemill_features::Engine;
use tidemill_learn::{Reason, Task};
use tidemill_store::StoreError;

use crate::decision_log::DecisionLog;
use crate::recommend::{Catalogue, ShownLately};
use crate::registry::{Champion, Registry, Slot};

/// How many reasons an answer carries when it is asked for them without a number.
pub const REASONS_DEFAULT: usize = 3;

/// Why there is no answer. A missing version is not among these: then the fallback answers.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The project has no such model.
    #[error("there is no model '{0}'")]
    UnknownModel(String),
    /// Neither `user` nor `anonymous_id` was given.
    #[error("the question names nobody")]
    Nobody,
    /// The features could not be read.
    #[error("read the features")]
    Features(#[source] tidemill_features::FeatureError),
    /// More was sent than is accepted.
    #[error("'{field}' has {found}, at most {most} are accepted")]
    TooMany {
        /// Of what.
        field: &'static str,
        /// How many.
        found: usize,
        /// At most.
        most: usize,
    },
    /// An expression or a number of the request is wrong.
    #[error("{message}")]
    BadExpression {
        /// Which part of the request.
        field: &'static str,
        /// What is wrong.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The list that this one should go on with is not known, or not any more.
    #[error("there is no decision {0}")]
    UnknownDecision(DecisionId),
    /// The decision could not be logged.
    #[error("log the decision")]
    Log(#[source] StoreError),
}

/// A question about one person.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictRequest {
    /// The person, by the id that the product knows them by.
    #[serde(default)]
    pub user: Option<String>,
    /// The person, by an id made before the product knew them.
    #[serde(default)]
    pub anonymous_id: Option<String>,
    /// Anything that belongs to the question; logged with the decision.
    #[serde(default)]
    pub context: Map<String, Value>,
    /// Whether to say why.
    #[serde(default)]
    pub reasons: bool,
}

impl PredictRequest {
    /// Whom it is about.
    pub fn person(&self) -> Option<PersonKey> {
        person_of(&self.user, &self.anonymous_id)
    }
}

/// The person of a question: the user where one is named, else the anonymous id; an empty id names nobody.
pub(crate) fn person_of(user: &Option<String>, anonymous: &Option<String>) -> Option<PersonKey> {
    let given = |id: &Option<String>| id.clone().filter(|id| !id.is_empty());
    match (given(user), given(anonymous)) {
        (Some(user), _) => Some(PersonKey::user(&user)),
        (None, Some(anonymous)) => Some(PersonKey::anonymous(&anonymous)),
        (None, None) => None,
    }
}

/// An answer as it is given to the caller.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prediction {
    /// The decision: ask `/v1/decisions/{id}` why, send it back with outcomes.
    pub decision_id: DecisionId,
    /// The question.
    pub model: ModelName,
    /// The version that answered: `will_return@17`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Why the plain fallback answered, where it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// A probability, or an amount.
    pub score: f64,
    /// For yes/no questions and next actions: the likelihood of the label's class or of yes, from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// `yes` or `no`, or the most likely next action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Every class, for next actions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub probabilities: Vec<ClassProbability>,
    /// Why, strongest first, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasons: Option<Vec<Reason>>,
}

/// What was counted when an answer was given.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answering {
    /// How long it took, in microseconds.
    pub latency_us: u64,
    /// Why the fallback answered, where it did.
    pub fallback: Option<Fallback>,
    /// The number of the version.
    pub version: Option<u32>,
}

/// Answers the questions of one project.
pub struct Answerer {
    pub(crate) engine: Arc<ArcSwap<Engine>>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) items: Option<ItemDeclaration>,
    pub(crate) decisions: Arc<DecisionLog>,
    pub(crate) shown: Arc<dyn ShownLately>,
    pub(crate) clock: Arc<dyn Clock>,
    random: Box<dyn Fn() -> [u8; 10] + Send + Sync>,
}

impl Answerer {
    /// An answerer; `engine` is the one that is fed at the moment, `random` makes ids unguessable.
    pub fn new(
        engine: Arc<ArcSwap<Engine>>,
        registry: Arc<Registry>,
        (catalogue, items): (Arc<Catalogue>, Option<ItemDeclaration>),
        (decisions, shown): (Arc<DecisionLog>, Arc<dyn ShownLately>),
        clock: Arc<dyn Clock>,
        random: Box<dyn Fn() -> [u8; 10] + Send + Sync>,
    ) -> Self {
        Self {
            engine,
            registry,
            catalogue,
            items,
            decisions,
            shown,
            clock,
            random,
        }
    }

    /// Ten random bytes for a new id.
    pub fn random(&self) -> [u8; 10] {
        (self.random)()
    }

    /// Answers one question and logs the decision.
    ///
    /// # Errors
    /// When there is no such model, nobody is named, or the features cannot be read or the decision not logged.
    pub fn predict(
        &self,
        model: &ModelName,
        request: &PredictRequest,
    ) -> Result<(Prediction, Answering), ServeError> {
        let stopwatch = Stopwatch::start();
        let slot = self
            .registry
            .slot(model)
            .ok_or_else(|| ServeError::UnknownModel(model.to_string()))?;
        let person = request.person().ok_or(ServeError::Nobody)?;
        let champion = slot.champion();
        let mut decision = self.decide(slot, champion.as_deref(), &person, &request.context)?;
        let reasons = request
            .reasons
            .then(|| reasons(champion.as_deref(), &decision));
        decision.latency_us = stopwatch.micros();
        self.decisions.append(&decision).map_err(ServeError::Log)?;
        let answering = Answering {
            latency_us: stopwatch.micros(),
            fallback: decision.fallback,
            version: decision.version,
        };
        Ok((prediction(&slot.task, decision, reasons), answering))
    }

    /// What a model would answer about a person now, and why. Nobody acts on it, so it is not logged.
    ///
    /// # Errors
    /// When the features cannot be read.
    pub fn preview(
        &self,
        slot: &Slot,
        person: &PersonKey,
    ) -> Result<(Decision, Vec<Reason>), ServeError> {
        let champion = slot.champion();
        let decision = self.decide(slot, champion.as_deref(), person, &Map::new())?;
        let reasons = reasons(champion.as_deref(), &decision);
        Ok((decision, reasons))
    }

    fn decide(
        &self,
        slot: &Slot,
        champion: Option<&Champion>,
        person: &PersonKey,
        context: &Map<String, Value>,
    ) -> Result<Decision, ServeError> {
        let moment = self.clock.now();
        let engine = self.engine.load();
        let mut decision = Decision {
            id: DecisionId::new(moment, (self.random)()),
            model: slot.model.name.clone(),
            version: None,
            fallback: None,
            entity: String::new(),
            moment,
            offset: engine.applied(),
            features: Vec::new(),
            context: context.clone(),
            answer: (*slot.fallback()).clone(),
            items: Vec::new(),
            candidates: Vec::new(),
            given: false,
            after: None,
            latency_us: 0,
        };
        let Some(champion) = champion else {
            decision.entity = engine
                .canonical(person)
                .map_err(ServeError::Features)?
                .as_str()
                .to_owned();
            decision.fallback = Some(Fallback::NoVersion);
            return Ok(decision);
        };
        let row = champion
            .engine
            .read(person, moment, &champion.features)
            .map_err(ServeError::Features)?;
        decision.entity = row.person.as_str().to_owned();
        decision.offset = row.offset;
        if !row.known {
            decision.fallback = Some(Fallback::UnknownEntity);
            return Ok(decision);
        }
        if is_held_out(&slot.model.name, slot.model.holdout, &row.person) {
            decision.fallback = Some(Fallback::Holdout);
            return Ok(decision);
        }
        let scores = champion.package.scores(&row.values);
        decision.features = row.values;
        if scores.iter().all(|score| score.is_finite()) {
            decision.version = Some(champion.number);
            decision.answer = champion.package.answer(&scores);
        } else {
            tracing::error!(model = %slot.model.name, version = champion.number, "the version gave no number");
            decision.fallback = Some(Fallback::VersionFailed);
        }
        Ok(decision)
    }
}

/// Why the champion answered so; nothing where the fallback did.
fn reasons(champion: Option<&Champion>, decision: &Decision) -> Vec<Reason> {
    match (champion, decision.version) {
        (Some(champion), Some(_)) => champion
            .package
            .reasons(&decision.features, REASONS_DEFAULT),
        _ => Vec::new(),
    }
}

fn prediction(task: &Task, decision: Decision, reasons: Option<Vec<Reason>>) -> Prediction {
    let version = decision.version_id();
    let Answer {
        score,
        label,
        probabilities,
    } = decision.answer;
    Prediction {
        decision_id: decision.id,
        version: version.map(|version| version.to_string()),
        model: decision.model,
        fallback: decision.fallback,
        score,
        probability: (*task != Task::Regression).then_some(score),
        label,
        probabilities,
        reasons,
    }
}
