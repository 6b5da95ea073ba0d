//! A list while a version takes over: who makes it, and what is noted of that.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tidemill_core::assign::is_held_out;
use tidemill_core::clock::Stopwatch;
use tidemill_core::decision::RolloutArm;
use tidemill_core::{Decision, DecisionId, Timestamp};

use super::ask::{Ask, OwnAsk};
use super::slot::{RecommendChampion, RecommendSlot};
use crate::answer::{Answerer, ServeError};
use crate::registry::Failure;
use crate::rollout::{Challenger, ListQuestion, Trial};

/// What a version made of a question.
pub(crate) struct Listed {
    pub(crate) decision: Decision,
    /// Why each item stands in the list.
    pub(super) reasons: Vec<Option<String>>,
}

impl Listed {
    fn has_no_number(&self) -> bool {
        let mut items = self.decision.items.iter();
        items.any(|shown| shown.score.is_nan())
    }
}

/// A list before it is logged.
pub(super) struct Made {
    pub(super) decision: Decision,
    /// Why each item stands in it.
    pub(super) reasons: Vec<Option<String>>,
    /// The version that answers for most, whoever made it.
    champion: Option<Arc<RecommendChampion>>,
    /// What is to be noted for a version that takes over.
    trial: Option<Trial<RecommendChampion>>,
}

impl Answerer {
    /// Makes a list: by the version that takes over where the person is one of its people, by the champion where not or where that fails.
    pub(super) fn make(&self, slot: &RecommendSlot, ask: &Ask<'_>) -> Result<Made, ServeError> {
        let moment = self.clock.now();
        let at = (DecisionId::new(moment, self.random()), moment);
        let champion = slot.champion();
        let challenger = slot.challenger().filter(|_| champion.is_some());
        let mut trial = challenger.map(Trial::new);
        let arm = match &trial {
            Some(trial) => self.stand(slot, &trial.challenger, ask)?,
            None => None,
        };
        let mut by_challenger = None;
        if let (Some(trial), Some(RolloutArm::Challenger)) = (&mut trial, arm) {
            let (made, took) = self.attempt(slot, ask, &trial.challenger.version, at);
            trial.latency_us = took;
            match made? {
                Ok(made) => by_challenger = Some(made),
                Err(failure) => trial.failure = Some(failure),
            }
        }
        let Listed {
            mut decision,
            reasons,
        } = match by_challenger {
            Some(made) => made,
            None => {
                let stopwatch = Stopwatch::start();
                let made = self.make_by(slot, ask, champion.as_deref(), at)?;
                if let (Some(trial), Some(RolloutArm::Control)) = (&mut trial, arm) {
                    trial.latency_us = stopwatch.micros();
                }
                made
            }
        };
        decision.arm = arm;
        Ok(Made {
            decision,
            reasons,
            champion,
            trial,
        })
    }

    /// Finds out where the person stands. Those of the permanent holdout, and nobody in particular, stand nowhere.
    fn stand(
        &self,
        slot: &RecommendSlot,
        challenger: &Challenger<RecommendChampion>,
        ask: &Ask<'_>,
    ) -> Result<Option<RolloutArm>, ServeError> {
        let Some(person) = ask.person.as_ref().filter(|_| challenger.share > 0.0) else {
            return Ok(None);
        };
        let engine = self.engine.load();
        let person = engine.canonical(person).map_err(ServeError::Features)?;
        let held_out = is_held_out(&slot.model.name, slot.model.holdout, &person);
        Ok(challenger.arm(&person).filter(|_| !held_out))
    }

    /// Lets a version make a list, and says how long it took in microseconds. A version that panics has failed, and nothing else; what is
    /// wrong with the question is no failure of it.
    pub(crate) fn attempt(
        &self,
        slot: &RecommendSlot,
        ask: &Ask<'_>,
        version: &Arc<RecommendChampion>,
        at: (DecisionId, Timestamp),
    ) -> (Result<Result<Listed, Failure>, ServeError>, u64) {
        let stopwatch = Stopwatch::start();
        // locks are given back when a thread unwinds, and what was lent for scoring is dropped
        let make = AssertUnwindSafe(|| self.make_by(slot, ask, Some(version), at));
        let made = match catch_unwind(make) {
            Err(_) => Ok(Err(Failure::Panicked)),
            Ok(Err(error)) => Err(error),
            Ok(Ok(listed)) if listed.has_no_number() => Ok(Err(Failure::NotFinite)),
            Ok(Ok(listed)) => Ok(Ok(listed)),
        };
        (made, stopwatch.micros())
    }

    /// Lets both versions make the list again beside the path, while one takes over.
    pub(super) fn offer_list(&self, made: &Made, ask: &Ask<'_>) {
        let (Some(trial), Some(champion)) = (&made.trial, &made.champion) else {
            return;
        };
        let Decision { id, version, .. } = made.decision;
        if trial.challenger.is_asked_again(id, version) {
            self.shadow.offer(Box::new(ListQuestion {
                model: made.decision.model.clone(),
                decision: id,
                moment: made.decision.moment,
                ask: OwnAsk::of(ask),
                challenger: trial.challenger.clone(),
                champion: champion.clone(),
            }));
        }
    }
}

impl Made {
    /// Notes how it went for the version that takes over.
    pub(super) fn note(&self) {
        if let Some(trial) = &self.trial {
            trial.note(&self.decision);
        }
    }

    /// Logs that the version that takes over failed; a drill plants one that does, and that is no news.
    pub(super) fn report_failure(&self) {
        if let Some(trial) = &self.trial {
            trial.report_failure(&self.decision);
        }
    }
}
