//! From a question to a list, its reasons and a logged decision.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tidemill_core::assign::is_held_out;
use tidemill_core::clock::Stopwatch;
use tidemill_core::decision::{Answer, Fallback, ScoredItem};
use tidemill_core::event::PersonKey;
use tidemill_core::{Decision, DecisionId, ModelName, Timestamp};
use tidemill_features::engine::History;
use tidemill_features::{Engine, FeatureRow};

use super::ask::{Ask, beside, plain};
use super::list::{Asked, List, Past, taken_items};
use super::slot::{RecommendChampion, RecommendSlot};
use super::trial::{Listed, Made};
use crate::answer::{Answerer, Answering, ServeError, person_of};

/// How many items a list has when nobody says.
const LIMIT_DEFAULT: usize = 10;
/// The longest list.
pub const LIMIT_MAX: usize = 100;
/// The most items that are ranked, excluded or part of a session.
pub const ITEMS_MAX: usize = 500;
/// Candidates that are logged with a decision.
const LOGGED: usize = 50;
/// How many lists one list goes on with at most.
const PAGES_MAX: usize = 20;

/// A question for items.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecommendRequest {
    /// The person, by the id that the product knows them by.
    #[serde(default)]
    pub user: Option<String>,
    /// The person, by an id made before the product knew them.
    #[serde(default)]
    pub anonymous_id: Option<String>,
    /// What was looked at just now, oldest first, where that is not sent as events.
    #[serde(default)]
    pub session: Vec<String>,
    /// How many items.
    #[serde(default)]
    pub limit: Option<usize>,
    /// Items that are not wanted.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// What may be shown, beside what the project file says.
    #[serde(default)]
    pub filter: Option<String>,
    /// What is worth more, beside what the project file says.
    #[serde(default)]
    pub boost: Option<String>,
    /// From 0 to 1, in place of what the project file says.
    #[serde(default)]
    pub diversity: Option<f64>,
    /// Anything that belongs to the question; logged with the decision, and `request.…` in expressions.
    #[serde(default)]
    pub context: Map<String, Value>,
    /// Whether to say why.
    #[serde(default)]
    pub reasons: bool,
    /// The decision whose list this one goes on with.
    #[serde(default)]
    pub after: Option<DecisionId>,
}

/// A question for the order of given items.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RankRequest {
    /// The items.
    pub items: Vec<String>,
    /// The person, by the id that the product knows them by.
    #[serde(default)]
    pub user: Option<String>,
    /// The person, by an id made before the product knew them.
    #[serde(default)]
    pub anonymous_id: Option<String>,
    /// What was looked at just now, oldest first.
    #[serde(default)]
    pub session: Vec<String>,
    /// What is worth more.
    #[serde(default)]
    pub boost: Option<String>,
    /// Anything that belongs to the question.
    #[serde(default)]
    pub context: Map<String, Value>,
    /// Whether to say why.
    #[serde(default)]
    pub reasons: bool,
}

/// A question for items that go with one.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimilarRequest {
    /// How many items.
    #[serde(default)]
    pub limit: Option<usize>,
    /// Whether to say why.
    #[serde(default)]
    pub reasons: bool,
}

/// A list as it is given to the caller.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recommendation {
    /// The decision: ask `/v1/decisions/{id}` why; name it in `after` for more.
    pub decision_id: DecisionId,
    /// The model.
    pub model: ModelName,
    /// The version that answered: `for_you@17`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Why the plain fallback answered, where it did: what everybody takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// The items, best first.
    pub items: Vec<RecommendedItem>,
}

impl Recommendation {
    /// What is said of a decision, with the reasons of its items.
    fn of(decision: Decision, reasons: Vec<Option<String>>) -> Self {
        let version = decision.version_id();
        let items = decision.items.into_iter().zip(reasons);
        Self {
            decision_id: decision.id,
            version: version.map(|version| version.to_string()),
            model: decision.model,
            fallback: decision.fallback,
            items: items
                .map(|(shown, reason)| RecommendedItem {
                    item: shown.item,
                    score: shown.score,
                    propensity: shown.propensity,
                    reason,
                })
                .collect(),
        }
    }
}

