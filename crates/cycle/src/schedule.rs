//! When a model is trained again.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use tidemill_core::project::{Observe, PredictModel, Retrain, Target};
use tidemill_core::{ModelName, Span, Timestamp};
use tidemill_features::{FeatureSet, SeenEvents};
use tidemill_monitor::alerts::{Alert, AlertKind};
use tidemill_store::catalog::Run;

use crate::project_loop::{CycleError, ProjectLoop};
use crate::promote::SYSTEM;
use crate::side_by_side::Wanted;
use crate::version::ModelState;

/// How long a model rests between runs that no schedule asks for, however many targets come.
pub(crate) const COOL_DOWN: Span = Span::from_seconds(3_600);

impl ProjectLoop {
    /// Lets runs go on that were under way when the process ended, and trains every model that is due, side by side.
    ///
    /// # Errors
    /// When a store fails. A run that fails is a row in the catalog, not an error here.
    pub async fn run_due(self: &Arc<Self>) -> Result<Vec<Run>, CycleError> {
        if self.is_switching_over() {
            let this = self.clone();
            self.beside(async move {
                let _one_at_a_time = this.running.lock().await;
                this.switch_over().await
            })
            .await?;
        }
        let mut ended = self.resume_runs().await?;
        let now = self.clock.now();
        let engine = self.engine();
        let seen = engine.seen();
        let alerts = self.alerts.open()?;
        let recommenders = self.recommenders_due(&alerts)?.into_iter();
        let mut wanted: Vec<Wanted> = recommenders
            .map(|(model, trigger)| Wanted {
                model,
                trigger: trigger.to_owned(),
            })
            .collect();
        for (name, model) in &self.project.models {
            let mut state = self.model_state(name)?;
            if note_observations(model, &seen, now, &mut state) {
                self.put_model_state(name, &state)?;
            }
            let definition = definition_of(engine.set(), model);
            let champion = self.slot(name)?.champion();
            let columns = champion
                .iter()
                .flat_map(|champion| &champion.package.columns);
            let read: Vec<&str> = columns.map(|column| &*column.name).collect();
            let asks = Asks {
                empty: seen.events.is_empty(),
                definition: &definition,
                alarm: alarm((name, &model.retrain), state.last_run, &read, &alerts),
            };
            let due = due(model, &state, now, &asks);
            if let Some(trigger) = due {
                wanted.push(Wanted {
                    model: name.clone(),
                    trigger: trigger.as_str().to_owned(),
                });
            }
        }
        drop(engine);
        ended.extend(self.train_wanted(wanted, SYSTEM).await?);
        Ok(ended)
    }

    /// After a start with a changed project file, models that are asked something else need not rest first.
    pub(crate) fn forgo_cool_downs(&self) -> Result<(), CycleError> {
        let set = self.wanted_set();
        for (name, model) in &self.project.models {
            let mut state = self.model_state(name)?;
            if is_redefined(&state, &definition_of(&set, model)) {
                let rested = self.clock.now() - COOL_DOWN;
                state.last_run = state.last_run.map(|last| last.min(rested));
                self.put_model_state(name, &state)?;
            }
        }
        Ok(())
    }

    /// When a model is trained next by its schedule.
    ///
    /// # Errors
    /// When there is no such model or the state store fails.
    pub fn next_run(&self, model: &ModelName) -> Result<Option<Timestamp>, CycleError> {
        let retrain = &self.slot(model)?.model.retrain;
        let last = self.model_state(model)?.last_run;
        Ok(retrain
            .every
            .map(|every| last.map_or(self.clock.now(), |last| last + every)))
    }
}

/// Why a model is trained although nobody asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    Schedule,
    NewDefinition,
    NewTargets,
    Quality,
    Drift,
}

impl Trigger {
    /// As it stands in a run's record.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::NewDefinition => "new_definition",
            Self::NewTargets => "new_targets",
            Self::Quality => "quality",
            Self::Drift => "drift",
        }
    }
}

/// What asks for a run, beside the model's own rules.
struct Asks<'a> {
    /// Whether nothing has been seen yet.
    empty: bool,
    /// What the model is asked now.
    definition: &'a str,
    /// What an alert asks for.
    alarm: Option<Trigger>,
}

/// What an alert that was opened since the last run asks for: each asks once, since another run on the same data makes the same version.
pub(crate) fn alarm(
    (model, retrain): (&ModelName, &Retrain),
    last_run: Option<Timestamp>,
    read: &[&str],
    alerts: &[Alert],
) -> Option<Trigger> {
    let since = alerts.iter();
    let mut since = since.filter(|alert| last_run.is_some_and(|last| alert.since > last));
    since.find_map(|alert| match alert.kind {
        AlertKind::QualityFell if alert.subject == model.as_str() => {
            retrain.on_quality.then_some(Trigger::Quality)
        }
        AlertKind::PredictionsDrifted if alert.subject == model.as_str() => {
            retrain.on_drift.then_some(Trigger::Drift)
        }
        AlertKind::FeatureDrifted if read.contains(&alert.subject.as_str()) => {
            retrain.on_drift.then_some(Trigger::Drift)
        }
        _ => None,
    })
}

