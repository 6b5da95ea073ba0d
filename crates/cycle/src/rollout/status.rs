//! A rollout as it is shown.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidemill_core::{ModelName, Timestamp};
use tidemill_evaluate::Agreement;
use tidemill_monitor::metrics::RolloutProgress;
use tidemill_serve::rollout::ArmNumbers;
use tidemill_store::catalog::RolloutStage;

use super::guard::ListAgreement;
use super::outcomes::TurnedOut;
use super::place::Place;
use super::waits;
use crate::drill::Drill;
use crate::project_loop::{CycleError, ProjectLoop};

/// What was noted at one stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageNumbers {
    /// The version that takes over.
    pub challenger: ArmNumbers,
    /// The champion for the same questions in the shadow, for the control in the canary.
    pub control: ArmNumbers,
    /// How many questions both answered.
    pub pairs: u64,
    /// Questions that were not answered in the shadow because too many waited.
    pub dropped: u64,
    /// How the scores of both agree over the newest of them, where they predict.
    pub agreement: Option<Agreement>,
    /// How the lists of both compare over the newest of them, where they recommend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lists: Option<ListAgreement>,
}

/// How a version takes over, or the last one did.
#[derive(Debug, Clone, Serialize)]
pub struct RolloutStatus {
    /// The model.
    pub model: ModelName,
    /// The version that answers for most.
    pub champion: Option<String>,
    /// Whether the project file asks for rollouts.
    pub has_rules: bool,
    /// The newest rollout.
    pub rollout: Option<RolloutLine>,
    /// The newest drill.
    pub drill: Option<Drill>,
}

/// One rollout.
#[derive(Debug, Clone, Serialize)]
pub struct RolloutLine {
    /// The version that takes over: `will_return@4`.
    pub version: String,
    /// The version that answered when it began.
    pub champion: Option<String>,
    /// How far it has come.
    pub stage: RolloutStage,
    /// The share of the people that it answers for.
    pub share: f64,
    /// When it began.
    pub started_at: Timestamp,
    /// Since when it is at this stage and share.
    pub since: Timestamp,
    /// Who brought it there.
    pub actor: String,
    /// Why it is there.
    pub reason: String,
    /// What it waits for.
    pub waits_for: Vec<String>,
    /// What was noted at this stage since it began or the process started.
    pub numbers: Option<StageNumbers>,
    /// How answers turned out whose whole horizon has passed, as of the last minute.
    pub outcomes: Option<TurnedOut>,
    /// The stages before, with their numbers.
    pub stages: Value,
}

impl ProjectLoop {
    /// How a version of a model takes over, or the last one did.
    ///
    /// # Errors
    /// When there is no such model or the state store fails.
    pub fn rollout_status(&self, model: &ModelName) -> Result<RolloutStatus, CycleError> {
        let called = |number: u32| format!("{model}@{number}");
        let place = self.place(model)?;
        let rollout = self.rollouts.newest(model).map(|mut rollout| {
            let challenger = place.challenger().filter(|_| rollout.is_under_way());
            let found = challenger.map(|of| (of.found().numbers(), of.shares()));
            let waits_for = match (&found, place.rules()) {
                (Some((found, shares)), Some(rules)) => {
                    waits(&rollout, rules, found, *shares, self.clock.now())
                }
                _ => Vec::new(),
            };
            let outcomes = self.rollouts.turned_out.lock().get(model).copied();
            RolloutLine {
                version: called(rollout.version),
                champion: rollout.champion.map(called),
                stage: rollout.stage,
                share: rollout.share,
                started_at: rollout.started_at,
                since: rollout.since,
                stages: rollout.detail["stages"].take(),
                actor: rollout.actor,
                reason: rollout.reason,
                waits_for,
                numbers: found.map(|(found, _)| found),
                outcomes: outcomes.map(|(_, outcomes)| outcomes),
            }
        });
        Ok(RolloutStatus {
            model: model.clone(),
            champion: place.champion().map(called),
            has_rules: place.rules().is_some(),
            rollout,
            drill: self.last_drill(model)?,
        })
    }

    /// How far each rollout is, for `/metrics`.
    pub fn rollout_progress(&self) -> Vec<RolloutProgress> {
        let of = |model: &ModelName| {
            let rollout = self.rollouts.newest(model)?;
            let challenger = self.place(model).ok().and_then(Place::challenger);
            let found = challenger.map(|challenger| challenger.found().counts());
            let answered = found.as_ref().map(|found| found.challenger);
            let answered = answered.unwrap_or_default();
            Some(RolloutProgress {
                model: model.to_string(),
                stage: rollout.stage.as_str(),
                share: rollout.share,
                answers: answered.answers,
                failed: answered.failed(),
                dropped: found.map_or(0, |found| found.dropped),
            })
        };
        self.project.model_names().filter_map(of).collect()
    }
}
