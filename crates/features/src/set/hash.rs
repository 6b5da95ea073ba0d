//! One hash of everything that decides what is in the states.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};
use tidemill_core::project::{EntityKind, FeatureDefinition, Formula, Operation, Project};

use super::{Condition, Test};

/// Changes when the same definitions would make other states.
const STATE_VERSION: u32 = 2;

/// The definitions in one canonical text; labels and lines do not matter.
pub(super) fn hash(
    project: &Project,
    definitions: &[FeatureDefinition],
    conditions: &[Condition],
) -> String {
    let mut text = format!("tidemill features {STATE_VERSION}\n");
    if let Some(items) = &project.items {
        text += &format!("items {}\n", items.id);
    }
    let of_session = |definition: &FeatureDefinition| definition.entity == EntityKind::Session;
    if definitions.iter().any(of_session) {
        text += &format!("session {}\n", project.session_gap.micros());
    }
    let signals: BTreeSet<&String> = project
        .recommenders
        .values()
        .flat_map(|model| model.signals.keys())
        .collect();
    if !signals.is_empty() {
        text += &format!("histories {signals:?}\n");
    }
    if let Some(after) = project.forget_after {
        text += &format!("forget after {}\n", after.micros());
    }
    for definition in definitions {
        text += &format!("{} {} ", definition.entity.as_str(), definition.name);
        match &definition.formula {
            Formula::Expression(expression) => text += &format!("= {:?}", expression.text),
            Formula::Ratio(ratio) => {
                text += &format!("{:?} / {:?}", ratio.numerator.text, ratio.denominator.text);
            }
            Formula::Aggregate(aggregate) => {
                let condition = aggregate
                    .condition
                    .as_ref()
                    .map(|condition| &condition.text);
                let value = aggregate.value.as_ref().map(ToString::to_string);
                let windows: Vec<i64> = aggregate
                    .windows
                    .iter()
                    .map(|window| window.micros())
                    .collect();
                let parameter = match aggregate.operation {
                    Operation::First(kind) | Operation::Last(kind) | Operation::Attribute(kind) => {
                        format!("{kind:?}")
                    }
                    Operation::Decayed { half_life } => half_life.micros().to_string(),
                    Operation::Top { k } => k.to_string(),
                    Operation::Recent { k, kind } => format!("{k} {kind:?}"),
                    Operation::Quantile { q } => format!("{q:?}"),
                    _ => String::new(),
                };
                let (operation, events) = (aggregate.operation.as_str(), &aggregate.events);
                text += &format!(
                    "{operation} {parameter} {events:?} {condition:?} {value:?} {windows:?}"
                );
            }
        }
        text.push('\n');
    }
    for condition in conditions {
        if let Test::Sql(compiled) = &condition.test {
            text += &format!("{:?} {}\n", condition.events, compiled.signature());
        }
    }
    Sha256::digest(text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
