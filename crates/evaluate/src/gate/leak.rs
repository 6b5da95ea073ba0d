//! Does a feature alone tell the target too well to be true? It then probably knows what happened after the moment.

use std::collections::BTreeMap;

use tidemill_core::feature::TOO_TELLING_FROM;

use super::{Check, number};

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

/// Refuses features that alone tell the target too well: from [`TOO_TELLING_FROM`] on, and those that the champion does not read already where they
/// leave less than half of what the whole champion (its AUC, where there is one) leaves untold. `trusted` names features that
/// somebody vouches for, with the reason. The check's value is that of the feature that is farthest beyond its threshold.
pub fn leaks(
    alone: &[Alone<'_>],
    measure: &str,
    champion: Option<f64>,
    trusted: &BTreeMap<String, String>,
) -> Check {
    let of_new = champion.map_or(TOO_TELLING_FROM, |auc| {
        f64::midpoint(auc, 1.0).clamp(NEW_MIN, TOO_TELLING_FROM)
    });
    let threshold = |one: &Alone<'_>| {
        if one.is_known {
            TOO_TELLING_FROM
        } else {
            of_new
        }
    };
    let excess = |one: &Alone<'_>| one.value - threshold(one);
    let (vouched, judged): (Vec<&Alone<'_>>, Vec<&Alone<'_>>) = alone
        .iter()
        .partition(|one| trusted.contains_key(one.feature));
    let leaking = judged.iter().filter(|one| excess(one) >= 0.0).count();
    let worst = judged
        .into_iter()
        .max_by(|one, other| excess(one).total_cmp(&excess(other)));
    let mut sentence = match worst {
        Some(worst) => in_words(worst, measure, threshold(worst), leaking),
        None => "no feature alone can be compared with the target".to_owned(),
    };
    for one in vouched.into_iter().filter(|one| excess(one) >= 0.0) {
        let reason = trusted.get(one.feature).map_or("", String::as_str);
        sentence.push_str(&format!(
            "; {} does ({measure} {}) and is trusted: {reason}",
            one.feature,
            number(one.value)
        ));
    }
    Check {
        // the threshold itself is refused too
        passed: leaking == 0,
        ..Check::at_most(
            "leak",
            worst.map_or(0.0, |worst| worst.value),
            worst.map_or(TOO_TELLING_FROM, threshold),
            sentence,
        )
    }
}

/// What there is to say of the feature that is farthest beyond its threshold, or nearest to it.
fn in_words(worst: &Alone<'_>, measure: &str, threshold: f64, leaking: usize) -> String {
    let of_new = match threshold < TOO_TELLING_FROM {
        true => " for a feature that the champion does not read",
        false => "",
    };
    let (feature, value, threshold) = (worst.feature, number(worst.value), number(threshold));
    if leaking == 0 {
        return format!(
            "no feature alone tells the target too well; the nearest to that is {feature} with {measure} {value} (below {threshold})"
        );
    }
    let others = match leaking - 1 {
        0 => String::new(),
        1 => "; another feature does as well".to_owned(),
        more => format!("; {more} other features do as well"),
    };
    format!(
        "{feature} alone tells the target with {measure} {value}, too well to be true (from {threshold} on{of_new}): it probably knows \
         what happened after the moment{others}. Take it out, or name it under gate.trusted with the reason why it is known in time"
    )
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
