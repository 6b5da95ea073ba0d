//! What a version that takes over must keep to, judged by what was noted of it.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use tidemill_core::FeatureColumn;
use tidemill_core::project::Guardrails;
use tidemill_evaluate::Agreement;
use tidemill_evaluate::experiment::is_rate_above;
use tidemill_serve::Challenger;
use tidemill_serve::recommend::RecommendChampion;
use tidemill_serve::rollout::{ArmNumbers, ListPair, Snapshot, Version};

/// How often at most a good version is stopped by one guardrail, however often it is looked at.
pub(super) const ALPHA: f64 = 0.01;
/// The share of answers that may be slower than the limit of the 99th percentile, by what a percentile is.
const SLOW: f64 = 0.01;
/// Fewer pairs of scores than this say nothing about how they agree.
const PAIRS_MIN: usize = 50;
/// How many standard errors a mean must lie off to be surely off, however often it is looked at: as for rank correlations.
const STANDARD_ERRORS: f64 = 4.0;
/// Fewer rows than this say nothing about what is missing.
const ROWS_MIN: u64 = 20;

/// What a version did not keep to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Breach {
    /// Which guardrail, by its name in the project file.
    pub(crate) guardrail: &'static str,
    /// With its numbers, in a sentence.
    pub(crate) reason: String,
}

/// The first guardrail that a version that predicts does not keep to, by what was noted of its answers. What is missing in a column that
/// the champion reads as well is missing for both.
pub(crate) fn breach_of_scores(
    challenger: &Challenger,
    found: &Snapshot,
    guardrails: &Guardrails,
    of_champion: &[&str],
) -> Option<Breach> {
    let columns = &challenger.version.package.columns;
    of_answers(challenger, columns, found, guardrails, of_champion)
        .or_else(|| disagreement(&found.compared, guardrails))
}

/// The same of a version that recommends.
pub(crate) fn breach_of_lists(
    challenger: &Challenger<RecommendChampion>,
    found: &Snapshot<ListPair>,
    guardrails: &Guardrails,
    of_champion: &[&str],
) -> Option<Breach> {
    let columns = challenger.version.package.person_features();
    of_answers(challenger, &columns, found, guardrails, of_champion)
        .or_else(|| other_lists(&found.compared, guardrails))
}

/// What answers of all kinds must keep to.
fn of_answers<V: Version, C>(
    challenger: &Challenger<V>,
    columns: &[FeatureColumn],
    found: &Snapshot<C>,
    guardrails: &Guardrails,
    of_champion: &[&str],
) -> Option<Breach> {
    let has_control = challenger.share == 0.0 || challenger.control_share() > 0.0;
    let missing = || {
        let columns = columns.iter().zip(&challenger.missing_in_training);
        let own = columns.zip(&found.missing);
        let rows = own
            .filter(|((column, _), _)| !of_champion.contains(&&*column.name))
            .map(|((column, usual), missing)| (column.name.as_str(), *usual, *missing));
        gaps(rows.collect(), found.rows, guardrails.missing)
    };
    errors(&found.challenger, guardrails.errors)
        .or_else(|| slowness(found, guardrails.latency_p99_ms, has_control))
        .or_else(missing)
}

fn errors(numbers: &ArmNumbers, limit: f64) -> Option<Breach> {
    let failed = numbers.failed();
    is_rate_above(failed, numbers.answers, limit, ALPHA).then(|| Breach {
        guardrail: "errors",
        reason: format!(
            "{failed} of {} answers failed ({} panicked, {} gave no number, {} could not read their features{}); {} may",
            numbers.answers,
            numbers.panicked,
            numbers.not_finite,
            numbers.unreadable,
            match numbers.short {
                0 => String::new(),
                short => format!(", {short} were shorter lists than the champion's"),
            },
            percent(limit)
        ),
    })
}

