//! Looks at a whole day beside the past, and says what differs.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tidemill_core::project::Expectations;
use tidemill_store::StoreError;

use super::calibrate::{Surprises, TOLD_TIMES};
use super::expect;
use super::finding::{DataFinding, Exceeded, Hint, tell};
use super::history::{History, Judged, TRACKS_MAX, Window};
use super::sketch::{EventDay, PropertyDay};
use super::statistic::{self, Family, Measure, Statistic};
use super::watch::{DataWatch, Position};

/// What was told stays told while it is at least this share of the threshold.
const STAYS_SHARE: f64 = 0.5;
/// On the running day only what is so many times beyond the threshold is told, …
const RUNNING_TIMES: f64 = 2.0;
/// … and not before so many events have come, or the usual share of them.
const RUNNING_EVENTS_MIN: u64 = 100;
const RUNNING_SHARE: f64 = 0.25;
/// How many days a week and the four before it are.
const SHIFT_DAYS: i64 = 35;
/// A finding stays while nothing comes that could say otherwise, for at most so many days.
const STAYS_DAYS: i64 = 7;
/// How many past slow changes must be known before one is told.
const SHIFTS_MIN: usize = 42;

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

/// One question about one day, judged.
struct Question<'d> {
    property: String,
    statistic: Statistic,
    measure: Measure,
    values: Option<&'d PropertyDay>,
}

/// What one day of everything came to.
#[derive(Default)]
struct Day {
    day: i64,
    /// How many events of all kinds came.
    total: u64,
    largest: BTreeMap<Family, f64>,
    exceeded: Vec<Exceeded>,
    /// What was asked: event, property and question.
    asked: BTreeSet<(String, String, Statistic)>,
}

