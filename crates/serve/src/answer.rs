//! From a question about a person to an answer, a reason and a logged decision.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tidemill_core::assign::is_held_out;
use tidemill_core::clock::Stopwatch;
use tidemill_core::decision::{Answer, ClassProbability, Fallback, RolloutArm};
use tidemill_core::event::PersonKey;
use tidemill_core::project::ItemDeclaration;
use tidemill_core::{Clock, Decision, DecisionId, ModelName};
use tidemill_features::{Engine, FeatureRow};
use tidemill_learn::{Reason, Task};
use tidemill_store::StoreError;

use crate::decision_log::DecisionLog;
use crate::recommend::{Catalogue, ShownLately};
use crate::registry::{Champion, Registry, Slot};
use crate::rollout::{Challenger, ScoreQuestion, ShadowQueue, Trial};

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
    pub(crate) shadow: Arc<ShadowQueue>,
    pub(crate) clock: Arc<dyn Clock>,
    random: Box<dyn Fn() -> [u8; 10] + Send + Sync>,
}

impl Answerer {
    /// An answerer; `engine` is the one that is fed at the moment, `shadow` takes what a version that takes over answers again, `random` makes
    /// ids unguessable.
    pub fn new(
        engine: Arc<ArcSwap<Engine>>,
        registry: Arc<Registry>,
        (catalogue, items): (Arc<Catalogue>, Option<ItemDeclaration>),
        (decisions, shown): (Arc<DecisionLog>, Arc<dyn ShownLately>),
        shadow: Arc<ShadowQueue>,
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
            shadow,
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
        let mut answered = self.decide(slot, &person, &request.context)?;
        let reasons = request.reasons.then(|| answered.reasons());
        let decision = &mut answered.decision;
        decision.latency_us = stopwatch.micros();
        self.decisions.append(decision).map_err(ServeError::Log)?;
        answered.note();
        answered.report_failure();
        self.offer(&answered, person);
        let decision = answered.decision;
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
        let mut answered = self.decide(slot, person, &Map::new())?;
        let reasons = answered.reasons();
        Ok((answered.decision, reasons))
    }

    /// Answers as for a caller, on a slot that nobody hears, and notes how it went; nothing is logged.
    ///
    /// # Errors
    /// When the features cannot be read.
    pub fn rehearse(&self, slot: &Slot, person: &PersonKey) -> Result<Decision, ServeError> {
        let answered = self.decide(slot, person, &Map::new())?;
        answered.note();
        Ok(answered.decision)
    }

    fn decide(
        &self,
        slot: &Slot,
        person: &PersonKey,
        context: &Map<String, Value>,
    ) -> Result<Answered, ServeError> {
        let mut answered = Answered::fallback(self.blank(slot, context));
        let decision = &mut answered.decision;
        let Some(champion) = slot.champion() else {
            let engine = self.engine.load();
            decision.entity = engine
                .canonical(person)
                .map_err(ServeError::Features)?
                .as_str()
                .to_owned();
            decision.fallback = Some(Fallback::NoVersion);
            return Ok(answered);
        };
        answered.champion = Some(champion.clone());
        if let Some(challenger) = slot.challenger() {
            answered.stand(slot, challenger, person)?;
            if answered.is_challengers() && answered.answer_by_challenger(person) {
                return Ok(answered);
            }
        }
        answered.answer_by_champion(slot, champion, person)?;
        Ok(answered)
    }

    /// A decision before anything was answered.
    fn blank(&self, slot: &Slot, context: &Map<String, Value>) -> Decision {
        let moment = self.clock.now();
        Decision {
            id: DecisionId::new(moment, (self.random)()),
            model: slot.model.name.clone(),
            version: None,
            fallback: None,
            arm: None,
            entity: String::new(),
            moment,
            offset: self.engine.load().applied(),
            features: Vec::new(),
            context: context.clone(),
            answer: (*slot.fallback()).clone(),
            items: Vec::new(),
            candidates: Vec::new(),
            given: false,
            after: None,
            latency_us: 0,
        }
    }

    /// Lets both versions answer again beside the path, while one takes over.
    fn offer(&self, answered: &Answered, person: PersonKey) {
        let (Some(trial), Some(champion)) = (&answered.trial, &answered.champion) else {
            return;
        };
        let decision = &answered.decision;
        if trial
            .challenger
            .is_asked_again(decision.id, decision.version)
        {
            self.shadow.offer(Box::new(ScoreQuestion {
                decision: decision.id,
                person,
                moment: decision.moment,
                challenger: trial.challenger.clone(),
                champion: champion.clone(),
            }));
        }
    }
}

