//! What differs of the answers, by its cause: what comes first on the way to an answer is named first, what follows beside it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidemill_core::decision::Fallback;
use tidemill_core::{ModelName, Span, Timestamp};

use super::examine::Lead;
use crate::alerts::AlertKind;
use crate::days::{Exceeded, Family, Statistic, by_cause, noticed, renamed, unit};

/// Under which names scores, classes and lists are watched; the names of features have a dot.
pub(super) const SCORE: &str = "score";
pub(super) const LABEL: &str = "label";
pub(super) const LIST: &str = "list";
/// What is counted.
const OF: &str = "answers";
/// The most consequences that are named.
const ALSO_MAX: usize = 10;
/// The most findings that are kept.
const FINDINGS_MAX: usize = 100;
/// How long it is named that another version answers, in days.
const NEW_VERSION_DAYS: i64 = 7;

/// Something about what is answered, or from what, that is not as before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerFinding {
    /// Whether a feature or what is answered.
    pub kind: AlertKind,
    /// The model.
    pub model: ModelName,
    /// The version that answered most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// The feature; `score`, `label`, `list`, or the reason of fallbacks.
    pub property: String,
    /// What was measured.
    pub statistic: Statistic,
    /// What its numbers are.
    pub unit: String,
    /// What was usual.
    pub before: f64,
    /// What it is now.
    pub now: f64,
    /// In units of the threshold, which is what past days exceed as often as false alarms are allowed.
    pub surprise: f64,
    /// The day on which it was measured last, in days since 1970 (UTC).
    pub day: i64,
    /// What was noticed, in a sentence with its numbers.
    pub noticed: String,
    /// What the cause may be, in words.
    pub likely: String,
    /// What follows from the same cause.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// The features that differ, the most telling first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// The models that it is about.
    pub models: Vec<ModelName>,
}

impl AnswerFinding {
    /// The feature, or the model of which the answers differ.
    pub fn subject(&self) -> String {
        match self.kind {
            AlertKind::FeatureDrifted => self.property.clone(),
            _ => self.model.to_string(),
        }
    }

    /// Whether it is about what versions answered, and not about features or fallbacks.
    pub fn is_of_answers(&self) -> bool {
        self.kind == AlertKind::PredictionsDrifted && self.statistic != Statistic::Fallbacks
    }
}

/// As a reason of fallbacks is written.
pub fn reason(fallback: Fallback) -> &'static str {
    match fallback {
        Fallback::NoVersion => "no_version",
        Fallback::UnknownEntity => "unknown_entity",
        Fallback::VersionFailed => "version_failed",
        Fallback::Holdout => "holdout",
    }
}

/// Whether it is about a feature.
fn is_feature(one: &Exceeded) -> bool {
    one.property.contains('.')
}

/// How early it is on the way to an answer: what is served, the answers, what has changed slowly.
fn rank(one: &Exceeded) -> u8 {
    match one.statistic {
        Statistic::Fallbacks => 0,
        _ if one.statistic.family() == Family::Shift => 3 + u8::from(!is_feature(one)),
        _ if is_feature(one) => 1,
        _ => 2,
    }
}

/// Whether both have one cause: they are of the same model, or the same feature of several.
fn explains(one: &Exceeded, other: &Exceeded) -> bool {
    one.subject == other.subject || (is_feature(one) && one.property == other.property)
}

/// Findings by cause, the most surprising first. What was told before under a name keeps it.
pub(super) fn tell(
    mut exceeded: Vec<Exceeded>,
    before: &[AnswerFinding],
    day: i64,
    leads: &BTreeMap<String, Lead>,
) -> Vec<AnswerFinding> {
    let was_told = |one: &Exceeded| {
        before
            .iter()
            .any(|told| told.property == one.property && told.kind == kind(one))
    };
    exceeded.sort_by(|one, other| {
        rank(one)
            .cmp(&rank(other))
            .then_with(|| was_told(other).cmp(&was_told(one)))
            .then_with(|| other.surprise.total_cmp(&one.surprise))
    });
    let causes = by_cause(exceeded, explains);
    let findings = causes
        .iter()
        .filter_map(|of_cause| finding(of_cause, day, leads));
    let mut findings: Vec<AnswerFinding> = findings.collect();
    findings.sort_by(|one, other| other.surprise.total_cmp(&one.surprise));
    findings.truncate(FINDINGS_MAX);
    findings
}

