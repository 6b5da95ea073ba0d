//! The drill: whether a bad version would be sent back, and how fast. It is played on a slot of its own with the champion and a
//! planted version, by the code that answers and judges in earnest; nobody gets its answers and nothing is logged.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_core::clock::Stopwatch;
use tidemill_core::event::PersonKey;
use tidemill_core::project::{Guardrails, RolloutRules};
use tidemill_core::{Decision, ModelName, Span, Timestamp};
use tidemill_learn::calibration::Calibrator;
use tidemill_serve::rollout::Version;
use tidemill_serve::{Challenger, Champion, ServeError};
use tidemill_store::lake::Sequenced;

use crate::project_loop::{CycleError, ProjectLoop};
use crate::promote::SYSTEM;
use crate::rollout::place::{Place, TakesOver};

/// The newest drill, by model.
const DRILLS: &str = "rollout_drills";
/// A bad version must be sent back within so many questions.
pub const QUESTIONS_MAX: usize = 1_000;
/// How often it is drilled where nothing is said in the project file.
const DRILL_EVERY: Span = Span::from_days(84);
/// How many of the newest decisions are looked through for people to ask about.
const DECISIONS_LOOKED_AT: usize = 1_000;

/// How a drill went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drill {
    /// The model.
    pub model: ModelName,
    /// When.
    pub at: Timestamp,
    /// The number of the version that answered again.
    pub champion: u32,
    /// Whether the planted version was sent back, the champion answered again, and no answer failed.
    pub passed: bool,
    /// How many questions the planted version was asked before it was sent back.
    pub questions: usize,
    /// From the first of its failures until the champion answered again, in microseconds of real time.
    pub micros: u64,
    /// Answers that failed for the caller; the champion should have given all of them, and lists as long as its own.
    pub failed_answers: usize,
    /// Why it was sent back; nothing where it was not.
    pub reason: Option<String>,
}

impl Drill {
    /// The drill in a sentence.
    pub fn sentence(&self) -> String {
        let Self {
            model,
            champion,
            questions,
            failed_answers,
            ..
        } = self;
        match &self.reason {
            Some(reason) => format!(
                "a planted version of {model} was sent back after {questions} questions, {model}@{champion} answered again after {} ms, and \
                 {failed_answers} answers failed ({reason})",
                self.micros as f64 / 1_000.0
            ),
            None => format!(
                "a planted version of {model} was not sent back within {questions} questions"
            ),
        }
    }
}

impl ProjectLoop {
    /// Plants a version that gives no numbers, for all people of a slot that nobody hears, and measures how long it takes until the
    /// champion answers again. The audit log has the result.
    ///
    /// # Errors
    /// When there is no such model, no version answers, nobody was asked about yet, or a store fails.
    pub async fn drill_rollback(
        &self,
        model: &ModelName,
        actor: &str,
    ) -> Result<Drill, CycleError> {
        let place = self.place(model)?;
        let people = asked(&self.newest_decisions()?, model);
        self.drill_at(place, &people, actor).await
    }

    /// Drills with the people whom a model was asked about.
    async fn drill_at(
        &self,
        place: Place<'_>,
        people: &[PersonKey],
        actor: &str,
    ) -> Result<Drill, CycleError> {
        let model = place.model();
        let Some(champion) = place.champion() else {
            let why = format!("no version of {model} answers that a bad one could be sent back to");
            return Err(CycleError::NotAllowed(why));
        };
        if people.is_empty() {
            let why = format!(
                "ask {model} about somebody first: a drill is played with people whom it was asked about"
            );
            return Err(CycleError::NotAllowed(why));
        }
        let drill = match place {
            Place::Predict(slot) => self.play(Place::Predict(&slot.apart()), champion, people),
            Place::Recommend(slot) => self.play(Place::Recommend(&slot.apart()), champion, people),
        };
        self.keep((DRILLS, model.as_str()), &drill, "encode a drill")?;
        let result = if drill.passed { "passed" } else { "failed" };
        let what = (
            format!("drill rollback {result}"),
            format!("{model}@{}", drill.champion),
        );
        self.audit(actor, what, drill.sentence()).await?;
        Ok(drill)
    }

    /// Drills the models whose last drill is long enough ago: as long as their rollout says, or a quarter of a year.
    ///
    /// # Errors
    /// When a store fails.
    pub(crate) async fn drill_due(&self) -> Result<(), CycleError> {
        let mut due = Vec::new();
        for place in self.places() {
            let every = place.rules().and_then(|rules| rules.drill);
            let every = every.unwrap_or(DRILL_EVERY);
            let last = self.last_drill(place.model())?;
            let is_due = last.is_none_or(|last| self.clock.now().since(last.at) >= every);
            if place.champion().is_some() && is_due {
                due.push(place);
            }
        }
        if due.is_empty() {
            return Ok(());
        }
        let newest = self.newest_decisions()?;
        for place in due {
            let people = asked(&newest, place.model());
            if !people.is_empty() {
                self.drill_at(place, &people, SYSTEM).await?;
            }
        }
        Ok(())
    }

