//! What features are called in reasons that people read.

use tidemill_core::Span;
use tidemill_core::feature::Unit;
use tidemill_core::project::{Aggregate, EntityKind, FeatureDefinition, Operation, PairedWith};

/// `orders in the last 30 days`; for times `last Order Completed`.
pub(super) fn aggregate(
    definition: &FeatureDefinition,
    aggregate: &Aggregate,
    window: Option<Span>,
    rank: usize,
) -> (String, Unit) {
    let mut label = definition
        .label
        .clone()
        .unwrap_or_else(|| subject(&definition.name, aggregate));
    if rank > 0 {
        label = format!("{label} (number {})", rank + 1);
    }
    let unit = match aggregate.operation {
        Operation::SinceFirst | Operation::SinceLast => Unit::SecondsAgo,
        _ => Unit::Plain,
    };
    (whose_and_when(label, &definition.entity, window), unit)
}

/// `spent per order in the last 30 days`.
pub(super) fn ratio(definition: &FeatureDefinition, window: Option<Span>) -> String {
    whose_and_when(expression(definition), &definition.entity, window)
}

fn whose_and_when(mut label: String, entity: &EntityKind, window: Option<Span>) -> String {
    match entity {
        EntityKind::User => {}
        EntityKind::Item => label.push_str(" of the item"),
        EntityKind::Global => label.push_str(" of everybody"),
        EntityKind::Session => label.push_str(" in this session"),
        EntityKind::Pair { with, .. } => match with {
            PairedWith::Item => label.push_str(" of this item"),
            PairedWith::Attribute(name) | PairedWith::Property(name) => {
                label = format!("{label} with this {}", spaced(name));
            }
        },
        EntityKind::Request => {}
        EntityKind::Property(name) => label = format!("{label} with the same {}", spaced(name)),
    }
    if let Some(window) = window {
        let last = match crate::accumulate::in_words(window) {
            one if one.starts_with("1 ") => one[2..].to_owned(),
            many => many,
        };
        label = format!("{label} in the last {last}");
    }
    label
}

/// The label of a feature made by an expression.
pub(super) fn expression(definition: &FeatureDefinition) -> String {
    definition
        .label
        .clone()
        .unwrap_or_else(|| spaced(&definition.name))
}

fn subject(name: &str, aggregate: &Aggregate) -> String {
    let bare = bare(name, aggregate.operation);
    let events = if aggregate.events.is_empty() {
        "event".to_owned()
    } else {
        aggregate.events.join(" or ")
    };
    match aggregate.operation {
        Operation::Count | Operation::Sum => spaced(name),
        Operation::Mean => format!("average {bare}"),
        Operation::Stddev => format!("standard deviation of {bare}"),
        Operation::Min => format!("smallest {bare}"),
        Operation::Max => format!("largest {bare}"),
        Operation::Quantile { q: 0.5 } => format!("median {bare}"),
        Operation::Quantile { q } => format!("{} of {bare}", percentile(q)),
        Operation::First(_) => format!("first {bare}"),
        Operation::Last(_) | Operation::Recent { .. } => format!("latest {bare}"),
        Operation::Distinct => format!("different {bare}"),
        Operation::Decayed { .. } => format!("recent {bare}"),
        Operation::Top { .. } => format!("most frequent {bare}"),
        Operation::SinceFirst => format!("first {events}"),
        Operation::SinceLast => format!("last {events}"),
        Operation::Attribute(_) => spaced(name),
    }
}

/// What a feature is about: its name without the operation, which the label says in words.
fn bare(name: &str, operation: Operation) -> String {
    let median = matches!(operation, Operation::Quantile { q: 0.5 }).then_some("median");
    let rest = [Some(operation.as_str()), median]
        .into_iter()
        .flatten()
        .find_map(|word| name.strip_prefix(word))
        .map_or(name, |rest| rest.trim_start_matches('_'));
    spaced(if rest.is_empty() { name } else { rest })
}

/// `90th percentile`, `99.5th percentile`.
fn percentile(q: f64) -> String {
    // to hide that 0.29 · 100 is 28.999999999999996
    let percent = (q * 1e8).round() / 1e6;
    let ending = match percent {
        11.0..14.0 => "th",
        percent if percent % 10.0 == 1.0 => "st",
        percent if percent % 10.0 == 2.0 => "nd",
        percent if percent % 10.0 == 3.0 => "rd",
        _ => "th",
    };
    format!("{percent}{ending} percentile")
}

fn spaced(name: &str) -> String {
    name.replace('_', " ")
}