fn kind(one: &Exceeded) -> AlertKind {
    match is_feature(one) {
        true => AlertKind::FeatureDrifted,
        false => AlertKind::PredictionsDrifted,
    }
}

fn finding(
    of_cause: &[Exceeded],
    day: i64,
    leads: &BTreeMap<String, Lead>,
) -> Option<AnswerFinding> {
    let (first, others) = of_cause.split_first()?;
    let lead = leads.get(&first.subject);
    let also = others
        .iter()
        .filter(|other| (&other.subject, &other.property) != (&first.subject, &first.property));
    let also = also.take(ALSO_MAX).map(|other| {
        let noticed = noticed(other, OF);
        format!("{} {}: {noticed}", other.subject, other.property)
    });
    let (mut features, mut models): (Vec<String>, Vec<ModelName>) = Default::default();
    for one in of_cause {
        if is_feature(one) && !features.contains(&one.property) {
            features.push(one.property.clone());
        }
        let model = one.subject.parse().ok();
        models.extend(model.filter(|model| !models.contains(model)));
    }
    Some(AnswerFinding {
        kind: kind(first),
        model: first.subject.parse().ok()?,
        version: lead.map(|lead| lead.version),
        property: first.property.clone(),
        statistic: first.statistic,
        unit: first.statistic.unit().to_owned(),
        before: first.statistic.shown(first.before),
        now: first.statistic.shown(first.now),
        surprise: of_cause.iter().map(|one| one.surprise).fold(0.0, f64::max),
        day,
        noticed: match lead.and_then(|lead| new_version(first, lead, day)) {
            Some(since) => format!("{} ({since})", noticed(first, OF)),
            None => noticed(first, OF),
        },
        likely: likely(first, others),
        also: also.collect(),
        features,
        models,
    })
}

/// That another version answers since not long ago.
fn new_version(one: &Exceeded, lead: &Lead, day: i64) -> Option<String> {
    let before = lead
        .before
        .filter(|_| day - lead.since < NEW_VERSION_DAYS)?;
    let (model, now) = (&one.subject, lead.version);
    let since = Timestamp::EPOCH
        + Span::from_micros(Span::from_days(1).micros().saturating_mul(lead.since));
    Some(format!(
        "{model}@{now} has answered since {}, {model}@{before} before",
        since.date()
    ))
}

/// What may have happened, as a question.
fn likely(lead: &Exceeded, others: &[Exceeded]) -> String {
    let vanished = others.iter().find(|other| {
        other.statistic == Statistic::VanishedValues && other.property == lead.property
    });
    let words = match (lead.statistic, lead.property.as_str()) {
        (Statistic::Fallbacks, "unknown_entity") => {
            "are people asked about by other ids than those that their events have?"
        }
        (Statistic::Fallbacks, "version_failed") => {
            "what does the log of the server say of why the version fails?"
        }
        (Statistic::Fallbacks, _) => "was its version withdrawn?",
        (Statistic::Missing | Statistic::MissingShift, _) => {
            "does an event that it reads still come, with the property that it reads?"
        }
        (Statistic::Location, _) if is_feature(lead) => return unit(lead.now - lead.before),
        (Statistic::NewValues | Statistic::VanishedValues, _) => return renamed(lead, vanished),
        (Statistic::ListLength, _) => {
            "do callers ask for as many as before, and do filters, exclusions and stock leave as many items?"
        }
        (Statistic::Concentration, _) => {
            "do the sources of its candidates still bring what they did, and is what people take still known?"
        }
        _ if is_feature(lead) => {
            "do other people ask, or does an event that it reads come otherwise than before?"
        }
        _ if lead.statistic.family() == Family::Shift => {
            "has what people do changed, or do others ask than those that the version was trained on?"
        }
        _ => "are others asked about, or was the version or what it reads changed?",
    };
    words.to_owned()
}
