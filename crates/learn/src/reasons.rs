//! Contributions in words: why a model said what it said about one row.

use serde::{Deserialize, Serialize};
use tidemill_core::feature::{FeatureColumn, FeatureType, FeatureValue, Unit};

/// Below it a number is nothing that a person tells from 0: sums that decay get there.
const TINY: f64 = 1e-6;

/// One feature that moved an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// The name of the feature: `user.orders_30d`.
    pub feature: String,
    /// Its value for this row.
    pub value: FeatureValue,
    /// How much it moved the raw score, together with the same aggregate over other windows. Above 0: up.
    pub contribution: f64,
    /// `last order 41 days ago`.
    pub text: String,
}

/// The `count` features that moved an answer most, in words.
///
/// `contributions` are those of [`crate::Model::contributions`]: one per column, the bias last. Features that are the
/// same aggregate over several windows (`orders_7d`, `orders_30d`) count as one, shown by the window that moved
/// most. Those that point the way in which the whole row points come first, each group by size; what moved nothing is
/// left out.
///
/// # Panics
/// When there is not one value and one contribution per column, and the bias.
pub fn reasons(
    columns: &[FeatureColumn],
    row: &[FeatureValue],
    contributions: &[f64],
    count: usize,
) -> Vec<Reason> {
    assert_eq!(
        (columns.len(), columns.len() + 1),
        (row.len(), contributions.len()),
        "one value per column"
    );
    let contributions = &contributions[..columns.len()];
    let direction: f64 = contributions.iter().sum();

    let mut groups: Vec<Group<'_>> = Vec::new();
    for (place, (column, &contribution)) in columns.iter().zip(contributions).enumerate() {
        let stem = stem(&column.name);
        match groups.iter_mut().find(|group| group.stem == stem) {
            Some(group) => {
                group.sum += contribution;
                group.members.push(place);
            }
            None => groups.push(Group {
                stem,
                sum: contribution,
                members: vec![place],
            }),
        }
    }
    groups.retain(|group| group.sum != 0.0);
    let against = |group: &Group<'_>| group.sum * direction < 0.0;
    // Stable: equal ones stay in the order of the columns.
    groups.sort_by(|a, b| {
        against(a)
            .cmp(&against(b))
            .then(b.sum.abs().total_cmp(&a.sum.abs()))
    });
    groups
        .iter()
        .take(count)
        .map(|group| group.reason(columns, row, contributions))
        .collect()
}

struct Group<'a> {
    stem: &'a str,
    sum: f64,
    members: Vec<usize>,
}

impl Group<'_> {
    fn reason(
        &self,
        columns: &[FeatureColumn],
        row: &[FeatureValue],
        contributions: &[f64],
    ) -> Reason {
        let mut shown = self.members[0];
        for &place in &self.members {
            // The member that moved most the way that the group moved.
            if contributions[place] * self.sum.signum() > contributions[shown] * self.sum.signum() {
                shown = place;
            }
        }
        Reason {
            feature: columns[shown].name.clone(),
            value: row[shown].clone(),
            contribution: self.sum,
            text: text(&columns[shown], &row[shown]),
        }
    }
}

/// The name without its window: `user.orders_30d` → `user.orders`.
fn stem(name: &str) -> &str {
    match name.rsplit_once('_') {
        Some((stem, window)) if is_window(window) => stem,
        _ => name,
    }
}

/// A whole number and s, m, h, d or w.
fn is_window(text: &str) -> bool {
    text.strip_suffix(['s', 'm', 'h', 'd', 'w'])
        .is_some_and(|digits| {
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        })
}

/// One feature value in words: `3 orders in the last 30 days`, `last order 41 days ago`, `no order yet`,
/// `country is Germany`.
pub fn text(column: &FeatureColumn, value: &FeatureValue) -> String {
    let label = column.label.as_str();
    match (column.feature_type, column.unit, value) {
        (_, _, FeatureValue::Category(category)) => format!("{label} is {category}"),
        (FeatureType::Category, _, _) => format!("{label} is unknown"),
        (_, Unit::SecondsAgo, FeatureValue::Number(seconds)) => {
            format!("{label} {} ago", duration(*seconds))
        }
        (_, Unit::SecondsAgo, FeatureValue::Missing) => {
            let what = label
                .strip_prefix("last ")
                .or_else(|| label.strip_prefix("first "))
                .unwrap_or(label);
            format!("no {what} yet")
        }
        (_, Unit::Plain, FeatureValue::Number(number)) => counted(label, *number),
        (_, Unit::Plain, FeatureValue::Missing) if is_plural(first_word(label)) => {
            format!("no {label}")
        }
        (_, Unit::Plain, FeatureValue::Missing) => format!("{label} is unknown"),
    }
}

/// `3 orders in the last 30 days` where the label starts with something that can be counted and the number is whole,
/// else `mean order value is 19.90`.
fn counted(label: &str, number: f64) -> String {
    let first = first_word(label);
    if number.fract() != 0.0 || number < 0.0 || !is_plural(first) {
        return format!("{label} is {}", rounded(number));
    }
    if number == 0.0 {
        format!("no {label}")
    } else if number == 1.0 {
        format!("1 {}{}", singular(first), &label[first.len()..])
    } else {
        format!("{} {label}", rounded(number))
    }
}

fn first_word(label: &str) -> &str {
    label.split(' ').next().unwrap_or(label)
}

fn is_plural(word: &str) -> bool {
    word.len() > 3
        && word.ends_with('s')
        && !["ss", "us", "is"]
            .iter()
            .any(|ending| word.ends_with(ending))
}

