//! How a version takes over: shadow, canary, champion, or back at once where it does not keep to a guardrail.
//!
//! A rollout is a row in the catalog; what goes on is in memory, in the model's slot. The pointer in the slot changes first when a
//! version is stopped, the catalog follows; when a version gets more people it is the other way round. After a restart a rollout goes on
//! at the stage that the catalog has, and its answers are counted anew.

pub(crate) mod guard;
mod outcomes;
pub(crate) mod place;
mod resume;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tidemill_core::project::RolloutRules;
use tidemill_core::sync::Mutex;
use tidemill_core::{ModelName, Span, Timestamp};
use tidemill_evaluate::experiment::SampleRatio;
use tidemill_serve::rollout::ShadowQueue;
use tidemill_store::catalog::{Rollout, RolloutStage};
use tokio::sync::Notify;

use self::guard::Breach;
use self::outcomes::{TurnedOut, worse};
use self::place::{Found, Place, TakesOver};
use crate::project_loop::{CycleError, ProjectLoop};
use crate::promote::SYSTEM;
use crate::run::describe;

pub use guard::ListAgreement;
pub use outcomes::Turned;
pub use status::{RolloutStatus, StageNumbers};

/// How long a stage waits for what it waits for, beyond its own time.
const PATIENCE: Span = Span::from_days(30);
/// How often outcomes are looked at: they become certain slowly, and reading them takes a while.
const OUTCOMES_EVERY: Span = Span::from_seconds(60);
/// How many questions are answered in the shadow before it is looked whether there is anything else to do.
const SHADOW_STEP: usize = 64;

/// What goes on in memory, for all models of a project.
pub(crate) struct Rollouts {
    /// The newest rollout of each model.
    newest: Mutex<BTreeMap<ModelName, Rollout>>,
    /// One change at a time of which version answers.
    pub(crate) changing: tokio::sync::Mutex<()>,
    /// Told when a version did something that it may have to be stopped for.
    pub(crate) alarm: Arc<Notify>,
    /// Told when questions wait in the shadow.
    pub(crate) waiting: Arc<Notify>,
    pub(crate) shadow: Arc<ShadowQueue>,
    /// How answers turned out, and when that was looked at.
    turned_out: Mutex<BTreeMap<ModelName, (Timestamp, TurnedOut)>>,
}

impl Default for Rollouts {
    fn default() -> Self {
        let waiting = Arc::new(Notify::new());
        let told = waiting.clone();
        Self {
            newest: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            alarm: Arc::default(),
            shadow: Arc::new(ShadowQueue::new(Arc::new(move || told.notify_one()))),
            waiting,
            turned_out: Mutex::default(),
        }
    }
}

impl Rollouts {
    /// The newest rollout of a model.
    pub(crate) fn newest(&self, model: &ModelName) -> Option<Rollout> {
        self.newest.lock().get(model).cloned()
    }

    fn under_way(&self, model: &ModelName) -> Option<Rollout> {
        self.newest(model).filter(Rollout::is_under_way)
    }

    fn keep(&self, rollout: Rollout) {
        self.newest.lock().insert(rollout.model.clone(), rollout);
    }
}

impl ProjectLoop {
    /// Lets a version that passed the gate take over: by a rollout where the project file asks for one and a version answers that it
    /// can be compared with, else at once. While another takes over, it waits for its turn.
    ///
    /// # Errors
    /// When a store fails, or without a rollout the version cannot be activated.
    pub async fn let_take_over(
        &self,
        model: &ModelName,
        number: u32,
        actor: &str,
        reason: &str,
    ) -> Result<(), CycleError> {
        let _one_at_a_time = self.rollouts.changing.lock().await;
        let place = self.place(model)?;
        if place.rules().is_none() || place.champion().is_none() {
            return self
                .change_champion(model, Some(number), actor, "promote", reason)
                .await;
        }
        if let Some(other) = self.rollouts.under_way(model) {
            tracing::info!(%model, number, other = other.version, "the version waits until another has taken over or not");
            return Ok(());
        }
        self.begin_rollout(place, number, actor, reason).await
    }

