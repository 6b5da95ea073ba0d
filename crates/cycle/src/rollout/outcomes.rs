//! Whether what a version says turns out worse than what the champion says, as far as it is known.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_core::decision::RolloutArm;
use tidemill_core::project::Guardrails;
use tidemill_core::{Decision, DecisionId, Outcome};
use tidemill_evaluate::experiment::{Arm, Sequence, compare};
use tidemill_learn::Task;
use tidemill_serve::rollout::ScorePair;
use tidemill_store::catalog::Rollout;

use super::guard::{ALPHA, Breach};
use super::place::{Place, TakesOver};
use crate::project_loop::{CycleError, ProjectLoop};

/// How many outcomes are looked at, at most.
const OUTCOMES_MAX: usize = 50_000;
/// Probabilities are at least this where their logarithm is taken.
const LEAST: f64 = 1e-6;

/// How answers turned out, as a loss: the squared error of a probability, the absolute error of an amount, the logarithmic loss of a
/// class, 1 for a list that nothing was taken of. Each person counts once, with the mean of their answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Turned {
    /// People of the version that takes over.
    pub people: u64,
    /// Its mean loss.
    pub loss: f64,
    /// The champion's mean loss.
    pub champion_loss: f64,
    /// Above this the difference of the two surely is, whenever one looks; absent while there are too few people.
    pub surely_above: Option<f64>,
}

/// How the outcomes that are known compare.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct TurnedOut {
    /// Both versions about the same questions.
    pub same_questions: Option<Turned>,
    /// Those who got the challenger's answers beside the control.
    pub arms: Option<Turned>,
}

impl ProjectLoop {
    /// How the answers since a rollout began turned out, as far as their whole horizon has passed.
    ///
    /// # Errors
    /// When a store fails.
    pub(super) fn turned_out(
        &self,
        challenger: &TakesOver,
        rollout: &Rollout,
    ) -> Result<TurnedOut, CycleError> {
        let place = self.place(&rollout.model)?;
        let until = self.clock.now() - place.horizon();
        let from = rollout.started_at;
        if until <= from {
            return Ok(TurnedOut::default());
        }
        let outcomes = self
            .joiner
            .outcomes(&rollout.model, from, until, OUTCOMES_MAX)?;
        // what would have been taken of a list that nobody saw is not known
        let pairs: HashMap<DecisionId, Arc<ScorePair>> = match challenger {
            TakesOver::Scores(version) => {
                let pairs = version.tally.pairs().into_iter();
                pairs.map(|pair| (pair.decision, pair)).collect()
            }
            TakesOver::Lists(_) => HashMap::new(),
        };
        let mut people: HashMap<&str, Sums> = HashMap::new();
        let mut arms = [(); 2].map(|()| HashMap::<&str, Sums>::new());
        for outcome in &outcomes {
            if let (Some(pair), Place::Predict(slot)) = (pairs.get(&outcome.decision), place) {
                let ours = loss(&slot.task, &pair.challenger, outcome);
                let theirs = loss(&slot.task, &pair.champion, outcome);
                people.entry(&outcome.entity).or_default().add(ours, theirs);
            }
            // those that are only in the lake by now would each take a look into its files
            let Some(decision) = self.decisions.get(outcome.decision)? else {
                continue;
            };
            let arm = match (decision.arm, decision.version) {
                (Some(RolloutArm::Challenger), Some(number)) if number == rollout.version => 1,
                (Some(RolloutArm::Control), Some(_)) => 0,
                _ => continue,
            };
            let lost = match place {
                Place::Predict(slot) => loss(&slot.task, &said(&slot.task, &decision), outcome),
                // of a list that nothing was taken of everything is lost
                Place::Recommend(_) => f64::from(u8::from(outcome.value <= 0.0)),
            };
            arms[arm].entry(&outcome.entity).or_default().add(lost, 0.0);
        }
        let [control, treated] = arms;
        Ok(TurnedOut {
            same_questions: paired(people.values()),
            arms: apart(treated.values(), control.values()),
        })
    }
}

/// What a version did not keep to, by how its answers turned out.
pub(super) fn worse(found: &TurnedOut, guardrails: &Guardrails) -> Option<Breach> {
    let of = |turned: &Option<Turned>, whose: &str| {
        let turned = (*turned)?;
        let above = turned.surely_above?;
        (above > guardrails.worse * turned.champion_loss).then(|| Breach {
            guardrail: "worse",
            reason: format!(
                "its answers turned out worse {whose}: a loss of {:.4} beside {:.4}, surely {above:.4} more, over {} people",
                turned.loss, turned.champion_loss, turned.people
            ),
        })
    };
    of(
        &found.same_questions,
        "than the champion's to the same questions",
    )
    .or_else(|| {
        of(
            &found.arms,
            "for its people than the champion's for the control",
        )
    })
}

/// The losses of one person.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    count: f64,
    ours: f64,
    theirs: f64,
}

impl Sums {
    fn add(&mut self, ours: f64, theirs: f64) {
        self.count += 1.0;
        self.ours += ours;
        self.theirs += theirs;
    }
}

fn sequence() -> Sequence {
    Sequence {
        alpha: ALPHA,
        ..Sequence::default()
    }
}