fn singular(word: &str) -> String {
    if let Some(stem) = word.strip_suffix("ies") {
        return format!("{stem}y");
    }
    if ["ches", "shes", "sses", "xes", "zes"]
        .iter()
        .any(|ending| word.ends_with(ending))
    {
        return word[..word.len() - 2].to_owned();
    }
    word.strip_suffix('s').unwrap_or(word).to_owned()
}

/// Whole numbers as they are, others with two decimals, small ones with three digits, tiny ones in words; thousands apart.
fn rounded(number: f64) -> String {
    if number != 0.0 && number.abs() < TINY {
        return "almost 0".to_owned();
    }
    if number != 0.0 && number.abs() < 0.1 {
        return format!(
            "{:.*}",
            (2.0 - number.abs().log10().floor()) as usize,
            number
        );
    }
    let text = if number.fract() == 0.0 {
        format!("{number:.0}")
    } else {
        format!("{number:.2}")
    };
    let (sign, text) = text
        .strip_prefix('-')
        .map_or(("", text.as_str()), |text| ("-", text));
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (place, digit) in whole.char_indices() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{fraction}")
}

/// Seconds in the unit that a person would use: `45 seconds`, `3 hours`, `41 days`, `5 months`, `2 years`.
fn duration(seconds: f64) -> String {
    const MINUTE: f64 = 60.0;
    const HOUR: f64 = 3_600.0;
    const DAY: f64 = 86_400.0;
    let seconds = seconds.max(0.0);
    let (length, unit) = if seconds < 90.0 {
        (1.0, "second")
    } else if seconds < 90.0 * MINUTE {
        (MINUTE, "minute")
    } else if seconds < 36.0 * HOUR {
        (HOUR, "hour")
    } else if seconds < 90.0 * DAY {
        (DAY, "day")
    } else if seconds < 730.0 * DAY {
        (30.44 * DAY, "month")
    } else {
        (365.25 * DAY, "year")
    };
    let count = (seconds / length).round();
    format!("{count:.0} {unit}{}", if count == 1.0 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, label: &str, unit: Unit) -> FeatureColumn {
        FeatureColumn {
            name: name.into(),
            feature_type: FeatureType::Number,
            label: label.into(),
            unit,
        }
    }

    fn check(label: &str, unit: Unit, value: impl Into<Option<f64>>, expected: &str) {
        let value = value
            .into()
            .map_or(FeatureValue::Missing, FeatureValue::Number);
        assert_eq!(text(&column("f", label, unit), &value), expected);
    }

    #[test]
    fn values_read_well() {
        let orders = "orders in the last 30 days";
        check(orders, Unit::Plain, 3.0, "3 orders in the last 30 days");
        check(orders, Unit::Plain, 1.0, "1 order in the last 30 days");
        check(orders, Unit::Plain, 0.0, "no orders in the last 30 days");
        check(orders, Unit::Plain, None, "no orders in the last 30 days");
        check(
            "searches in the last hour",
            Unit::Plain,
            1.0,
            "1 search in the last hour",
        );
        check("entries", Unit::Plain, 1.0, "1 entry");
        check(
            "spend in the last 30 days",
            Unit::Plain,
            1234.5,
            "spend in the last 30 days is 1,234.50",
        );
        check(
            "mean order value",
            Unit::Plain,
            None,
            "mean order value is unknown",
        );
        check(
            "share of mobile visits",
            Unit::Plain,
            0.0123,
            "share of mobile visits is 0.0123",
        );
        check("balance", Unit::Plain, -1200.0, "balance is -1,200");
        check("pace", Unit::Plain, 1e-15, "pace is almost 0");
        check("pace", Unit::Plain, 2e-6, "pace is 0.00000200");
        check(
            "last order",
            Unit::SecondsAgo,
            3_542_400.0,
            "last order 41 days ago",
        );
        check(
            "last order",
            Unit::SecondsAgo,
            5_000.0,
            "last order 83 minutes ago",
        );
        check(
            "last order",
            Unit::SecondsAgo,
            1.0,
            "last order 1 second ago",
        );
        check(
            "last order",
            Unit::SecondsAgo,
            86_400.0 * 400.0,
            "last order 13 months ago",
        );
        check("last order", Unit::SecondsAgo, None, "no order yet");
        check("first visit", Unit::SecondsAgo, None, "no visit yet");
    }

    #[test]
    fn categories_read_well() {
        let mut country = column("country", "country", Unit::Plain);
        country.feature_type = FeatureType::Category;
        assert_eq!(
            text(&country, &FeatureValue::Category("Germany".into())),
            "country is Germany"
        );
        assert_eq!(text(&country, &FeatureValue::Missing), "country is unknown");
    }

    #[test]
    fn windows_of_one_aggregate_are_one_reason_and_the_way_of_the_answer_comes_first() {
        let columns = [
            column("user.orders_7d", "orders in the last 7 days", Unit::Plain),
            column("user.orders_30d", "orders in the last 30 days", Unit::Plain),
            column("user.last_order", "last order", Unit::SecondsAgo),
            column("user.visits_30d", "visits in the last 30 days", Unit::Plain),
            column("user.returns", "returns", Unit::Plain),
        ];
        let row = [0.0, 3.0, 7_200.0, 1.0, 2.0].map(FeatureValue::Number);
        let found = reasons(&columns, &row, &[0.3, 0.5, 0.6, 0.0, -0.9, -2.0], 3);
        let texts: Vec<&str> = found.iter().map(|reason| reason.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "3 orders in the last 30 days",
                "last order 2 hours ago",
                "2 returns"
            ]
        );
        assert!((found[0].contribution - 0.8).abs() < 1e-12);
        assert_eq!(reasons(&columns, &row, &[0.0; 6], 3), []);
    }
}
