//! What a person decides instead of evaluation: which sources there are, what they count, and whether there is a ranker.

use super::any_source::SourceParameters;
use super::popular::Popular;
use super::recommender::Recommender;

/// What is decided; what is absent is found out by evaluation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pinned<'a> {
    /// The names of the sources that the model has. All of them stay, and no others are tried.
    pub sources: Option<Vec<&'a str>>,
    /// One weight for each of these sources, in the same order: the log-odds between the item of which it says most and one of which
    /// it says nothing. They are the same for all lengths of history.
    pub weights: Option<Vec<f64>>,
    /// Whether there is a ranker, whatever it is worth.
    pub ranker: Option<bool>,
}

/// There is no source of such a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no source '{name}'")]
pub struct UnknownSource {
    /// The name.
    pub name: String,
}

impl Recommender {
    /// All sources that can be pinned: those that are chosen from, and simple ones beside them.
    pub fn offered(&self) -> Vec<SourceParameters> {
        let mut offered = self.sources.clone();
        let all = Self::new(self.question).sources.into_iter();
        let simple = [
            SourceParameters::Popular(Popular::trending(0.05)),
            SourceParameters::Newest,
        ];
        for source in all.chain(simple) {
            if offered.iter().all(|known| known.name() != source.name()) {
                offered.push(source);
            }
        }
        offered
    }

    /// Learns as before, but for what a person decided.
    ///
    /// # Errors
    /// When a source is named that is not [offered](Self::offered).
    pub fn pinned(mut self, pinned: &Pinned<'_>) -> Result<Self, UnknownSource> {
        if let Some(names) = &pinned.sources {
            let offered = self.offered();
            let named = names.iter().map(|name| {
                let found = offered.iter().find(|source| source.name() == *name);
                let name = (*name).to_owned();
                found.cloned().ok_or(UnknownSource { name })
            });
            self.sources = named.collect::<Result<_, _>>()?;
            self.keeps_all = true;
            self.blend.fixed.clone_from(&pinned.weights);
        }
        match (pinned.ranker, &mut self.ranker) {
            (Some(true), Some(ranker)) => ranker.always = true,
            (Some(false), ranker) => *ranker = None,
            _ => {}
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recommend::conformance::two_tastes;
    use crate::recommend::{Query, Question, Signal};

    fn fit(pinned: &Pinned<'_>) -> crate::recommend::Recommendations {
        let recommender = Recommender::quick(Question::Later);
        recommender.pinned(pinned).unwrap().fit(&two_tastes())
    }

    #[test]
    fn named_sources_stay_with_the_weights_that_are_given() {
        let names = ["popular", "newest", "goes with"];
        let mut pinned = Pinned {
            sources: Some(names.to_vec()),
            ..Pinned::default()
        };
        let fitted = fit(&pinned);
        let kept = fitted.sources().iter().map(crate::recommend::Source::name);
        assert_eq!(kept.collect::<Vec<_>>(), names);
        assert!(fitted.record().sources.iter().all(|source| source.kept));
        let history = [1, 3, 7].map(Signal::plain);
        let best = |fitted: &crate::recommend::Recommendations| {
            fitted.recommend(&Query::new(&history), 8, &mut fitted.scratch())
        };
        let of_this_taste = |ranked: &[(u32, f32)]| {
            ranked
                .iter()
                .take(3)
                .filter(|(item, _)| item % 2 == 1)
                .count()
        };
        assert_eq!(of_this_taste(&best(&fitted)), 3);

        pinned.weights = Some(vec![2.0, 0.0, 0.0]);
        pinned.ranker = Some(false);
        let popular = fit(&pinned);
        let weights = popular.weights().weights(history.len());
        assert_eq!(weights, [2.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert!(
            of_this_taste(&best(&popular)) < 3,
            "popularity knows no tastes"
        );
    }

    #[test]
    fn a_ranker_is_there_or_not_as_decided() {
        for decided in [true, false] {
            let fitted = fit(&Pinned {
                ranker: Some(decided),
                ..Pinned::default()
            });
            assert_eq!(fitted.ranker().is_some(), decided);
            assert_eq!(fitted.record().ranker.is_some(), decided);
        }
    }

    #[test]
    fn what_is_not_offered_is_refused_by_name() {
        let pinned = Pinned {
            sources: Some(vec!["popular", "astrology"]),
            ..Pinned::default()
        };
        let refused = Recommender::new(Question::Later).pinned(&pinned);
        assert_eq!(
            refused.unwrap_err().to_string(),
            "there is no source 'astrology'"
        );
    }
}
