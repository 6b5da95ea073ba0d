//! Lists for everybody, page by page: what e-mails and exports ask for.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tidemill_core::decision::Fallback;
use tidemill_core::event::PersonKey;
use tidemill_core::time::written;
use tidemill_core::{DecisionId, ModelName, Span};

use super::answer::{RecommendRequest, RecommendedItem, at_most};
use crate::answer::{Answerer, Answering, ServeError};

/// Persons of a page when nobody says.
const COUNT_DEFAULT: usize = 500;
/// The most persons of a page.
const COUNT_MAX: usize = 2_000;

/// A question for the lists of everybody whom the product knows.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// How many items each.
    #[serde(default)]
    pub limit: Option<usize>,
    /// What may be shown, beside what the project file says.
    #[serde(default)]
    pub filter: Option<String>,
    /// What is worth more, beside what the project file says.
    #[serde(default)]
    pub boost: Option<String>,
    /// From 0 to 1, in place of what the project file says.
    #[serde(default)]
    pub diversity: Option<f64>,
    /// Anything that belongs to the question.
    #[serde(default)]
    pub context: Map<String, Value>,
    /// Whether to say why.
    #[serde(default)]
    pub reasons: bool,
    /// Only persons of whom something was heard in that time.
    #[serde(default, deserialize_with = "written::optional")]
    pub active_within: Option<Span>,
    /// How many persons.
    #[serde(default)]
    pub count: Option<usize>,
    /// Where the page before ended: its `next`.
    #[serde(default)]
    pub after: Option<PersonKey>,
}

/// Lists of some persons.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BatchPage {
    /// The model.
    pub model: ModelName,
    /// The lists, in the order of the persons' keys.
    pub lists: Vec<PersonList>,
    /// What to say in `after` for more; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<PersonKey>,
}

/// The list of one person. It is a decision like any other.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PersonList {
    /// The person, by the id that the product knows them by.
    pub user: String,
    /// The decision.
    pub decision_id: DecisionId,
    /// The version that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Why the plain fallback answered, where it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// The items, best first.
    pub items: Vec<RecommendedItem>,
}

impl Answerer {
    /// The lists of the next persons, and what was counted for each. Persons whose last events were not committed yet may be missing.
    ///
    /// # Errors
    /// As [`recommend`](Self::recommend).
    pub fn recommend_page(
        &self,
        model: &ModelName,
        request: &BatchRequest,
    ) -> Result<(BatchPage, Vec<Answering>), ServeError> {
        let count = request.count.unwrap_or(COUNT_DEFAULT);
        at_most("count", count, COUNT_MAX)?;
        let engine = self.engine.load_full();
        let users = engine.users(request.after.as_ref(), count.max(1));
        let users = users.map_err(ServeError::Features)?;
        let since = request.active_within.map(|span| self.clock.now() - span);
        let mut asked = RecommendRequest {
            limit: request.limit,
            filter: request.filter.clone(),
            boost: request.boost.clone(),
            diversity: request.diversity,
            context: request.context.clone(),
            reasons: request.reasons,
            ..RecommendRequest::default()
        };
        let (mut lists, mut counted) = (Vec::new(), Vec::new());
        for (person, heard) in users.found {
            if since.is_some_and(|since| heard < since) {
                continue;
            }
            asked.user = Some(person.id().to_owned());
            let (list, answering) = self.recommend(model, &asked)?;
            counted.push(answering);
            lists.push(PersonList {
                user: person.id().to_owned(),
                decision_id: list.decision_id,
                version: list.version,
                fallback: list.fallback,
                items: list.items,
            });
        }
        let page = BatchPage {
            model: model.clone(),
            lists,
            next: users.next,
        };
        Ok((page, counted))
    }
}
