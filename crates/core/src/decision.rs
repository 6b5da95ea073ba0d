//! Decisions and outcomes: every answer that was given, and what happened afterwards.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::feature::FeatureValue;
use crate::id::{DecisionId, ModelName, Offset, VersionId};
use crate::time::Timestamp;

/// One answer, with everything that was known when it was given.
///
/// Its JSON form is what the decision log stores (format 1); fields are only ever added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Its id.
    pub id: DecisionId,
    /// The question.
    pub model: ModelName,
    /// The number of the version that answered; absent for a fallback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// Why the fallback answered, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// Where the person stood while a version was taking over; the challenger's people got the champion's answer where its own failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arm: Option<RolloutArm>,
    /// Whom the answer is about, by the key after joining identities.
    pub entity: String,
    /// When it was asked.
    pub moment: Timestamp,
    /// The last event that the features had seen.
    pub offset: Offset,
    /// The features in the order of the version's columns; empty for a fallback.
    pub features: Vec<FeatureValue>,
    /// What the caller passed along.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub context: Map<String, Value>,
    /// The answer.
    pub answer: Answer,
    /// What was recommended, in this order; empty for other kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<ShownItem>,
    /// The best ones that it was chosen from, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<ScoredItem>,
    /// Whether the caller had the items and asked for their order.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub given: bool,
    /// The decision whose list this one goes on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<DecisionId>,
    /// How long the answer took, in microseconds.
    pub latency_us: u64,
}

impl Decision {
    /// The version that answered: `will_return@17`; `None` for a fallback.
    pub fn version_id(&self) -> Option<VersionId> {
        let model = self.model.clone();
        self.version.map(|number| VersionId { model, number })
    }
}

/// An item in a list that was recommended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShownItem {
    /// The item.
    pub item: String,
    /// Its log-odds; 0 where nothing is known.
    pub score: f64,
    /// With which probability it stood here, given those before it.
    pub propensity: f64,
    /// Whether it was drawn at random, or is new, rather than the best.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub explored: bool,
}

/// An item that could have been recommended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoredItem {
    /// The item.
    pub item: String,
    /// Its log-odds.
    pub score: f64,
}

/// The answer of a predict model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// A probability for a yes/no question or the most likely class, else the predicted amount.
    pub score: f64,
    /// The most likely class of a next-action model, `yes`/`no` (at 0.5) for a yes/no question; absent for amounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The probability of every class, for a next-action model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probabilities: Vec<ClassProbability>,
}

/// One class and how likely it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassProbability {
    /// The class: the name of an event, or `none`.
    pub class: String,
    /// Between 0 and 1.
    pub probability: f64,
}

/// Why the plain fallback answered instead of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// No version has passed the gate yet.
    NoVersion,
    /// Nothing is known about this entity.
    UnknownEntity,
    /// The version failed to answer; it is counted and logged.
    VersionFailed,
    /// The person is one of those who never get the model's answers, so that it is known what the others gain.
    Holdout,
}

/// Where a person stands while a version takes over; most stand nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutArm {
    /// They get the answers of the version that takes over.
    Challenger,
    /// They get the champion's and are compared with those.
    Control,
}

/// What happened after a decision, joined to it when it is certain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The decision.
    pub decision: DecisionId,
    /// The question.
    pub model: ModelName,
    /// The version that had answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// Why the fallback had, where it did; absent for outcomes from before this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// Whom it was about.
    pub entity: String,
    /// When the answer was given.
    pub moment: Timestamp,
    /// When the outcome was certain: the target event, or the end of the horizon.
    pub resolved_at: Timestamp,
    /// What the model had said: a probability, or an amount; for classes that of the class that came true.
    pub score: f64,
    /// What happened: 1 or 0, an amount, or for classes 1 when the most likely one came true.
    pub value: f64,
    /// The class that came true, for a next-action model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// What was taken, for a list; `value` is how many of its items were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<ListOutcome>,
}

/// What was taken after a list had been shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListOutcome {
    /// The items of the list that were taken, in that order.
    pub taken: Vec<TakenItem>,
    /// How many other items were taken; up to 256 are told apart.
    pub others: usize,
    /// The NDCG@10 of the list: 1 where the best places have what was taken; absent where nothing was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ndcg: Option<f64>,
    /// How many would have been taken of as many items that everybody took then.
    pub popular_taken: usize,
    /// The NDCG@10 of that list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub popular_ndcg: Option<f64>,
}

/// An item of a list that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenItem {
    /// The item.
    pub item: String,
    /// Where it stood, from 0.
    pub place: usize,
}
