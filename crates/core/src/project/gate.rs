//! Reads what a challenger must reach.

use std::collections::BTreeMap;

use super::parse::named;
use super::reader::{Entry, Table};

/// What a challenger must reach beyond what always holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GateRules {
    /// Smallest (or, for errors, largest) values of metrics, by name.
    pub min: BTreeMap<String, f64>,
    /// Features whose slices are compared with the champion.
    pub slices: Vec<String>,
    /// How much worse than the champion a challenger may be, in the metric's unit.
    pub tolerance: Option<f64>,
    /// The largest share of answers, from 0 to 1, that may become others than the champion's; any where absent.
    pub change_max: Option<f64>,
    /// One answer in a hundred may take longer, in milliseconds, its features read; a default holds where absent.
    pub latency_ms: Option<f64>,
    /// The largest artifact, in megabytes (10⁶ bytes); a default holds where absent.
    pub size_mb: Option<f64>,
    /// Features that may tell the target well, and differ from before, by their name, and checks of the data that may fail
    /// (`data:volume`), each with the reason why.
    pub trusted: BTreeMap<String, String>,
}

pub(super) fn read_gate(mut table: Table<'_, '_>) -> GateRules {
    let min = named(table.get("min"), |_, entry| entry.number());
    let slices = table
        .get("slices")
        .and_then(|entry| entry.array())
        .unwrap_or_default();
    let slices = slices.iter().filter_map(Entry::string).collect();
    let tolerance = table.get("tolerance").and_then(|entry| {
        let tolerance = entry.number()?;
        if tolerance < 0.0 {
            entry.problem("a tolerance is not negative", None);
        }
        Some(tolerance)
    });
    let change_max = table.get("change_max").and_then(|entry| entry.share());
    let mut above_zero = |key: &'static str| {
        let entry = table.get(key)?;
        let number = entry.number()?;
        if number <= 0.0 {
            entry.problem(format!("{number} is not above 0"), None);
        }
        Some(number)
    };
    let (latency_ms, size_mb) = (above_zero("latency_ms"), above_zero("size_mb"));
    let trusted = named(table.get("trusted"), |feature, entry| {
        let reason = entry.string()?;
        if reason.trim().is_empty() {
            let hint = "write why, like \"it is known when an order is placed\"".to_owned();
            entry.problem(format!("there is no reason to trust {feature}"), Some(hint));
        }
        Some(reason)
    });
    table.finish();
    GateRules {
        min,
        slices,
        tolerance,
        change_max,
        latency_ms,
        size_mb,
        trusted,
    }
}

#[cfg(test)]
mod tests {
    use crate::project::Project;

    fn read(gate: &str) -> Result<Project, String> {
        let text = format!(
            "[project]\nname = \"shop\"\n[models.m]\nkind = \"predict\"\nobserve = {{ event = \"A\" }}\n\
             target = {{ event = \"A\", within = \"1d\" }}\ngate = {gate}\n"
        );
        Project::parse(&text).map_err(|error| error.to_string())
    }

    #[test]
    fn rules_of_the_gate_are_read() {
        let text = "{ tolerance = 0.01, change_max = 0.2, trusted = { \"user.plan\" = \"signed before\" } }";
        let project = read(text).unwrap();
        let gate = &project.models.values().next().unwrap().gate;
        assert_eq!((gate.tolerance, gate.change_max), (Some(0.01), Some(0.2)));
        assert_eq!(gate.trusted["user.plan"], "signed before");
        for (text, words) in [
            ("{ change_max = 2 }", "line 7"),
            (
                "{ trusted = { \"user.plan\" = \" \" } }",
                "no reason to trust user.plan",
            ),
            ("{ tolerance = -1 }", "a tolerance is not negative"),
        ] {
            let refused = read(text).unwrap_err();
            assert!(refused.contains(words), "{refused}");
        }
    }
}
