//! What is measured of each day: one number per property and question, with its unit and its sampling error.

use serde::{Deserialize, Serialize};

use super::property::{PropertyDay, ValueType};

/// Fewer values than this on a day say nothing about their distribution.
pub const VALUES_MIN: u64 = 10;
/// Probabilities nearer than this to 0 or 1 count as this.
const PROBABILITY_MIN: f64 = 0.001;
/// The name under which the share of events without a user id is watched.
pub const USER_ID: &str = "user_id";

/// A question about a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Statistic {
    /// How many events: ln(1 + count).
    Volume,
    /// How many events beside all others of the day: ln(1 + count) − ln(1 + others). It tells a day on which one kind of event is missing
    /// from a day on which the shop is closed.
    Proportion,
    /// The share of events that say what another one has said: the same person, minute and properties.
    Repeats,
    /// The share of events without a value of the property.
    Missing,
    /// The share of its values that are numbers.
    Numeric,
    /// The share of its numbers that are above zero.
    Positive,
    /// Where its numbers lie: the mean of ln |v| of those other than zero.
    Location,
    /// How widely they are spread: the standard deviation of ln |v|.
    Spread,
    /// The share of its values that were never seen before.
    NewValues,
    /// The share that values used to have of which there are none.
    VanishedValues,
    /// `Location` of the last week less that of the four weeks before.
    LocationShift,
    /// `Missing` of the last week less that of the four weeks before.
    MissingShift,
    /// Half the sum of the differences between the shares of values in the last week and in the four weeks before (total variation).
    MixShift,
    /// The share of a model's answers that the fallback gave, for one reason.
    Fallbacks,
    /// Where the probabilities of a version's answers lie: the mean of their log-odds.
    ScoreLevel,
    /// How widely they are spread: the standard deviation of their log-odds.
    ScoreSpread,
    /// Half the sum of the differences between the shares of the classes that a version answers with and the usual ones (total variation).
    ClassMix,
    /// `ScoreLevel` of the last week less that of the four weeks before, of one version.
    ScoreShift,
    /// How long the lists of a version are: ln(1 + the mean number of items).
    ListLength,
    /// The share of everything that a version shows that the ten items make up which it shows most.
    Concentration,
}

/// Questions whose largest surprise of a day is compared with the largest ones of past days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// How much comes.
    Volume,
    /// How much comes beside the others.
    Proportion,
    /// What comes twice.
    Repeats,
    /// What is there.
    Presence,
    /// What numbers are like.
    Numbers,
    /// Which values there are.
    Values,
    /// What changes slowly.
    Shift,
    /// What is answered, and whether by a version.
    Predictions,
}

impl Family {
    /// Those of what arrives.
    pub const OF_DATA: [Self; 7] = [
        Self::Volume,
        Self::Proportion,
        Self::Repeats,
        Self::Presence,
        Self::Numbers,
        Self::Values,
        Self::Shift,
    ];

    /// Those of what is answered.
    pub const OF_ANSWERS: [Self; 5] = [
        Self::Predictions,
        Self::Presence,
        Self::Numbers,
        Self::Values,
        Self::Shift,
    ];
}

/// Which direction of a change is a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Both,
}

impl Statistic {
    /// All of them; the place in this list is what is stored.
    pub const ALL: [Self; 20] = [
        Self::Volume,
        Self::Proportion,
        Self::Repeats,
        Self::Missing,
        Self::Numeric,
        Self::Positive,
        Self::Location,
        Self::Spread,
        Self::NewValues,
        Self::VanishedValues,
        Self::LocationShift,
        Self::MissingShift,
        Self::MixShift,
        Self::Fallbacks,
        Self::ScoreLevel,
        Self::ScoreSpread,
        Self::ClassMix,
        Self::ScoreShift,
        Self::ListLength,
        Self::Concentration,
    ];