    /// The newest drill of a model.
    ///
    /// # Errors
    /// When the state store fails or the entry is damaged.
    pub(crate) fn last_drill(&self, model: &ModelName) -> Result<Option<Drill>, CycleError> {
        let place = (DRILLS, model.as_str());
        self.kept(place, || format!("the drill of {model}"))
    }

    /// People whom a model was asked about lately and answered by a version.
    pub(crate) fn asked_about(&self, model: &ModelName) -> Result<Vec<PersonKey>, CycleError> {
        Ok(asked(&self.newest_decisions()?, model))
    }

    fn newest_decisions(&self) -> Result<Vec<Sequenced<Decision>>, CycleError> {
        Ok(self.decisions.newest(None, DECISIONS_LOOKED_AT)?)
    }

    /// Plays a drill on a place that nobody hears.
    fn play(&self, place: Place<'_>, champion: u32, people: &[PersonKey]) -> Drill {
        let rules = place.rules().cloned().unwrap_or_else(|| RolloutRules {
            guardrails: match place {
                Place::Predict(_) => Guardrails::default(),
                Place::Recommend(_) => Guardrails::of_lists(),
            },
            ..RolloutRules::default()
        });
        let mut drill = Drill {
            model: place.model().clone(),
            at: self.clock.now(),
            champion,
            passed: false,
            questions: 0,
            micros: 0,
            failed_answers: 0,
            reason: None,
        };
        let Some(planted) = planted(place, &rules) else {
            return drill;
        };
        place.set_challenger(planted.clone());
        let mut lists: Vec<(&PersonKey, usize)> = Vec::new();
        let stopwatch = Stopwatch::start();
        for person in people.iter().cycle().take(QUESTIONS_MAX) {
            let answer = self.rehearsed(place, person);
            let answer = answer.ok().filter(|one| one.version == Some(champion));
            drill.failed_answers += usize::from(answer.is_none());
            drill.questions += 1;
            lists.extend(answer.map(|answer| (person, answer.items.len())));
            if let Some(breach) = planted.breach(&planted.found(), place, &rules.guardrails) {
                place.clear();
                drill.reason = Some(breach.reason);
                break;
            }
        }
        let again = people.first().map(|person| self.rehearsed(place, person));
        drill.micros = stopwatch.micros();
        let is_again = matches!(again, Some(Ok(answer)) if answer.version == Some(champion) && answer.arm.is_none());
        // everybody got as many items as the champion gives them with nobody beside it
        place.clear();
        let is_short = |(person, items): &&(&PersonKey, usize)| {
            let whole = self.rehearsed(place, person);
            whole.is_ok_and(|whole| *items < whole.items.len())
        };
        drill.failed_answers += lists.iter().filter(is_short).count();
        drill.passed = drill.reason.is_some() && drill.failed_answers == 0 && is_again;
        drill
    }

    /// An answer about a person on a place that nobody hears.
    fn rehearsed(&self, place: Place<'_>, person: &PersonKey) -> Result<Decision, ServeError> {
        match place {
            Place::Predict(slot) => self.answerer.rehearse(slot, person),
            Place::Recommend(slot) => self.answerer.rehearse_list(slot, person),
        }
    }
}

fn asked(newest: &[Sequenced<Decision>], model: &ModelName) -> Vec<PersonKey> {
    let answered = newest.iter().map(|decision| &decision.value);
    let answered = answered.filter(|one| one.model == *model && one.version.is_some());
    answered
        .filter_map(|decision| PersonKey::written(&decision.entity))
        .collect()
}

/// The champion with a number of its own, as a version that gives no numbers and takes over from everybody; nothing without a champion.
fn planted(place: Place<'_>, rules: &RolloutRules) -> Option<TakesOver> {
    Some(match place {
        Place::Predict(slot) => {
            let version = scores_without_numbers(&*slot.champion()?);
            TakesOver::Scores(for_all(place.model(), version, rules))
        }
        Place::Recommend(slot) => {
            let champion = slot.champion()?;
            let version = champion.without_numbers(champion.number.saturating_add(1));
            TakesOver::Lists(for_all(place.model(), version, rules))
        }
    })
}

/// A version that takes over from everybody, and of which nothing is missing too often.
fn for_all<V: Version>(model: &ModelName, version: V, rules: &RolloutRules) -> Arc<Challenger<V>> {
    let missing = vec![1.0; version.columns()];
    let wake = Arc::new(|| {});
    let challenger = Challenger::new(model, Arc::new(version), missing, 1.0, rules, wake);
    Arc::new(challenger)
}

fn scores_without_numbers(champion: &Champion) -> Champion {
    let mut package = champion.package.clone();
    package.calibrator = match package.task.width() {
        1 => Calibrator::Platt {
            slope: f64::NAN,
            intercept: f64::NAN,
        },
        _ => Calibrator::Temperature {
            temperature: f64::NAN,
        },
    };
    Champion {
        number: champion.number.saturating_add(1),
        package,
        features: champion.features.clone(),
        engine: champion.engine.clone(),
    }
}
