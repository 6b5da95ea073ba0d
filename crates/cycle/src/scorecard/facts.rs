//! What a project holds that tests are judged by, read once.

use std::sync::Arc;

use serde_json::Value;
use tidemill_core::{Decision, ModelName, Span, Timestamp};
use tidemill_store::catalog::{AuditEntry, Rollout, Run, RunState, Version};

use crate::checkup::Checkup;
use crate::consistency::ConsistencyReport;
use crate::drill::Drill;
use crate::feature_report::FeatureReport;
use crate::project_loop::{CycleError, ProjectLoop};
use crate::quality::ModelStatus;
use crate::rehearsal::Rehearsal;
use crate::staleness::Staleness;

/// So many of the newest runs are looked at.
const RUNS: u32 = 12;
/// So many of the newest decisions.
const DECISIONS: usize = 5_000;
/// So many of the newest entries of the audit log.
const AUDIT: u32 = 1_000;

/// What is known of a model and its project.
pub(super) struct Facts {
    pub(super) model: ModelName,
    pub(super) now: Timestamp,
    pub(super) status: ModelStatus,
    /// The version that answers.
    pub(super) champion: Option<Version>,
    /// Runs that made a version, the newest first.
    pub(super) runs: Vec<Run>,
    pub(super) staleness: Option<Staleness>,
    pub(super) checkup: Option<Checkup>,
    pub(super) rehearsal: Option<Rehearsal>,
    pub(super) drill: Option<Drill>,
    pub(super) rollout: Option<Rollout>,
    pub(super) consistency: ConsistencyReport,
    /// The last whole day whose data were compared.
    pub(super) examined_until: Option<Timestamp>,
    /// Alerts about data that are open.
    pub(super) data_alerts: usize,
    /// The model's newest decisions, the newest first.
    pub(super) decisions: Vec<Decision>,
    /// How many reasons the newest answer of a version has, or items a list.
    pub(super) explained: Option<(Timestamp, String, usize)>,
    pub(super) features: Option<FeatureReport>,
    /// Definitions that read what they should not: the feature and the word.
    pub(super) denied: Vec<(String, String)>,
    /// How many definitions there are.
    pub(super) definitions: usize,
    pub(super) erasures: Vec<AuditEntry>,
    /// When an event came last, how many are stored, and how many pieces were quarantined.
    pub(super) arrived: (Option<Timestamp>, u64, u64),
    /// Kinds of events whose properties are declared.
    pub(super) declared: usize,
    /// Slices that the project file asks for.
    pub(super) slices: Vec<String>,
    pub(super) every: Option<Span>,
    pub(super) within: Span,
    pub(super) is_recommender: bool,
}

/// Words of personal data that no feature should read: who somebody is, or what law protects.
const DENIED: [&str; 24] = [
    "email",
    "mail",
    "phone",
    "mobile",
    "password",
    "token",
    "passport",
    "ssn",
    "iban",
    "card",
    "ip",
    "birth",
    "birthday",
    "birthdate",
    "gender",
    "sex",
    "religion",
    "ethnicity",
    "race",
    "health",
    "disability",
    "surname",
    "lastname",
    "firstname",
];

impl Facts {
    pub(super) async fn gather(
        this: &Arc<ProjectLoop>,
        model: &ModelName,
    ) -> Result<Self, CycleError> {
        let (catalog, name) = (&this.stores.catalog, &this.project.name);
        let is_recommender = this.is_recommender(model);
        let champion = match catalog.champion(name, model).await? {
            Some(number) => Some(this.version(model, number).await?),
            None => None,
        };
        let runs = catalog.runs(name, Some(model), None, RUNS).await?;
        let made = |run: &Run| matches!(run.state, RunState::Passed | RunState::Refused);
        let newest = this.decisions.newest(None, DECISIONS)?;
        let newest = newest.into_iter().map(|decision| decision.value);
        let decisions: Vec<Decision> = newest.filter(|one| one.model == *model).collect();
        let explained = explained(this, &decisions).await?;
        let alerts = this.alerts.open()?;
        let of_data = tidemill_monitor::alerts::AlertKind::OF_DATA;
        let (retrain, within, slices) = match this.registry.recommender(model) {
            Some(slot) => (
                &slot.model.retrain,
                slot.model.within,
                &slot.model.gate.slices,
            ),
            None => {
                let model = &this.slot(model)?.model;
                (&model.retrain, model.target.within(), &model.gate.slices)
            }
        };
        let engine = this.engine();
        let definitions = engine.set().definitions();
        let last_event =
            engine.with_seen(|seen| seen.events.values().map(|event| event.last).max());
        let counts = this.stores.log.counts(name)?;
        let audit = catalog.audit_log(name, AUDIT).await?;
        Ok(Self {
            model: model.clone(),
            now: this.clock.now(),
            status: this.model_status(model).await?,
            champion,
            runs: runs.into_iter().filter(made).collect(),
            staleness: this.staleness(model)?,
            checkup: this.last_checkup(model)?,
            rehearsal: this.last_rehearsal(model)?,
            drill: this.last_drill(model)?,
            rollout: catalog.rollouts(name, model, 1).await?.into_iter().next(),
            consistency: this.consistency()?,
            examined_until: this.data.examined_day().map(end_of),
            data_alerts: alerts
                .iter()
                .filter(|alert| of_data.contains(&alert.kind))
                .count(),
            decisions,
            explained,
            features: match is_recommender {
                true => None,
                false => Some(this.feature_report(Some(model)).await?),
            },
            denied: denied(definitions),
            definitions: definitions.len(),
            erasures: audit
                .into_iter()
                .filter(|entry| entry.action == "erase")
                .collect(),
            arrived: (last_event, counts.stored, counts.quarantined),
            declared: this.project.events.len(),
            slices: slices.clone(),
            every: retrain.every,
            within,
            is_recommender,
        })
    }

    /// What the run of the version that answers has found.
    pub(super) fn detail(&self) -> Option<&Value> {
        self.champion.as_ref().map(|champion| &champion.detail)
    }

    /// The checks of the gate on the version that answers.
    pub(super) fn checks(&self) -> &[Value] {
        self.detail().map_or(&[], checks_of)
    }
}

/// The checks of the gate in what a run has found.
pub(super) fn checks_of(detail: &Value) -> &[Value] {
    let checks = detail["examination"]["verdict"]["checks"].as_array();
    checks.map_or(&[], Vec::as_slice)
}

async fn explained(
    this: &ProjectLoop,
    decisions: &[Decision],
) -> Result<Option<(Timestamp, String, usize)>, CycleError> {
    let Some(newest) = decisions.iter().find(|one| one.version.is_some()) else {
        return Ok(None);
    };
    let Some(told) = this.explain(newest.id).await? else {
        return Ok(None);
    };
    let reasons = told.reasons.len() + told.decision.candidates.len();
    Ok(Some((newest.moment, newest.id.to_string(), reasons)))
}

/// The end of a day since the epoch.
fn end_of(day: i64) -> Timestamp {
    Timestamp::EPOCH + Span::from_days(day.saturating_add(1))
}

fn denied(definitions: &[tidemill_core::project::FeatureDefinition]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for definition in definitions {
        // everything that it is made of stands in it: fields, conditions, expressions
        let made_of = format!("{:?} {}", definition.formula, definition.entity.as_str());
        let mut words = made_of.split(|letter: char| !letter.is_alphanumeric());
        let is_denied = |word: &&str| DENIED.contains(&word.to_lowercase().as_str());
        if let Some(word) = words.find(is_denied) {
            found.push((definition.name.clone(), word.to_owned()));
        }
    }
    found
}
