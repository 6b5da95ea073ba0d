//! Looks for what is wrong with a project, and has it told.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tidemill_core::{Span, Timestamp};
use tidemill_features::SeenEvents;
use tidemill_monitor::alerts::{AlertKind, AlertMessage, Finding};
use tidemill_store::catalog::{Rollout, RolloutStage, Run, RunState};

use crate::project_loop::{CycleError, ProjectLoop};
use crate::promote::SYSTEM;
use crate::quality::{AgainstPromise, ModelStatus};
use crate::strain::OF_STRAIN;

/// How often live quality is compared with what was promised: outcomes become certain slowly, and it takes a while.
const QUALITY_EVERY: Span = Span::from_seconds(3_600);
/// Fewer events than this say nothing about how they usually come.
const EVENTS_MIN: u64 = 100;
/// An event stopped when it was silent that many times longer than ever before …
const SILENCE_TIMES: i64 = 2;
/// … and at least so long.
const SILENCE_MIN: Span = Span::from_seconds(3_600);
/// What has been silent for longer than this was given up, and nobody waits for it.
const SILENCE_MAX: Span = Span::from_days(90);
/// How long it is news that a version was sent back.
const ROLLED_BACK_NEWS: Span = Span::from_days(7);
/// How long a webhook may take.
pub const DELIVERY: Duration = Duration::from_secs(10);

/// How long a target that failed is left alone; twice as long each time that it fails again …
const REST_FIRST: Span = Span::from_seconds(10);
/// … up to this.
const REST_MAX: Span = Span::from_seconds(900);

/// A target that failed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resting {
    /// For how long it is left alone.
    rest: Span,
    /// Until when.
    until: Timestamp,
}

/// Brings messages to webhooks, and letters to people.
#[async_trait]
pub trait Courier: Send + Sync {
    /// Posts JSON to a URL; an error says why it did not arrive.
    async fn post(&self, url: &str, body: &Value) -> Result<(), String>;

    /// Sends an e-mail; an error says why no server took it.
    async fn mail(&self, to: &str, subject: &str, text: &str) -> Result<(), String>;
}

/// Where a message goes.
enum Target<'a> {
    Url(&'a str, &'a Value),
    Address(&'a str),
}

impl Target<'_> {
    /// What is noted down of it.
    fn key(&self) -> &str {
        match self {
            Self::Url(key, _) | Self::Address(key) => key,
        }
    }

    /// What may be said of it: the rest of a URL is often a secret.
    fn host(&self) -> &str {
        match self {
            Self::Url(url, _) => url.split('/').nth(2).unwrap_or_default(),
            Self::Address(address) => address,
        }
    }

    async fn reach(&self, courier: &dyn Courier, message: &AlertMessage) -> Result<(), String> {
        match self {
            Self::Url(url, body) => courier.post(url, body).await,
            Self::Address(to) => {
                let (subject, text) = (message.subject(), message.letter());
                courier.mail(to, &subject, &text).await
            }
        }
    }
}

impl ProjectLoop {
    /// Looks at everything once and keeps the alerts up to date.
    ///
    /// # Errors
    /// When a store fails.
    pub async fn check_alerts(self: &Arc<Self>) -> Result<(), CycleError> {
        let now = self.clock.now();
        let mut checked = vec![
            AlertKind::FeatureDiffers,
            AlertKind::EventStopped,
            AlertKind::RunFailed,
            AlertKind::VersionRolledBack,
        ];
        checked.extend(AlertKind::OF_DATA);
        checked.extend(OF_STRAIN);
        checked.extend(AlertKind::OF_ANSWERS);
        let mut findings = self.differing_features()?;
        findings.extend(self.strained());
        findings.extend(self.stopped_events());
        self.differing(&mut findings).await?;
        let of_quality = {
            let mut last = self.quality_checked.lock();
            let is_due = last.is_none_or(|last| now.since(last) >= QUALITY_EVERY);
            if is_due {
                *last = Some(now);
                checked.push(AlertKind::QualityFell);
            }
            is_due
        };
        for model in self.project.model_names() {
            let catalog = &self.stores.catalog;
            let runs = catalog.runs(&self.project.name, Some(model), None, 1);
            findings.extend(runs.await?.first().and_then(failed_run));
            let rollout = self.rollouts.newest(model);
            findings.extend(rollout.and_then(|rollout| rolled_back(&rollout, now)));
            if of_quality {
                findings.extend(fallen_quality(&self.model_status(model).await?));
            }
        }
        self.alerts.update(&checked, findings, now)?;
        Ok(())
    }

