//! Alerts: what is wrong, told once, and told again when it is over.
//!
//! A [`Finding`] says that something is wrong now. The [`AlertBook`] keeps one open [`Alert`] for each kind and subject, however often
//! it is found, and writes a message when it opens and one when it is resolved into an outbox; what is in the outbox is sent until it
//! has arrived, also after a restart.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_core::sync::Mutex;
use tidemill_core::{ProjectName, Timestamp};
use tidemill_store::{StateBatch, StateStore, StoreError};

/// Open alerts by id.
const OPEN: &str = "alerts";
/// Resolved ones, by when and id; the newest [`RESOLVED_KEPT`].
const RESOLVED: &str = "alerts_resolved";
/// Messages that were not sent yet, by place.
const OUTBOX: &str = "alerts_outbox";
/// How many resolved alerts are kept.
const RESOLVED_KEPT: usize = 1_000;
/// How many messages wait at most; older ones are dropped, with an error in the log.
const OUTBOX_MAX: usize = 1_000;

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// What was served of a feature is not what training sees.
    FeatureDiffers,
    /// An event has not come for much longer than ever before.
    EventStopped,
    /// A run broke off.
    RunFailed,
    /// A model's answers are worse than its examination promised.
    QualityFell,
    /// A version that took over did not keep to a guardrail and was sent back.
    VersionRolledBack,
    /// Many more or fewer events than usual came on a day.
    VolumeChanged,
    /// An event is told twice.
    EventDoubled,
    /// A property is absent or null much more often than before.
    PropertyMissing,
    /// The values of a property are not what they were: another unit, other names, another type.
    ValuesChanged,
    /// The values of a property have changed slowly, over a month.
    DataDrifted,
    /// What came is not what the project file expects.
    ExpectationBroken,
    /// A version fails to answer.
    AnswersFail,
    /// Answers take long.
    AnswersSlow,
    /// Features or the lake are far behind the events.
    LagsBehind,
    /// The disk of the data folder is nearly full.
    DiskFull,
    /// A model's answers are not what they were: its scores, its classes, or how often the fallback answers.
    PredictionsDrifted,
    /// A feature is served otherwise than before: it is missing, elsewhere, or has other values.
    FeatureDrifted,
    /// What a version is served is not what it was trained on.
    ServingSkewed,
}

impl AlertKind {
    /// Those that the watch of the data finds; it also finds events that stopped.
    pub const OF_DATA: [Self; 6] = [
        Self::VolumeChanged,
        Self::EventDoubled,
        Self::PropertyMissing,
        Self::ValuesChanged,
        Self::DataDrifted,
        Self::ExpectationBroken,
    ];

    /// Those that the watch of the answers finds.
    pub const OF_ANSWERS: [Self; 3] = [
        Self::PredictionsDrifted,
        Self::FeatureDrifted,
        Self::ServingSkewed,
    ];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FeatureDiffers => "feature_differs",
            Self::EventStopped => "event_stopped",
            Self::RunFailed => "run_failed",
            Self::QualityFell => "quality_fell",
            Self::VersionRolledBack => "version_rolled_back",
            Self::VolumeChanged => "volume_changed",
            Self::EventDoubled => "event_doubled",
            Self::PropertyMissing => "property_missing",
            Self::ValuesChanged => "values_changed",
            Self::DataDrifted => "data_drifted",
            Self::ExpectationBroken => "expectation_broken",
            Self::AnswersFail => "answers_fail",
            Self::AnswersSlow => "answers_slow",
            Self::LagsBehind => "lags_behind",
            Self::DiskFull => "disk_full",
            Self::PredictionsDrifted => "predictions_drifted",
            Self::FeatureDrifted => "feature_drifted",
            Self::ServingSkewed => "serving_skewed",
        }
    }
}

/// Something that is wrong now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub kind: AlertKind,
    /// Of what: a feature, an event, a model.
    pub subject: String,
    /// How it was noticed, with its numbers, in a sentence.
    pub cause: String,
    /// What a person should do.
    pub next_step: String,
}