/// Both versions about the same people.
fn paired<'s>(people: impl Iterator<Item = &'s Sums>) -> Option<Turned> {
    let (mut ours, mut theirs, mut n) = (0.0, 0.0, 0.0);
    let (mut sum, mut squares) = (0.0, 0.0);
    for person in people {
        let (one, other) = (person.ours / person.count, person.theirs / person.count);
        ours += one;
        theirs += other;
        sum += one - other;
        squares += (one - other).powi(2);
        n += 1.0;
    }
    if n < 2.0 {
        return None;
    }
    let mean = sum / n;
    let deviation = ((squares - n * mean * mean) / (n - 1.0)).max(0.0).sqrt();
    let bound = mean - sequence().one_sided(n, deviation);
    Some(Turned {
        people: n as u64,
        loss: ours / n,
        champion_loss: theirs / n,
        surely_above: bound.is_finite().then_some(bound),
    })
}

/// Two groups of people.
fn apart<'s>(
    treated: impl Iterator<Item = &'s Sums>,
    control: impl Iterator<Item = &'s Sums>,
) -> Option<Turned> {
    let arm = |people: &mut dyn Iterator<Item = &'s Sums>| {
        let mut arm = Arm::default();
        people.for_each(|person| arm.add(person.ours / person.count, 0.0));
        arm
    };
    let (treated, control) = (arm(&mut { treated }), arm(&mut { control }));
    let fewest = treated.people.min(control.people);
    if fewest < 2 {
        return None;
    }
    let found = compare(&control, &treated, &sequence());
    let n = (control.people + treated.people) as f64;
    // an arm of a few people says nothing, however large the other is
    let bound = match found.interval {
        Some(_) => found.difference - sequence().one_sided(n, found.standard_error * n.sqrt()),
        None => f64::NEG_INFINITY,
    };
    Some(Turned {
        people: treated.people,
        loss: found.treatment,
        champion_loss: found.control,
        surely_above: bound.is_finite().then_some(bound),
    })
}

/// The scores of a logged answer.
fn said(task: &Task, decision: &Decision) -> Vec<f64> {
    match task {
        Task::Binary | Task::Regression => vec![decision.answer.score],
        Task::Multiclass { classes } => classes
            .iter()
            .map(|class| {
                let known = decision.answer.probabilities.iter();
                let mut of_class = known.filter(|known| known.class == *class);
                of_class.next().map_or(0.0, |known| known.probability)
            })
            .collect(),
    }
}

/// How far scores were from what happened.
fn loss(task: &Task, scores: &[f64], outcome: &Outcome) -> f64 {
    let first = scores.first().copied().unwrap_or_default();
    match task {
        Task::Binary => (first - outcome.value).powi(2),
        Task::Regression => (first - outcome.value).abs(),
        Task::Multiclass { classes } => {
            let class = classes
                .iter()
                .position(|class| Some(class) == outcome.class.as_ref());
            let probability = class.and_then(|class| scores.get(class)).copied();
            -probability.unwrap_or_default().max(LEAST).ln()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn people(losses: impl Iterator<Item = (f64, f64)>) -> Vec<Sums> {
        losses
            .map(|(ours, theirs)| Sums {
                count: 2.0,
                ours: 2.0 * ours,
                theirs: 2.0 * theirs,
            })
            .collect()
    }

    fn check(same: &[Sums], arms: Option<Turned>) -> Option<&'static str> {
        let found = TurnedOut {
            same_questions: paired(same.iter()),
            arms,
        };
        worse(&found, &Guardrails::default()).map(|breach| breach.guardrail)
    }

    #[test]
    fn what_turns_out_worse_is_found_and_what_does_not_is_not() {
        let noise = |person: i32| f64::from(person * 37 % 100) / 100.0;
        let same = |more: f64, count: i32| {
            people((0..count).map(|person| (noise(person) + more, noise(person * 3))))
        };
        assert_eq!(check(&same(0.0, 1_000), None), None);
        assert_eq!(check(&same(0.2, 1_000), None), Some("worse"));
        assert_eq!(check(&same(-0.2, 1_000), None), None, "better is no harm");
        assert_eq!(check(&same(0.2, 50), None), None, "too few people");
        let control = same(0.0, 1_000);
        let arms = |more, count| apart(same(more, count).iter(), control.iter());
        assert_eq!(check(&[], arms(0.3, 1_000)), Some("worse"));
        assert_eq!(check(&[], arms(0.0, 1_000)), None);
        assert_eq!(check(&[], arms(0.3, 20)), None, "too few people");
    }

    #[test]
    fn a_class_that_was_not_expected_costs_much() {
        let outcome = |class: &str| Outcome {
            decision: DecisionId::new(tidemill_core::Timestamp::EPOCH, [0; 10]),
            model: "m".parse().unwrap(),
            version: None,
            fallback: None,
            entity: String::new(),
            moment: tidemill_core::Timestamp::EPOCH,
            resolved_at: tidemill_core::Timestamp::EPOCH,
            score: 0.0,
            value: 1.0,
            class: Some(class.to_owned()),
            list: None,
        };
        let task = Task::Multiclass {
            classes: vec!["a".to_owned(), "b".to_owned()],
        };
        assert!((loss(&task, &[0.5, 0.5], &outcome("a")) - 2f64.ln()).abs() < 1e-12);
        assert!(loss(&task, &[1.0, 0.0], &outcome("b")) > 13.0);
        assert_eq!(loss(&Task::Regression, &[3.0], &outcome("a")), 2.0);
    }
}
