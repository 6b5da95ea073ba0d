//! The project file: what a product sends and what it wants to know.
//!
//! [`Project::parse`] reads the TOML text and finds *all* problems at once, each with its line and, where a name is
//! misspelt, what was probably meant. SQL in it is kept as text with its line ([`Located`]); the feature engine compiles it and
//! reports its problems in the same form ([`Problem`]).

mod alerts;
mod expectations;
mod features;
mod gate;
mod operation;
mod parse;
mod problem;
mod reader;
mod recommend;
mod rollout;
mod schema;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::Field;
use crate::id::{ModelName, ProjectName};
use crate::time::Span;

pub use alerts::AlertTargets;
pub use expectations::Expectations;
pub use gate::GateRules;
pub use operation::{Operation, ValueUse};
pub use problem::{Problem, ProjectError, did_you_mean};
pub use recommend::{FrequencyCap, PinnedSource, RecommendModel};
pub use rollout::{Guardrails, RolloutRules};
pub use schema::{PropertyRule, PropertyType, SchemaViolation};

/// A parsed project file.
#[derive(Debug, Clone, PartialEq)]
pub struct Project {
    /// Its name.
    pub name: ProjectName,
    /// The currency of amounts, as ISO 4217.
    pub currency: Option<String>,
    /// What counts as money: the event and where it has the amount.
    pub value: Option<(String, Field)>,
    /// How long nothing happens before a session is over.
    pub session_gap: Span,
    /// After how long without any event what is known of a person, or of a value of a property, begins anew; never where absent.
    pub forget_after: Option<Span>,
    /// What can be recommended, and where events name it.
    pub items: Option<ItemDeclaration>,
    /// The properties of declared events, by event name and property name.
    pub events: BTreeMap<String, BTreeMap<String, PropertyRule>>,
    /// What is expected of what arrives, by event name: it wins over what is learnt.
    pub expectations: BTreeMap<String, Expectations>,
    /// Files to import, by source name.
    pub sources: BTreeMap<String, Source>,
    /// Declared features, in the order of the file. Empty means: suggest from the events that were seen.
    pub features: Vec<FeatureDefinition>,
    /// The models that predict, by name.
    pub models: BTreeMap<ModelName, PredictModel>,
    /// The models that recommend, by name; no two models have the same.
    pub recommenders: BTreeMap<ModelName, RecommendModel>,
    /// Where alerts go.
    pub alerts: AlertTargets,
    /// The text that it was parsed from.
    pub text: String,
}

/// A piece of text of the project file that is compiled later, with its place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Located {
    /// The text.
    pub text: String,
    /// The line on which it stands, counting from 1.
    pub line: usize,
}

impl Project {
    /// The names of all models, those that predict first.
    pub fn model_names(&self) -> impl Iterator<Item = &ModelName> {
        self.models.keys().chain(self.recommenders.keys())
    }

    /// Whether there is such a model.
    pub fn has_model(&self, name: &ModelName) -> bool {
        self.models.contains_key(name) || self.recommenders.contains_key(name)
    }
}

/// Where events name an item, and what attributes items have.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemDeclaration {
    /// Where events name it.
    pub id: Field,
    /// The attributes and their types.
    pub attributes: BTreeMap<String, PropertyRule>,
}

/// Files to import, with a column mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// The files: a path, possibly with `*`, beside the project file.
    pub path: Option<String>,
    /// The format; from the file's ending where absent.
    pub format: Option<SourceFormat>,
    /// The name of the events where no column says it.
    pub event: Option<String>,
    /// Which column (or constant in quotes) goes where: the target field and the column. Targets are the fields of
    /// [`Field`] plus `timestamp`, `received_at` and `message_id`.
    pub map: BTreeMap<String, String>,
}

/// The formats that are imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceFormat {
    /// Comma-separated, with a header; optionally compressed with zstd or gzip.
    Csv,
    /// One JSON object a line; optionally compressed with zstd or gzip.
    Jsonl,
    /// Apache Parquet.
    Parquet,
}

