//! What arrives: whether it is as it was, and as people read it.

use std::sync::Arc;

use serde::Serialize;
use tidemill_collect::import;
use tidemill_core::{Offset, Span, Timestamp};
use tidemill_monitor::alerts::{AlertKind, Finding};
use tidemill_monitor::data::{
    DataFinding, EventDay, FALSE_ALARMS, Family, Known, Numbers, PropertyDay, Rules, Statistic,
    ValueType,
};

use crate::answers;
use crate::project_loop::{CycleError, ProjectLoop};

/// How often the running day is looked at.
const RUNNING_EVERY: Span = Span::from_seconds(600);
/// How many days a report of one kind of event shows.
const DAYS_SHOWN: i64 = 28;
/// Over how many of them its properties are added up.
const DAYS_ADDED: i64 = 7;
/// How many values of a property are shown.
const VALUES_SHOWN: usize = 10;

/// What arrives, event by event.
#[derive(Debug, Serialize)]
pub struct DataReport {
    /// The last whole day that was compared with those before it (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub examined: Option<String>,
    /// The share of days on which something false may be said.
    pub false_alarms: f64,
    /// How surprising something must be to be told, by kind of question; null while too few days are known.
    pub thresholds: serde_json::Value,
    /// What differs, the most telling first.
    pub differs: Vec<DataFinding>,
    /// The kinds of events.
    pub events: Vec<EventReport>,
    /// Events that are not told apart, because there are too many kinds.
    pub other_events: u64,
    /// Events of days that are too long ago to be kept.
    pub too_old: u64,
}

/// One kind of event.
#[derive(Debug, Serialize)]
pub struct EventReport {
    /// Its name.
    pub event: String,
    /// The first day (UTC).
    pub first_day: String,
    /// When one happened last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_at: Option<Timestamp>,
    /// How many came today so far.
    pub today: u64,
    /// How many came on the day before.
    pub yesterday: u64,
    /// How many come on a day, over the last four weeks.
    pub per_day: f64,
    /// How many differences there are.
    pub differences: usize,
    /// Day by day, where this event was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<DayReport>,
    /// Its properties over the last week, where this event was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<PropertyReport>,
}

/// One day of one kind of event.
#[derive(Debug, Serialize)]
pub struct DayReport {
    /// Which (UTC).
    pub day: String,
    /// How many came.
    pub count: u64,
    /// The share that says what another one has said.
    pub repeats: f64,
    /// The share without a user id.
    pub without_user: f64,
}

/// One property of one kind of event, or one feature as it was served.
#[derive(Debug, Serialize)]
pub struct PropertyReport {
    /// Its name.
    pub property: String,
    /// The share of events, or answers, in which it is absent or null.
    pub missing: f64,
    /// What its values are, mostly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_type: Option<&'static str>,
    /// The smallest number, the quartiles and the largest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numbers: Option<[f64; 5]>,
    /// The most frequent texts with their shares.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<(String, f64)>,
    /// The share of texts that are not told apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_values: Option<f64>,
}

/// How often something false may be said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FalseAlarms {
    /// The share of days on which it may.
    pub(crate) all: f64,
    /// The part of it for what arrives.
    pub(crate) of_data: f64,
    /// The part of it for what is answered.
    pub(crate) of_answers: f64,
}

impl ProjectLoop {
    /// The share of days on which something false may be said, divided between what arrives and what is answered.
    pub(crate) fn false_alarms(&self) -> FalseAlarms {
        let all = self.project.alerts.false_alarms.unwrap_or(FALSE_ALARMS);
        let (of_data, of_answers) = (Family::OF_DATA.len(), Family::OF_ANSWERS.len());
        let of_answers = match self.project.model_names().next() {
            None => 0.0,
            Some(_) => all * of_answers as f64 / (of_data + of_answers) as f64,
        };
        FalseAlarms {
            all,
            of_data: all - of_answers,
            of_answers,
        }
    }