    /// With which others it is calibrated.
    pub fn family(self) -> Family {
        match self {
            Self::Volume => Family::Volume,
            Self::Proportion => Family::Proportion,
            Self::Repeats => Family::Repeats,
            Self::Missing | Self::Numeric => Family::Presence,
            Self::Positive | Self::Location | Self::Spread => Family::Numbers,
            Self::NewValues | Self::VanishedValues => Family::Values,
            Self::LocationShift | Self::MissingShift | Self::MixShift | Self::ScoreShift => {
                Family::Shift
            }
            Self::Fallbacks | Self::ScoreLevel | Self::ScoreSpread | Self::ClassMix => {
                Family::Predictions
            }
            Self::ListLength | Self::Concentration => Family::Predictions,
        }
    }

    /// What its numbers are.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Volume => "events a day",
            Self::Proportion => "events for each other one",
            Self::Location => "typical value",
            Self::Spread => "spread of ln |value|",
            Self::LocationShift => "times as large in the last week",
            Self::MixShift => "share of values that moved",
            Self::MissingShift => "share, the last week less the four before",
            Self::ScoreLevel => "typical probability",
            Self::ScoreSpread => "spread of log-odds",
            Self::ClassMix => "share of answers that moved to other classes",
            Self::ScoreShift => "times the odds in the last week",
            Self::ListLength => "items in a list",
            Self::Concentration => "share of what is shown",
            _ => "share",
        }
    }

    pub(crate) fn direction(self) -> Direction {
        match self {
            Self::Repeats | Self::Missing | Self::NewValues | Self::VanishedValues => Direction::Up,
            Self::MixShift | Self::MissingShift => Direction::Up,
            Self::Fallbacks | Self::ClassMix => Direction::Up,
            _ => Direction::Both,
        }
    }

    /// Smaller changes than this are never told, however surprising they are.
    pub(crate) fn effect_min(self) -> f64 {
        match self {
            // by a third, or to two thirds
            Self::Volume | Self::Proportion => 0.3,
            Self::Repeats => 0.05,
            Self::Missing | Self::Numeric | Self::Positive | Self::MissingShift => 0.02,
            // by 10 %
            Self::Location | Self::LocationShift => 0.1,
            Self::Spread => 0.15,
            Self::NewValues | Self::VanishedValues | Self::MixShift => 0.03,
            Self::Fallbacks => 0.02,
            // odds by 10 %
            Self::ScoreLevel | Self::ScoreShift => 0.1,
            Self::ScoreSpread => 0.15,
            Self::ClassMix | Self::Concentration => 0.05,
            // by 10 %
            Self::ListLength => 0.1,
        }
    }

    /// As people read it: counts, typical values and factors instead of logarithms.
    pub fn shown(self, value: f64) -> f64 {
        match self {
            Self::Volume | Self::ListLength => value.exp_m1(),
            Self::Location | Self::LocationShift | Self::Proportion => value.exp(),
            Self::ScoreShift => value.exp(),
            Self::ScoreLevel => 1.0 / (1.0 + (-value).exp()),
            _ => value,
        }
    }
}

/// What a day says about one question.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measure {
    /// The number.
    pub value: f64,
    /// On how many events or values it stands.
    pub weight: f64,
    /// How far it may be off by chance: its standard error.
    pub noise: f64,
}

impl Measure {
    /// A share of `of`.
    pub(crate) fn share(count: f64, of: f64) -> Self {
        let value = (count / of).clamp(0.0, 1.0);
        Self {
            value,
            weight: of,
            noise: (value * (1.0 - value) / of).sqrt() + 1.0 / of,
        }
    }
}

/// How many events there were.
pub(crate) fn volume(count: u64) -> Measure {
    let count = count as f64;
    Measure {
        value: count.ln_1p(),
        weight: count,
        noise: volume_noise(count),
    }
}

/// How many events there were beside others; `None` where too few others came.
pub(crate) fn proportion(count: u64, others: u64) -> Option<Measure> {
    let beside = volume(others).value;
    (others >= VALUES_MIN).then(|| Measure {
        value: volume(count).value - beside,
        ..volume(count)
    })
}

/// How far ln(1 + count) may be off by chance, of counts around this one.
pub(crate) fn volume_noise(count: f64) -> f64 {
    1.0 / (count + 1.0).sqrt()
}

