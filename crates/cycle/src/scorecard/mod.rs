//! The scorecard of a model: 28 tests, each with its evidence and its age. Evidence is what the project really holds: runs, reports, drills,
//! decisions. What is older than its period counts for nothing, because nobody knows whether it still holds.

mod facts;
mod found;
pub mod list;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_core::{ModelName, Span, Timestamp};

use crate::kept::decoded;
use crate::project_loop::{CycleError, ProjectLoop};
use facts::Facts;
use list::{Group, TESTS, Test};

/// What people have recorded, by model and test.
const MANUAL: &str = "manual_tests";
/// After so long what a person recorded counts for nothing.
const MANUAL_DAYS: i64 = 180;
/// The longest note.
const NOTE_CHARS_MAX: usize = 1_000;

/// Points for a test that is automatic, and for one that a person did and wrote down.
const AUTOMATIC: f64 = 1.0;
const BY_HAND: f64 = 0.5;

/// What was found for a test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Whether the test passes by it.
    pub passed: bool,
    /// When it came about.
    pub at: Timestamp,
    /// What it says.
    pub sentence: String,
    /// Where it is: a path of the API.
    pub link: String,
}

/// A test that a person did and wrote down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByHand {
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// What was done, and where it is written.
    pub note: String,
}

/// How a test counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counts {
    /// It passes automatically.
    Automatic,
    /// A person did it.
    ByHand,
    /// There was evidence, and it is too old.
    Expired,
    /// There is evidence, and it says no.
    Failed,
    /// There is nothing.
    Missing,
}

/// A test with its evidence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scored {
    /// `data1` …
    pub id: &'static str,
    /// What must hold.
    pub title: &'static str,
    /// 0, 0.5 or 1.
    pub points: f64,
    /// How it counts.
    pub counts: Counts,
    /// The evidence that the system has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// What a person recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_hand: Option<ByHand>,
    /// How old what counts is, in days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_days: Option<f64>,
    /// After how many days it counts for nothing.
    pub period_days: i64,
    /// What to do where it does not count in full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_step: Option<&'static str>,
}

/// A group with its points.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScoredGroup {
    /// Which.
    pub group: Group,
    /// The sum of its tests, at most 7.
    pub points: f64,
    /// Its tests.
    pub tests: Vec<Scored>,
}

/// The scorecard of a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scorecard {
    /// The model.
    pub model: ModelName,
    /// When it was scored.
    pub at: Timestamp,
    /// The smallest of the four sums, at most 7.
    pub score: f64,
    /// The groups.
    pub groups: Vec<ScoredGroup>,
}

impl Scorecard {
    fn of(
        model: &ModelName,
        now: Timestamp,
        mut evidence: BTreeMap<&'static str, Evidence>,
        mut by_hand: BTreeMap<String, ByHand>,
    ) -> Self {
        let groups = Group::ALL.map(|group| {
            let tests: Vec<Scored> = TESTS
                .iter()
                .filter(|test| test.group == group)
                .map(|test| scored(test, now, evidence.remove(test.id), by_hand.remove(test.id)))
                .collect();
            ScoredGroup {
                group,
                points: tests.iter().map(|test| test.points).sum(),
                tests,
            }
        });
        let points = groups.iter().map(|group| group.points);
        Self {
            model: model.clone(),
            at: now,
            score: points.fold(f64::INFINITY, f64::min),
            groups: groups.into(),
        }
    }
}

fn scored(
    test: &Test,
    now: Timestamp,
    evidence: Option<Evidence>,
    by_hand: Option<ByHand>,
) -> Scored {
    let is_fresh = |at: Timestamp, days: i64| now.since(at) <= Span::from_days(days);
    let is_automatic = |found: &Evidence| found.passed && is_fresh(found.at, test.period_days);
    let automatic = evidence.as_ref().filter(|found| is_automatic(found));
    let manual = by_hand
        .as_ref()
        .filter(|hand| is_fresh(hand.at, MANUAL_DAYS));
    let (points, counts, at) = match (automatic, manual, &evidence) {
        (Some(found), _, _) => (AUTOMATIC, Counts::Automatic, Some(found.at)),
        (None, Some(hand), _) => (BY_HAND, Counts::ByHand, Some(hand.at)),
        (None, None, Some(found)) if !found.passed => (0.0, Counts::Failed, Some(found.at)),
        (None, None, Some(found)) => (0.0, Counts::Expired, Some(found.at)),
        (None, None, None) => match &by_hand {
            Some(hand) => (0.0, Counts::Expired, Some(hand.at)),
            None => (0.0, Counts::Missing, None),
        },
    };
    Scored {
        id: test.id,
        title: test.title,
        points,
        counts,
        age_days: at.map(|at| now.since(at).days().max(0.0)),
        period_days: match counts {
            Counts::ByHand => MANUAL_DAYS,
            _ => test.period_days,
        },
        next_step: (counts != Counts::Automatic).then_some(test.next_step),
        evidence,
        by_hand,
    }
}