    async fn begin_rollout(
        &self,
        place: Place<'_>,
        number: u32,
        actor: &str,
        reason: &str,
    ) -> Result<(), CycleError> {
        let model = place.model();
        let now = self.clock.now();
        let before = self.rollouts.newest(model);
        let rollout = Rollout {
            project: self.project.name.clone(),
            model: model.clone(),
            position: before.map_or(1, |before| before.position + 1),
            version: number,
            champion: place.champion(),
            stage: RolloutStage::Shadow,
            share: 0.0,
            started_at: now,
            since: now,
            actor: actor.to_owned(),
            reason: reason.to_owned(),
            detail: json!({ "stages": [] }),
        };
        match self.challenger(place, &rollout).await {
            Ok(challenger) => {
                self.put_rollout(&rollout).await?;
                self.rollouts.keep(rollout);
                place.set_challenger(challenger);
                Ok(())
            }
            Err(CycleError::Store(error)) => Err(error.into()),
            Err(error) => {
                let reason = format!("it cannot be loaded: {}", describe(&error));
                let ended = RolloutStage::RolledBack;
                self.conclude(place, rollout, ended, SYSTEM, &reason).await
            }
        }
    }

    /// Looks at every rollout: stops what does not keep to its guardrails, and moves on what has kept to them for long enough.
    ///
    /// # Errors
    /// When a store fails; a version that is to be stopped is stopped all the same.
    pub async fn advance_rollouts(self: &Arc<Self>) -> Result<(), CycleError> {
        let _one_at_a_time = self.rollouts.changing.lock().await;
        for place in self.places() {
            let Some(rollout) = self.rollouts.under_way(place.model()) else {
                continue;
            };
            let (number, model) = (rollout.version, rollout.model.clone());
            self.advance(place, rollout).await?;
            let ended = self.rollouts.newest(&model);
            if ended.is_some_and(|newest| !newest.is_under_way()) {
                self.take_turns(place, number).await?;
            }
        }
        Ok(())
    }

    async fn advance(
        self: &Arc<Self>,
        place: Place<'_>,
        rollout: Rollout,
    ) -> Result<(), CycleError> {
        let (Some(rules), Some(challenger)) = (place.rules(), place.challenger()) else {
            let reason = "it was stopped, and why could not be written down then";
            let ended = RolloutStage::RolledBack;
            return self.conclude(place, rollout, ended, SYSTEM, reason).await;
        };
        let found = challenger.found();
        let noted = (&challenger, &found);
        let breach = self.breach(place, noted, &rollout, rules).await?;
        if let Some(breach) = breach {
            let Breach { guardrail, reason } = breach;
            let model = &rollout.model;
            tracing::error!(%model, version = rollout.version, guardrail, reason, "a version is sent back: the champion answers");
            let reason = format!("guardrail {guardrail}: {reason}");
            let ended = RolloutStage::RolledBack;
            return self.conclude(place, rollout, ended, SYSTEM, &reason).await;
        }
        let now = self.clock.now();
        let waits = waits(&rollout, rules, &found.counts(), challenger.shares(), now);
        if waits.is_empty() {
            let next = (rules, &challenger, found.numbers());
            return self.move_on(place, rollout, next, now).await;
        }
        if now.since(rollout.since) > PATIENCE {
            let reason = format!("after {PATIENCE} it still waited: {}", waits.join("; "));
            let ended = RolloutStage::RolledBack;
            return self.conclude(place, rollout, ended, SYSTEM, &reason).await;
        }
        Ok(())
    }

