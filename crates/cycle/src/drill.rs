//! The drill: whether a bad version would be sent back, and how fast. It is played on a slot of its own with the champion and a
//! planted version, by the code that answers and judges in earnest; nobody gets its answers and nothing is logged.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_core::clock::Stopwatch;
use tidemill_core::event::PersonKey;
use tidemill_core::{Decision, ModelName, Span, Timestamp};
use tidemill_learn::calibration::Calibrator;
use tidemill_serve::registry::Slot;
use tidemill_serve::{Challenger, Champion};
use tidemill_store::lake::Sequenced;

use crate::project_loop::{CycleError, ProjectLoop};
use crate::promote::SYSTEM;
use crate::rollout::guard::breach_of_scores;

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
    /// Answers that failed for the caller; the champion should have given all of them.
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
        if self.is_recommender(model) {
            let why = "models that recommend have no rollout: their versions answer at once";
            return Err(CycleError::NotAllowed(why.to_owned()));
        }
        let slot = self.slot(model)?.apart();
        let Some(champion) = slot.champion() else {
            let why = format!("no version of {model} answers that a bad one could be sent back to");
            return Err(CycleError::NotAllowed(why));
        };
        let people = asked(&self.newest_decisions()?, model);
        self.drill_with(&slot, &champion, &people, actor).await
    }

    /// Drills with the people whom a model was asked about.
    async fn drill_with(
        &self,
        slot: &Slot,
        champion: &Arc<Champion>,
        people: &[PersonKey],
        actor: &str,
    ) -> Result<Drill, CycleError> {
        let model = &slot.model.name;
        if people.is_empty() {
            let why = format!(
                "ask {model} about somebody first: a drill is played with people whom it was asked about"
            );
            return Err(CycleError::NotAllowed(why));
        }
        let drill = self.play(slot, champion, people)?;
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
        for slot in self.registry.slots() {
            let every = slot.model.rollout.as_ref().and_then(|rules| rules.drill);
            let every = every.unwrap_or(DRILL_EVERY);
            let Some(champion) = slot.champion() else {
                continue;
            };
            let last = self.last_drill(&slot.model.name)?;
            if last.is_none_or(|last| self.clock.now().since(last.at) >= every) {
                due.push((slot, champion));
            }
        }
        if due.is_empty() {
            return Ok(());
        }
        let newest = self.newest_decisions()?;
        for (slot, champion) in due {
            let people = asked(&newest, &slot.model.name);
            if !people.is_empty() {
                self.drill_with(&slot.apart(), &champion, &people, SYSTEM)
                    .await?;
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

    fn play(
        &self,
        slot: &Slot,
        champion: &Arc<Champion>,
        people: &[PersonKey],
    ) -> Result<Drill, CycleError> {
        let rules = slot.model.rollout.clone().unwrap_or_default();
        let columns = &champion.package.columns;
        let read: Vec<&str> = columns.iter().map(|column| &*column.name).collect();
        let planted = Challenger::new(
            &slot.model.name,
            Arc::new(planted(champion)),
            vec![1.0; columns.len()],
            1.0,
            &rules,
            Arc::new(|| {}),
        );
        let planted = Arc::new(planted);
        slot.set_challenger(Some(planted.clone()));
        let mut drill = Drill {
            model: slot.model.name.clone(),
            at: self.clock.now(),
            champion: champion.number,
            passed: false,
            questions: 0,
            micros: 0,
            failed_answers: 0,
            reason: None,
        };
        let stopwatch = Stopwatch::start();
        for person in people.iter().cycle().take(QUESTIONS_MAX) {
            let answer = self.answerer.rehearse(slot, person);
            let is_right = answer.is_ok_and(|answer| answer.version == Some(champion.number));
            drill.failed_answers += usize::from(!is_right);
            drill.questions += 1;
            let found = planted.tally.snapshot();
            let breach = breach_of_scores(&planted, &found, &rules.guardrails, &read);
            if let Some(breach) = breach {
                slot.set_challenger(None);
                drill.reason = Some(breach.reason);
                break;
            }
        }
        let again = people
            .first()
            .map(|person| self.answerer.rehearse(slot, person));
        drill.micros = stopwatch.micros();
        let is_again = matches!(again, Some(Ok(answer)) if answer.version == Some(champion.number) && answer.arm.is_none());
        drill.passed = drill.reason.is_some() && drill.failed_answers == 0 && is_again;
        Ok(drill)
    }
}

fn asked(newest: &[Sequenced<Decision>], model: &ModelName) -> Vec<PersonKey> {
    let answered = newest.iter().map(|decision| &decision.value);
    let answered = answered.filter(|one| one.model == *model && one.version.is_some());
    answered
        .filter_map(|decision| PersonKey::written(&decision.entity))
        .collect()
}

/// The champion with a number of its own, as a version that gives no numbers.
fn planted(champion: &Champion) -> Champion {
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