/// Everything about the values of a day that needs no other day to be measured, but what is missing.
pub(crate) fn of_values(property: &PropertyDay, push: &mut impl FnMut(Statistic, Measure)) {
    let present = property.present();
    if present < VALUES_MIN {
        return;
    }
    let numbers = property.types[ValueType::Number as usize];
    let numeric = Measure::share(numbers as f64, present as f64);
    push(Statistic::Numeric, numeric);
    let Some(known) = &property.numbers else {
        return;
    };
    if numbers < VALUES_MIN {
        return;
    }
    let weighted = known.sketch.weighted();
    let total: u64 = weighted.iter().map(|(_, count)| count).sum();
    let above = weighted.iter().filter(|(number, _)| *number > 0.0);
    let positive: u64 = above.map(|(_, count)| count).sum();
    push(
        Statistic::Positive,
        Measure::share(positive as f64, total as f64),
    );
    let other = weighted.iter().filter(|(number, _)| *number != 0.0);
    let logs = other.map(|(number, count)| (number.abs().ln(), *count));
    if let Some((location, spread)) = location_and_spread(logs) {
        push(Statistic::Location, location);
        push(Statistic::Spread, spread);
    }
}

/// Where probabilities lie and how widely they are spread, on the scale of log-odds; nothing where too few came.
pub(crate) fn of_probabilities(property: &PropertyDay) -> Vec<(Statistic, Measure)> {
    let Some(numbers) = &property.numbers else {
        return Vec::new();
    };
    let log_odds = numbers
        .sketch
        .weighted()
        .into_iter()
        .map(|(number, count)| {
            let probability = number.clamp(PROBABILITY_MIN, 1.0 - PROBABILITY_MIN);
            ((probability / (1.0 - probability)).ln(), count)
        });
    level_and_spread(log_odds)
}

/// The same of log-odds.
pub(crate) fn of_log_odds(property: &PropertyDay) -> Vec<(Statistic, Measure)> {
    let numbers = property.numbers.as_ref();
    let weighted = numbers.map(|numbers| numbers.sketch.weighted());
    level_and_spread(weighted.unwrap_or_default().into_iter())
}

fn level_and_spread(
    log_odds: impl Iterator<Item = (f64, u64)> + Clone,
) -> Vec<(Statistic, Measure)> {
    let measured = location_and_spread(log_odds);
    measured.map_or_else(Vec::new, |(level, spread)| {
        vec![
            (Statistic::ScoreLevel, level),
            (Statistic::ScoreSpread, spread),
        ]
    })
}

/// The mean of counts, as ln(1 + mean); `None` where too few came.
pub(crate) fn mean_count(property: &PropertyDay) -> Option<Measure> {
    let numbers = property.numbers.as_ref()?;
    let (mean, _) = location_and_spread(numbers.sketch.weighted().into_iter())?;
    // the sum is exact, the sketch within 1 %
    let of_one = 1.0 + (numbers.sum / mean.weight).max(0.0);
    Some(Measure {
        value: of_one.ln(),
        weight: mean.weight,
        noise: mean.noise / of_one + 0.01,
    })
}

/// The mean and the standard deviation of numbers that each came so often; `None` where too few did.
fn location_and_spread(
    numbers: impl Iterator<Item = (f64, u64)> + Clone,
) -> Option<(Measure, Measure)> {
    let count: u64 = numbers.clone().map(|(_, count)| count).sum();
    if count < VALUES_MIN {
        return None;
    }
    let weight = count as f64;
    let sum = |of: &dyn Fn(f64) -> f64| -> f64 {
        let numbers = numbers.clone();
        numbers
            .map(|(number, count)| of(number) * count as f64)
            .sum()
    };
    let mean = sum(&|number| number) / weight;
    let spread = (sum(&|number| (number - mean).powi(2)) / weight).sqrt();
    let location = Measure {
        value: mean,
        weight,
        noise: spread / weight.sqrt() + 0.01,
    };
    let spread = Measure {
        value: spread,
        weight,
        noise: spread / (2.0 * weight).sqrt() + 0.02,
    };
    Some((location, spread))
}
