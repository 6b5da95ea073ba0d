//! What a gate says.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One condition, and whether it holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What was checked: `sound`, `beats:constant`, `champion`, `slice:country is Germany`, `min:auc`, `calibrated`, …
    pub name: String,
    /// What was found; 0 where nothing could be computed (the sentence says why).
    pub value: f64,
    /// What it has to reach, or must not exceed.
    pub threshold: f64,
    /// How sure the value is, where that was computed.
    pub interval: Option<(f64, f64)>,
    /// Whether the condition holds.
    pub passed: bool,
    /// The same in words.
    pub sentence: String,
}

impl Check {
    /// Passes where the value is no larger than the threshold; a value that is no number does not.
    pub fn at_most(name: &str, value: f64, threshold: f64, sentence: String) -> Self {
        Self {
            name: name.to_owned(),
            value,
            threshold,
            interval: None,
            passed: value <= threshold,
            sentence,
        }
    }

    /// Passes where the value is no smaller than the threshold; a value that is no number does not.
    pub fn at_least(name: &str, value: f64, threshold: f64, sentence: String) -> Self {
        Self {
            passed: value >= threshold,
            ..Self::at_most(name, value, threshold, sentence)
        }
    }

    /// A check that failed passes where somebody vouches for it: by its name, with the reason, which is said.
    #[must_use]
    pub fn unless_trusted(mut self, trusted: &BTreeMap<String, String>) -> Self {
        if let (false, Some(reason)) = (self.passed, trusted.get(&self.name)) {
            self.passed = true;
            self.sentence.push_str(&format!("; trusted: {reason}"));
        }
        self
    }

    /// Passes, since there is nothing to judge: the sentence says why.
    pub fn not_judged(name: &str, sentence: String) -> Self {
        Self::at_most(name, 0.0, 0.0, sentence)
    }
}

/// The decision about a challenger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether all checks passed.
    pub promoted: bool,
    /// All of them, failed or not.
    pub checks: Vec<Check>,
}

impl Verdict {
    /// Promoted if all checks passed and there is at least one.
    pub fn of(checks: Vec<Check>) -> Self {
        Self {
            promoted: !checks.is_empty() && checks.iter().all(|check| check.passed),
            checks,
        }
    }

    /// One line: `promoted: all 7 checks passed`, or `rejected by 2 of 7 checks: AUC 0.71 is below …; …`.
    pub fn summary(&self) -> String {
        let failed: Vec<&str> = self
            .checks
            .iter()
            .filter(|check| !check.passed)
            .map(|check| check.sentence.as_str())
            .collect();
        match (self.checks.len(), failed.len()) {
            (0, _) => "rejected: nothing was checked".to_owned(),
            (1, 0) => "promoted: its one check passed".to_owned(),
            (checks, 0) => format!("promoted: all {checks} checks passed"),
            (checks, count) => format!(
                "rejected by {count} of {checks} checks: {}",
                failed.join("; ")
            ),
        }
    }
}
