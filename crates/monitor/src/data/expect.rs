//! What the project file says about events: it wins over what is learnt.

use tidemill_core::project::Expectations;

use super::finding::DataFinding;
use super::sketch::EventDay;
use crate::alerts::AlertKind;
use crate::days::{PropertyDay, Statistic, VALUES_MIN};

/// Whether the project file answers this question.
pub(super) fn says(expect: &Expectations, property: &str, statistic: Statistic) -> bool {
    match statistic {
        Statistic::Volume | Statistic::Proportion => expect.per_day.is_some(),
        Statistic::Missing | Statistic::MissingShift => expect.null_max.contains_key(property),
        Statistic::Location | Statistic::LocationShift => expect.median.contains_key(property),
        _ => false,
    }
}

/// What of a whole day is not as the project file expects it.
pub(super) fn check(
    event: &str,
    sketch: &EventDay,
    expect: Option<&Expectations>,
    day: i64,
) -> Vec<DataFinding> {
    let mut broken = Vec::new();
    let Some(expect) = expect else {
        return broken;
    };
    let mut push =
        |property: &str, statistic, (before, now), (expected, found): (String, String)| {
            broken.push(DataFinding {
                kind: AlertKind::ExpectationBroken,
                event: event.to_owned(),
                property: property.to_owned(),
                statistic,
                unit: match statistic {
                    Statistic::Location => "median".to_owned(),
                    other => other.unit().to_owned(),
                },
                before,
                now,
                surprise: f64::INFINITY.min(f64::MAX),
                day,
                running: false,
                noticed: format!("{found}; the project file expects {expected}"),
                likely: String::new(),
                also: Vec::new(),
            });
        };
    if let Some((from, to)) = expect.per_day
        && !(from..=to).contains(&sketch.count)
    {
        let bound = if sketch.count < from { from } else { to };
        let found = format!("{} came", sketch.count);
        let words = (format!("{from} to {to} a day"), found);
        push(
            "",
            Statistic::Volume,
            (bound as f64, sketch.count as f64),
            words,
        );
    }
    if sketch.count < VALUES_MIN {
        return broken;
    }
    for (property, max) in &expect.null_max {
        let present = sketch
            .properties
            .get(property)
            .map_or(0, PropertyDay::present);
        let share = sketch.count.saturating_sub(present) as f64 / sketch.count as f64;
        if share > *max {
            let words = (
                format!("{:.2} % at most", max * 100.0),
                format!(
                    "{property} is absent or null in {:.2} % of the events",
                    share * 100.0
                ),
            );
            push(property, Statistic::Missing, (*max, share), words);
        }
    }
    for (property, (from, to)) in &expect.median {
        let numbers = sketch
            .properties
            .get(property)
            .and_then(|property| property.numbers.as_ref());
        let Some(median) = numbers.map(|numbers| numbers.quantile(0.5)) else {
            continue;
        };
        if !(*from..=*to).contains(&median) {
            let bound = if median < *from { *from } else { *to };
            let words = (
                format!("{from} to {to}"),
                format!("the median of {property} is {median:.4}"),
            );
            push(property, Statistic::Location, (bound, median), words);
        }
    }
    broken
}
