//! Live quality of recommendations: what was taken of the lists that were shown, next to what everybody takes.

use serde::{Deserialize, Serialize};
use tidemill_core::{Outcome, Timestamp};
use tidemill_evaluate::{Bootstrap, Estimate};

use crate::quality::Period;

/// How good the lists of a period were, as far as their whole horizon has passed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListQuality {
    /// The beginning of the period in which the lists were shown.
    pub from: Timestamp,
    /// Its end.
    pub until: Timestamp,
    /// Lists of versions.
    pub answers: usize,
    /// Lists of the fallback, which shows what everybody takes; they are not in the other numbers.
    pub fallbacks: usize,
    /// The versions that answered.
    pub versions: Vec<u32>,
    /// The share of the lists of which something was taken.
    pub hit_rate: Compared,
    /// How many items of a list were taken.
    pub taken: Compared,
    /// NDCG@10 over the lists after which anything was taken, of the list or not: what an examination measures.
    pub ndcg: Compared,
}

/// A mean over lists beside that of as many items that everybody takes, for the same people at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Compared {
    /// Of the lists that were shown.
    pub value: Option<f64>,
    /// Its 95 % interval.
    pub interval: Option<(f64, f64)>,
    /// Of what everybody takes. People take what they are shown, so this is a little too low where that was not shown.
    pub popular: Option<f64>,
    /// By how much the lists are better.
    pub improvement: Option<f64>,
    /// Its 95 % interval.
    pub improvement_interval: Option<(f64, f64)>,
}

/// Computes the quality of lists from their outcomes.
pub fn list_quality(outcomes: &[Outcome], period: Period, bootstrap: &Bootstrap) -> ListQuality {
    let lists = || {
        let of_versions = outcomes.iter().filter(|outcome| outcome.version.is_some());
        of_versions.filter_map(|outcome| outcome.list.as_ref())
    };
    let hit = |taken: usize| f64::from(u8::from(taken > 0));
    let compared = |pairs: Vec<(f64, f64)>| {
        let (ours, popular): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        let (value, other): (Estimate, Estimate) =
            (bootstrap.mean(&ours), bootstrap.mean(&popular));
        let difference = bootstrap.mean_difference(&ours, &popular);
        Compared {
            value: value.value,
            interval: value.interval,
            popular: other.value,
            improvement: difference.value,
            improvement_interval: difference.interval,
        }
    };
    ListQuality {
        from: period.from,
        until: period.until,
        answers: lists().count(),
        fallbacks: period.fallbacks,
        versions: period.versions,
        hit_rate: compared(
            lists()
                .map(|list| (hit(list.taken.len()), hit(list.popular_taken)))
                .collect(),
        ),
        taken: compared(
            lists()
                .map(|list| (list.taken.len() as f64, list.popular_taken as f64))
                .collect(),
        ),
        ndcg: compared(
            lists()
                .filter_map(|list| Some((list.ndcg?, list.popular_ndcg.unwrap_or(0.0))))
                .collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use tidemill_core::DecisionId;
    use tidemill_core::decision::{ListOutcome, TakenItem};

    use super::*;

    fn outcome(version: Option<u32>, taken: usize, popular: usize) -> Outcome {
        let item = |place| TakenItem {
            item: format!("i{place}"),
            place,
        };
        let found =
            |count: usize| (taken + popular > 0).then_some(if count > 0 { 0.5 } else { 0.0 });
        Outcome {
            decision: DecisionId::new(Timestamp::EPOCH, [0; 10]),
            model: "for_you".parse().unwrap(),
            version,
            fallback: None,
            entity: "user:u".to_owned(),
            moment: Timestamp::EPOCH,
            resolved_at: Timestamp::EPOCH,
            score: 0.0,
            value: taken as f64,
            class: None,
            list: Some(ListOutcome {
                taken: (0..taken).map(item).collect(),
                others: 0,
                ndcg: found(taken),
                popular_taken: popular,
                popular_ndcg: found(popular),
            }),
        }
    }

    fn period(fallbacks: usize) -> Period {
        Period {
            from: Timestamp::EPOCH,
            until: Timestamp::MAX,
            fallbacks,
            not_kept: 0,
            versions: vec![1],
        }
    }

    #[test]
    fn lists_are_compared_with_what_everybody_takes() {
        let mut outcomes: Vec<Outcome> = (0..40).map(|_| outcome(Some(1), 2, 0)).collect();
        outcomes.extend((0..20).map(|_| outcome(Some(1), 0, 1)));
        outcomes.extend((0..20).map(|_| outcome(Some(1), 0, 0)));
        outcomes.extend((0..5).map(|_| outcome(None, 7, 7)));
        let quality = list_quality(&outcomes, period(5), &Bootstrap::default());
        assert_eq!((quality.answers, quality.fallbacks), (80, 5));
        assert_eq!(
            (quality.hit_rate.value, quality.hit_rate.popular),
            (Some(0.5), Some(0.25))
        );
        assert_eq!(
            (quality.taken.value, quality.taken.popular),
            (Some(1.0), Some(0.25))
        );
        // those after which nothing was taken say nothing about the order
        let ndcg = quality.ndcg;
        assert!(
            (ndcg.value.unwrap() - 20.0 / 60.0).abs() < 1e-12,
            "{ndcg:?}"
        );
        assert!(
            (ndcg.popular.unwrap() - 10.0 / 60.0).abs() < 1e-12,
            "{ndcg:?}"
        );
        let (low, high) = quality.hit_rate.improvement_interval.unwrap();
        assert!(low < 0.25 && 0.25 < high, "{low} to {high}");
    }

    #[test]
    fn no_lists_are_no_error() {
        let quality = list_quality(&[], period(0), &Bootstrap::default());
        assert_eq!(
            (quality.answers, quality.hit_rate),
            (0, Compared::default())
        );
    }
}
