//! What every source promises, as a suite that any of them can be put through.
//!
//! ```
//! use tidemill_learn::recommend::{ItemGraph, SourceParameters, conformance};
//!
//! conformance::check(&SourceParameters::ItemGraph(ItemGraph::default())).expect("the graph keeps every promise");
//! ```

use super::ItemIndex;
use super::accumulator::Accumulator;
use super::any_source::{FittedSource, SourceParameters};
use super::holdout::Question;
use super::interactions::{Interactions, Signal};
use super::query::{Query, Source};

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("keep the promise '{promise}' with {source_name}: {found}")]
pub struct BrokenPromise {
    /// The source's name.
    pub source_name: String,
    /// Which promise.
    pub promise: &'static str,
    /// What happened instead.
    pub found: String,
}

/// Puts a source through all questions and edge cases: the same data and seed give the same bytes, on one thread and on several; a
/// stored source answers the same; scores are finite and above 0; candidates are the best scores, best first, and none
/// twice; an empty history, one of unknown items, no data and a single history are answered; an empty catalogue is as well.
///
/// # Errors
/// The first promise that is not kept.
pub fn check(source: &SourceParameters) -> Result<(), BrokenPromise> {
    for question in [Question::Others, Question::Next, Question::NextInSession] {
        let suite = Suite { source, question };
        suite.usual()?;
        for data in [empty(0), empty(5), single()] {
            let fitted = source.fit(&data, question, 7);
            suite.answers(&fitted)?;
        }
    }
    Ok(())
}

struct Suite<'a> {
    source: &'a SourceParameters,
    question: Question,
}

impl Suite<'_> {
    fn broken(&self, promise: &'static str, found: impl std::fmt::Display) -> BrokenPromise {
        BrokenPromise {
            source_name: self.source.name().to_owned(),
            promise,
            found: format!("{found} ({:?})", self.question),
        }
    }

    fn usual(&self) -> Result<(), BrokenPromise> {
        let data = two_tastes();
        let fitted = self.source.fit(&data, self.question, 7);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
        let alone = pool
            .map_err(|error| self.broken("can be fitted on one thread", error))?
            .install(|| self.source.fit(&data, self.question, 7));
        let bytes = |fitted: &FittedSource| {
            serde_json::to_string(fitted).map_err(|error| self.broken("can be stored", error))
        };
        let stored = bytes(&fitted)?;
        if bytes(&alone)? != stored {
            return Err(self.broken("the same on any number of threads", "two fits differ"));
        }
        let loaded: FittedSource = serde_json::from_str(&stored)
            .map_err(|error| self.broken("can be read back", error))?;
        if loaded != fitted {
            return Err(self.broken("can be read back", "what was read back differs"));
        }
        self.answers(&fitted)
    }

    fn answers(&self, fitted: &FittedSource) -> Result<(), BrokenPromise> {
        self.is_fixed_as_it_scores(fitted)?;
        let known: Vec<Signal> = [0, 2, 4].map(Signal::plain).to_vec();
        let unknown = [Signal::plain(1_000_000)];
        for history in [&[][..], &known, &unknown] {
            self.answer(fitted, &Query::new(history))?;
        }
        Ok(())
    }

    fn answer(&self, fitted: &FittedSource, query: &Query<'_>) -> Result<(), BrokenPromise> {
        let mut scores = Accumulator::new(fitted.items());
        fitted.score(query, &mut scores);
        let all: Vec<(ItemIndex, f32)> = scores.scores().collect();
        if let Some((item, score)) = all.iter().find(|(_, score)| !score.is_finite()) {
            return Err(self.broken("scores are finite", format!("item {item} scores {score}")));
        }
        let mut best = Vec::new();
        fitted.candidates(query, 3, &mut best);
        let falls = best.windows(2).all(|pair| pair[0].1 >= pair[1].1);
        let mut distinct: Vec<ItemIndex> = best.iter().map(|(item, _)| *item).collect();
        distinct.sort_unstable();
        distinct.dedup();
        if !falls || distinct.len() != best.len() || best.len() != all.len().min(3) {
            return Err(self.broken("candidates are the best, each once", format!("{best:?}")));
        }
        let lowest = best.last().map_or(f32::NEG_INFINITY, |last| last.1);
        let missed = all.iter().filter(|(_, score)| *score > lowest).count();
        if missed > best.len() {
            return Err(self.broken(
                "candidates are the best, each once",
                "a better one is missing",
            ));
        }
        Ok(())
    }

    /// What is said to be the same for all queries is what is scored.
    fn is_fixed_as_it_scores(&self, fitted: &FittedSource) -> Result<(), BrokenPromise> {
        let promise = "fixed scores are its scores";
        let history = [Signal::plain(0)];
        let query = Query::new(&history);
        let Some(fixed) = fitted.fixed(&query) else {
            return Ok(());
        };
        let mut scores = Accumulator::new(fitted.items());
        fitted.score(&query, &mut scores);
        let mut ranking = Vec::new();
        scores.best(usize::MAX, &mut ranking);
        if fixed.ranking != ranking {
            return Err(self.broken(promise, format!("{:?}", fixed.ranking)));
        }
        let differs = |item: &usize| fixed.scores[*item] != scores.get(*item as ItemIndex);
        match (0..fitted.items()).find(differs) {
            Some(item) => Err(self.broken(promise, format!("item {item}"))),
            None => Ok(()),
        }
    }
}

