//! Looks at a whole day beside the past, and says what differs.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tidemill_core::project::Expectations;
use tidemill_store::StoreError;

use super::expect;
use super::finding::{DataFinding, tell};
use super::measures::of_day;
use super::sketch::EventDay;
use super::watch::DataWatch;
use crate::days::{
    Day, Exceeded, Family, Hint, History, Measure, Position, Question, Rate, Statistic, Surprises,
    USER_ID, VALUES_MIN, compared_values, learn_values, proportion, shifts, stays, volume,
};

/// The most questions that are asked about one kind of event; those about properties that came after others are not.
pub const TRACKS_MAX: usize = 600;
/// On the running day only what is so many times beyond the threshold is told, …
const RUNNING_TIMES: f64 = 2.0;
/// … and not before so many events have come, or the usual share of them.
const RUNNING_EVENTS_MIN: u64 = 100;
const RUNNING_SHARE: f64 = 0.25;

/// What the watch found last.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Examined {
    /// The last whole day that was looked at.
    pub day: Option<i64>,
    /// The largest surprise of each past day.
    pub surprises: Surprises,
    /// What differs, the most telling first.
    pub findings: Vec<DataFinding>,
    /// What is unmistakable of the running day already.
    #[serde(default)]
    pub running: Vec<DataFinding>,
}

/// How to look at days.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'p> {
    /// The share of days on which something false may be said, all questions together.
    pub false_alarms: f64,
    /// What the project file says about events, which wins over what is learnt.
    pub expectations: &'p BTreeMap<String, Expectations>,
}

impl Rules<'_> {
    /// The share of days on which each family may say something false.
    fn share(&self) -> f64 {
        self.false_alarms / Family::OF_DATA.len() as f64
    }
}

impl DataWatch {
    /// Looks at every whole day before `today` that was not looked at yet, each beside what was known then; with `today` also at what came
    /// of that so far. Returns whether there was a new day.
    ///
    /// # Errors
    /// When the state store fails; the days that were looked at stay so.
    pub fn examine(&self, today: i64, rules: Rules<'_>) -> Result<bool, StoreError> {
        let position = self.position();
        let Some(first) = position.subjects.values().map(|known| known.first).min() else {
            return Ok(false);
        };
        // of the very first day only a part may be known
        let from = self.examined_day().unwrap_or(first) + 1;
        if from >= today {
            return Ok(false);
        }
        self.commit()?;
        for day in from..today {
            // held for one day at a time, for those who read
            let mut examined = self.examined.lock();
            if position.subjects.values().all(|known| known.is_gone(day)) {
                // nothing has come for so long that nothing is expected
                *examined = Examined {
                    day: Some(today - 1),
                    surprises: std::mem::take(&mut examined.surprises),
                    ..Examined::default()
                };
                self.days
                    .store_examined(examined.day, &*examined, Vec::new())?;
                break;
            }
            let mut next = Examined {
                day: Some(day),
                ..examined.clone()
            };
            let histories = self.examine_day(day, &position, rules, &mut next)?;
            self.days.store_examined(next.day, &next, histories)?;
            *examined = next;
        }
        Ok(true)
    }

    /// What differs: on the newest whole day, and unmistakably on the running one.
    pub fn findings(&self) -> Vec<DataFinding> {
        let examined = self.examined.lock();
        let running = examined.running.iter().cloned();
        let of_days = examined.findings.iter().cloned();
        let mut findings: Vec<DataFinding> = running.collect();
        for finding in of_days {
            if !findings
                .iter()
                .any(|other| other.subject() == finding.subject())
            {
                findings.push(finding);
            }
        }
        findings
    }

    /// The last whole day that was looked at.
    pub fn examined_day(&self) -> Option<i64> {
        self.examined.lock().day
    }

    /// How surprising something must be to be told, by family; absent where too little is known.
    pub fn thresholds(&self, false_alarms: f64) -> BTreeMap<Family, Option<f64>> {
        let examined = self.examined.lock();
        let share = false_alarms / Family::OF_DATA.len() as f64;
        let of = |family| (family, examined.surprises.threshold(family, share));
        Family::OF_DATA.into_iter().map(of).collect()
    }