/// Whose features they are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntityKind {
    /// A person.
    User,
    /// An item.
    Item,
    /// Everything together.
    Global,
    /// What a person does now: everything since they last paused for longer than [`Project::session_gap`].
    Session,
    /// A person together with something that they deal with.
    Pair {
        /// The word in feature names: `user+item`.
        name: String,
        /// With what.
        with: PairedWith,
    },
    /// The moment at which something is asked, together with everything that is known then.
    Request,
    /// All events with the same value of a property: `[[features.country]]` is about `properties.country`.
    Property(String),
}

/// What a person is paired with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PairedWith {
    /// Items: `user+item`.
    Item,
    /// An attribute of items, as it was when the event happened: `user+item.category`.
    Attribute(String),
    /// A property of events: `user+country`.
    Property(String),
}

impl EntityKind {
    /// The kind that a word in the project file means.
    pub fn named(word: &str) -> Self {
        match word {
            "user" => Self::User,
            "item" => Self::Item,
            "global" => Self::Global,
            "session" => Self::Session,
            "request" => Self::Request,
            _ => match word.strip_prefix("user+") {
                Some(with) => Self::Pair {
                    name: word.to_owned(),
                    with: match with.strip_prefix("item.") {
                        Some(attribute) => PairedWith::Attribute(attribute.to_owned()),
                        None if with == "item" => PairedWith::Item,
                        None => PairedWith::Property(with.to_owned()),
                    },
                },
                None => Self::Property(word.to_owned()),
            },
        }
    }

    /// The word in feature names: `user` in `user.orders_30d`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::User => "user",
            Self::Item => "item",
            Self::Global => "global",
            Self::Session => "session",
            Self::Request => "request",
            Self::Pair { name, .. } | Self::Property(name) => name,
        }
    }
}

/// A feature as it was declared; with several windows it becomes several features.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureDefinition {
    /// Whose.
    pub entity: EntityKind,
    /// The name without entity and window: `opens`.
    pub name: String,
    /// In words, for reasons; made from the definition where absent.
    pub label: Option<String>,
    /// How it comes about.
    pub formula: Formula,
    /// The line on which it begins.
    pub line: usize,
}

/// How a feature comes about.
#[derive(Debug, Clone, PartialEq)]
pub enum Formula {
    /// From events.
    Aggregate(Aggregate),
    /// From other features of the same entity, or of a request from all of them, as a SQL scalar expression.
    Expression(Located),
    /// One aggregate of the same entity divided by another, for each window that both have.
    Ratio(Ratio),
}

/// The names of the two aggregates that a ratio is made of, without entity and window.
#[derive(Debug, Clone, PartialEq)]
pub struct Ratio {
    /// What is divided.
    pub numerator: Located,
    /// By what; where it is 0, the ratio is missing.
    pub denominator: Located,
}

/// An aggregate over events.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// The operation.
    pub operation: Operation,
    /// The events that it reads; empty means all.
    pub events: Vec<String>,
    /// A SQL boolean expression over the event.
    pub condition: Option<Located>,
    /// The field whose values are aggregated, where the operation takes one.
    pub value: Option<Field>,
    /// The windows, shortest first; empty means since the beginning.
    pub windows: Vec<Span>,
}

/// A question about the behaviour of an entity.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictModel {
    /// Its name.
    pub name: ModelName,
    /// The question in words.
    pub question: Option<String>,
    /// At which moments it is asked, for training.
    pub observe: Observe,
    /// Which share of the observations is learnt from; all where absent.
    pub sample: Option<Sample>,
    /// What is to be predicted.
    pub target: Target,
    /// Which features it uses: names with `*`.
    pub features: Vec<Located>,
    /// The metric that the gate compares; by default `auc`, `log_loss` for next actions, `mae` for amounts.
    pub metric: Option<Located>,
    /// The share of the people who never get its answers.
    pub holdout: f64,
    /// When it is trained again.
    pub retrain: Retrain,
    /// What a challenger must reach.
    pub gate: GateRules,
    /// How a version that passed takes over; at once where absent.
    pub rollout: Option<RolloutRules>,
    /// How it is fitted.
    pub training: Training,
    /// The line on which it begins.
    pub line: usize,
}