fn empty(items: usize) -> Interactions {
    Interactions::builder().build(items)
}

fn single() -> Interactions {
    let mut data = Interactions::builder();
    data.push([Signal::plain(1)]);
    data.build(3)
}

/// Sixty people with a taste for even items and sixty with one for odd items.
pub fn two_tastes() -> Interactions {
    let mut data = Interactions::builder();
    for person in 0..120_u32 {
        let signals = (0..6).map(|step| Signal {
            item: 2 * ((person / 2 + step * step) % 10) + person % 2,
            weight: 1.0 + (step % 2) as f32,
            time: i64::from(person * 100 + step),
        });
        data.push(signals);
    }
    data.build(24)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recommend::{
        Embeddings, ItemGraph, Popular, PopularIn, SessionNeighbours, Spectral,
    };

    fn sources() -> Vec<SourceParameters> {
        let few = Embeddings {
            dimensions: 8,
            negatives: 16,
            batch: 32,
            ..Embeddings::default()
        };
        vec![
            SourceParameters::ItemGraph(ItemGraph::default()),
            SourceParameters::SessionNeighbours(SessionNeighbours::default()),
            SourceParameters::Spectral(Spectral {
                rank: 8,
                ..Spectral::default()
            }),
            SourceParameters::Embeddings(Embeddings {
                shared: true,
                half_life: 0.5,
                ..few.clone()
            }),
            SourceParameters::Embeddings(few),
            SourceParameters::Popular(Popular::trending(0.2)),
            SourceParameters::PopularIn(PopularIn::default()),
            SourceParameters::Newest,
            SourceParameters::Repeats,
        ]
    }

    #[test]
    fn every_source_keeps_every_promise() {
        for source in sources() {
            check(&source).unwrap();
        }
    }

    #[test]
    fn every_source_that_learns_tastes_tells_them_apart() {
        let data = two_tastes();
        for source in sources().iter().take(5) {
            let fitted = source.fit(&data, Question::Next, 7);
            let mut best = Vec::new();
            let history = [0, 4, 8].map(Signal::plain);
            fitted.candidates(&Query::new(&history), 5, &mut best);
            assert_eq!(best.len(), 5, "{}", source.name());
            let even = best.iter().filter(|(item, _)| item % 2 == 0).count();
            assert!(even >= 4, "{}: {best:?}", source.name());
        }
    }
}