    /// Lets nobody be told of an alert for a while; whether it is open.
    ///
    /// # Errors
    /// When a store fails.
    pub async fn silence_alert(
        &self,
        id: &str,
        span: Span,
        actor: &str,
    ) -> Result<bool, CycleError> {
        let is_open = self.alerts.silence(id, self.clock.now() + span)?;
        if is_open {
            self.audit(actor, ("silence", id), format!("for {span}"))
                .await?;
        }
        Ok(is_open)
    }

    /// Sends what is to be told, to each URL and address once and in order. What does not arrive somewhere is sent there again later: after ten seconds,
    /// then twice as long each time, up to a quarter of an hour. Meanwhile the others are told.
    ///
    /// # Errors
    /// When the state store fails.
    pub async fn tell_alerts(&self, courier: &dyn Courier) -> Result<(), CycleError> {
        let targets = &self.project.alerts;
        let now = self.clock.now();
        for (place, mut waiting) in self.alerts.outbox()? {
            let json = serde_json::to_value(&waiting.message).unwrap_or_default();
            let text = json!({ "text": waiting.message.text() });
            let webhooks = targets.webhooks.iter().map(|url| Target::Url(url, &json));
            let slack = targets.slack.iter().map(|url| Target::Url(url, &text));
            let letters = targets.email.iter().map(|to| Target::Address(to));
            let (mut is_everywhere, before) = (true, waiting.arrived.len());
            for target in webhooks.chain(slack).chain(letters) {
                let key = target.key();
                if waiting.arrived.iter().any(|arrived| arrived == key) {
                    continue;
                }
                let resting = self.resting.lock().get(key).copied();
                // what comes later waits behind what did not arrive
                let rests = resting.is_some_and(|resting| now < resting.until);
                if !rests && self.send(courier, &target, &waiting.message).await {
                    waiting.arrived.push(key.to_owned());
                } else {
                    is_everywhere = false;
                }
            }
            if is_everywhere {
                self.alerts.sent(place)?;
            } else if waiting.arrived.len() > before {
                self.alerts.arrived(place, &waiting)?;
            }
        }
        Ok(())
    }

    async fn send(
        &self,
        courier: &dyn Courier,
        target: &Target<'_>,
        message: &AlertMessage,
    ) -> bool {
        let key = target.key();
        let Err(error) = target.reach(courier, message).await else {
            self.resting.lock().remove(key);
            return true;
        };
        let rest = {
            let mut resting = self.resting.lock();
            let before = resting.get(key).map(|resting| resting.rest);
            let longer = before.map(|rest| Span::from_micros(rest.micros().saturating_mul(2)));
            let rest = longer.map_or(REST_FIRST, |rest| rest.min(REST_MAX));
            let until = self.clock.now() + rest;
            resting.insert(key.to_owned(), Resting { rest, until });
            rest
        };
        let host = target.host();
        let id = &message.alert.id;
        let again_in = rest.seconds();
        tracing::warn!(
            host,
            id,
            error,
            again_in,
            "an alert could not be sent; it is tried again"
        );
        false
    }

    fn differing_features(&self) -> Result<Vec<Finding>, CycleError> {
        let report = self.consistency()?;
        let differs = report
            .features
            .iter()
            .filter(|(_, found)| found.found_at.is_some() && found.found_at == report.compared_at);
        let finding = |(feature, found): (&String, &crate::consistency::Mismatches)| Finding {
            kind: AlertKind::FeatureDiffers,
            subject: feature.clone(),
            cause: format!(
                "in {} of {} answers that were read again it is not what training sees ({} only online, {} only offline, {} different), for \
                 example in decision {}",
                found.count(),
                report.answers,
                found.missing_offline,
                found.missing_online,
                found.different,
                found.example.map_or_else(String::new, |id| id.to_string()),
            ),
            next_step: format!(
                "`tidemill features check` reads answers again; until they agree, do not trust models that read {feature}, and keep the data \
                 folder: this is a defect of the disk or of tidemill"
            ),
        };
        Ok(differs.map(finding).collect())
    }

