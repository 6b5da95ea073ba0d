//! What a question for items asks, whatever kind of question it was.

use std::collections::HashSet;
use std::sync::LazyLock;

use serde_json::{Map, Value};
use tidemill_core::DecisionId;
use tidemill_core::event::PersonKey;

use super::slot::RecommendSlot;

/// What all three kinds of questions ask.
pub(crate) struct Ask<'r> {
    pub(super) person: Option<PersonKey>,
    /// What was looked at just now.
    pub(super) session: &'r [String],
    /// The items to be ranked; otherwise all.
    pub(super) given: Option<&'r [String]>,
    pub(super) limit: usize,
    pub(super) exclude: HashSet<&'r str>,
    pub(super) filter: Option<&'r str>,
    pub(super) boost: Option<&'r str>,
    pub(super) diversity: f64,
    pub(super) explore: f64,
    pub(super) context: &'r Map<String, Value>,
    pub(super) reasons: bool,
    pub(super) after: Option<DecisionId>,
}

/// What comes with a question that says nothing of the moment.
static NO_CONTEXT: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);

/// A question about nobody, with what the project file says.
pub(super) fn plain<'r>(slot: &RecommendSlot, limit: usize) -> Ask<'r> {
    Ask {
        person: None,
        session: &[],
        given: None,
        limit,
        exclude: HashSet::new(),
        filter: None,
        boost: None,
        diversity: slot.model.diversity,
        explore: 0.0,
        context: &NO_CONTEXT,
        reasons: false,
        after: None,
    }
}

/// The question of what goes with an item: as if it had just been looked at.
pub(super) fn beside<'r>(
    slot: &RecommendSlot,
    item: &'r str,
    session: &'r [String],
    limit: usize,
) -> Ask<'r> {
    Ask {
        session,
        exclude: HashSet::from([item]),
        ..plain(slot, limit)
    }
}

/// A question that is asked again after it was answered.
pub(crate) struct OwnAsk {
    person: Option<PersonKey>,
    session: Vec<String>,
    given: Option<Vec<String>>,
    limit: usize,
    exclude: Vec<String>,
    filter: Option<String>,
    boost: Option<String>,
    diversity: f64,
    context: Map<String, Value>,
    after: Option<DecisionId>,
}

impl OwnAsk {
    /// The same question.
    pub(super) fn of(ask: &Ask<'_>) -> Self {
        Self {
            person: ask.person.clone(),
            session: ask.session.to_vec(),
            given: ask.given.map(<[String]>::to_vec),
            limit: ask.limit,
            exclude: ask.exclude.iter().map(ToString::to_string).collect(),
            filter: ask.filter.map(str::to_owned),
            boost: ask.boost.map(str::to_owned),
            diversity: ask.diversity,
            context: ask.context.clone(),
            after: ask.after,
        }
    }

    /// What is asked; nothing is drawn at random, so that two lists differ by what made them only.
    pub(crate) fn ask(&self) -> Ask<'_> {
        Ask {
            person: self.person.clone(),
            session: &self.session,
            given: self.given.as_deref(),
            limit: self.limit,
            exclude: self.exclude.iter().map(String::as_str).collect(),
            filter: self.filter.as_deref(),
            boost: self.boost.as_deref(),
            diversity: self.diversity,
            explore: 0.0,
            context: &self.context,
            reasons: false,
            after: self.after,
        }
    }
}