/// At which moments a question is asked about a person, for training.
#[derive(Debug, Clone, PartialEq)]
pub enum Observe {
    /// At each such event, after it has been seen.
    Event {
        /// The event.
        event: String,
        /// A SQL boolean expression over the event.
        condition: Option<Located>,
    },
    /// Every period, for everybody who did something lately.
    Every {
        /// The period; moments are aligned to the epoch in UTC.
        period: Span,
        /// How long ago the newest event of a person may be.
        active_within: Span,
    },
}

/// Which share of the observations is learnt from, above 0 and at most 1. Each row then stands for 1/share of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Sample {
    /// The same share of all.
    Share(f64),
    /// A share of each answer to a yes/no question: where nearly all say no, most of those teach nothing new.
    ByAnswer {
        /// Of those that came out as yes.
        yes: f64,
        /// Of those that came out as no.
        no: f64,
    },
}

/// What is to be predicted from what happens after the moment of an observation, in `(moment, moment + within]`.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// Whether such an event happens.
    Event {
        /// The event.
        event: String,
        /// The horizon.
        within: Span,
    },
    /// Whether no such event happens; `*` means no event of any name. This is churn.
    NoEvent {
        /// The event or `*`.
        event: String,
        /// The horizon.
        within: Span,
    },
    /// The sum of a number over such events.
    Sum {
        /// The event.
        event: String,
        /// The number.
        value: Field,
        /// The horizon.
        within: Span,
    },
    /// Which of these events happens first; `none` if none does within the horizon.
    Next {
        /// The events.
        events: Vec<String>,
        /// The horizon.
        within: Span,
    },
}

impl Target {
    /// The class that a next-action model gives to "nothing of these".
    pub const NONE: &'static str = "none";

    /// How long after the moment the answer is certain.
    pub fn within(&self) -> Span {
        match self {
            Self::Event { within, .. }
            | Self::NoEvent { within, .. }
            | Self::Sum { within, .. }
            | Self::Next { within, .. } => *within,
        }
    }
}

/// When a model is trained again.
#[derive(Debug, Clone, PartialEq)]
pub struct Retrain {
    /// On a schedule.
    pub every: Option<Span>,
    /// When that many new targets have become certain since the last training.
    pub min_new_targets: Option<u64>,
    /// When its quality fell below what was promised.
    pub on_quality: bool,
    /// When its answers or the features that it reads have drifted.
    pub on_drift: bool,
}

impl Default for Retrain {
    /// Every day, and when quality fell.
    fn default() -> Self {
        Self {
            every: Some(Span::from_days(1)),
            min_new_targets: None,
            on_quality: true,
            on_drift: false,
        }
    }
}

/// How a model is fitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Training {
    /// The effort of boosting: 0.5 is quick, 1.0 thorough.
    pub budget: Option<f64>,
    /// How far back observations reach; all of them where absent.
    pub history: Option<Span>,
    /// The seed of everything that is drawn at random.
    pub seed: u64,
    /// The fewest rows with a known target that are worth learning from.
    pub min_rows: u64,
}

/// The fixed limits of a project file.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct ProjectLimits;

impl ProjectLimits {
    /// The largest project file, in bytes.
    pub const FILE_BYTES_MAX: usize = 1 << 20;
    /// The most features that declared aggregates may expand to.
    pub const FEATURES_MAX: usize = 2_000;
    /// The most models of a project.
    pub const MODELS_MAX: usize = 200;
    /// The longest window and horizon.
    pub const SPAN_MAX: Span = Span::from_days(3_650);
    /// The shortest window and horizon.
    pub const SPAN_MIN: Span = Span::from_seconds(1);
    /// The largest `k` of a `top` feature.
    pub const TOP_MAX: i64 = 10;
    /// How long nothing happens before a session is over, unless the project file says otherwise.
    pub const SESSION_GAP: Span = Span::from_seconds(1_800);
    /// The shortest time after which what is known may begin anew.
    pub const FORGET_AFTER_MIN: Span = Span::from_days(2);
    /// The largest `k` of a `recent` feature.
    pub const RECENT_MAX: i64 = 20;
}
