//! Where a version takes over: in a model that predicts or in one that recommends.

use std::sync::Arc;

use tidemill_core::project::{Guardrails, RolloutRules};
use tidemill_core::{ModelName, Span};
use tidemill_evaluate::Agreement;
use tidemill_serve::recommend::{RecommendChampion, RecommendSlot};
use tidemill_serve::registry::Slot;
use tidemill_serve::rollout::{ListPair, Snapshot, Version, Wake};
use tidemill_serve::{Challenger, Champion};

use super::guard::{Breach, ListAgreement, breach_of_lists, breach_of_scores};
use super::status::StageNumbers;
use crate::project_loop::{CycleError, ProjectLoop};

/// The place of a model whose versions take over.
#[derive(Clone, Copy)]
pub(crate) enum Place<'s> {
    /// It predicts.
    Predict(&'s Slot),
    /// It recommends.
    Recommend(&'s RecommendSlot),
}

/// A version that takes over, whatever it answers with.
#[derive(Clone)]
pub(crate) enum TakesOver {
    /// It predicts.
    Scores(Arc<Challenger<Champion>>),
    /// It recommends.
    Lists(Arc<Challenger<RecommendChampion>>),
}

/// What was noted of a version that takes over, at one moment.
pub(crate) enum Found {
    /// It predicts.
    Scores(Snapshot),
    /// It recommends.
    Lists(Snapshot<ListPair>),
}

impl<'s> Place<'s> {
    pub(crate) fn model(self) -> &'s ModelName {
        match self {
            Self::Predict(slot) => &slot.model.name,
            Self::Recommend(slot) => &slot.model.name,
        }
    }

    /// How versions take over; at once where absent.
    pub(crate) fn rules(self) -> Option<&'s RolloutRules> {
        match self {
            Self::Predict(slot) => slot.model.rollout.as_ref(),
            Self::Recommend(slot) => slot.model.rollout.as_ref(),
        }
    }

    /// How long after an answer its outcome is certain.
    pub(super) fn horizon(self) -> Span {
        match self {
            Self::Predict(slot) => slot.model.target.within(),
            Self::Recommend(slot) => slot.model.within,
        }
    }

    /// The number of the version that answers.
    pub(crate) fn champion(self) -> Option<u32> {
        match self {
            Self::Predict(slot) => slot.champion().map(|champion| champion.number),
            Self::Recommend(slot) => slot.champion().map(|champion| champion.number),
        }
    }

    /// The version that takes over.
    pub(crate) fn challenger(self) -> Option<TakesOver> {
        match self {
            Self::Predict(slot) => slot.challenger().map(TakesOver::Scores),
            Self::Recommend(slot) => slot.challenger().map(TakesOver::Lists),
        }
    }

    /// Lets a version take over that was made for this place.
    pub(crate) fn set_challenger(self, challenger: TakesOver) {
        match (self, challenger) {
            (Self::Predict(slot), TakesOver::Scores(version)) => slot.set_challenger(Some(version)),
            (Self::Recommend(slot), TakesOver::Lists(version)) => {
                slot.set_challenger(Some(version));
            }
            (place, _) => place.clear(),
        }
    }

    /// From now on no version takes over.
    pub(crate) fn clear(self) {
        match self {
            Self::Predict(slot) => slot.set_challenger(None),
            Self::Recommend(slot) => slot.set_challenger(None),
        }
    }
}

impl TakesOver {
    /// The share of the people that it answers for, and that of its control.
    pub(crate) fn shares(&self) -> (f64, f64) {
        match self {
            Self::Scores(version) => (version.share, version.control_share()),
            Self::Lists(version) => (version.share, version.control_share()),
        }
    }

    /// What was noted of it at this stage.
    pub(crate) fn found(&self) -> Found {
        match self {
            Self::Scores(version) => Found::Scores(version.tally.snapshot()),
            Self::Lists(version) => Found::Lists(version.tally.snapshot()),
        }
    }

    /// The same version with another share of the people; its answers are counted anew.
    pub(super) fn at_share(
        &self,
        model: &ModelName,
        share: f64,
        rules: &RolloutRules,
        wake: Wake,
    ) -> Self {
        match self {
            Self::Scores(version) => Self::Scores(grown(model, version, share, rules, wake)),
            Self::Lists(version) => Self::Lists(grown(model, version, share, rules, wake)),
        }
    }

    /// The first guardrail that it does not keep to, by what was noted of its answers.
    pub(crate) fn breach(
        &self,
        found: &Found,
        place: Place<'_>,
        guardrails: &Guardrails,
    ) -> Option<Breach> {
        match (self, found, place) {
            (Self::Scores(version), Found::Scores(found), Place::Predict(slot)) => {
                let champion = slot.champion();
                let of_champion = champion.iter().flat_map(|of| &of.package.columns);
                let of_champion: Vec<&str> = of_champion.map(|column| &*column.name).collect();
                breach_of_scores(version, found, guardrails, &of_champion)
            }
            (Self::Lists(version), Found::Lists(found), Place::Recommend(slot)) => {
                let champion = slot.champion();
                let of_champion = champion.map(|of| of.package.person_features());
                let of_champion = of_champion.iter().flatten();
                let of_champion: Vec<&str> = of_champion.map(|column| &*column.name).collect();
                breach_of_lists(version, found, guardrails, &of_champion)
            }
            _ => None,
        }
    }
}

impl Found {
    /// What was counted; how answers agree is left out.
    pub(crate) fn counts(&self) -> StageNumbers {
        match self {
            Self::Scores(found) => StageNumbers::of(found),
            Self::Lists(found) => StageNumbers::of(found),
        }
    }

    /// Everything, as it is shown and written down.
    pub(crate) fn numbers(&self) -> StageNumbers {
        let counts = self.counts();
        match self {
            Self::Scores(found) => StageNumbers {
                agreement: Agreement::of(&found.compared),
                ..counts
            },
            Self::Lists(found) => StageNumbers {
                lists: ListAgreement::of(&found.compared),
                ..counts
            },
        }
    }
}

fn grown<V: Version>(
    model: &ModelName,
    version: &Challenger<V>,
    share: f64,
    rules: &RolloutRules,
    wake: Wake,
) -> Arc<Challenger<V>> {
    let missing = version.missing_in_training.clone();
    let challenger = Challenger::new(model, version.version.clone(), missing, share, rules, wake);
    Arc::new(challenger)
}

impl StageNumbers {
    fn of<C>(found: &Snapshot<C>) -> Self {
        Self {
            challenger: found.challenger,
            control: found.control,
            pairs: found.pairs,
            dropped: found.dropped,
            agreement: None,
            lists: None,
        }
    }
}

impl ProjectLoop {
    /// The place of a model, of any kind.
    ///
    /// # Errors
    /// When there is no such model.
    pub(crate) fn place(&self, model: &ModelName) -> Result<Place<'_>, CycleError> {
        match self.registry.recommender(model) {
            Some(slot) => Ok(Place::Recommend(slot)),
            None => self.slot(model).map(Place::Predict),
        }
    }

    /// The places of all models.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place<'_>> {
        let predict = self.registry.slots().map(Place::Predict);
        predict.chain(self.registry.recommenders().map(Place::Recommend))
    }
}
