//! A question whose answer is beyond its threshold, in words.

use super::history::KnownValues;
use super::property::PropertyDay;
use super::statistic::{Family, Statistic, USER_ID};

/// The most values that are named.
const VALUES_NAMED: usize = 3;
/// Factors below this are too small to be those of a unit.
pub(crate) const FACTOR_MIN: f64 = 1.5;
/// A factor is taken for that of a unit within this (as a difference of logarithms).
const UNIT_OFF: f64 = 0.3;

/// Factors between units that people mix up, and what they may be.
const UNITS: [(f64, &str); 6] = [
    (100.0, "hundredths, such as pence instead of pounds"),
    (1_000.0, "thousandths, such as grams instead of kilograms"),
    (1_000_000.0, "millionths"),
    (60.0, "seconds instead of minutes"),
    (3_600.0, "seconds instead of hours"),
    (24.0, "hours instead of days"),
];

/// What helps to name the cause.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hint {
    /// Values that are new, with their shares, the most frequent first.
    pub(crate) new: Vec<(String, f64)>,
    /// Values that vanished, with their usual shares.
    pub(crate) vanished: Vec<(String, f64)>,
    /// The event that came instead.
    pub(crate) renamed_to: Option<String>,
}

impl Hint {
    pub(crate) fn of(
        statistic: Statistic,
        known: Option<&KnownValues>,
        values: Option<&PropertyDay>,
    ) -> Self {
        let mut hint = Self::default();
        if let (Statistic::ClassMix, Some(known), Some(values)) = (statistic, known, values) {
            hint.new = more_frequent(known, values);
            return hint;
        }
        let (Family::Values, Some(known), Some(values)) = (statistic.family(), known, values)
        else {
            return hint;
        };
        let total = (values.values.values().sum::<u64>() + values.other_values) as f64;
        let new = values.values.iter();
        let new = new.filter(|(value, _)| !known.shares.contains_key(*value));
        hint.new = new
            .map(|(value, count)| (value.clone(), *count as f64 / total))
            .collect();
        let gone = known.shares.iter();
        let gone = gone.filter(|(value, _)| !values.values.contains_key(*value));
        hint.vanished = gone.map(|(value, share)| (value.clone(), *share)).collect();
        for shares in [&mut hint.new, &mut hint.vanished] {
            shares.sort_by(|one, other| other.1.total_cmp(&one.1));
            shares.truncate(VALUES_NAMED);
        }
        hint
    }
}

/// A question whose answer is beyond its threshold.
#[derive(Debug, Clone)]
pub(crate) struct Exceeded {
    pub(crate) subject: String,
    pub(crate) property: String,
    pub(crate) statistic: Statistic,
    /// As measured, logarithms as such.
    pub(crate) before: f64,
    pub(crate) now: f64,
    /// On how many events or values it stands.
    pub(crate) weight: f64,
    pub(crate) surprise: f64,
    pub(crate) hint: Hint,
}

/// Values that are more frequent than before, with their shares, those that grew most first.
fn more_frequent(known: &KnownValues, values: &PropertyDay) -> Vec<(String, f64)> {
    let total = values.values.values().sum::<u64>().max(1) as f64;
    let usual = |value: &str| known.shares.get(value).copied().unwrap_or(0.0);
    let shares = values.values.iter();
    let shares = shares.map(|(value, count)| (value.clone(), *count as f64 / total));
    let mut shares: Vec<_> = shares.filter(|(value, now)| *now > usual(value)).collect();
    let grew = |(value, now): &(String, f64)| now - usual(value);
    shares.sort_by(|one, other| grew(other).total_cmp(&grew(one)));
    shares.truncate(VALUES_NAMED);
    shares
}

impl Exceeded {
    pub(crate) fn is_of_volume(&self) -> bool {
        matches!(self.statistic, Statistic::Volume | Statistic::Proportion)
    }

    /// How many events are usual, of a question about their number.
    pub(crate) fn usual_count(&self) -> f64 {
        match self.statistic {
            Statistic::Proportion => (self.before - self.now).exp() * (self.weight + 1.0) - 1.0,
            _ => self.before.exp_m1(),
        }
    }
}

/// Puts what has the same cause together: each with everything that it explains, in their order.
pub(crate) fn by_cause(
    mut exceeded: Vec<Exceeded>,
    explains: impl Fn(&Exceeded, &Exceeded) -> bool,
) -> Vec<Vec<Exceeded>> {
    let mut causes = Vec::new();
    while !exceeded.is_empty() {
        let first = exceeded.remove(0);
        let (mut of_cause, mut rest) = (vec![first], Vec::new());
        for other in exceeded {
            match of_cause.iter().any(|one| explains(one, &other)) {
                true => of_cause.push(other),
                false => rest.push(other),
            }
        }
        exceeded = rest;
        causes.push(of_cause);
    }
    causes
}

/// A number as people read it.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1_000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.01 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.2e}"),
    }
}

pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// How many times larger or smaller.
pub(crate) fn times(difference: f64) -> String {
    let factor = difference.abs().exp();
    let direction = if difference > 0.0 {
        "larger"
    } else {
        "smaller"
    };
    match factor {
        factor if factor < 1.95 => {
            let share = difference.exp_m1().abs();
            format!("{:.0} % {direction}", share * 100.0)
        }
        factor if factor < 9.5 => format!("about {factor:.1} times {direction}"),
        factor => format!("about {factor:.0} times {direction}"),
    }
}

