//! What a model would have been worth, under assumptions that are said beside the number. Nobody acted on the answers of a backtest: what
//! is measured is whom or what they pointed at; what acting on it changes is assumed.

use std::collections::HashMap;
use std::ops::ControlFlow;

use anyhow::Result;
use serde::Serialize;
use tidemill_core::{ModelName, Timestamp};
use tidemill_cycle::ProjectLoop;

/// What is assumed.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Assumed {
    /// The share of the answers that somebody acts on: those with the highest scores.
    pub acted_on: f64,
    /// The share of the right ones among them that acting changes; for amounts, the share by which it changes them.
    pub effect: f64,
    /// What one changed case is worth; amounts are worth themselves.
    pub worth: f64,
}

/// What a model would have been worth.
#[derive(Debug, Clone, Serialize)]
pub struct Worth {
    /// Answers of versions whose outcome is known.
    pub answers: usize,
    /// Of these, those that are acted on; of lists, all.
    pub acted_on: usize,
    /// What comes of one that is acted on, on average: the share that is right, an amount, or items taken of a list.
    pub found: f64,
    /// What comes of as many that are chosen without the model: at random, or of a list what everybody takes.
    pub without: f64,
    /// The value of the difference.
    pub value: f64,
    /// Its 95 % interval, as far as chance in the outcomes goes: the assumptions are taken for granted.
    pub interval: (f64, f64),
    /// In words.
    pub sentence: String,
}

/// An answer of a version whose outcome is known.
struct Answered {
    person: String,
    score: f64,
    /// What came: 1 or 0, an amount, or how many items of a list were taken.
    value: f64,
    /// How many would have been taken of what everybody takes.
    popular: f64,
}

/// Estimates it over a whole backtest; nothing where no version has answered.
pub fn estimate(
    project_loop: &ProjectLoop,
    model: &ModelName,
    assumed: Assumed,
    currency: &str,
) -> Result<Option<Worth>> {
    let lists = project_loop.is_recommender(model);
    let mut outcomes: Vec<Answered> = Vec::new();
    project_loop
        .joiner
        .visit(model, Timestamp::EPOCH, |outcome| {
            if outcome.version.is_some() {
                let list = outcome.list.as_ref().filter(|_| lists);
                let value = list.map_or(outcome.value, |list| list.taken.len() as f64);
                outcomes.push(Answered {
                    person: outcome.entity.clone(),
                    score: outcome.score,
                    value,
                    popular: list.map_or(0.0, |list| list.popular_taken as f64),
                });
            }
            ControlFlow::Continue(())
        })?;
    if outcomes.is_empty() {
        return Ok(None);
    }
    let is_amount = |value: f64| value != 0.0 && value != 1.0;
    let amounts = !lists && outcomes.iter().any(|one| is_amount(one.value));
    let each = if amounts { 1.0 } else { assumed.worth };
    Ok(Some(match lists {
        true => of_lists(&outcomes, assumed.effect * each, currency),
        false => of_answers(outcomes, assumed, each, currency),
    }))
}

fn of_answers(mut outcomes: Vec<Answered>, assumed: Assumed, each: f64, currency: &str) -> Worth {
    outcomes.sort_by(|one, other| other.score.total_cmp(&one.score));
    let count = outcomes.len() as f64;
    let acted_on = (count * assumed.acted_on).ceil() as usize;
    let acted_on = acted_on.clamp(1, outcomes.len());
    let found = mean(outcomes[..acted_on].iter().map(|one| one.value));
    let without = mean(outcomes.iter().map(|one| one.value));
    let moves = outcomes.iter().enumerate().map(|(rank, one)| {
        let acted = match rank < acted_on {
            true => (one.value - found) / acted_on as f64,
            false => 0.0,
        };
        (one.person.as_str(), acted - (one.value - without) / count)
    });
    let scale = acted_on as f64 * assumed.effect * each;
    let half = 1.96 * error_by_person(moves) * scale;
    let value = (found - without) * scale;
    Worth {
        answers: outcomes.len(),
        acted_on,
        found,
        without,
        value,
        interval: (value - half, value + half),
        sentence: format!(
            "acting on the {acted_on} answers with the highest scores instead of as many at random would have been worth {value:.0} {currency} \
             ({:.0} to {:.0})",
            value - half,
            value + half
        ),
    }
}

