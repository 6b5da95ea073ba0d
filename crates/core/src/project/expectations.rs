//! Reads what a project expects of what arrives.

use std::collections::BTreeMap;

use super::reader::{Entry, Table};

/// What is expected of one kind of event on each day. It wins over what is learnt from the past.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expectations {
    /// How many come on a day, from and to.
    pub per_day: Option<(u64, u64)>,
    /// The largest share of events, from 0 to 1, in which a property is absent or null, by its name.
    pub null_max: BTreeMap<String, f64>,
    /// Between which numbers the median of a day lies, by the property's name.
    pub median: BTreeMap<String, (f64, f64)>,
    /// Properties that nobody wants to hear of.
    pub unwatched: Vec<String>,
}

impl Expectations {
    /// Whether nobody wants to hear of a property.
    pub fn is_unwatched(&self, property: &str) -> bool {
        self.unwatched.iter().any(|name| name == property)
    }
}

pub(super) fn read_expectations(mut table: Table<'_, '_>) -> Option<Expectations> {
    let per_day = table.get("per_day").and_then(|entry| range(&entry));
    let per_day = per_day.map(|(from, to)| (from.ceil() as u64, to.floor() as u64));
    let null_max = by_name(table.get("null_max"), |entry| {
        let share = entry.number()?;
        if (0.0..=1.0).contains(&share) {
            return Some(share);
        }
        let hint = Some("write a share like 0.01".to_owned());
        entry.problem(format!("{share} is not from 0 to 1"), hint);
        None
    });
    let median = by_name(table.get("median"), range);
    let unwatched = table.get("unwatched").and_then(|entry| entry.strings());
    let unwatched = unwatched.into_iter().flatten();
    let unwatched = unwatched.filter_map(|entry| entry.string()).collect();
    table.finish();
    Some(Expectations {
        per_day,
        null_max,
        median,
        unwatched,
    })
}

fn by_name<T>(
    entry: Option<Entry<'_, '_>>,
    read: impl Fn(&Entry<'_, '_>) -> Option<T>,
) -> BTreeMap<String, T> {
    let table = entry.and_then(|entry| entry.table());
    let entries = table.map(|table| table.entries()).unwrap_or_default();
    let read = |(name, entry): (String, Entry<'_, '_>)| Some((name, read(&entry)?));
    entries.into_iter().filter_map(read).collect()
}

/// `10..500`: from and to, both included; numbers that are not negative.
fn range(entry: &Entry<'_, '_>) -> Option<(f64, f64)> {
    let text = entry.string()?;
    let ends = text.split_once("..").and_then(|(from, to)| {
        let (from, to): (f64, f64) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        (0.0 <= from && from <= to && to.is_finite()).then_some((from, to))
    });
    if ends.is_none() {
        let hint = Some("write both ends, like 10..500".to_owned());
        entry.problem(format!("'{text}' is not a range"), hint);
    }
    ends
}

#[cfg(test)]
mod tests {
    use crate::project::Project;

    fn read(expect: &str) -> Result<Project, String> {
        let text = format!("[project]\nname = \"shop\"\n[events.\"Order\"]\nexpect = {expect}\n");
        Project::parse(&text).map_err(|error| error.to_string())
    }

    #[test]
    fn expectations_are_read() {
        let text = "{ per_day = \"10..500\", null_max = { total = 0.01 }, median = { total = \"5..80.5\" }, unwatched = \"note\" }";
        let project = read(text).unwrap();
        let expect = &project.expectations["Order"];
        assert_eq!(expect.per_day, Some((10, 500)));
        assert_eq!(expect.null_max["total"], 0.01);
        assert_eq!(expect.median["total"], (5.0, 80.5));
        assert!(expect.is_unwatched("note") && !expect.is_unwatched("total"));
        assert!(project.events.contains_key("Order"));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (expect, words) in [
            ("{ per_day = \"500..10\" }", "'500..10' is not a range"),
            ("{ per_day = 5 }", "a text in quotes"),
            ("{ null_max = { total = 1.5 } }", "1.5 is not from 0 to 1"),
            ("{ perday = \"1..2\" }", "unknown key 'perday'"),
        ] {
            let refused = read(expect).unwrap_err();
            assert!(
                refused.contains("line 4") && refused.contains(words),
                "{refused}"
            );
        }
    }
}