impl DataWatch {
    /// Looks at every whole day before `today` that was not looked at yet, each beside what was known then; with `today` also at what came
    /// of that so far. Returns whether there was a new day.
    ///
    /// # Errors
    /// When the state store fails; the days that were looked at stay so.
    pub fn examine(&self, today: i64, rules: Rules<'_>) -> Result<bool, StoreError> {
        let position = self.position();
        let Some(first) = position.events.values().map(|known| known.first).min() else {
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
            let is_gone = |known| Self::is_gone(known, day);
            if position.events.values().all(is_gone) {
                // nothing has come for so long that nothing is expected
                *examined = Examined {
                    day: Some(today - 1),
                    surprises: std::mem::take(&mut examined.surprises),
                    ..Examined::default()
                };
                self.store_examined(&examined, Vec::new())?;
                break;
            }
            let mut next = Examined {
                day: Some(day),
                ..examined.clone()
            };
            let histories = self.examine_day(day, &position, rules, &mut next)?;
            self.store_examined(&next, histories)?;
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
        let of = |family| (family, examined.surprises.threshold(family, false_alarms));
        Family::ALL.into_iter().map(of).collect()
    }

    fn examine_day(
        &self,
        day: i64,
        position: &Position,
        rules: Rules<'_>,
        next: &mut Examined,
    ) -> Result<Vec<(String, History)>, StoreError> {
        let mut of_day = Day {
            day,
            ..Day::default()
        };
        let mut histories = Vec::new();
        let mut broken = Vec::new();
        let mut sketches = Vec::new();
        for (name, known) in &position.events {
            let sketch = self.day(day, name)?;
            of_day.total += sketch.count;
            if day > known.first && !Self::is_gone(known, day) {
                sketches.push((name, sketch));
            }
        }
        for (name, sketch) in sketches {
            let mut history = self.history(name)?;
            let expectations = rules.expectations.get(name);
            self.judge_event(
                name,
                &sketch,
                &mut history,
                &next.surprises,
                rules,
                &mut of_day,
            )?;
            broken.extend(expect::check(name, &sketch, expectations, day));
            histories.push((name.clone(), history));
        }
        for family in Family::ALL {
            if let Some(largest) = of_day.largest.get(&family) {
                next.surprises.push(family, *largest);
            }
        }
        self.explain_stopped(&mut of_day, position)?;
        let before = std::mem::take(&mut next.findings);
        let mut findings = tell(std::mem::take(&mut of_day.exceeded), &before, day);
        let silent = before.into_iter().filter(|finding| {
            let asked = (
                finding.event.clone(),
                finding.property.clone(),
                finding.statistic,
            );
            day - finding.day < STAYS_DAYS
                && !of_day.asked.contains(&asked)
                && !finding.is_declared()
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
        surprises: &Surprises,
        rules: Rules<'_>,
        of_day: &mut Day,
    ) -> Result<(), StoreError> {
        let day = of_day.day;
        let mut told_properties: BTreeSet<String> = BTreeSet::new();
        for question in questions(sketch, history, Some(of_day.total)) {
            let told = self.judge(name, question, history, surprises, rules, of_day);
            told_properties.extend(told);
        }
        for (property, values) in &sketch.properties {
            let track = |statistic| history.tracks.get(&(property.clone(), statistic));
            let of_values = [Statistic::NewValues, Statistic::VanishedValues].map(track);
            let is_watched = track(Statistic::Missing).is_some();
            if of_values.iter().flatten().any(|track| track.is_told()) || !is_watched {
                continue;
            }
            let begins_anew = of_values.iter().flatten().any(|track| track.begins_anew());
            if values.values.is_empty() && !history.values.contains_key(property) {
                continue;
            }
            let known = history.values.entry(property.clone()).or_default();
            if begins_anew {
                known.forget();
            }
            known.learn(values);
        }
        for question in self.shifts(name, day, history, &told_properties)? {
            self.judge(name, question, history, surprises, rules, of_day);
        }
        history.forget_absent();
        Ok(())
    }

    /// Judges one question; returns the property if something is to be said about it.
    fn judge(
        &self,
        name: &str,
        question: Question<'_>,
        history: &mut History,
        surprises: &Surprises,
        rules: Rules<'_>,
        of_day: &mut Day,
    ) -> Option<String> {
        let Question {
            property,
            statistic,
            measure,
            values,
        } = question;
        let day = of_day.day;
        let family = statistic.family();
        let expectations = rules.expectations.get(name);
        if expectations.is_some_and(|expect| expect.is_unwatched(&property)) {
            return None;
        }
        let key = (property.clone(), statistic);
        if !history.tracks.contains_key(&key) && history.tracks.len() >= TRACKS_MAX {
            return None;
        }
        of_day
            .asked
            .insert((name.to_owned(), property.clone(), statistic));
        let declared =
            expectations.is_some_and(|expect| expect::says(expect, &property, statistic));
        let hint = Hint::of(statistic, history.values.get(&property), values);
        let track = history.tracks.entry(key).or_default();
        let judged = track.judge(statistic, day, &measure);
        let score = judged.and_then(|judged| judged.score);
        let score = score.filter(|_| family != Family::Shift || track.windows.len() >= SHIFTS_MIN);
        let threshold = surprises.threshold(family, rules.false_alarms);
        let was_told = track.is_told();
        let mut told = false;
        if let (Some(score), false) = (score, declared) {
            told = threshold.is_some_and(|threshold| {
                score > threshold || (was_told && score > threshold * STAYS_SHARE)
            });
            if !was_told {
                let counted = match threshold {
                    Some(threshold) => score.min(TOLD_TIMES * threshold),
                    None => score,
                };
                let largest = of_day.largest.entry(family).or_default();
                *largest = largest.max(counted);
            }
        }
        track.push(Window {
            day,
            value: measure.value,
            weight: measure.weight,
            deviation: judged.map(|judged| judged.deviation),
            told,
        });
        if let (true, Some(judged), Some(threshold)) = (told, judged, threshold) {
            of_day.exceeded.push(exceeded(
                (name, &property, statistic),
                &judged,
                &measure,
                threshold,
                hint,
            ));
        }
        told.then_some(property)
    }

    /// The last week beside the four before it, for properties of which nothing sudden was said in that time.
    fn shifts(
        &self,
        name: &str,
        day: i64,
        history: &History,
        told: &BTreeSet<String>,
    ) -> Result<Vec<Question<'static>>, StoreError> {
        let mut questions = Vec::new();
        let sudden: BTreeSet<&str> = history
            .tracks
            .iter()
            .filter(|((_, statistic), track)| {
                statistic.family() != Family::Shift && track.told_within(day, SHIFT_DAYS)
            })
            .map(|((property, _), _)| property.as_str())
            .collect();
        let is_sudden = |property: &str| told.contains(property) || sudden.contains(property);
        for (statistic, of) in [
            (Statistic::LocationShift, Statistic::Location),
            (Statistic::MissingShift, Statistic::Missing),
        ] {
            for ((property, _), track) in
                history.tracks.iter().filter(|((_, known), _)| *known == of)
            {
                if is_sudden(property)
                    || track.windows.back().is_none_or(|window| window.day != day)
                {
                    continue;
                }
                if let Some(mut measure) = track.shift(day) {
                    measure.noise = 0.01;
                    questions.push(Question {
                        property: property.clone(),
                        statistic,
                        measure,
                        values: None,
                    });
                }
            }
        }
        let with_values = history.values.iter().filter(|(property, known)| {
            !known.is_open_ended && known.days >= 35 && !is_sudden(property)
        });
        let properties: Vec<&String> = with_values.map(|(property, _)| property).collect();
        if !properties.is_empty() {
            questions.extend(self.mix_shifts(name, day, &properties)?);
        }
        Ok(questions)
    }

    /// How far the shares of values of the last week are from those of the four weeks before.
    fn mix_shifts(
        &self,
        name: &str,
        day: i64,
        properties: &[&String],
    ) -> Result<Vec<Question<'static>>, StoreError> {
        let mut counts: BTreeMap<&str, [BTreeMap<String, u64>; 2]> = BTreeMap::new();
        for past in 0..SHIFT_DAYS {
            let sketch = self.day(day - past, name)?;
            for property in properties {
                let Some(values) = sketch.properties.get(*property) else {
                    continue;
                };
                let of = counts.entry(property).or_default();
                let part = &mut of[usize::from(past >= 7)];
                for (value, count) in &values.values {
                    *part.entry(value.clone()).or_default() += count;
                }
            }
        }
        let mut questions = Vec::new();
        for (property, [week, before]) in counts {
            let totals = [&week, &before].map(|part| part.values().sum::<u64>() as f64);
            if totals
                .iter()
                .any(|total| *total < statistic::VALUES_MIN as f64)
            {
                continue;
            }
            let share = |part: &BTreeMap<String, u64>, value: &str, total: f64| {
                part.get(value).copied().unwrap_or(0) as f64 / total
            };
            let values: BTreeSet<&String> = week.keys().chain(before.keys()).collect();
            let moved = values.iter().map(|value| {
                (share(&week, value, totals[0]) - share(&before, value, totals[1])).abs()
            });
            questions.push(Question {
                property: property.to_owned(),
                statistic: Statistic::MixShift,
                measure: Measure {
                    value: moved.sum::<f64>() / 2.0,
                    weight: totals[0],
                    noise: 0.01,
                },
                values: None,
            });
        }
        Ok(questions)
    }

    /// Where an event stopped and another one came for the first time, as often: it may have been renamed.
    fn explain_stopped(&self, of_day: &mut Day, position: &Position) -> Result<(), StoreError> {
        let day = of_day.day;
        let fresh = position
            .events
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
        for (name, known) in &position.events {
            if known.last != today || known.first == today {
                continue;
            }
            let sketch = self.day(today, name)?;
            let history = self.history(name)?;
            let usual = history
                .tracks
                .get(&(String::new(), Statistic::Volume))
                .and_then(|track| {
                    track.judge(Statistic::Volume, today, &statistic::volume(sketch.count))
                });
            let usual = usual.map_or(f64::INFINITY, |judged| judged.expected.exp_m1());
            if sketch.count < RUNNING_EVENTS_MIN && (sketch.count as f64) < usual * RUNNING_SHARE {
                continue;
            }
            if sketch.count < statistic::VALUES_MIN {
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
        } = question;
        let says = expectations.is_some_and(|expect| {
            expect.is_unwatched(&property) || expect::says(expect, &property, statistic)
        });
        if says || matches!(statistic, Statistic::VanishedValues | Statistic::Spread) {
            continue;
        }
        let track = history.tracks.get(&(property.clone(), statistic));
        let judged = track.and_then(|track| track.judge(statistic, today, &measure));
        let threshold = surprises.threshold(statistic.family(), rules.false_alarms);
        if let (Some(judged), Some(threshold)) = (judged, threshold)
            && judged
                .score
                .is_some_and(|score| score > threshold * RUNNING_TIMES)
        {
            let hint = Hint::of(statistic, history.values.get(&property), values);
            found.push(exceeded(
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

fn exceeded(
    (event, property, statistic): (&str, &str, Statistic),
    judged: &Judged,
    measure: &Measure,
    threshold: f64,
    hint: Hint,
) -> Exceeded {
    Exceeded {
        event: event.to_owned(),
        property: property.to_owned(),
        statistic,
        before: judged.expected,
        now: measure.value,
        weight: measure.weight,
        surprise: judged.score.unwrap_or(0.0) / threshold,
        hint,
    }
}

/// Every question that a day answers by itself, or beside the values that are known.
/// With how many events of all kinds came also how much came of it, of a day that is over.
fn questions<'d>(sketch: &'d EventDay, history: &History, total: Option<u64>) -> Vec<Question<'d>> {
    let of_event = |statistic, measure| Question {
        property: String::new(),
        statistic,
        measure,
        values: None,
    };
    let mut questions = Vec::new();
    if let Some(total) = total {
        questions.push(of_event(Statistic::Volume, statistic::volume(sketch.count)));
        let beside = statistic::proportion(sketch.count, total.saturating_sub(sketch.count));
        questions.extend(beside.map(|beside| of_event(Statistic::Proportion, beside)));
    }
    let of_day = statistic::of_day(sketch).into_iter();
    questions.extend(of_day.map(|(property, statistic, measure)| Question {
        values: sketch.properties.get(&property),
        property,
        statistic,
        measure,
    }));
    if sketch.count >= statistic::VALUES_MIN {
        // a property that is not there any more
        let absent: BTreeSet<&String> = history
            .tracks
            .keys()
            .filter(|(property, statistic)| {
                *statistic == Statistic::Missing
                    && property != statistic::USER_ID
                    && !sketch.properties.contains_key(property)
            })
            .map(|(property, _)| property)
            .collect();
        questions.extend(absent.into_iter().map(|property| Question {
            property: property.clone(),
            statistic: Statistic::Missing,
            measure: Measure::share(sketch.count as f64, sketch.count as f64),
            values: None,
        }));
    }
    for (property, values) in &sketch.properties {
        let compared = history
            .values
            .get(property)
            .and_then(|known| known.compare(values));
        if let Some((new, vanished)) = compared {
            for (statistic, measure) in [
                (Statistic::NewValues, new),
                (Statistic::VanishedValues, vanished),
            ] {
                questions.push(Question {
                    property: property.clone(),
                    statistic,
                    measure,
                    values: Some(values),
                });
            }
        }
    }
    questions
}