fn of_lists(outcomes: &[Answered], scale: f64, currency: &str) -> Worth {
    let count = outcomes.len() as f64;
    let difference = mean(outcomes.iter().map(|one| one.value - one.popular));
    let moves = outcomes.iter().map(|one| {
        let off = one.value - one.popular - difference;
        (one.person.as_str(), off / count)
    });
    let taken = mean(outcomes.iter().map(|one| one.value));
    let value = difference * count * scale;
    let half = 1.96 * error_by_person(moves) * count * scale;
    Worth {
        answers: outcomes.len(),
        acted_on: outcomes.len(),
        found: taken,
        without: taken - difference,
        value,
        interval: (value - half, value + half),
        sentence: format!(
            "showing these {} lists instead of what everybody takes would have been worth {value:.0} {currency} ({:.0} to {:.0})",
            outcomes.len(),
            value - half,
            value + half
        ),
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}

/// The standard error of an estimate whose answers each move it by so much: what one person does again and again counts as one (Liang and
/// Zeger, Biometrika 1986). Infinite for one person, of whom nothing can be told from chance.
fn error_by_person<'p>(moves: impl Iterator<Item = (&'p str, f64)>) -> f64 {
    let mut persons: HashMap<&str, f64> = HashMap::new();
    for (person, by) in moves {
        *persons.entry(person).or_default() += by;
    }
    let count = persons.len() as f64;
    let squares: f64 = persons.values().map(|by| by * by).sum();
    match persons.len() {
        1 => f64::INFINITY,
        _ => (squares * count / (count - 1.0)).sqrt(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(person: u32, score: u32, value: f64) -> Answered {
        Answered {
            person: format!("u{person}"),
            score: f64::from(score),
            value,
            popular: 1.0,
        }
    }

    #[test]
    fn a_model_that_knows_is_worth_the_difference_and_one_that_guesses_nothing() {
        let assumed = Assumed {
            acted_on: 0.1,
            effect: 0.5,
            worth: 10.0,
        };
        let bought = |truth: bool| f64::from(u8::from(truth));
        let knows = (0..100).map(|row| answered(row, row, bought(row >= 80)));
        let worth = of_answers(knows.collect(), assumed, 10.0, "GBP");
        assert_eq!((worth.answers, worth.acted_on), (100, 10));
        assert_eq!((worth.found, worth.without), (1.0, 0.2));
        assert!((worth.value - 0.8 * 10.0 * 0.5 * 10.0).abs() < 1e-9);
        let guesses = (0..100).map(|row| answered(row, row * 37 % 100, bought(row % 2 == 1)));
        let worth = of_answers(guesses.collect(), assumed, 10.0, "GBP");
        assert!(
            worth.interval.0 < 0.0 && worth.interval.1 > 0.0,
            "{worth:?}"
        );
    }

    #[test]
    fn what_one_person_does_again_and_again_counts_once() {
        let people: Vec<String> = (0..100).map(|person| format!("u{person}")).collect();
        let moves = |people_in_all: usize| {
            let by = |row: usize| {
                if (row % people_in_all).is_multiple_of(2) {
                    0.01
                } else {
                    -0.01
                }
            };
            let moves = (0..100).map(|row| (people[row % people_in_all].as_str(), by(row)));
            error_by_person(moves)
        };
        let (of_a_hundred, of_ten) = (moves(100), moves(10));
        assert!((of_a_hundred - 0.1).abs() < 0.001, "{of_a_hundred}");
        assert!(
            (of_ten / of_a_hundred - 10_f64.sqrt()).abs() < 0.2,
            "{of_ten}"
        );
        assert_eq!(moves(1), f64::INFINITY);
    }

    #[test]
    fn lists_are_worth_what_they_add_to_what_everybody_takes() {
        let outcomes: Vec<Answered> = (0..50).map(|row| answered(row, 0, 2.0)).collect();
        let worth = of_lists(&outcomes, 3.0, "");
        assert_eq!((worth.found, worth.without, worth.value), (2.0, 1.0, 150.0));
    }
}