/// An item of a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecommendedItem {
    /// The item.
    pub item: String,
    /// Its log-odds: comparable within one list.
    pub score: f64,
    /// With which probability it stands here.
    pub propensity: f64,
    /// Why, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Answerer {
    /// Recommends items to a person or a session.
    ///
    /// # Errors
    /// When there is no such model, an expression does not compile, a list is too long, or a store fails.
    pub fn recommend(
        &self,
        model: &ModelName,
        request: &RecommendRequest,
    ) -> Result<(Recommendation, Answering), ServeError> {
        let slot = self.recommender(model)?;
        at_most("session", request.session.len(), ITEMS_MAX)?;
        at_most("exclude", request.exclude.len(), ITEMS_MAX)?;
        let ask = Ask {
            person: person_of(&request.user, &request.anonymous_id),
            session: &request.session,
            given: None,
            limit: limit(request.limit)?,
            exclude: request.exclude.iter().map(String::as_str).collect(),
            filter: request.filter.as_deref(),
            boost: request.boost.as_deref(),
            diversity: share("diversity", request.diversity)?.unwrap_or(slot.model.diversity),
            explore: slot.model.explore,
            context: &request.context,
            reasons: request.reasons,
            after: request.after,
        };
        self.list(slot, &ask)
    }

    /// Orders given items for a person or a session.
    ///
    /// # Errors
    /// As [`recommend`](Self::recommend).
    pub fn rank(
        &self,
        model: &ModelName,
        request: &RankRequest,
    ) -> Result<(Recommendation, Answering), ServeError> {
        let slot = self.recommender(model)?;
        at_most("session", request.session.len(), ITEMS_MAX)?;
        at_most("items", request.items.len(), ITEMS_MAX)?;
        let ask = Ask {
            person: person_of(&request.user, &request.anonymous_id),
            session: &request.session,
            given: Some(&request.items),
            limit: request.items.len(),
            exclude: HashSet::new(),
            filter: None,
            boost: request.boost.as_deref(),
            diversity: 0.0,
            explore: 0.0,
            context: &request.context,
            reasons: request.reasons,
            after: None,
        };
        self.list(slot, &ask)
    }

    /// Items that go with one.
    ///
    /// # Errors
    /// As [`recommend`](Self::recommend).
    pub fn similar(
        &self,
        model: &ModelName,
        item: &str,
        request: &SimilarRequest,
    ) -> Result<(Recommendation, Answering), ServeError> {
        let slot = self.recommender(model)?;
        let session = [item.to_owned()];
        let ask = Ask {
            reasons: request.reasons,
            ..beside(slot, item, &session, limit(request.limit)?)
        };
        self.list(slot, &ask)
    }

    fn recommender(&self, model: &ModelName) -> Result<&RecommendSlot, ServeError> {
        let slot = self.registry.recommender(model);
        slot.ok_or_else(|| ServeError::UnknownModel(model.to_string()))
    }

    /// What a model would recommend to a person now, and why. Nobody is shown it, so it is not logged.
    ///
    /// # Errors
    /// As [`recommend`](Self::recommend).
    pub fn preview_list(
        &self,
        slot: &RecommendSlot,
        person: &PersonKey,
        limit: usize,
    ) -> Result<Recommendation, ServeError> {
        let ask = Ask {
            person: Some(person.clone()),
            reasons: true,
            ..plain(slot, limit)
        };
        let Made {
            decision, reasons, ..
        } = self.make(slot, &ask)?;
        Ok(Recommendation::of(decision, reasons))
    }

    /// What would go with an item now, and why; not logged either.
    ///
    /// # Errors
    /// As [`recommend`](Self::recommend).
    pub fn preview_similar(
        &self,
        slot: &RecommendSlot,
        item: &str,
        limit: usize,
    ) -> Result<Recommendation, ServeError> {
        let session = [item.to_owned()];
        let ask = Ask {
            reasons: true,
            ..beside(slot, item, &session, limit)
        };
        let Made {
            decision, reasons, ..
        } = self.make(slot, &ask)?;
        Ok(Recommendation::of(decision, reasons))
    }

    /// Recommends to a person as for a caller, on a slot that nobody hears, and notes how it went; nothing is logged.
    ///
    /// # Errors
    /// As [`recommend`](Self::recommend).
    pub fn rehearse_list(
        &self,
        slot: &RecommendSlot,
        person: &PersonKey,
    ) -> Result<Decision, ServeError> {
        let ask = Ask {
            person: Some(person.clone()),
            ..plain(slot, LIMIT_DEFAULT)
        };
        let made = self.make(slot, &ask)?;
        made.note();
        Ok(made.decision)
    }

    fn list(
        &self,
        slot: &RecommendSlot,
        ask: &Ask<'_>,
    ) -> Result<(Recommendation, Answering), ServeError> {
        let stopwatch = Stopwatch::start();
        let mut made = self.make(slot, ask)?;
        made.decision.latency_us = stopwatch.micros();
        self.decisions
            .append(&made.decision)
            .map_err(ServeError::Log)?;
        made.note();
        made.report_failure();
        self.offer_list(&made, ask);
        let decision = made.decision;
        let answering = Answering {
            latency_us: stopwatch.micros(),
            fallback: decision.fallback,
            version: decision.version,
        };
        let recommendation = Recommendation::of(decision, made.reasons);
        Ok((recommendation, answering))
    }

    /// The decision and the reasons of its items, as a version makes them; what everybody takes where there is none.
    pub(super) fn make_by(
        &self,
        slot: &RecommendSlot,
        ask: &Ask<'_>,
        champion: Option<&RecommendChampion>,
        (id, moment): (DecisionId, Timestamp),
    ) -> Result<Listed, ServeError> {
        let engine = self.engine.load();
        let history = self.history(&engine, slot, (champion, ask), moment)?;
        let held_out = history.person.as_ref().is_some_and(|person| {
            is_held_out(&slot.model.name, slot.model.holdout, person) && ask.given.is_none()
        });
        let fallback = match (champion, held_out) {
            (None, _) => Some(Fallback::NoVersion),
            (Some(_), true) => Some(Fallback::Holdout),
            (Some(_), false) => None,
        };
        let champion = champion.filter(|_| !held_out);
        let person = person_row(&engine, champion, &history, moment)?;
        let features = person.as_ref().map_or(&[][..], |row| &row.values);
        let list = List {
            answerer: self,
            slot,
            champion,
            ask,
            moment,
            taken: taken_items(&history, ask),
            history: &history,
            asked: Asked::of(self, &engine, slot, (ask, history.person.as_ref(), moment))?,
            person: features,
            before: self.shown_before(ask.after)?,
            too_often: self.too_often(slot, history.person.as_ref(), moment)?,
        };
        let mut candidates = list.candidates();
        let logged = candidates.iter().take(LOGGED).map(|candidate| ScoredItem {
            item: candidate.id.to_string(),
            score: candidate.score,
        });
        let logged: Vec<ScoredItem> = logged.collect();
        let seed = u64::from_be_bytes(id.as_bytes()[8..].try_into().unwrap_or_default());
        let shown = list.choose(&mut candidates, seed);
        let decision = Decision {
            id,
            model: slot.model.name.clone(),
            version: champion.map(|champion| champion.number),
            fallback,
            arm: None,
            entity: history
                .person
                .as_ref()
                .map_or_else(String::new, ToString::to_string),
            // where features were read, it is their place that can be looked at again
            moment: person.as_ref().map_or(moment, |row| row.moment),
            offset: person.as_ref().map_or(history.offset, |row| row.offset),
            features: features.to_vec(),
            context: ask.context.clone(),
            answer: Answer {
                score: shown.first().map_or(0.0, |(shown, _)| shown.score),
                label: None,
                probabilities: Vec::new(),
            },
            items: shown.iter().map(|(shown, _)| shown.clone()).collect(),
            candidates: logged,
            given: ask.given.is_some(),
            after: ask.after,
            latency_us: 0,
        };
        let reasons: Vec<Option<String>> = shown
            .iter()
            .map(|(shown, candidate)| ask.reasons.then(|| list.reason(shown, candidate)))
            .collect();
        Ok(Listed { decision, reasons })
    }

    /// What a person took, weighed as the version was taught; without one as the project file says.
    fn history(
        &self,
        engine: &Engine,
        slot: &RecommendSlot,
        (champion, ask): (Option<&RecommendChampion>, &Ask<'_>),
        moment: Timestamp,
    ) -> Result<Past, ServeError> {
        let Some(person) = &ask.person else {
            return Ok(Past {
                person: None,
                offset: engine.applied(),
                taken: Vec::new(),
            });
        };
        let (events, weights): (Vec<&str>, Vec<f32>) = match champion {
            Some(champion) => {
                let signals = champion.package.signals.iter();
                signals
                    .map(|signal| (signal.event.as_str(), signal.weight))
                    .unzip()
            }
            None => {
                let signals = slot.model.signals.iter();
                signals
                    .map(|(event, weight)| (event.as_str(), *weight as f32))
                    .unzip()
            }
        };
        let History {
            person,
            offset,
            taken,
            ..
        } = engine
            .history(person, moment, &events)
            .map_err(ServeError::Features)?;
        let taken = taken
            .into_iter()
            .map(|one| (one.item, weights[one.signal], one.timestamp));
        Ok(Past {
            person: Some(person),
            offset,
            taken: taken.collect(),
        })
    }

    /// The items that were shown to a person as often as they may be.
    fn too_often(
        &self,
        slot: &RecommendSlot,
        person: Option<&PersonKey>,
        moment: Timestamp,
    ) -> Result<HashSet<String>, ServeError> {
        let (Some(cap), Some(person)) = (slot.model.frequency_cap, person) else {
            return Ok(HashSet::new());
        };
        let since = moment - cap.within;
        let shown = self.shown.shown(person, &slot.model.name, since);
        let shown = shown.map_err(ServeError::Log)?.into_iter();
        let often = shown.filter(|(_, times)| *times >= cap.times);
        Ok(often.map(|(item, _)| item).collect())
    }

    /// The items of the lists that a list goes on with.
    fn shown_before(&self, after: Option<DecisionId>) -> Result<HashSet<String>, ServeError> {
        let mut shown = HashSet::new();
        let mut next = after;
        for _ in 0..PAGES_MAX {
            let Some(id) = next else {
                break;
            };
            let decision = self.decisions.get(id).map_err(ServeError::Log)?;
            let Some(decision) = decision else {
                return Err(ServeError::UnknownDecision(id));
            };
            shown.extend(decision.items.into_iter().map(|shown| shown.item));
            next = decision.after;
        }
        Ok(shown)
    }
}

