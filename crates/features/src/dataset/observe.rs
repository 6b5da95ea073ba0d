//! When observations are made, and which of them are dropped.

use tidemill_core::project::Observe;
use tidemill_core::{Span, Timestamp};

use super::asked::{Asked, AskedModel};
use super::counts::ModelCounts;
use super::people::{Active, Person};
use super::record::Drop;
use super::sampling::Drawn;
use super::{LATE_MAX, OBSERVATIONS_MAX};
use crate::FeatureError;

/// Decides, while the events go by, whom a row is read of, and for which models.
pub(super) struct Observer {
    /// The next moment of each model's periodic observations.
    next: Vec<Option<Timestamp>>,
    /// The newest event of each person, where a model asks for it.
    active: Option<Active>,
    pub(super) counts: Vec<ModelCounts>,
}

/// A moment at which rows are read, for one model.
pub(super) struct Periodic {
    pub(super) model: usize,
    pub(super) moment: Timestamp,
    pub(super) persons: Vec<Person>,
}

impl Observer {
    pub(super) fn new(asked: &Asked) -> Self {
        let is_periodic = |asked: &AskedModel| matches!(asked.model.observe, Observe::Every { .. });
        Self {
            next: vec![None; asked.models.len()],
            active: asked.models.iter().any(is_periodic).then(Active::default),
            counts: vec![ModelCounts::default(); asked.models.len()],
        }
    }

    /// Counts, for each model, how often the condition of its observations could not be evaluated.
    pub(super) fn failed(&mut self, failures: &[u64]) {
        for (counts, failures) in self.counts.iter_mut().zip(failures) {
            counts.condition_failures += failures;
        }
    }

    /// Notes who did something of their own.
    pub(super) fn saw(&mut self, person: Person, at: Timestamp) {
        if let Some(active) = &mut self.active {
            active.saw(person, at);
        }
    }

    /// Two persons became one.
    pub(super) fn merge(&mut self, from: Person, into: Person) {
        if let Some(active) = &mut self.active {
            active.merge(from, into);
        }
    }

    /// The models, a bit each, for which a row is read at an event that is an occasion for some.
    pub(super) fn at_event(
        &mut self,
        asked: &Asked,
        occasions: u32,
        timestamp: Timestamp,
        observed: Option<Drawn<'_>>,
        now: Timestamp,
    ) -> Result<u32, FeatureError> {
        let mut models = 0;
        for (model, counts) in self.counts.iter_mut().enumerate() {
            if occasions >> model & 1 == 0 {
                continue;
            }
            counts.observed += 1;
            let Some(observed) = observed else {
                counts.drop(Drop::NoPerson);
                continue;
            };
            if now.since(timestamp) > LATE_MAX {
                counts.drop(Drop::Late);
            } else if counts.takes(asked, model, observed)? {
                models |= 1 << model;
            }
        }
        Ok(models)
    }

    /// The periodic observations at moments before `until`.
    pub(super) fn periods(&mut self, asked: &Asked, until: Timestamp) -> Vec<Periodic> {
        let mut due = Vec::new();
        for (model, next) in self.next.iter_mut().enumerate() {
            let Observe::Every {
                period,
                active_within,
            } = asked.models[model].model.observe
            else {
                continue;
            };
            let Some(mut moment) = *next else {
                *next = Some(first_after(until, period));
                continue;
            };
            while moment < until {
                let active = self.active.as_ref();
                due.push(Periodic {
                    model,
                    moment,
                    persons: active
                        .map_or(Vec::new(), |active| active.within(moment, active_within)),
                });
                moment = moment + period;
            }
            *next = Some(moment);
        }
        due
    }

    /// Whether a row is read for a periodic observation.
    pub(super) fn at_period(
        &mut self,
        asked: &Asked,
        model: usize,
        observed: Drawn<'_>,
    ) -> Result<bool, FeatureError> {
        let counts = &mut self.counts[model];
        counts.observed += 1;
        counts.takes(asked, model, observed)
    }
}

/// The first multiple of a period at or after a moment.
fn first_after(moment: Timestamp, period: Span) -> Timestamp {
    let first = moment.floor(period);
    if first < moment {
        first + period
    } else {
        first
    }
}

impl ModelCounts {
    fn drop(&mut self, reason: Drop) {
        *self.dropped.entry(reason).or_insert(0) += 1;
    }

    /// Whether an observation becomes a row; counts it either way.
    fn takes(
        &mut self,
        asked: &Asked,
        model: usize,
        observed: Drawn<'_>,
    ) -> Result<bool, FeatureError> {
        let known_until = asked.known_until;
        let asked = &asked.models[model];
        let dropped = if asked.from.is_some_and(|from| observed.moment < from) {
            Some(Drop::BeforeStart)
        } else if observed.moment + asked.tracker.within() > known_until {
            Some(Drop::Censored)
        } else if asked.sampler.leaves_out(observed) {
            Some(Drop::Sampled)
        } else {
            None
        };
        if let Some(reason) = dropped {
            self.drop(reason);
            return Ok(false);
        }
        if self.rows >= OBSERVATIONS_MAX {
            return Err(FeatureError::TooManyObservations {
                model: asked.model.name.to_string(),
                limit: OBSERVATIONS_MAX,
            });
        }
        self.rows += 1;
        Ok(true)
    }
}