    fn data_rules(&self) -> Rules<'_> {
        Rules {
            false_alarms: self.false_alarms().of_data,
            expectations: &self.project.expectations,
        }
    }

    /// What of the data and of the answers is not as before, beside what was found otherwise.
    pub(crate) async fn differing(
        self: &Arc<Self>,
        found: &mut Vec<Finding>,
    ) -> Result<(), CycleError> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.examine_data())
            .await
            .map_err(|_| CycleError::Ended("looking at the data"))??;
        let of_answers = self.differing_answers().await?;
        let skewed = self.skewed(&of_answers).await?;
        let mut of_data = self.data.findings();
        let of_answers = self.unexplained(&mut of_data, of_answers);
        for finding in of_data {
            let has_stopped = |found: &&mut Finding| {
                found.kind == AlertKind::EventStopped && found.subject == finding.event
            };
            match found.iter_mut().find(has_stopped) {
                // it was found before; what follows from it is the same
                Some(stopped) => stopped.cause.push_str(&with_it(&finding.also)),
                None => found.push(told(&finding)),
            }
        }
        found.extend(of_answers.iter().map(answers::told));
        found.extend(skewed);
        Ok(())
    }

    /// Compares the days that are over, and now and then the running one.
    fn examine_data(&self) -> Result<(), CycleError> {
        let (name, now) = (&self.project.name, self.clock.now());
        // history that is being imported fills days in any order
        if !import::unfinished(self.stores.state.as_ref(), name)?.is_empty() {
            return Ok(());
        }
        // a day is over when everything that was received on it was counted
        let (today, position) = (now.day(), self.data.position());
        let is_complete =
            position.day >= today || Offset(position.place) >= self.stores.log.last(name)?;
        let until = if is_complete { today } else { position.day };
        let is_new = self.data.examine(until, self.data_rules())?;
        let mut checked = self.running_day_checked.lock();
        if is_new || checked.is_none_or(|last| now.since(last) >= RUNNING_EVERY) {
            *checked = Some(now);
            self.data.examine_running(today, self.data_rules())?;
        }
        Ok(())
    }

    /// What arrives: every kind of event in a line, or one in detail.
    ///
    /// # Errors
    /// When the state store fails.
    pub fn data_report(&self, event: Option<&str>) -> Result<DataReport, CycleError> {
        let (today, position) = (self.clock.now().day(), self.data.position());
        let rules = self.data_rules();
        let mut differs = self.data.findings();
        self.unexplained(&mut differs, self.answers.findings());
        if let Some(event) = event {
            differs.retain(|finding| finding.event == event);
        }
        let mut events = Vec::new();
        for (name, known) in &position.subjects {
            if event.is_none_or(|event| event == name) {
                let mut report = self.event_report(name, known, today, event.is_some())?;
                let of_event = differs.iter().filter(|finding| finding.event == *name);
                report.differences = of_event.count();
                events.push(report);
            }
        }
        let thresholds = self.data.thresholds(rules.false_alarms);
        Ok(DataReport {
            examined: self.data.examined_day().map(date),
            false_alarms: self.false_alarms().all,
            thresholds: serde_json::to_value(thresholds).unwrap_or_default(),
            differs,
            events,
            other_events: position.others,
            too_old: position.too_old,
        })
    }

    fn event_report(
        &self,
        name: &str,
        known: &Known,
        today: i64,
        in_detail: bool,
    ) -> Result<EventReport, CycleError> {
        let last_at = self
            .engine()
            .with_seen(|seen| seen.events.get(name).map(|seen| seen.last));
        let history = self.data.history(name)?;
        let volumes = history.tracks.get(&(String::new(), Statistic::Volume));
        let newest = volumes
            .into_iter()
            .flat_map(|track| track.windows.iter().rev());
        let newest: Vec<f64> = newest.take(28).map(|window| window.weight).collect();
        let (mut days, mut week) = (Vec::new(), EventDay::default());
        for past in (0..DAYS_SHOWN).filter(|_| in_detail) {
            let day = self.data.day(today - past, name)?;
            if past < DAYS_ADDED {
                week.merge(&day);
            }
            days.push(day_report(today - past, &day));
        }
        let properties = week.properties.iter();
        Ok(EventReport {
            event: name.to_owned(),
            first_day: date(known.first),
            last_at,
            today: self.data.day(today, name)?.count,
            yesterday: self.data.day(today - 1, name)?.count,
            per_day: (newest.iter().sum::<f64>() / newest.len().max(1) as f64).abs(), // no days make −0
            differences: 0,
            days,
            properties: properties
                .map(|(name, property)| property_report(name, property, week.count))
                .collect(),
        })
    }
}

/// A day as it is written.
pub(crate) fn date(day: i64) -> String {
    (Timestamp::EPOCH + Span::from_micros(Span::from_days(1).micros().saturating_mul(day))).date()
}

fn day_report(day: i64, sketch: &EventDay) -> DayReport {
    let count = sketch.count.max(1) as f64;
    DayReport {
        day: date(day),
        count: sketch.count,
        repeats: ((sketch.count as f64 - sketch.contents.count()) / count).max(0.0),
        without_user: (sketch.count - sketch.with_user) as f64 / count,
    }
}

/// The values of a property or a feature, out of so many.
pub(crate) fn property_report(name: &str, property: &PropertyDay, count: u64) -> PropertyReport {
    let present = property.present();
    let counted = ValueType::ALL.into_iter().zip(property.types);
    let most = counted.max_by_key(|(_, count)| *count);
    let texts = property.values.values().sum::<u64>() + property.other_values;
    let share = |count: u64| count as f64 / texts.max(1) as f64;
    let mut values: Vec<(String, f64)> = property
        .values
        .iter()
        .map(|(value, count)| (value.clone(), share(*count)))
        .collect();
    values.sort_by(|one, other| other.1.total_cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    values.truncate(VALUES_SHOWN);
    PropertyReport {
        property: name.to_owned(),
        missing: count.saturating_sub(present) as f64 / count.max(1) as f64,
        value_type: most
            .filter(|_| present > 0)
            .map(|(value_type, _)| value_type.as_str()),
        numbers: property.numbers.as_ref().map(span),
        values,
        other_values: (texts > 0).then(|| share(property.other_values)),
    }
}

/// The smallest number, the quartiles and the largest.
pub(crate) fn span(numbers: &Numbers) -> [f64; 5] {
    [0.0, 0.25, 0.5, 0.75, 1.0].map(|q| numbers.quantile(q))
}

/// What follows from the same cause, as it is said after the cause.
pub(crate) fn with_it(also: &[String]) -> String {
    match also.is_empty() {
        true => String::new(),
        false => format!("; with it: {}", also.join("; ")),
    }
}

/// A finding about the data as an alert.
fn told(finding: &DataFinding) -> Finding {
    let day = date(finding.day);
    let when = match finding.running {
        true => format!("today ({day}), so far"),
        false => format!("on {day}"),
    };
    let likely = match finding.likely.is_empty() {
        true => String::new(),
        false => format!(" — {}", finding.likely),
    };
    let also = with_it(&finding.also);
    Finding {
        kind: finding.kind,
        subject: finding.subject(),
        cause: format!("{when}, {}{likely}{also}", finding.noticed),
        next_step: format!(
            "`tidemill data '{event}'` shows its days and values; mend what sends it, or say what is right with `expect` under \
             [events.\"{event}\"] in the project file; models go on learning from it until then",
            event = finding.event
        ),
    }
}