    fn examine_day(
        &self,
        day: i64,
        position: &Position,
        rules: Rules<'_>,
        next: &mut Examined,
    ) -> Result<Vec<(String, History)>, StoreError> {
        let (mut of_day, mut total) = (Day::of(day), 0);
        let mut histories = Vec::new();
        let mut broken = Vec::new();
        let mut sketches = Vec::new();
        for (name, known) in &position.subjects {
            let sketch = self.day(day, name)?;
            total += sketch.count;
            if day > known.first && !known.is_gone(day) {
                sketches.push((name, sketch));
            }
        }
        let rate = Rate {
            surprises: &next.surprises,
            share: rules.share(),
            tracks_max: TRACKS_MAX,
        };
        for (name, sketch) in sketches {
            let mut history = self.history(name)?;
            let expectations = rules.expectations.get(name);
            let beside = (&mut of_day, total);
            self.judge_event(name, &sketch, &mut history, (rate, rules), beside)?;
            broken.extend(expect::check(name, &sketch, expectations, day));
            histories.push((name.clone(), history));
        }
        of_day.push_largest(&mut next.surprises, &Family::OF_DATA);
        self.explain_stopped(&mut of_day, position)?;
        let before = std::mem::take(&mut next.findings);
        let mut findings = tell(std::mem::take(&mut of_day.exceeded), &before, day);
        let silent = before.into_iter().filter(|finding| {
            let asked = (&*finding.event, &*finding.property, finding.statistic);
            !finding.is_declared() && stays(&of_day, finding.day, asked)
        });
        for finding in silent {
            if !findings
                .iter()
                .any(|other| other.subject() == finding.subject())
            {
                findings.push(finding);
            }
        }
        broken.extend(findings);
        next.findings = broken;
        next.running.clear();
        Ok(histories)
    }

    /// Judges every question about one kind of event on one day, and remembers the day.
    fn judge_event(
        &self,
        name: &str,
        sketch: &EventDay,
        history: &mut History,
        (rate, rules): (Rate<'_>, Rules<'_>),
        (of_day, total): (&mut Day, u64),
    ) -> Result<(), StoreError> {
        let (expectations, day) = (rules.expectations.get(name), of_day.day);
        let mut judge = |question: Question<'_>, history: &mut History| {
            let (property, statistic) = (&question.property, question.statistic);
            if expectations.is_some_and(|expect| expect.is_unwatched(property)) {
                return None;
            }
            let declared =
                expectations.is_some_and(|expect| expect::says(expect, property, statistic));
            of_day.judge(name, question, history, rate, declared)
        };
        let mut told: BTreeSet<String> = BTreeSet::new();
        for question in questions(sketch, history, Some(total)) {
            told.extend(judge(question, history));
        }
        learn_values(history, &sketch.properties);
        let properties_on = |day| Ok(self.day(day, name)?.properties);
        for question in shifts(day, history, &told, &properties_on)? {
            judge(question, history);
        }
        history.forget_absent();
        Ok(())
    }

    /// Where an event stopped and another one came for the first time, as often: it may have been renamed.
    fn explain_stopped(&self, of_day: &mut Day, position: &Position) -> Result<(), StoreError> {
        let day = of_day.day;
        let fresh = position
            .subjects
            .iter()
            .filter(|(_, known)| known.first >= day - 1 && known.first <= day);
        let fresh: Vec<&String> = fresh.map(|(name, _)| name).collect();
        for exceeded in &mut of_day.exceeded {
            if exceeded.now >= exceeded.before || !exceeded.is_of_volume() {
                continue;
            }
            for name in &fresh {
                let count = self.day(day, name)?.count as f64;
                let usual = exceeded.usual_count();
                if count > usual * 0.4 && count < usual * 2.5 {
                    exceeded.hint.renamed_to = Some((*name).clone());
                }
            }
        }
        Ok(())
    }

    /// Looks at what came of the running day so far for what is unmistakable: values that are nothing like those of any past day. Nothing is
    /// remembered of it.
    ///
    /// # Errors
    /// When the state store fails.
    pub fn examine_running(&self, today: i64, rules: Rules<'_>) -> Result<(), StoreError> {
        let position = self.position();
        let mut examined = self.examined.lock();
        let mut exceeded_now = Vec::new();
        for (name, known) in &position.subjects {
            if known.last != today || known.first == today {
                continue;
            }
            let sketch = self.day(today, name)?;
            let history = self.history(name)?;
            let usual = history
                .tracks
                .get(&(String::new(), Statistic::Volume))
                .and_then(|track| {
                    track.judge(Statistic::Volume, today, &volume(sketch.count), false)
                });
            let usual = usual.map_or(f64::INFINITY, |judged| judged.expected.exp_m1());
            if sketch.count < RUNNING_EVENTS_MIN && (sketch.count as f64) < usual * RUNNING_SHARE {
                continue;
            }
            if sketch.count < VALUES_MIN {
                continue;
            }
            exceeded_now.extend(unmistakable(
                name,
                today,
                &sketch,
                &history,
                &examined.surprises,
                rules,
            ));
        }
        let before: Vec<DataFinding> = examined
            .running
            .iter()
            .chain(&examined.findings)
            .cloned()
            .collect();
        let mut running = tell(exceeded_now, &before, today);
        for finding in &mut running {
            finding.running = true;
        }
        examined.running = running;
        Ok(())
    }
}