    fn stopped_events(&self) -> Vec<Finding> {
        let now = self.clock.now();
        self.engine().with_seen(|seen| stopped(seen, now))
    }
}

/// Events that have been silent for much longer than ever before.
fn stopped(seen: &SeenEvents, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, event) in &seen.events {
        let silent = now.since(event.last);
        let usual = Span::from_micros(event.longest_silence_us);
        let longest = Span::from_micros(usual.micros().saturating_mul(SILENCE_TIMES));
        let is_known = event.count >= EVENTS_MIN && usual > Span::ZERO;
        if is_known && silent > longest.max(SILENCE_MIN) && silent <= SILENCE_MAX {
            findings.push(Finding {
                kind: AlertKind::EventStopped,
                subject: name.clone(),
                cause: format!(
                    "none has come since {}; before, it was never silent for longer than {}",
                    event.last,
                    about(usual)
                ),
                next_step: format!(
                    "see whether the product still sends {name}: `GET /v1/events/seen` says what arrives, `GET /v1/quarantine` what was refused and why"
                ),
            });
        }
    }
    findings
}

/// A span in whole minutes, hours or days.
fn about(span: Span) -> String {
    let minutes = span.micros() / 60_000_000;
    match minutes {
        0..120 => format!("{minutes} minutes"),
        120..2_880 => format!("{} hours", minutes / 60),
        _ => format!("{} days", minutes / 1_440),
    }
}

fn failed_run(run: &Run) -> Option<Finding> {
    (run.state == RunState::Failed).then(|| Finding {
        kind: AlertKind::RunFailed,
        subject: run.model.to_string(),
        cause: format!("the run that began at {} broke off: {}", run.started_at, run.summary),
        next_step: format!(
            "the champion goes on answering; `tidemill models {model}` shows its runs, `tidemill train {model}` tries again",
            model = run.model
        ),
    })
}

/// A version that was stopped, until another takes over or it is no news any more.
fn rolled_back(rollout: &Rollout, now: Timestamp) -> Option<Finding> {
    let is_stopped = rollout.stage == RolloutStage::RolledBack && rollout.actor == SYSTEM;
    let Rollout { model, version, .. } = rollout;
    (is_stopped && now.since(rollout.since) <= ROLLED_BACK_NEWS).then(|| Finding {
        kind: AlertKind::VersionRolledBack,
        subject: model.to_string(),
        cause: format!("{model}@{version} was sent back at {}: {}", rollout.since, rollout.reason),
        next_step: format!(
            "the champion answers; `tidemill rollout {model}` shows the numbers of both, and `tidemill train {model}` makes another version"
        ),
    })
}

/// Worse than promised, beyond both intervals.
fn fallen_quality(status: &ModelStatus) -> Option<Finding> {
    let metric = &status.promised.as_ref()?.metric;
    let found = status.against_promise()?;
    let AgainstPromise {
        promised,
        live,
        answers,
        ..
    } = found;
    found.fell().then(|| Finding {
        kind: AlertKind::QualityFell,
        subject: status.model.to_string(),
        cause: format!(
            "over the newest {answers} answers with known outcomes {metric} is between {:.3} and {:.3}; its examination promised {:.3} to {:.3}",
            live.0, live.1, promised.0, promised.1
        ),
        next_step: format!(
            "look for what changed (`tidemill doctor`, `tidemill dataset diff {model}`), train with `tidemill train {model}`, or go back with `tidemill rollback {model}`",
            model = status.model
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_said_in_round_numbers() {
        let said = [59, 7_199, 7_200, 180_000].map(|seconds| about(Span::from_seconds(seconds)));
        assert_eq!(said, ["0 minutes", "119 minutes", "2 hours", "2 days"]);
    }
}