/// Something that is or was wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// `feature_differs:user.spent_30d`.
    pub id: String,
    /// What is wrong.
    pub kind: AlertKind,
    /// Of what.
    pub subject: String,
    /// How it was noticed the last time.
    pub cause: String,
    /// What a person should do.
    pub next_step: String,
    /// When it was first found.
    pub since: Timestamp,
    /// When it was last found.
    pub found_at: Timestamp,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<Timestamp>,
    /// Until when nobody is told of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silenced_until: Option<Timestamp>,
}

/// What is told about an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertMessage {
    /// The project.
    pub project: ProjectName,
    /// `open` or `resolved`.
    pub state: AlertState,
    /// The alert.
    #[serde(flatten)]
    pub alert: Alert,
}

/// A message that has not arrived everywhere yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The message.
    #[serde(flatten)]
    pub message: AlertMessage,
    /// The URLs that have it.
    #[serde(default)]
    pub arrived: Vec<String>,
}

/// Whether something is wrong still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// It is.
    Open,
    /// It is over.
    Resolved,
}

impl AlertMessage {
    /// What it is about, in a line.
    pub fn subject(&self) -> String {
        let kind = self.alert.kind.as_str().replace('_', " ");
        let over = match self.state {
            AlertState::Open => "",
            AlertState::Resolved => "over: ",
        };
        format!("{}: {over}{kind}, {}", self.project, self.alert.subject)
    }

    /// The message as a letter: the cause, what to do, and since when.
    pub fn letter(&self) -> String {
        let Alert {
            cause, next_step, ..
        } = &self.alert;
        let opened = self.alert.since;
        let what = match (self.state, self.alert.resolved_at) {
            (AlertState::Resolved, Some(over)) => {
                format!("It is over since {over}; it was open since {opened}.\n\nIt was: {cause}.")
            }
            _ => format!("Open since {opened}.\n\n{cause}.\n\nWhat to do: {next_step}"),
        };
        format!("{}\n\n{what}\n", self.subject())
    }

    /// The message in words, for those who read text.
    pub fn text(&self) -> String {
        let Alert {
            cause, next_step, ..
        } = &self.alert;
        match self.state {
            AlertState::Open => {
                format!("{}. {cause}. What to do: {next_step}", self.subject())
            }
            AlertState::Resolved => self.subject(),
        }
    }
}

/// The alerts of one project.
pub struct AlertBook {
    project: ProjectName,
    state: Arc<dyn StateStore>,
    /// Held while anything is changed.
    writing: Mutex<()>,
}

impl AlertBook {
    /// The alerts that a project's state has.
    pub fn new(project: ProjectName, state: Arc<dyn StateStore>) -> Self {
        Self {
            project,
            state,
            writing: Mutex::default(),
        }
    }

    /// Open alerts, those that were found first at the top.
    ///
    /// # Errors
    /// When the state store fails or an entry is damaged.
    pub fn open(&self) -> Result<Vec<Alert>, StoreError> {
        let mut alerts = self.all(OPEN)?;
        alerts.sort_by(|one, other| (one.since, &one.id).cmp(&(other.since, &other.id)));
        Ok(alerts)
    }