/// Too many slow answers, and more than the champion has at the same time: a machine that is busy slows both.
fn slowness<C>(found: &Snapshot<C>, limit_ms: f64, has_control: bool) -> Option<Breach> {
    let (ours, theirs) = (&found.challenger, &found.control);
    if !is_rate_above(ours.slow, ours.answers, SLOW, ALPHA) {
        return None;
    }
    let share = ours.answers as f64 / (ours.answers + theirs.answers) as f64;
    if has_control && !is_rate_above(ours.slow, ours.slow + theirs.slow, share, ALPHA) {
        return None;
    }
    Some(Breach {
        guardrail: "latency_p99_ms",
        reason: format!(
            "{} of {} answers took longer than {limit_ms} ms, one in a hundred may; of the champion's {} of {}",
            ours.slow, ours.answers, theirs.slow, theirs.answers
        ),
    })
}

/// A feature that is missing much more often than in training. `columns` have name, share in training, count now.
fn gaps(columns: Vec<(&str, f64, u64)>, rows: u64, tolerance: f64) -> Option<Breach> {
    if rows < ROWS_MIN || columns.is_empty() {
        return None;
    }
    let alpha = ALPHA / columns.len() as f64;
    let gap = columns.into_iter().find(|(_, usual, missing)| {
        // what may be missing always is never missing too often
        let allowed = usual + tolerance;
        allowed < 1.0 && is_rate_above(*missing, rows, allowed, alpha)
    });
    let (name, usual, missing) = gap?;
    Some(Breach {
        guardrail: "missing",
        reason: format!(
            "{name} is missing in {missing} of {rows} answers; in training it was in {}",
            percent(usual)
        ),
    })
}

/// Scores that are not those of a version of the same question.
fn disagreement(scores: &[(f64, f64)], guardrails: &Guardrails) -> Option<Breach> {
    if scores.len() < PAIRS_MIN {
        return None;
    }
    let found = Agreement::of(scores)?;
    let breach = |guardrail, reason| Some(Breach { guardrail, reason });
    if found.is_constant {
        return breach(
            "agreement",
            format!(
                "it says {:.4} about everybody in {} answers; the champion does not",
                found.mean_second, found.pairs
            ),
        );
    }
    if found.is_surely_below(guardrails.agreement) {
        return breach(
            "agreement",
            format!(
                "the rank correlation of its scores with the champion's is {:.2} over {} answers; at least {} is asked for",
                found.rank_correlation.unwrap_or_default(),
                found.pairs,
                guardrails.agreement
            ),
        );
    }
    if found.is_surely_shifted(guardrails.drift) {
        return breach(
            "drift",
            format!(
                "its scores are distributed otherwise than the champion's: the stability index is {:.2} over {} answers, {} may be; the means \
                 are {:.4} and {:.4}",
                found.stability_index,
                found.pairs,
                guardrails.drift,
                found.mean_second,
                found.mean_first
            ),
        );
    }
    None
}

/// How the lists of two versions for the same questions compare.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ListAgreement {
    /// Questions.
    pub pairs: usize,
    /// The mean share of the champion's items that the challenger's lists have as well, from 0 to 1.
    pub shared: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// How many different lists the champion gave.
    pub champion_lists: usize,
    /// How many different lists the challenger gave.
    pub challenger_lists: usize,
}

impl ListAgreement {
    /// Compares lists; nothing without two questions.
    pub(super) fn of(pairs: &[ListPair]) -> Option<Self> {
        let n = pairs.len() as f64;
        if pairs.len() < 2 {
            return None;
        }
        let shared = pairs.iter().map(|pair| pair.shared).sum::<f64>() / n;
        let squares = pairs.iter().map(|pair| (pair.shared - shared).powi(2));
        let variance = squares.sum::<f64>() / (n - 1.0);
        let different = |of: fn(&ListPair) -> u64| pairs.iter().map(of).collect::<HashSet<_>>();
        Some(Self {
            pairs: pairs.len(),
            shared,
            standard_error: (variance / n).sqrt(),
            champion_lists: different(|pair| pair.champion).len(),
            challenger_lists: different(|pair| pair.challenger).len(),
        })
    }
}

