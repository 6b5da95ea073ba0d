//! What differs, by its cause: the most telling consequence of one fault first, the others beside it.

use serde::{Deserialize, Serialize};

use crate::alerts::AlertKind;
use crate::days::{
    Exceeded, FACTOR_MIN, Family, Statistic, USER_ID, by_cause, noticed, renamed, unit,
};

/// An event of which less than this share of what is usual has come has stopped.
const STOPPED_SHARE: f64 = 0.02;
/// Numbers that have become larger by the same factor, within this share of its logarithm, have one cause.
const SAME_FACTOR: f64 = 0.15;
/// The most consequences that are named.
const ALSO_MAX: usize = 10;
/// What is counted.
const OF: &str = "events";
/// The most findings that are kept.
pub const FINDINGS_MAX: usize = 100;

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
            _ => 14,
        }
    }

    /// Whether another one follows from this one, which is more telling.
    fn explains(&self, other: &Self) -> bool {
        let same_event = self.subject == other.subject;
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
        let (one, two) = (self.now - self.before, other.now - other.before);
        let large = |difference: f64| difference.abs() > FACTOR_MIN.ln();
        if (self.statistic, other.statistic) == (Statistic::Location, Statistic::LocationShift) {
            // a unit that changes today is in the week of what is rarer as well
            return large(one) && large(two) && one * two > 0.0;
        }
        if self.statistic != other.statistic {
            return false;
        }
        match self.statistic {
            Statistic::Missing => same_event || self.property == other.property,
            Statistic::Location => {
                let same = (one - two).abs() < SAME_FACTOR * one.abs().max(1.0);
                self.property == other.property || (large(one) && same)
            }
            Statistic::Volume => one * two > 0.0,
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
            subject(&one.subject, &one.property)
        ))
    };
    exceeded.sort_by(|one, other| {
        one.rank()
            .cmp(&other.rank())
            .then_with(|| was_told(other).cmp(&was_told(one)))
            .then_with(|| other.surprise.total_cmp(&one.surprise))
    });
    let causes = by_cause(exceeded, Exceeded::explains);
    let of_causes = causes.iter().map(|of_cause| finding(of_cause, day));
    let mut findings: Vec<DataFinding> = of_causes.collect();
    findings.sort_by(|one, other| other.surprise.total_cmp(&one.surprise));
    findings.truncate(FINDINGS_MAX);
    findings
}

fn finding(of_cause: &[Exceeded], day: i64) -> DataFinding {
    let lead = &of_cause[0];
    let others = &of_cause[1..];
    let also = others
        .iter()
        .filter(|other| {
            let told_with_lead = (other.subject == lead.subject) && other.property == lead.property;
            !(told_with_lead && other.statistic == Statistic::VanishedValues)
        })
        .take(ALSO_MAX)
        .map(|other| {
            format!(
                "{}: {}",
                subject(&other.subject, &other.property),
                noticed(other, OF)
            )
        });
    let vanished = others.iter().find(|other| {
        other.statistic == Statistic::VanishedValues && other.property == lead.property
    });
    let surprise = of_cause.iter().map(|one| one.surprise).fold(0.0, f64::max);
    DataFinding {
        kind: lead.kind(),
        event: lead.subject.clone(),
        property: lead.property.clone(),
        statistic: lead.statistic,
        unit: lead.statistic.unit().to_owned(),
        before: lead.statistic.shown(lead.before),
        now: lead.statistic.shown(lead.now),
        surprise,
        day,
        running: false,
        noticed: noticed(lead, OF),
        likely: likely(lead, vanished, others),
        also: also.collect(),
    }
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
            None if lead.has_stopped()
                && others.iter().any(|other| other.subject != lead.subject) =>
            {
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
        // of answers
        _ => "",
    };
    words.to_owned()
}
