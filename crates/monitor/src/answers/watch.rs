//! Follows the decision log and keeps the days of every version.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use tidemill_core::sync::Mutex;
use tidemill_core::{Decision, ModelName, ProjectName, Timestamp};
use tidemill_store::lake::Sequenced;
use tidemill_store::{StateStore, StoreError};

use super::examine::AnswersExamined;
use super::sketch::{AnswerDay, ReadFeatures, Watched};
use crate::days::{Days, Full, History, Known, Position, Tables};

/// The most versions that are told apart; where there are more, those that have been silent for longest are forgotten.
pub const VERSIONS_MAX: usize = 1_000;

const TABLES: Tables = Tables {
    sketches: "answer_sketches",
    histories: "answer_histories",
    watch: "answer_watch",
    of: "the watch of the answers",
};

/// What versions read, by model and number.
pub type Reads = BTreeMap<(ModelName, u32), Arc<ReadFeatures>>;

/// Counts what is answered, day by day. Used by one follower of the decision log; reading is free for all.
pub struct AnswerWatch {
    pub(super) days: Days<AnswerDay>,
    /// What was found last. Held while days are looked at.
    pub(super) examined: Mutex<AnswersExamined>,
}

impl AnswerWatch {
    /// Goes on where it stopped.
    ///
    /// # Errors
    /// When the state store fails or is damaged.
    pub fn open(project: ProjectName, state: Arc<dyn StateStore>) -> Result<Self, StoreError> {
        let limit = (VERSIONS_MAX, Full::OldestGivesWay);
        let (days, examined) = Days::open(project, state, TABLES, limit)?;
        Ok(Self {
            days,
            examined: Mutex::new(examined),
        })
    }

    /// The place of the last decision that was counted.
    pub fn place(&self) -> u64 {
        self.days.place()
    }

    /// Where it stands; its subjects are the models, for what their fallbacks answered, and the versions.
    pub fn position(&self) -> Position {
        self.days.position()
    }

    /// Counts decisions in the order of their log; those that were counted before are skipped, and so are those of models that `watched`
    /// does not know. `reads` says what their versions read.
    ///
    /// # Errors
    /// When the state store fails; what was counted since the last commit is counted again after a start.
    pub fn apply(
        &self,
        decisions: &[Sequenced<Decision>],
        watched: &dyn Fn(&ModelName) -> Option<Watched>,
        reads: &Reads,
    ) -> Result<(), StoreError> {
        let entries = decisions.iter();
        let entries = entries.map(|decision| (decision.sequence, &decision.value));
        let of = |decision: &Decision| {
            let subject = subject(&decision.model, decision.version);
            watched(&decision.model).map(|_| (decision.moment.day(), Cow::Owned(subject)))
        };
        self.days.apply(entries, of, |day, decision| {
            let version = decision.version;
            let reads = version.and_then(|number| reads.get(&(decision.model.clone(), number)));
            if let Some(watched) = watched(&decision.model) {
                day.add(decision, watched, reads.map(Arc::as_ref));
            }
        })
    }

    /// Stores what was counted, where that was not done for a while.
    ///
    /// # Errors
    /// When the state store fails.
    pub fn commit_if_due(&self, now: Timestamp) -> Result<(), StoreError> {
        self.days.commit_if_due(now)
    }

    /// Stores what was counted. Returns the last decision that need not be counted again.
    ///
    /// # Errors
    /// When the state store fails.
    pub fn commit(&self) -> Result<u64, StoreError> {
        self.days.commit()
    }

    /// The versions of a model that answered, with when; `None` is the fallback.
    pub fn versions(&self, model: &ModelName) -> Vec<(Option<u32>, Known)> {
        versions(&self.position(), model)
    }

    /// A day of a version, or of a model's fallback, as it is now; an empty one where nothing was answered.
    ///
    /// # Errors
    /// When the state store fails or an entry is damaged.
    pub fn day(
        &self,
        day: i64,
        model: &ModelName,
        version: Option<u32>,
    ) -> Result<AnswerDay, StoreError> {
        self.days.day(day, &subject(model, version))
    }

    /// The past of a model.
    ///
    /// # Errors
    /// When the state store fails or an entry is damaged.
    pub fn history(&self, model: &ModelName) -> Result<History, StoreError> {
        self.days.history(model.as_str())
    }
}

/// `will_return@17`, or `will_return` for what its fallback answers.
fn subject(model: &ModelName, version: Option<u32>) -> String {
    match version {
        Some(number) => format!("{model}@{number}"),
        None => model.to_string(),
    }
}

/// The versions of a model that a position knows; `None` is the fallback.
pub(super) fn versions(position: &Position, model: &ModelName) -> Vec<(Option<u32>, Known)> {
    let of = |(subject, known): (&String, &Known)| {
        let rest = subject.strip_prefix(model.as_str())?;
        let version = match rest.strip_prefix('@') {
            Some(number) => Some(number.parse().ok()?),
            None if rest.is_empty() => None,
            None => return None,
        };
        Some((version, *known))
    };
    let subjects = position.subjects.range(model.as_str().to_owned()..);
    let ours = subjects.take_while(|(subject, _)| subject.starts_with(model.as_str()));
    let mut versions: Vec<_> = ours.filter_map(of).collect();
    versions.sort_by_key(|(version, _)| *version);
    versions
}

/// The models that a position knows.
pub(super) fn models(position: &Position) -> Vec<ModelName> {
    let names = position.subjects.keys().map(|subject| {
        let name = subject.split('@').next();
        name.unwrap_or_default()
    });
    let mut models: Vec<ModelName> = names.filter_map(|name| name.parse().ok()).collect();
    models.sort();
    models.dedup();
    models
}