    /// Resolved alerts, the newest first.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn resolved(&self) -> Result<Vec<Alert>, StoreError> {
        let mut alerts = self.all(RESOLVED)?;
        alerts.reverse();
        Ok(alerts)
    }

    /// Takes what was found by checks of these kinds: opens, keeps and resolves alerts. Alerts of other kinds stay as they are.
    ///
    /// # Errors
    /// When the state store fails; nothing has changed then.
    pub fn update(
        &self,
        checked: &[AlertKind],
        findings: Vec<Finding>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let _writing = self.writing.lock();
        let before: BTreeMap<String, Alert> = self
            .open()?
            .into_iter()
            .map(|alert| (alert.id.clone(), alert))
            .collect();
        let mut batch = StateBatch::default();
        let mut messages = Vec::new();
        let mut found = Vec::new();
        for finding in findings {
            let id = format!("{}:{}", finding.kind.as_str(), finding.subject);
            let known = before.get(&id);
            let alert = Alert {
                kind: finding.kind,
                subject: finding.subject,
                cause: finding.cause,
                next_step: finding.next_step,
                since: known.map_or(now, |known| known.since),
                found_at: now,
                resolved_at: None,
                silenced_until: known.and_then(|known| known.silenced_until),
                id: id.clone(),
            };
            batch.put(OPEN, id.as_bytes(), encode(&alert)?);
            if known.is_none() {
                messages.push((AlertState::Open, alert));
            }
            found.push(id);
        }
        for (id, alert) in before {
            if found.contains(&id) || !checked.contains(&alert.kind) {
                continue;
            }
            let alert = Alert {
                resolved_at: Some(now),
                ..alert
            };
            batch.remove(OPEN, id.as_bytes());
            batch.put(RESOLVED, resolved_key(now, &id), encode(&alert)?);
            if alert.silenced_until.is_none_or(|until| until <= now) {
                messages.push((AlertState::Resolved, alert));
            }
        }
        if !messages.is_empty() {
            self.forget_resolved(&mut batch)?;
            self.post(&mut batch, messages)?;
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.state.commit(&self.project, batch)
    }

    /// Lets nobody be told of an open alert for a while; `false` where there is none.
    ///
    /// # Errors
    /// When the state store fails.
    pub fn silence(&self, id: &str, until: Timestamp) -> Result<bool, StoreError> {
        let _writing = self.writing.lock();
        let Some(bytes) = self.state.get(&self.project, OPEN, id.as_bytes())? else {
            return Ok(false);
        };
        let alert = Alert {
            silenced_until: Some(until),
            ..decode(&bytes)?
        };
        let mut batch = StateBatch::default();
        batch.put(OPEN, id.as_bytes(), encode(&alert)?);
        self.state.commit(&self.project, batch)?;
        Ok(true)
    }

    /// Messages that have not arrived everywhere yet, oldest first, with their places.
    ///
    /// # Errors
    /// When the state store fails or an entry is damaged.
    pub fn outbox(&self) -> Result<Vec<(u64, Waiting)>, StoreError> {
        let rows = self
            .state
            .scan(&self.project, OUTBOX, &[], None, OUTBOX_MAX)?;
        rows.iter()
            .map(|(key, bytes)| Ok((place_of(key), decode(bytes)?)))
            .collect()
    }

    /// Notes where else a message has arrived, so that it is not sent there again.
    ///
    /// # Errors
    /// When the state store fails; it is sent again then.
    pub fn arrived(&self, place: u64, waiting: &Waiting) -> Result<(), StoreError> {
        let mut batch = StateBatch::default();
        batch.put(OUTBOX, place.to_be_bytes(), encode(waiting)?);
        self.state.commit(&self.project, batch)
    }

    /// Notes that a message has arrived everywhere.
    ///
    /// # Errors
    /// When the state store fails; it is sent again then.
    pub fn sent(&self, place: u64) -> Result<(), StoreError> {
        let mut batch = StateBatch::default();
        batch.remove(OUTBOX, place.to_be_bytes());
        self.state.commit(&self.project, batch)
    }

    fn post(
        &self,
        batch: &mut StateBatch,
        messages: Vec<(AlertState, Alert)>,
    ) -> Result<(), StoreError> {
        let waiting = self
            .state
            .scan(&self.project, OUTBOX, &[], None, usize::MAX)?;
        let mut next = waiting.last().map_or(0, |(key, _)| place_of(key)) + 1;
        let too_many = (waiting.len() + messages.len()).saturating_sub(OUTBOX_MAX);
        for (key, _) in waiting.into_iter().take(too_many) {
            tracing::error!(project = %self.project, "an alert could not be sent for so long that it is dropped");
            batch.remove(OUTBOX, key);
        }
        for (state, alert) in messages {
            let project = self.project.clone();
            let waiting = Waiting {
                message: AlertMessage {
                    project,
                    state,
                    alert,
                },
                arrived: Vec::new(),
            };
            batch.put(OUTBOX, next.to_be_bytes(), encode(&waiting)?);
            next += 1;
        }
        Ok(())
    }

    fn forget_resolved(&self, batch: &mut StateBatch) -> Result<(), StoreError> {
        let rows = self
            .state
            .scan(&self.project, RESOLVED, &[], None, usize::MAX)?;
        let too_many = rows.len().saturating_sub(RESOLVED_KEPT);
        for (key, _) in rows.into_iter().take(too_many) {
            batch.remove(RESOLVED, key);
        }
        Ok(())
    }

    fn all(&self, table: &'static str) -> Result<Vec<Alert>, StoreError> {
        let rows = self
            .state
            .scan(&self.project, table, &[], None, usize::MAX)?;
        rows.iter().map(|(_, bytes)| decode(bytes)).collect()
    }
}

