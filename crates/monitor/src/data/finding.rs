//! What differs, by its cause: the most telling consequence of one fault first, the others beside it.

use serde::{Deserialize, Serialize};

use super::history::KnownValues;
use super::sketch::PropertyDay;
use super::statistic::{Family, Statistic, USER_ID};
use crate::alerts::AlertKind;

/// An event of which less than this share of what is usual has come has stopped.
const STOPPED_SHARE: f64 = 0.02;
/// Numbers that have become larger by the same factor, within this share of its logarithm, have one cause.
const SAME_FACTOR: f64 = 0.15;
/// Factors below this are too small to have a cause in common.
const FACTOR_MIN: f64 = 1.5;
/// A factor is taken for that of a unit within this (as a difference of logarithms).
const UNIT_OFF: f64 = 0.3;
/// The most consequences that are named.
const ALSO_MAX: usize = 10;
/// The most values that are named.
const VALUES_NAMED: usize = 3;
/// The most findings that are kept.
pub const FINDINGS_MAX: usize = 100;

/// Factors between units that people mix up, and what they may be.
const UNITS: [(f64, &str); 6] = [
    (100.0, "hundredths, such as pence instead of pounds"),
    (1_000.0, "thousandths, such as grams instead of kilograms"),
    (1_000_000.0, "millionths"),
    (60.0, "seconds instead of minutes"),
    (3_600.0, "seconds instead of hours"),
    (24.0, "hours instead of days"),
];

/// Something about what arrives that is not as before, or not as the project file says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataFinding {
    /// What kind of fault.
    pub kind: AlertKind,
    /// The event.
    pub event: String,
    /// The property; empty for the event itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub property: String,
    /// What was measured.
    pub statistic: Statistic,
    /// What its numbers are.
    pub unit: String,
    /// What was usual, or the bound that the project file sets.
    pub before: f64,
    /// What it is now.
    pub now: f64,
    /// In units of the threshold, which is what past days exceed as often as false alarms are allowed.
    pub surprise: f64,
    /// The day on which it was measured last, in days since 1970 (UTC).
    pub day: i64,
    /// Whether that day is not over yet.
    #[serde(default)]
    pub running: bool,
    /// What was noticed, in a sentence with its numbers.
    pub noticed: String,
    /// What the cause may be, in words; empty where nobody can tell.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub likely: String,
    /// What follows from the same cause.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
}

impl DataFinding {
    /// `Order Completed` or `Order Completed.total`.
    pub fn subject(&self) -> String {
        subject(&self.event, &self.property)
    }

    /// Whether the project file says that it is wrong.
    pub(super) fn is_declared(&self) -> bool {
        self.kind == AlertKind::ExpectationBroken
    }
}

fn subject(event: &str, property: &str) -> String {
    if property.is_empty() {
        event.to_owned()
    } else {
        format!("{event}.{property}")
    }
}

/// What helps to name the cause.
#[derive(Debug, Clone, Default)]
pub(super) struct Hint {
    /// Values that are new, with their shares, the most frequent first.
    new: Vec<(String, f64)>,
    /// Values that vanished, with their usual shares.
    vanished: Vec<(String, f64)>,
    /// The event that came instead.
    pub(super) renamed_to: Option<String>,
}