/// The features of a person that a version reads.
fn person_row(
    engine: &Engine,
    champion: Option<&RecommendChampion>,
    history: &Past,
    moment: Timestamp,
) -> Result<Option<FeatureRow>, ServeError> {
    let features = champion.and_then(|champion| champion.person.as_ref());
    let (Some(features), Some(person)) = (features, &history.person) else {
        return Ok(None);
    };
    // between a change of definitions and the version's next activation nothing is known of anybody
    if features.set().hash() != engine.set().hash() {
        return Ok(None);
    }
    let row = engine.read(person, moment, features);
    row.map(Some).map_err(ServeError::Features)
}

fn limit(limit: Option<usize>) -> Result<usize, ServeError> {
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    at_most("limit", limit, LIMIT_MAX)?;
    Ok(limit)
}

pub(super) fn at_most(field: &'static str, found: usize, most: usize) -> Result<(), ServeError> {
    if found > most {
        return Err(ServeError::TooMany { field, found, most });
    }
    Ok(())
}

fn share(field: &'static str, share: Option<f64>) -> Result<Option<f64>, ServeError> {
    match share {
        Some(share) if !(0.0..=1.0).contains(&share) => Err(ServeError::BadExpression {
            field,
            message: format!("{share} is not a number from 0 to 1"),
            hint: None,
        }),
        share => Ok(share),
    }
}