/// What was noticed, in a sentence with its numbers. `of` is what was counted: events, answers.
pub(crate) fn noticed(one: &Exceeded, of: &str) -> String {
    let (before, now) = (
        one.statistic.shown(one.before),
        one.statistic.shown(one.now),
    );
    match one.statistic {
        Statistic::Volume => {
            format!("{now:.0} came where about {before:.0} are usual on such a day")
        }
        Statistic::Proportion => format!(
            "{:.0} came where about {:.0} are usual beside as many other {of}",
            one.weight,
            one.usual_count()
        ),
        Statistic::Repeats => format!(
            "{} of the {of} say what another one has said (the same person, minute and properties); {} is usual",
            percent(now),
            percent(before)
        ),
        Statistic::Missing if one.property == USER_ID => format!(
            "{} of the {of} have no user id; {} is usual",
            percent(now),
            percent(before)
        ),
        Statistic::Missing => format!(
            "it is absent or null in {} of the {of}; {} is usual",
            percent(now),
            percent(before)
        ),
        Statistic::Numeric => format!(
            "{} of its values are numbers; {} is usual",
            percent(now),
            percent(before)
        ),
        Statistic::Positive => format!(
            "{} of its numbers are above zero; {} is usual",
            percent(now),
            percent(before)
        ),
        Statistic::Location => format!(
            "its typical value is {}, where {} is usual: values are {} than before",
            number(now),
            number(before),
            times(one.now - one.before)
        ),
        Statistic::Spread => format!(
            "its numbers are spread {} where {} is usual (standard deviation of ln |value|)",
            number(now),
            number(before)
        ),
        Statistic::NewValues => format!(
            "{} of its values were never seen before ({}); {} is usual",
            percent(now),
            named(&one.hint.new),
            percent(before)
        ),
        Statistic::VanishedValues => format!(
            "values that usually make up {} of it have not come ({})",
            percent(now),
            named(&one.hint.vanished)
        ),
        Statistic::LocationShift => format!(
            "values of the last week are {} than those of the four weeks before",
            times(one.now)
        ),
        Statistic::MissingShift => format!(
            "in the last week it is absent or null in {} more of the {of} than in the four weeks before",
            percent(now)
        ),
        Statistic::Fallbacks => format!(
            "{} of the {of} are the fallback's; {} is usual",
            percent(now),
            percent(before)
        ),
        Statistic::ScoreLevel => {
            format!("its typical probability is {now:.3}, where {before:.3} is usual")
        }
        Statistic::ScoreSpread => format!(
            "its probabilities are spread {now:.2} where {before:.2} is usual (standard deviation of log-odds)"
        ),
        Statistic::ClassMix => format!(
            "{} of the {of} name other classes than before (more often {}); {} is usual",
            percent(now),
            named(&one.hint.new),
            percent(before)
        ),
        Statistic::ScoreShift => format!(
            "the odds of its probabilities were {} in the last week than in the four weeks before",
            times(one.now)
        ),
        Statistic::ListLength => {
            format!("its lists have {now:.1} items on average, where {before:.1} is usual")
        }
        Statistic::Concentration => format!(
            "the ten items that it shows most are {} of all that it shows; {} is usual",
            percent(now),
            percent(before)
        ),
        Statistic::MixShift => format!(
            "{} of its values of the last week are others than in the four weeks before",
            percent(now)
        ),
    }
}

fn named(values: &[(String, f64)]) -> String {
    let named = values
        .iter()
        .map(|(value, share)| format!("'{value}' {}", percent(*share)));
    let named: Vec<String> = named.collect();
    if named.is_empty() {
        return "many different ones".to_owned();
    }
    named.join(", ")
}

/// Which unit may have changed, by how many times larger numbers have become (as a logarithm).
pub(crate) fn unit(difference: f64) -> String {
    let factor = difference.abs();
    let known = UNITS
        .iter()
        .find(|(unit, _)| (unit.ln() - factor).abs() < UNIT_OFF);
    match known {
        Some((_, words)) if difference > 0.0 => format!("a changed unit, {words}?"),
        Some(_) => "a changed unit, or values divided once too often?".to_owned(),
        None if factor > FACTOR_MIN.ln() => "a changed unit or currency?".to_owned(),
        None => "other customers or items than before, or a changed meaning?".to_owned(),
    }
}

/// Whether a value may have been renamed.
pub(crate) fn renamed(lead: &Exceeded, vanished: Option<&Exceeded>) -> String {
    let gone = vanished.unwrap_or(lead).hint.vanished.first();
    match (lead.hint.new.first(), gone) {
        (Some((new, share)), Some((old, usual)))
            if *share > usual * 0.5 && *share < usual * 2.0 =>
        {
            format!("was '{old}' renamed to '{new}'?")
        }
        (Some((new, _)), _) => {
            format!("a new value such as '{new}', or others written differently?")
        }
        (None, Some((old, _))) => format!("is '{old}' no longer sent?"),
        (None, None) => "are values written differently?".to_owned(),
    }
}
