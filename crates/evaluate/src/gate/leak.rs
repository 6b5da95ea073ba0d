//! Does a feature alone tell the target too well to be true? It then probably knows what happened after the moment.

use std::collections::BTreeMap;

use super::{Check, number};

/// From this on nothing that was known at the moment tells a target: an AUC, or an absolute correlation.
pub const TOO_GOOD: f64 = 0.98;
/// A feature that is new to the model is not suspected below this.
const NEW_MIN: f64 = 0.9;

/// How well one feature alone tells the target.
#[derive(Debug, Clone, PartialEq)]
pub struct Alone<'a> {
    /// The feature.
    pub feature: &'a str,
    /// Its AUC, whichever way it points, or its absolute correlation with an amount: from 0 to 1.
    pub value: f64,
    /// Whether the champion reads it too.
    pub is_known: bool,
}

/// Refuses features that alone tell the target too well: from [`TOO_GOOD`] on, and those that the champion does not read already where they
/// leave less than half of what the whole champion (its AUC, where there is one) leaves untold. `trusted` names features that
/// somebody vouches for, with the reason.
pub fn leaks(
    alone: &[Alone<'_>],
    measure: &str,
    champion: Option<f64>,
    trusted: &BTreeMap<String, String>,
) -> Check {
    let of_new = champion.map_or(TOO_GOOD, |auc| {
        f64::midpoint(auc, 1.0).clamp(NEW_MIN, TOO_GOOD)
    });
    let threshold = |one: &Alone<'_>| if one.is_known { TOO_GOOD } else { of_new };
    let by_excess = |one: &&Alone<'_>, other: &&Alone<'_>| {
        (one.value - threshold(one)).total_cmp(&(other.value - threshold(other)))
    };
    let judged = alone
        .iter()
        .filter(|one| !trusted.contains_key(one.feature));
    let leaking = judged.clone().filter(|one| one.value >= threshold(one));
    let count = leaking.count();
    let worst = judged.max_by(by_excess);
    let mut sentence = match worst {
        None => "no feature alone can be compared with the target".to_owned(),
        Some(worst) if count == 0 => format!(
            "no feature alone tells the target too well; the best is {} with {measure} {} (below {})",
            worst.feature,
            number(worst.value),
            number(threshold(worst))
        ),
        Some(worst) => format!(
            "{} alone tells the target with {measure} {}, too well to be true (from {} on{}): it probably knows what happened after the \
             moment{}. Take it out, or name it under gate.trusted with the reason why it is known in time",
            worst.feature,
            number(worst.value),
            number(threshold(worst)),
            match worst.is_known {
                true => "",
                false if of_new < TOO_GOOD =>
                    ", as it is new and the champion's many features tell less than half of that",
                false => "",
            },
            match count {
                1 => String::new(),
                more => format!("; {} other features do as well", more - 1),
            }
        ),
    };
    for one in alone.iter().filter(|one| one.value >= threshold(one)) {
        if let Some(reason) = trusted.get(one.feature) {
            sentence = format!(
                "{sentence}; {} does ({measure} {}) and is trusted: {reason}",
                one.feature,
                number(one.value)
            );
        }
    }
    Check {
        name: "leak".to_owned(),
        value: worst.map_or(0.0, |worst| worst.value),
        threshold: worst.map_or(TOO_GOOD, threshold),
        interval: None,
        passed: count == 0,
        sentence,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone<'a>(of: &[(&'a str, f64, bool)]) -> Vec<Alone<'a>> {
        let alone = of.iter().map(|(feature, value, is_known)| Alone {
            feature,
            value: *value,
            is_known: *is_known,
        });
        alone.collect()
    }

    #[test]
    fn what_tells_too_much_is_refused_unless_somebody_vouches_for_it() {
        let none = BTreeMap::new();
        let usual = alone(&[("user.orders", 0.71, true), ("user.plan", 0.8, true)]);
        let check = leaks(&usual, "AUC", Some(0.83), &none);
        assert!(
            check.passed && check.sentence.contains("user.plan"),
            "{check:?}"
        );
        let leaking = alone(&[("user.orders", 0.71, true), ("user.refunded", 0.995, true)]);
        let check = leaks(&leaking, "AUC", Some(0.83), &none);
        assert!(!check.passed && check.value == 0.995, "{check:?}");
        assert!(
            check.sentence.starts_with("user.refunded alone"),
            "{check:?}"
        );
        let trusted = BTreeMap::from([("user.refunded".to_owned(), "asked before".to_owned())]);
        let check = leaks(&leaking, "AUC", Some(0.83), &trusted);
        assert!(
            check.passed && check.sentence.contains("trusted: asked before"),
            "{check:?}"
        );
        assert!(leaks(&[], "AUC", None, &none).passed);
    }

    #[test]
    fn a_new_feature_may_not_tell_far_more_than_all_others_together() {
        let none = BTreeMap::new();
        let check = |value, is_known, champion| {
            leaks(
                &alone(&[("user.x", value, is_known)]),
                "AUC",
                champion,
                &none,
            )
            .passed
        };
        assert!(!check(0.93, false, Some(0.8)));
        assert!(check(0.93, true, Some(0.8)));
        assert!(check(0.93, false, None));
        assert!(check(0.93, false, Some(0.9)));
        assert!(!check(0.951, false, Some(0.9)));
        assert!(check(0.89, false, Some(0.6)));
    }
}
