//! What a model would have been worth, under assumptions that are said beside the number. Nobody acted on the answers of a backtest: what
//! is measured is whom or what they pointed at; what acting on it changes is assumed.

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

/// Estimates it over a whole backtest; nothing where no version has answered.
pub fn estimate(
    project_loop: &ProjectLoop,
    model: &ModelName,
    assumed: Assumed,
    currency: &str,
) -> Result<Option<Worth>> {
    let lists = project_loop.is_recommender(model);
    let mut outcomes: Vec<(f64, f64, f64)> = Vec::new();
    project_loop
        .joiner
        .visit(model, Timestamp::EPOCH, |outcome| {
            if outcome.version.is_some() {
                match &outcome.list {
                    Some(list) if lists => {
                        outcomes.push((0.0, list.taken.len() as f64, list.popular_taken as f64));
                    }
                    _ => outcomes.push((outcome.score, outcome.value, 0.0)),
                }
            }
            ControlFlow::Continue(())
        })?;
    if outcomes.is_empty() {
        return Ok(None);
    }
    let amounts = !lists
        && outcomes
            .iter()
            .any(|(_, value, _)| *value != 0.0 && *value != 1.0);
    let each = if amounts { 1.0 } else { assumed.worth };
    Ok(Some(match lists {
        true => of_lists(&outcomes, assumed.effect * each, currency),
        false => of_answers(outcomes, assumed, each, currency),
    }))
}

fn of_answers(
    mut outcomes: Vec<(f64, f64, f64)>,
    assumed: Assumed,
    each: f64,
    currency: &str,
) -> Worth {
    outcomes.sort_by(|one, other| other.0.total_cmp(&one.0));
    let acted_on = (outcomes.len() as f64 * assumed.acted_on).ceil() as usize;
    let acted_on = acted_on.clamp(1, outcomes.len());
    let all: Vec<f64> = outcomes.iter().map(|(_, value, _)| *value).collect();
    let (found, spread) = mean_and_error(&all[..acted_on]);
    let (without, spread_of_all) = mean_and_error(&all);
    let scale = acted_on as f64 * assumed.effect * each;
    let half = 1.96 * spread.hypot(spread_of_all) * scale;
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

fn of_lists(outcomes: &[(f64, f64, f64)], scale: f64, currency: &str) -> Worth {
    let count = outcomes.len() as f64;
    let differences: Vec<f64> = outcomes
        .iter()
        .map(|(_, taken, popular)| taken - popular)
        .collect();
    let (difference, spread) = mean_and_error(&differences);
    let taken = outcomes.iter().map(|(_, taken, _)| taken).sum::<f64>() / count;
    let value = difference * count * scale;
    let half = 1.96 * spread * count * scale;
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

/// A mean and its standard error.
fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / count / count).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_knows_is_worth_the_difference_and_one_that_guesses_nothing() {
        let assumed = Assumed {
            acted_on: 0.1,
            effect: 0.5,
            worth: 10.0,
        };
        let knows = (0..100).map(|row| (f64::from(row), f64::from(u8::from(row >= 80)), 0.0));
        let worth = of_answers(knows.collect(), assumed, 10.0, "GBP");
        assert_eq!((worth.answers, worth.acted_on), (100, 10));
        assert_eq!((worth.found, worth.without), (1.0, 0.2));
        assert!((worth.value - 0.8 * 10.0 * 0.5 * 10.0).abs() < 1e-9);
        let guesses = (0..100).map(|row| (f64::from(row * 37 % 100), f64::from(row % 2), 0.0));
        let worth = of_answers(guesses.collect(), assumed, 10.0, "GBP");
        assert!(
            worth.interval.0 < 0.0 && worth.interval.1 > 0.0,
            "{worth:?}"
        );
    }

    #[test]
    fn lists_are_worth_what_they_add_to_what_everybody_takes() {
        let outcomes: Vec<(f64, f64, f64)> = (0..50).map(|_| (0.0, 2.0, 1.0)).collect();
        let worth = of_lists(&outcomes, 3.0, "");
        assert_eq!((worth.found, worth.without, worth.value), (2.0, 1.0, 150.0));
    }
}