/// An answer before it is logged.
struct Answered {
    decision: Decision,
    /// The version that answered.
    by: Option<Arc<Champion>>,
    /// The version that answers for most, whoever answered.
    champion: Option<Arc<Champion>>,
    /// What is to be noted for a version that takes over.
    trial: Option<Trial<Champion>>,
}

impl Answered {
    fn fallback(decision: Decision) -> Self {
        Self {
            decision,
            by: None,
            champion: None,
            trial: None,
        }
    }

    /// Finds out where the person stands. Those of the permanent holdout stand nowhere.
    fn stand(
        &mut self,
        slot: &Slot,
        challenger: Arc<Challenger>,
        person: &PersonKey,
    ) -> Result<(), ServeError> {
        if challenger.share > 0.0 {
            let engine = &challenger.version.engine;
            let canonical = engine.canonical(person).map_err(ServeError::Features)?;
            if !is_held_out(&slot.model.name, slot.model.holdout, &canonical) {
                self.decision.arm = challenger.arm(&canonical);
            }
            canonical.as_str().clone_into(&mut self.decision.entity);
        }
        self.trial = Some(Trial::new(challenger));
        Ok(())
    }

    fn is_challengers(&self) -> bool {
        self.decision.arm == Some(RolloutArm::Challenger)
    }

    /// Lets the challenger answer; returns whether it did. Where it fails, the champion has to.
    fn answer_by_challenger(&mut self, person: &PersonKey) -> bool {
        let Some(trial) = &mut self.trial else {
            return false;
        };
        let version = trial.challenger.version.clone();
        let stopwatch = Stopwatch::start();
        let scored = version.attempt(person, self.decision.moment);
        trial.latency_us = stopwatch.micros();
        match scored {
            Ok(scored) if scored.row.known => {
                self.take(version, scored.row, &scored.scores);
                true
            }
            // what nothing is known of says nothing about either version
            Ok(_) => {
                self.decision.arm = None;
                false
            }
            Err(failure) => {
                trial.failure = Some(failure);
                false
            }
        }
    }

    fn answer_by_champion(
        &mut self,
        slot: &Slot,
        champion: Arc<Champion>,
        person: &PersonKey,
    ) -> Result<(), ServeError> {
        let stopwatch = Stopwatch::start();
        let decision = &mut self.decision;
        let row = champion
            .engine
            .read(person, decision.moment, &champion.features)
            .map_err(ServeError::Features)?;
        row.person.as_str().clone_into(&mut decision.entity);
        decision.offset = row.offset;
        if !row.known {
            decision.fallback = Some(Fallback::UnknownEntity);
            decision.arm = None;
            return Ok(());
        }
        if is_held_out(&slot.model.name, slot.model.holdout, &row.person) {
            decision.fallback = Some(Fallback::Holdout);
            decision.arm = None;
            return Ok(());
        }
        match champion.scores(&row.values) {
            Ok(scores) => self.take(champion, row, &scores),
            Err(failure) => {
                tracing::error!(model = %decision.model, version = champion.number, error = %failure, "the version failed");
                decision.features = row.values;
                decision.fallback = Some(Fallback::VersionFailed);
            }
        }
        if let Some(trial) = &mut self.trial
            && self.decision.arm == Some(RolloutArm::Control)
        {
            trial.latency_us = stopwatch.micros();
        }
        Ok(())
    }

    /// Takes what a version says as the answer.
    fn take(&mut self, version: Arc<Champion>, row: FeatureRow, scores: &[f64]) {
        let decision = &mut self.decision;
        row.person.as_str().clone_into(&mut decision.entity);
        decision.offset = row.offset;
        decision.features = row.values;
        decision.version = Some(version.number);
        decision.answer = version.package.answer(scores);
        self.by = Some(version);
    }

    /// Logs that the version that takes over failed; a drill plants one that does, and that is no news.
    fn report_failure(&self) {
        if let Some(trial) = &self.trial {
            trial.report_failure(&self.decision);
        }
    }

    /// Notes how it went for the version that takes over.
    fn note(&self) {
        if let Some(trial) = &self.trial {
            trial.note(&self.decision);
        }
    }

    /// Why it was answered so; nothing where the fallback answered, or where the version cannot say, which counts as a failure of it.
    fn reasons(&mut self) -> Vec<Reason> {
        let Some(version) = &self.by else {
            return Vec::new();
        };
        match version.reasons(&self.decision.features, REASONS_DEFAULT) {
            Ok(reasons) => reasons,
            Err(failure) => {
                let model = &self.decision.model;
                tracing::error!(%model, version = version.number, error = %failure, "the version cannot say why");
                if let (true, Some(trial)) = (self.is_challengers(), &mut self.trial) {
                    trial.failure = Some(failure);
                }
                Vec::new()
            }
        }
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