fn resolved_key(at: Timestamp, id: &str) -> Vec<u8> {
    [&at.micros().to_be_bytes()[..], id.as_bytes()].concat()
}

fn place_of(key: &[u8]) -> u64 {
    key.last_chunk::<8>()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::corrupt("an alert", error))
}

fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| StoreError::corrupt("an alert", error))
}

#[cfg(test)]
mod tests {
    use tidemill_store::memory::MemoryState;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    fn finding(kind: AlertKind, subject: &str, cause: &str) -> Finding {
        Finding {
            kind,
            subject: subject.to_owned(),
            cause: cause.to_owned(),
            next_step: "look".to_owned(),
        }
    }

    #[test]
    fn an_alert_is_told_once_and_when_it_is_over() {
        let state = Arc::new(MemoryState::default());
        let book = AlertBook::new("shop".parse().unwrap(), state.clone());
        let kinds = [AlertKind::EventStopped];
        for second in 1..=3 {
            let cause = format!("silent for {second} h");
            let found = finding(AlertKind::EventStopped, "Order", &cause);
            book.update(&kinds, vec![found], at(second)).unwrap();
        }
        let open = book.open().unwrap();
        assert_eq!(
            (open.len(), open[0].since, open[0].found_at),
            (1, at(1), at(3))
        );
        assert_eq!(
            (&*open[0].id, &*open[0].cause),
            ("event_stopped:Order", "silent for 3 h")
        );
        // a check of another kind resolves nothing
        book.update(&[AlertKind::RunFailed], Vec::new(), at(4))
            .unwrap();
        assert_eq!(book.open().unwrap().len(), 1);
        book.update(&kinds, Vec::new(), at(5)).unwrap();
        assert!(book.open().unwrap().is_empty());
        assert_eq!(book.resolved().unwrap()[0].resolved_at, Some(at(5)));
        // another process finds what is to be sent, in order, until it was sent
        let book = AlertBook::new("shop".parse().unwrap(), state);
        let outbox = book.outbox().unwrap();
        let states: Vec<AlertState> = outbox
            .iter()
            .map(|(_, waiting)| waiting.message.state)
            .collect();
        assert_eq!(states, [AlertState::Open, AlertState::Resolved]);
        assert_eq!(
            outbox[0].1.message.text(),
            "shop: event stopped, Order. silent for 1 h. What to do: look"
        );
        for (place, _) in outbox {
            book.sent(place).unwrap();
        }
        assert!(book.outbox().unwrap().is_empty());
    }

    #[test]
    fn what_is_silenced_is_not_told_when_it_is_over() {
        let book = AlertBook::new("shop".parse().unwrap(), Arc::new(MemoryState::default()));
        let kinds = [AlertKind::RunFailed];
        let found = || vec![finding(AlertKind::RunFailed, "m", "the disk is full")];
        book.update(&kinds, found(), at(1)).unwrap();
        assert!(book.silence("run_failed:m", at(100)).unwrap());
        assert!(!book.silence("run_failed:other", at(100)).unwrap());
        book.update(&kinds, found(), at(2)).unwrap();
        assert_eq!(book.open().unwrap()[0].silenced_until, Some(at(100)));
        book.update(&kinds, Vec::new(), at(3)).unwrap();
        assert_eq!(book.outbox().unwrap().len(), 1, "that it opened");
    }
}