    /// What a version does not keep to, by its answers and how they turned out.
    async fn breach(
        self: &Arc<Self>,
        place: Place<'_>,
        (challenger, found): (&TakesOver, &Found),
        rollout: &Rollout,
        rules: &RolloutRules,
    ) -> Result<Option<Breach>, CycleError> {
        if let Some(breach) = challenger.breach(found, place, &rules.guardrails) {
            return Ok(Some(breach));
        }
        let now = self.clock.now();
        let looked = self.rollouts.turned_out.lock().get(&rollout.model).copied();
        if looked.is_some_and(|(at, _)| now.since(at) < OUTCOMES_EVERY) {
            return Ok(None);
        }
        let (this, challenger, of) = (self.clone(), challenger.clone(), rollout.clone());
        let read = move || this.turned_out(&challenger, &of);
        let turned = self.background().spawn_blocking(read).await;
        let turned = turned.map_err(|_| CycleError::Ended("reading outcomes"))??;
        let mut known = self.rollouts.turned_out.lock();
        known.insert(rollout.model.clone(), (now, turned));
        Ok(worse(&turned, &rules.guardrails))
    }

    /// The next stage: a larger share, or champion.
    async fn move_on(
        &self,
        place: Place<'_>,
        rollout: Rollout,
        (rules, challenger, numbers): (&RolloutRules, &TakesOver, StageNumbers),
        now: Timestamp,
    ) -> Result<(), CycleError> {
        let next = rules.canary.iter().find(|share| **share > rollout.share);
        let Some(&share) = next else {
            let reason = format!("it kept to its guardrails from {} on", rollout.started_at);
            let (model, number) = (&rollout.model, Some(rollout.version));
            self.change_champion(model, number, SYSTEM, "promote", &reason)
                .await?;
            let ended = RolloutStage::Promoted;
            return self.conclude(place, rollout, ended, SYSTEM, &reason).await;
        };
        let next = Rollout {
            stage: RolloutStage::Canary,
            share,
            since: now,
            actor: SYSTEM.to_owned(),
            reason: format!(
                "it kept to its guardrails in {} answers",
                numbers.challenger.answers
            ),
            detail: with_stage(&rollout, now, &numbers),
            ..rollout
        };
        self.put_rollout(&next).await?;
        let wake = self.alarm();
        place.set_challenger(challenger.at_share(&next.model, share, rules, wake));
        self.rollouts.keep(next);
        Ok(())
    }

    /// Ends a rollout. The pointer changes first: nobody waits for the catalog.
    async fn conclude(
        &self,
        place: Place<'_>,
        rollout: Rollout,
        stage: RolloutStage,
        actor: &str,
        reason: &str,
    ) -> Result<(), CycleError> {
        let challenger = place.challenger();
        place.clear();
        let now = self.clock.now();
        let detail = match &challenger {
            Some(challenger) => with_stage(&rollout, now, &challenger.found().numbers()),
            None => rollout.detail.clone(),
        };
        let ended = Rollout {
            stage,
            share: if stage == RolloutStage::Promoted {
                1.0
            } else {
                0.0
            },
            since: now,
            actor: actor.to_owned(),
            reason: reason.to_owned(),
            detail,
            ..rollout.clone()
        };
        // until it is written down it counts as under way, without anybody that answers
        self.rollouts.keep(rollout);
        self.put_rollout(&ended).await?;
        self.rollouts.turned_out.lock().remove(&ended.model);
        self.rollouts.keep(ended);
        Ok(())
    }

    /// Ends the rollout of a model because a person or a training decided which version answers. Returns whether there was one.
    ///
    /// # Errors
    /// When the catalog fails.
    pub(crate) async fn end_rollout(
        &self,
        model: &ModelName,
        promoted: Option<u32>,
        actor: &str,
        reason: &str,
    ) -> Result<bool, CycleError> {
        let Some(rollout) = self.rollouts.under_way(model) else {
            return Ok(false);
        };
        let place = self.place(model)?;
        let stage = match promoted {
            Some(number) if number == rollout.version => RolloutStage::Promoted,
            _ => RolloutStage::RolledBack,
        };
        self.conclude(place, rollout, stage, actor, reason).await?;
        Ok(true)
    }