/// Lists that are not those of a version of the same model: the same for everybody, or with next to nothing of the champion's.
fn other_lists(pairs: &[ListPair], guardrails: &Guardrails) -> Option<Breach> {
    if pairs.len() < PAIRS_MIN {
        return None;
    }
    let found = ListAgreement::of(pairs)?;
    let breach = |reason| {
        let guardrail = "agreement";
        Some(Breach { guardrail, reason })
    };
    if found.challenger_lists == 1 && found.champion_lists > 1 {
        return breach(format!(
            "it gives everybody the same list in {} answers; the champion gave {} different ones",
            found.pairs, found.champion_lists
        ));
    }
    if found.shared + STANDARD_ERRORS * found.standard_error < guardrails.agreement {
        return breach(format!(
            "{} of the champion's items are in its lists over {} answers; at least {} are asked for",
            percent(found.shared),
            found.pairs,
            percent(guardrails.agreement)
        ));
    }
    None
}

fn percent(share: f64) -> String {
    format!("{} %", (share * 100_000.0).round() / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(answers: u64, failed: u64, slow: u64) -> ArmNumbers {
        ArmNumbers {
            answers,
            not_finite: failed,
            slow,
            ..ArmNumbers::default()
        }
    }

    #[test]
    fn failures_are_stopped_soon_and_chance_is_not() {
        assert_eq!(errors(&numbers(1_000, 1, 0), 0.001), None);
        let breach = errors(&numbers(3, 2, 0), 0.001).unwrap();
        assert_eq!(breach.guardrail, "errors");
        assert!(
            breach.reason.starts_with("2 of 3 answers failed"),
            "{breach:?}"
        );
        assert!(breach.reason.ends_with("0.1 % may"), "{breach:?}");
    }

    #[test]
    fn a_slow_version_is_told_from_a_slow_machine() {
        let check = |ours, theirs, has_control| {
            let found = Snapshot {
                challenger: numbers(200, 0, ours),
                control: numbers(200, 0, theirs),
                ..Snapshot::<(f64, f64)>::default()
            };
            slowness(&found, 10.0, has_control).is_some()
        };
        assert!(check(40, 0, true));
        assert!(!check(1, 0, true), "one in a hundred may be");
        assert!(!check(40, 38, true), "the machine is slow");
        assert!(check(40, 0, false));
    }

    #[test]
    fn a_feature_that_stays_away_is_named() {
        let check = |usual, missing| {
            gaps(
                vec![("user.a", 0.0, 0), ("user.b", usual, missing)],
                100,
                0.1,
            )
        };
        assert_eq!(check(0.3, 35), None);
        assert_eq!(check(0.95, 100), None, "it may be missing always");
        let breach = check(0.02, 90).unwrap();
        assert!(
            breach
                .reason
                .starts_with("user.b is missing in 90 of 100 answers"),
            "{breach:?}"
        );
    }

    #[test]
    fn scores_must_be_of_the_same_question() {
        let check = |second: fn(f64) -> f64| {
            let scores: Vec<(f64, f64)> = (0..200)
                .map(|place| f64::from(place * 37 % 200) / 200.0)
                .map(|first| (first, second(first)))
                .collect();
            disagreement(&scores, &Guardrails::default()).map(|breach| breach.guardrail)
        };
        assert_eq!(check(|first| first), None);
        assert_eq!(check(|first| first * 0.95 + 0.01), None);
        assert_eq!(check(|first| 1.0 - first), Some("agreement"));
        assert_eq!(check(|_| 0.5), Some("agreement"));
        assert_eq!(check(|first| first * 0.2), Some("drift"));
    }

    #[test]
    fn lists_must_be_of_the_same_model() {
        let check = |shared: fn(u64) -> f64, lists: u64| {
            let pair = |question: u64| ListPair {
                shared: shared(question),
                champion: question,
                challenger: question % lists,
            };
            let pairs: Vec<ListPair> = (0..200).map(pair).collect();
            let guardrails = Guardrails {
                agreement: 0.05,
                ..Guardrails::default()
            };
            other_lists(&pairs, &guardrails).map(|breach| breach.reason)
        };
        assert_eq!(check(|_| 0.6, 90), None);
        assert_eq!(check(|question| (question % 10) as f64 / 90.0, 90), None);
        let same = check(|_| 0.6, 1).unwrap();
        assert!(
            same.starts_with("it gives everybody the same list"),
            "{same}"
        );
        let other = check(|question| (question % 40 / 39) as f64 / 10.0, 90).unwrap();
        assert!(other.contains("of the champion's items"), "{other}");
    }
}