impl ProjectLoop {
    /// The scorecard of a model, as it is now.
    ///
    /// # Errors
    /// When there is no such model or a store fails.
    pub async fn scorecard(self: &Arc<Self>, model: &ModelName) -> Result<Scorecard, CycleError> {
        self.check_model(model)?;
        let facts = Facts::gather(self, model).await?;
        let by_hand = self.by_hand(model)?;
        Ok(Scorecard::of(model, facts.now, found::all(&facts), by_hand))
    }

    /// Records that a person did a test: it counts half until it is too old. The audit log has it too.
    ///
    /// # Errors
    /// When there is no such model or test, no name is given, the date is not over, or a store fails.
    pub async fn record_by_hand(
        &self,
        model: &ModelName,
        test: &str,
        done: ByHand,
        actor: &str,
    ) -> Result<(), CycleError> {
        self.check_model(model)?;
        let refused = |why: String| Err(CycleError::NotAllowed(why));
        if !TESTS.iter().any(|known| known.id == test) {
            return refused(format!(
                "there is no test '{test}'; `tidemill scorecard {model}` names all"
            ));
        }
        if done.by.trim().is_empty() || done.note.trim().is_empty() {
            return refused("say who did the test and where that is written down".to_owned());
        }
        if done.by.chars().count().max(done.note.chars().count()) > NOTE_CHARS_MAX {
            return refused(format!("a note has at most {NOTE_CHARS_MAX} characters"));
        }
        if done.at > self.clock.now() {
            return refused("a test is recorded when it has been done".to_owned());
        }
        let what = ("record test", format!("{model} {test}"));
        let reason = format!("{} on {}: {}", done.by, done.at.date(), done.note);
        self.audit(actor, what, reason).await?;
        let key = format!("{model}/{test}");
        self.keep((MANUAL, &key), &done, "encode a recorded test")
    }

    fn by_hand(&self, model: &ModelName) -> Result<BTreeMap<String, ByHand>, CycleError> {
        let prefix = format!("{model}/");
        let (state, name) = (&self.stores.state, &self.project.name);
        let stored = state.scan(name, MANUAL, prefix.as_bytes(), None, TESTS.len())?;
        let mut found = BTreeMap::new();
        for (key, bytes) in stored {
            let test = String::from_utf8_lossy(&key[prefix.len()..]).into_owned();
            let done = decoded(&bytes, || format!("what was recorded of {model} {test}"))?;
            found.insert(test, done);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: i64) -> Timestamp {
        Timestamp::EPOCH + Span::from_days(day)
    }

    fn evidence(passed: bool, day: i64) -> Evidence {
        Evidence {
            passed,
            at: at(day),
            sentence: "seen".to_owned(),
            link: "/v1/models".to_owned(),
        }
    }

    fn by_hand(day: i64) -> ByHand {
        ByHand {
            by: "the team".to_owned(),
            at: at(day),
            note: "in the minutes".to_owned(),
        }
    }

    fn card(
        now: i64,
        evidence: BTreeMap<&'static str, Evidence>,
        hand: BTreeMap<String, ByHand>,
    ) -> Scorecard {
        Scorecard::of(&"m".parse().unwrap(), at(now), evidence, hand)
    }

    fn everything(day: i64) -> BTreeMap<&'static str, Evidence> {
        TESTS
            .iter()
            .map(|test| (test.id, evidence(true, day)))
            .collect()
    }

    #[test]
    fn the_score_is_the_smallest_group() {
        assert_eq!(card(1, everything(1), BTreeMap::new()).score, 7.0);
        assert_eq!(card(1, BTreeMap::new(), BTreeMap::new()).score, 0.0);
        let mut one_missing = everything(1);
        one_missing.remove("monitoring3");
        let card = card(1, one_missing, BTreeMap::new());
        assert_eq!(card.score, 6.0);
        assert_eq!(card.groups[0].points, 7.0);
    }

    #[test]
    fn evidence_expires_and_what_says_no_counts_for_nothing() {
        let check = |found: Evidence, now: i64, points: f64, counts: Counts| {
            let test = TESTS.iter().find(|test| test.id == "data7").unwrap();
            let scored = scored(test, at(now), Some(found), None);
            assert_eq!((scored.points, scored.counts), (points, counts));
            assert_eq!(scored.next_step.is_some(), points < 1.0);
        };
        check(evidence(true, 100), 130, 1.0, Counts::Automatic);
        check(evidence(true, 100), 131, 0.0, Counts::Expired);
        check(evidence(false, 100), 100, 0.0, Counts::Failed);
    }

    #[test]
    fn what_a_person_did_counts_half_and_expires_too() {
        let check = |found: Option<Evidence>, now: i64, points: f64, counts: Counts| {
            let scored = scored(&TESTS[7], at(now), found, Some(by_hand(100)));
            assert_eq!((scored.points, scored.counts), (points, counts));
        };
        check(None, 100, 0.5, Counts::ByHand);
        check(None, 281, 0.0, Counts::Expired);
        check(Some(evidence(true, 100)), 100, 1.0, Counts::Automatic);
        check(Some(evidence(false, 100)), 100, 0.5, Counts::ByHand);
    }
}