    /// After a rollout has ended, lets the newest version take over that passed the gate meanwhile.
    async fn take_turns(&self, place: Place<'_>, after: u32) -> Result<(), CycleError> {
        let model = place.model();
        let catalog = &self.stores.catalog;
        let newest = catalog.versions(&self.project.name, model, None, 1).await?;
        match newest.first() {
            Some(version) if version.passed && version.number > after => {
                let reason = format!("it passed the gate while {model}@{after} took over");
                self.begin_rollout(place, version.number, SYSTEM, &reason)
                    .await
            }
            _ => Ok(()),
        }
    }

    /// How many questions wait to be answered in the shadow.
    pub fn shadow_waiting(&self) -> u64 {
        self.rollouts.shadow.waiting() as u64
    }

    /// Answers what waits in the shadow, as far as it waits now.
    ///
    /// # Errors
    /// When the thread that does ends unexpectedly.
    pub async fn work_in_the_shadow(self: &Arc<Self>) -> Result<(), CycleError> {
        loop {
            let this = self.clone();
            let step = move || this.rollouts.shadow.work(SHADOW_STEP, &this.answerer);
            let done = self.background().spawn_blocking(step).await;
            if done.map_err(|_| CycleError::Ended("the shadow"))? < SHADOW_STEP {
                return Ok(());
            }
        }
    }

    async fn put_rollout(&self, rollout: &Rollout) -> Result<(), CycleError> {
        let share = match rollout.stage {
            RolloutStage::Canary => format!(" at {} %", rollout.share * 100.0),
            _ => String::new(),
        };
        let action = format!("rollout {}{share}", rollout.stage.as_str());
        let subject = format!("{}@{}", rollout.model, rollout.version);
        let audit = self.audit_entry(&rollout.actor, (action, subject), &rollout.reason);
        Ok(self.stores.catalog.put_rollout(rollout, audit).await?)
    }
}

/// What a stage still waits for, in sentences; nothing where it is over.
pub(crate) fn waits(
    rollout: &Rollout,
    rules: &RolloutRules,
    found: &StageNumbers,
    (share, control_share): (f64, f64),
    now: Timestamp,
) -> Vec<String> {
    let is_shadow = rollout.stage == RolloutStage::Shadow;
    let lasts = if is_shadow { rules.shadow } else { rules.step };
    let wanted = rules.min_answers;
    let mut waits = Vec::new();
    if now.since(rollout.since) < lasts {
        waits.push(format!("the stage lasts until {}", rollout.since + lasts));
    }
    let compared = if is_shadow {
        found.pairs
    } else {
        found.challenger.answers
    };
    if compared < wanted {
        waits.push(format!("it has given {compared} of {wanted} answers"));
    }
    if !is_shadow && control_share > 0.0 {
        if found.control.answers < wanted {
            let answers = found.control.answers;
            waits.push(format!("the control has got {answers} of {wanted} answers"));
        }
        let mut sizes =
            SampleRatio::new(&[share, control_share].map(|of| of / (share + control_share)));
        sizes.add(0, found.challenger.people);
        sizes.add(1, found.control.people);
        if sizes.is_broken() {
            waits.push(format!(
                "{} people beside {} in the control are not what was meant, so that nothing can be compared",
                found.challenger.people, found.control.people
            ));
        }
    }
    waits
}

/// The stages of a rollout with the one that ends now.
fn with_stage(rollout: &Rollout, until: Timestamp, numbers: &StageNumbers) -> Value {
    let mut detail = rollout.detail.clone();
    let stage = json!({
        "stage": rollout.stage.as_str(),
        "share": rollout.share,
        "since": rollout.since,
        "until": until,
        "numbers": numbers,
    });
    match detail.get_mut("stages").and_then(Value::as_array_mut) {
        Some(stages) => stages.push(stage),
        None => detail = json!({ "stages": [stage] }),
    }
    detail
}