impl Hint {
    pub(super) fn of(
        statistic: Statistic,
        known: Option<&KnownValues>,
        values: Option<&PropertyDay>,
    ) -> Self {
        let mut hint = Self::default();
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
pub(super) struct Exceeded {
    pub(super) event: String,
    pub(super) property: String,
    pub(super) statistic: Statistic,
    /// As measured, logarithms as such.
    pub(super) before: f64,
    pub(super) now: f64,
    /// On how many events or values it stands.
    pub(super) weight: f64,
    pub(super) surprise: f64,
    pub(super) hint: Hint,
}

impl Exceeded {
    fn kind(&self) -> AlertKind {
        match self.statistic {
            _ if self.has_stopped() => AlertKind::EventStopped,
            Statistic::Volume | Statistic::Proportion => AlertKind::VolumeChanged,
            Statistic::Repeats => AlertKind::EventDoubled,
            Statistic::Missing => AlertKind::PropertyMissing,
            _ if self.statistic.family() == Family::Shift => AlertKind::DataDrifted,
            _ => AlertKind::ValuesChanged,
        }
    }

    pub(super) fn is_of_volume(&self) -> bool {
        matches!(self.statistic, Statistic::Volume | Statistic::Proportion)
    }

    /// How many events are usual, of a question about their number.
    pub(super) fn usual_count(&self) -> f64 {
        match self.statistic {
            Statistic::Proportion => (self.before - self.now).exp() * (self.weight + 1.0) - 1.0,
            _ => self.before.exp_m1(),
        }
    }

    fn has_stopped(&self) -> bool {
        self.is_of_volume() && self.weight <= STOPPED_SHARE * self.usual_count()
    }

    /// How telling it is: what explains more comes first.
    fn rank(&self) -> u8 {
        match self.statistic {
            _ if self.has_stopped() => 0,
            Statistic::Repeats => 1,
            Statistic::Missing => 2,
            Statistic::Numeric => 3,
            Statistic::Location => 4,
            Statistic::NewValues => 5,
            Statistic::VanishedValues => 6,
            Statistic::Positive => 7,
            Statistic::Spread => 8,
            Statistic::Volume => 9,
            Statistic::Proportion => 10,
            Statistic::MissingShift => 11,
            Statistic::LocationShift => 12,
            Statistic::MixShift => 13,
        }
    }

    /// Whether another one follows from this one, which is more telling.
    fn explains(&self, other: &Self) -> bool {
        let same_event = self.event == other.event;
        // where there is more or less of one, there is less or more of all others beside it
        if other.statistic == Statistic::Proportion && (self.is_of_volume() || self.rank() <= 1) {
            return true;
        }
        if self.kind() == AlertKind::EventStopped {
            return same_event || other.kind() == AlertKind::EventStopped;
        }
        if self.statistic == Statistic::Repeats {
            return same_event && (other.is_of_volume() || other.statistic == Statistic::Repeats);
        }
        if same_event && self.property == other.property {
            return true;
        }
        if self.statistic != other.statistic {
            return false;
        }
        match self.statistic {
            Statistic::Missing => same_event || self.property == other.property,
            Statistic::Location => {
                let (one, two) = (self.now - self.before, other.now - other.before);
                let large = one.abs() > FACTOR_MIN.ln();
                let same = (one - two).abs() < SAME_FACTOR * one.abs().max(1.0);
                self.property == other.property || (large && same)
            }
            Statistic::Volume => (self.now - self.before) * (other.now - other.before) > 0.0,
            _ => self.property == other.property && !self.property.is_empty(),
        }
    }
}

/// Findings by cause, the most surprising first. What was told before under a name keeps it.
pub(super) fn tell(
    mut exceeded: Vec<Exceeded>,
    before: &[DataFinding],
    day: i64,
) -> Vec<DataFinding> {
    let known: Vec<String> = before
        .iter()
        .map(|finding| format!("{:?} {}", finding.kind, finding.subject()))
        .collect();
    let was_told = |one: &Exceeded| {
        known.contains(&format!(
            "{:?} {}",
            one.kind(),
            subject(&one.event, &one.property)
        ))
    };
    exceeded.sort_by(|one, other| {
        one.rank()
            .cmp(&other.rank())
            .then_with(|| was_told(other).cmp(&was_told(one)))
            .then_with(|| other.surprise.total_cmp(&one.surprise))
    });
    let mut findings = Vec::new();
    while !exceeded.is_empty() {
        let first = exceeded.remove(0);
        let (mut of_cause, mut rest) = (vec![first], Vec::new());
        for other in exceeded {
            match of_cause.iter().any(|one| one.explains(&other)) {
                true => of_cause.push(other),
                false => rest.push(other),
            }
        }
        exceeded = rest;
        findings.push(finding(&of_cause, day));
    }
    findings.sort_by(|one: &DataFinding, other| other.surprise.total_cmp(&one.surprise));
    findings.truncate(FINDINGS_MAX);
    findings
}

fn finding(of_cause: &[Exceeded], day: i64) -> DataFinding {
    let lead = &of_cause[0];
    let others = &of_cause[1..];
    let also = others
        .iter()
        .filter(|other| {
            let told_with_lead = (other.event == lead.event) && other.property == lead.property;
            !(told_with_lead && other.statistic == Statistic::VanishedValues)
        })
        .take(ALSO_MAX)
        .map(|other| {
            format!(
                "{}: {}",
                subject(&other.event, &other.property),
                noticed(other)
            )
        });
    let vanished = others.iter().find(|other| {
        other.statistic == Statistic::VanishedValues && other.property == lead.property
    });
    let surprise = of_cause.iter().map(|one| one.surprise).fold(0.0, f64::max);
    DataFinding {
        kind: lead.kind(),
        event: lead.event.clone(),
        property: lead.property.clone(),
        statistic: lead.statistic,
        unit: lead.statistic.unit().to_owned(),
        before: lead.statistic.shown(lead.before),
        now: lead.statistic.shown(lead.now),
        surprise,
        day,
        running: false,
        noticed: noticed(lead),
        likely: likely(lead, vanished, others),
        also: also.collect(),
    }
}

/// A number as people read it.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1_000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.01 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.2e}"),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// How many times larger or smaller.
fn times(difference: f64) -> String {
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

fn noticed(one: &Exceeded) -> String {
    let (before, now) = (
        one.statistic.shown(one.before),
        one.statistic.shown(one.now),
    );
    match one.statistic {
        Statistic::Volume => {
            format!("{now:.0} came where about {before:.0} are usual on such a day")
        }
        Statistic::Proportion => format!(
            "{:.0} came where about {:.0} are usual beside as many other events",
            one.weight,
            one.usual_count()
        ),
        Statistic::Repeats => format!(
            "{} of the events say what another one has said (the same person, minute and properties); {} is usual",
            percent(now),
            percent(before)
        ),
        Statistic::Missing if one.property == USER_ID => format!(
            "{} of the events have no user id; {} is usual",
            percent(now),
            percent(before)
        ),
        Statistic::Missing => format!(
            "it is absent or null in {} of the events; {} is usual",
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
            "in the last week it is absent or null in {} more of the events than in the four weeks before",
            percent(now)
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

/// What may have happened, as a question.
fn likely(lead: &Exceeded, vanished: Option<&Exceeded>, others: &[Exceeded]) -> String {
    let difference = lead.now - lead.before;
    let words = match lead.statistic {
        Statistic::Volume | Statistic::Proportion => match &lead.hint.renamed_to {
            Some(name) => {
                return format!(
                    "'{name}' comes for the first time, about as often: was it renamed?"
                );
            }
            None if lead.has_stopped() && others.iter().any(|other| other.event != lead.event) => {
                "does anything arrive from the product, or is it closed?"
            }
            None if lead.has_stopped() => "does the product still send it, under this name?",
            None if difference < 0.0 => "has a part of the product stopped sending it?",
            None => "more traffic, or something that sends it again and again?",
        },
        Statistic::Repeats => {
            "is it sent twice, by two listeners or a retry with a new message id?"
        }
        Statistic::Missing if lead.property == USER_ID => "are people no longer recognised?",
        Statistic::Missing => "is it no longer filled, or called something else?",
        Statistic::Numeric if difference < 0.0 => "are numbers sent as texts?",
        Statistic::Numeric => "are texts sent as numbers?",
        Statistic::Positive => "zeros in place of values, or a changed sign?",
        Statistic::Location => return unit(difference),
        Statistic::Spread => "are there values in two units, or of two kinds?",
        Statistic::NewValues | Statistic::VanishedValues => {
            return renamed(lead, vanished);
        }
        Statistic::LocationShift => {
            "have prices or customers changed, or does a source fail little by little?"
        }
        Statistic::MissingShift => {
            "does a source fail little by little, or does a new version spread that no longer fills it?"
        }
        Statistic::MixShift => {
            "have customers changed, or is a value replaced by another little by little?"
        }
    };
    words.to_owned()
}

fn unit(difference: f64) -> String {
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

fn renamed(lead: &Exceeded, vanished: Option<&Exceeded>) -> String {
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