/// What needs no whole day to be seen.
fn unmistakable(
    name: &str,
    today: i64,
    sketch: &EventDay,
    history: &History,
    surprises: &Surprises,
    rules: Rules<'_>,
) -> Vec<Exceeded> {
    let expectations = rules.expectations.get(name);
    let mut found = Vec::new();
    for question in questions(sketch, history, None) {
        let Question {
            property,
            statistic,
            measure,
            values,
            ..
        } = question;
        let says = expectations.is_some_and(|expect| {
            expect.is_unwatched(&property) || expect::says(expect, &property, statistic)
        });
        if says || matches!(statistic, Statistic::VanishedValues | Statistic::Spread) {
            continue;
        }
        let track = history.tracks.get(&(property.clone(), statistic));
        let judged = track.and_then(|track| track.judge(statistic, today, &measure, false));
        let threshold = surprises.threshold(statistic.family(), rules.share());
        if let (Some(judged), Some(threshold)) = (judged, threshold)
            && judged
                .score
                .is_some_and(|score| score > threshold * RUNNING_TIMES)
        {
            let hint = Hint::of(statistic, history.values.get(&property), values);
            found.push(Exceeded::of(
                (name, &property, statistic),
                &judged,
                &measure,
                threshold,
                hint,
            ));
        }
    }
    found
}

/// Every question that a day answers by itself, or beside the values that are known.
/// With how many events of all kinds came also how much came of it, of a day that is over.
fn questions<'d>(sketch: &'d EventDay, history: &History, total: Option<u64>) -> Vec<Question<'d>> {
    let of_event = |statistic, measure| Question {
        property: String::new(),
        statistic,
        measure,
        values: None,
        begins: false,
    };
    let mut questions = Vec::new();
    if let Some(total) = total {
        questions.push(of_event(Statistic::Volume, volume(sketch.count)));
        let beside = proportion(sketch.count, total.saturating_sub(sketch.count));
        questions.extend(beside.map(|beside| of_event(Statistic::Proportion, beside)));
    }
    let measures = of_day(sketch).into_iter();
    questions.extend(measures.map(|(property, statistic, measure)| Question {
        values: sketch.properties.get(&property),
        property,
        statistic,
        measure,
        begins: false,
    }));
    if sketch.count >= VALUES_MIN {
        // a property that is not there any more
        let absent: BTreeSet<&String> = history
            .tracks
            .keys()
            .filter(|(property, statistic)| {
                *statistic == Statistic::Missing
                    && property != USER_ID
                    && !sketch.properties.contains_key(property)
            })
            .map(|(property, _)| property)
            .collect();
        questions.extend(absent.into_iter().map(|property| Question {
            property: property.clone(),
            statistic: Statistic::Missing,
            measure: Measure::share(sketch.count as f64, sketch.count as f64),
            values: None,
            begins: false,
        }));
    }
    questions.extend(compared_values(&sketch.properties, history, false));
    questions
}