/// Which trigger is due, if any. With a schedule *and* a number of new targets, both must hold: train that
/// often, but only if there is that much to learn from. A question that was changed is not answered by the version of
/// the old one for longer than it takes to train.
fn due(
    model: &PredictModel,
    state: &ModelState,
    now: Timestamp,
    asks: &Asks<'_>,
) -> Option<Trigger> {
    if asks.empty {
        return None;
    }
    let Some(last) = state.last_run else {
        return Some(Trigger::Schedule);
    };
    let rested = now >= last + COOL_DOWN;
    // features that are suggested may change at every run: without a rest, models would set off one another's runs
    if rested && is_redefined(state, asks.definition) {
        return Some(Trigger::NewDefinition);
    }
    let new_targets = targets(model, state, now).saturating_sub(state.last_targets);
    if rested && new_targets > 0 && asks.alarm.is_some() {
        return asks.alarm;
    }
    let enough = model
        .retrain
        .min_new_targets
        .is_none_or(|min| new_targets >= min);
    match model.retrain.every {
        Some(every) => (now >= last + every && enough).then_some(Trigger::Schedule),
        None => (rested && enough).then_some(Trigger::NewTargets),
    }
}

/// Whether the newest run was asked something else.
fn is_redefined(state: &ModelState, definition: &str) -> bool {
    let asked = state.definition.as_ref();
    asked.is_some_and(|asked| asked != definition)
}

/// One hash of everything that decides what a model learns: all definitions of features, its moments, its target, and
/// which features it reads.
pub(crate) fn definition_of(set: &FeatureSet, model: &PredictModel) -> String {
    let observe = match &model.observe {
        Observe::Event { event, condition } => {
            let condition = condition.as_ref().map(|condition| &condition.text);
            format!("{event:?} {condition:?}")
        }
        every @ Observe::Every { .. } => format!("{every:?}"),
    };
    let features: Vec<&str> = model
        .features
        .iter()
        .map(|name| name.text.as_str())
        .collect();
    let mut text = format!("{} {observe} {:?} {features:?}", set.hash(), model.target);
    if let Some(sample) = &model.sample {
        text = format!("{text} {sample:?}");
    }
    let digest = Sha256::digest(text);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How many targets are certain at `now`: the observations that were made a horizon ago, to the day.
pub(crate) fn targets(model: &PredictModel, state: &ModelState, now: Timestamp) -> u64 {
    let certain_day = (now - model.target.within()).day();
    let certain = state
        .observed
        .iter()
        .take_while(|(day, _)| *day < certain_day)
        .last();
    certain.map_or(0, |(_, count)| *count)
}

/// Notes how many observations there were up to today; returns whether that is news.
fn note_observations(
    model: &PredictModel,
    seen: &SeenEvents,
    now: Timestamp,
    state: &mut ModelState,
) -> bool {
    let counted = |name: &str| seen.events.get(name).map_or(0, |event| event.count);
    let everything =
        || seen.events.values().map(|event| event.count).sum::<u64>() + seen.other_events;
    let count = match (&model.observe, &model.target) {
        (Observe::Event { event, .. }, _) => counted(event),
        // periodic observations are not events: what is counted is what they could learn from
        (Observe::Every { .. }, Target::Event { event, .. } | Target::Sum { event, .. }) => {
            counted(event)
        }
        (Observe::Every { .. }, Target::NoEvent { event, .. }) if event == "*" => everything(),
        (Observe::Every { .. }, Target::NoEvent { event, .. }) => counted(event),
        (Observe::Every { .. }, Target::Next { events, .. }) => {
            events.iter().map(|event| counted(event)).sum()
        }
    };
    let today = now.day();
    let changed = match state.observed.last_mut() {
        Some((day, known)) if *day == today => {
            let changed = *known != count;
            *known = count;
            changed
        }
        _ => {
            state.observed.push((today, count));
            true
        }
    };
    // one entry before the horizon is enough to know what is certain
    let certain_day = (now - model.target.within()).day();
    let before = state
        .observed
        .iter()
        .take_while(|(day, _)| *day < certain_day)
        .count();
    state.observed.drain(..before.saturating_sub(1));
    changed
}

#[cfg(test)]
mod tests {
    use tidemill_core::Project;

    use super::*;

    fn model(retrain: &str) -> PredictModel {
        let text = format!(
            "[project]\nname = \"shop\"\n[models.m]\nkind = \"predict\"\nobserve = {{ event = \"A\" }}\n\
             target = {{ event = \"A\", within = \"30d\" }}\nretrain = {retrain}\n"
        );
        let project = Project::parse(&text).unwrap();
        project.models.into_values().next().unwrap()
    }

    fn at(day: i64) -> Timestamp {
        Timestamp::EPOCH + Span::from_days(day)
    }

    fn asked(definition: &str) -> Asks<'_> {
        Asks {
            empty: false,
            definition,
            alarm: None,
        }
    }

    fn seen(count: u64) -> SeenEvents {
        let mut seen = SeenEvents::default();
        seen.events.entry("A".to_owned()).or_default().count = count;
        seen
    }

    #[test]
    fn a_schedule_waits_for_its_period() {
        let model = model("{ every = \"7d\" }");
        let mut state = ModelState::default();
        let due = |state: &ModelState, now, empty| {
            let asks = Asks {
                empty,
                ..asked("asked")
            };
            due(&model, state, now, &asks)
        };
        assert_eq!(due(&state, at(100), true), None);
        assert_eq!(due(&state, at(100), false), Some(Trigger::Schedule));
        state.last_run = Some(at(100));
        assert_eq!(due(&state, at(106), false), None);
        assert_eq!(due(&state, at(107), false), Some(Trigger::Schedule));
    }

    #[test]
    fn new_targets_count_when_their_horizon_has_passed() {
        let model = model("{ min_new_targets = 50 }");
        let mut state = ModelState {
            last_run: Some(at(100)),
            ..ModelState::default()
        };
        note_observations(&model, &seen(60), at(101), &mut state);
        let due = |now| due(&model, &state, now, &asked("asked"));
        assert_eq!(due(at(102)), None);
        assert_eq!(due(at(131)), None);
        assert_eq!(due(at(132)), Some(Trigger::NewTargets));
        assert_eq!(targets(&model, &state, at(132)), 60);
    }

    #[test]
    fn another_question_does_not_wait_for_the_schedule() {
        let model = model("{ every = \"7d\" }");
        let mut state = ModelState {
            last_run: Some(at(100)),
            ..ModelState::default()
        };
        let due = |state: &ModelState, now, text| due(&model, state, now, &asked(text));
        assert_eq!(due(&state, at(101), "asked"), None); // from before definitions were written down
        state.definition = Some("asked".to_owned());
        assert_eq!(due(&state, at(101), "asked"), None);
        let otherwise = |now| due(&state, now, "asked otherwise");
        assert_eq!(otherwise(at(100)), None);
        assert_eq!(otherwise(at(101)), Some(Trigger::NewDefinition));
    }

    #[test]
    fn an_alert_asks_once_and_only_where_something_new_is_known() {
        let model = model("{ every = \"90d\", on_drift = true }");
        let name = &model.name;
        let alert = |kind: AlertKind, subject: &str, since| Alert {
            id: String::new(),
            kind,
            subject: subject.to_owned(),
            cause: String::new(),
            next_step: String::new(),
            since,
            found_at: since,
            resolved_at: None,
            silenced_until: None,
        };
        let fell = [alert(AlertKind::QualityFell, "m", at(101))];
        let asks = |last: i64, alerts: &[Alert]| {
            alarm((name, &model.retrain), Some(at(last)), &["user.a"], alerts)
        };
        assert_eq!(asks(100, &fell), Some(Trigger::Quality));
        assert_eq!(asks(101, &fell), None, "a run has begun since");
        let other = alert(AlertKind::QualityFell, "other", at(101));
        assert_eq!(asks(100, &[other]), None);
        let drifted = |feature: &str| [alert(AlertKind::FeatureDrifted, feature, at(101))];
        assert_eq!(asks(100, &drifted("user.a")), Some(Trigger::Drift));
        assert_eq!(asks(100, &drifted("user.b")), None, "nobody reads it");
        let still = Retrain {
            on_drift: false,
            ..model.retrain.clone()
        };
        let read = ["user.a"];
        assert_eq!(
            alarm((name, &still), Some(at(100)), &read, &drifted("user.a")),
            None
        );

        let mut state = ModelState {
            last_run: Some(at(100)),
            ..ModelState::default()
        };
        let due = |state: &ModelState, now| {
            let asks = Asks {
                alarm: Some(Trigger::Quality),
                ..asked("asked")
            };
            due(&model, state, now, &asks)
        };
        assert_eq!(
            due(&state, at(132)),
            None,
            "the same data make the same version"
        );
        note_observations(&model, &seen(60), at(101), &mut state);
        assert_eq!(due(&state, at(132)), Some(Trigger::Quality));
        state.last_run = Some(at(132));
        assert_eq!(due(&state, at(132)), None, "it rests");
    }

    #[test]
    fn memory_of_observations_is_bounded_by_the_horizon() {
        let model = model("{ every = \"7d\" }");
        let mut state = ModelState::default();
        for day in 0..1_000 {
            note_observations(&model, &seen(day as u64), at(day), &mut state);
        }
        assert!(state.observed.len() <= 32, "{}", state.observed.len());
    }
}
