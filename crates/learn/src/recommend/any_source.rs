//! The sources as one type each for parameters and for what was fitted, so that a list of them can be stored.

use serde::{Deserialize, Serialize};

use super::ItemIndex;
use super::accumulator::Accumulator;
use super::content::{Content, Description};
use super::embeddings::{EmbeddingModel, Embeddings};
use super::holdout::Question;
use super::interactions::Interactions;
use super::item_graph::{Graph, ItemGraph};
use super::popular::{Popular, Popularity};
use super::popular_in::{PopularIn, SegmentPopularity};
use super::query::{Fixed, Query, Source};
use super::repeats::Repeats;
use super::sessions::{SessionMemory, SessionNeighbours};
use super::spectral::{Spectral, Spectrum};

/// Parameters of any source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[allow(missing_docs, reason = "each variant is the struct of its name")]
pub enum SourceParameters {
    ItemGraph(ItemGraph),
    SessionNeighbours(SessionNeighbours),
    Embeddings(Embeddings),
    Spectral(Spectral),
    Popular(Popular),
    PopularIn(PopularIn),
    Repeats,
    Content(Content),
    /// What was first taken last.
    Newest,
}

impl SourceParameters {
    /// Whether it says something of every item, and not only of those that are linked to a history.
    pub fn is_dense(&self) -> bool {
        matches!(self, Self::Embeddings(_) | Self::Spectral(_))
    }
}

/// Any fitted source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "each variant is the struct of its name")]
pub enum FittedSource {
    ItemGraph(Graph),
    SessionNeighbours(SessionMemory),
    Embeddings(EmbeddingModel),
    Spectral(Spectrum),
    Popular(Popularity),
    PopularIn(SegmentPopularity),
    Newest(Popularity),
    Repeats(Repeats),
}

impl SourceParameters {
    /// Fits the source to what was taken.
    pub fn fit(&self, data: &Interactions, question: Question, seed: u64) -> FittedSource {
        self.fit_described(data, &[], question, seed)
    }

    /// Fits the source to what was taken and to the words of the items, in the order of their numbers.
    pub fn fit_described(
        &self,
        data: &Interactions,
        described: &[Description],
        question: Question,
        seed: u64,
    ) -> FittedSource {
        match self {
            Self::ItemGraph(graph) => FittedSource::ItemGraph(graph.fit(data)),
            Self::SessionNeighbours(sessions) => {
                FittedSource::SessionNeighbours(sessions.fit(data))
            }
            Self::Embeddings(embeddings) => {
                FittedSource::Embeddings(embeddings.fit(data, question, seed))
            }
            Self::Spectral(spectral) => FittedSource::Spectral(spectral.fit(data, seed)),
            Self::Popular(popular) => FittedSource::Popular(popular.fit(data)),
            Self::PopularIn(popular) => FittedSource::PopularIn(popular.fit(data)),
            Self::Newest => FittedSource::Newest(Popular::newest(data)),
            Self::Repeats => FittedSource::Repeats(Repeats {
                items: data.items(),
            }),
            Self::Content(content) => {
                let mut described = described.to_vec();
                described.resize(data.items(), Description::default());
                FittedSource::ItemGraph(content.fit(&described))
            }
        }
    }

    /// Fits the source as far as histories of the `asked` items are answered as by [`SourceParameters::fit`]: what is asked for a
    /// few cases alone need not be known of all items.
    pub(super) fn fit_for(
        &self,
        data: &Interactions,
        (asked, described): (&[ItemIndex], &[Description]),
        question: Question,
        seed: u64,
    ) -> FittedSource {
        match self {
            Self::ItemGraph(graph) => FittedSource::ItemGraph(graph.fit_rows(data, asked)),
            _ => self.fit_described(data, described, question, seed),
        }
    }

    /// Whether both can be fitted in one go.
    pub(super) fn is_fitted_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::ItemGraph(one), Self::ItemGraph(other)) => one.counts_like(other),
            _ => false,
        }
    }

    /// Fits sources each of which [is fitted with](Self::is_fitted_with) the others, as [`SourceParameters::fit_for`] does.
    pub(super) fn fit_together(
        sources: &[Self],
        data: &Interactions,
        asked: &[ItemIndex],
        (question, seed): (Question, u64),
    ) -> Vec<FittedSource> {
        let graphs: Option<Vec<&ItemGraph>> = sources
            .iter()
            .map(|source| match source {
                Self::ItemGraph(graph) => Some(graph),
                _ => None,
            })
            .collect();
        match graphs {
            Some(graphs) => {
                let fitted = ItemGraph::fit_alike(&graphs, data, asked);
                fitted.into_iter().map(FittedSource::ItemGraph).collect()
            }
            None => sources
                .iter()
                .map(|source| source.fit_for(data, (asked, &[]), question, seed))
                .collect(),
        }
    }

    /// The source's name.
    pub fn name(&self) -> &str {
        match self {
            Self::ItemGraph(graph) => &graph.name,
            Self::SessionNeighbours(sessions) => &sessions.name,
            Self::Embeddings(embeddings) => &embeddings.name,
            Self::Spectral(spectral) => &spectral.name,
            Self::Popular(popular) => &popular.name,
            Self::PopularIn(popular) => &popular.name,
            Self::Repeats => "repeats",
            Self::Newest => "newest",
            Self::Content(content) => &content.name,
        }
    }

    /// This source where the order within a history says nothing: without its weights of age and distance, or `None` if it
    /// is about nothing else.
    pub fn without_order(&self) -> Option<Self> {
        let mut source = self.clone();
        match &mut source {
            Self::ItemGraph(graph) if graph.backward < 1.0 => return None,
            Self::SessionNeighbours(_) => return None,
            Self::ItemGraph(graph) => (graph.gap_power, graph.recency_power) = (0.0, 0.0),
            Self::Spectral(spectral) => spectral.recency_power = 0.0,
            _ => {}
        }
        Some(source)
    }

    /// What a search tries: one list for each parameter that is chosen by evaluation, made of the source as chosen so far with each
    /// of the parameter's other values. Those of age and distance only where histories are `ordered`.
    pub fn variations(&self, ordered: bool) -> Vec<fn(&Self) -> Vec<Self>> {
        let mut variations = self.variations_of_order();
        if !ordered {
            variations.clear();
        }
        let others: &[fn(&Self) -> Vec<Self>] = match self {
            Self::ItemGraph(_) => &[
                |source| source.graphs(&[0.0, 0.25, 0.5, 0.65], |graph, v| graph.history_power = v),
                |source| source.graphs(&[0.2, 0.35, 0.5], |graph, v| graph.to_power = v),
                |source| source.graphs(&[0.2, 0.35, 0.5], |graph, v| graph.from_power = v),
                |source| source.graphs(&[0.5, 0.75, 1.0], |graph, v| graph.similarity_power = v),
            ],
            Self::SessionNeighbours(_) => &[
                |source| {
                    source.sessions(&[0.0, 0.25, 0.5], |sessions, v| sessions.length_power = v)
                },
                |source| source.sessions(&[0.0, 0.2, 0.4], |sessions, v| sessions.to_power = v),
                |source| source.sessions(&[1.0, 2.0], |sessions, v| sessions.similarity_power = v),
            ],
            Self::Spectral(_) => &[
                |source| {
                    source.spectra(&[0.35, 0.5, 0.65], |spectral, v| spectral.history_power = v)
                },
                |source| {
                    source.spectra(&[0.35, 0.5], |spectral, v| {
                        (spectral.item_power, spectral.from_power, spectral.to_power) = (v, v, v);
                    })
                },
            ],
            _ => &[],
        };
        variations.extend(others);
        variations
    }

    fn variations_of_order(&self) -> Vec<fn(&Self) -> Vec<Self>> {
        match self {
            Self::ItemGraph(_) => vec![
                |source| source.graphs(&[0.0, 0.5, 1.0, 2.0], |graph, v| graph.recency_power = v),
                |source| source.graphs(&[0.0, 0.5, 1.0], |graph, v| graph.gap_power = v),
                |source| source.graphs(&[0.0, 0.1, 0.3], |graph, v| graph.half_life = v),
            ],
            Self::SessionNeighbours(_) => vec![
                |source| {
                    source.sessions(&[0.0, 1.0, 2.0], |sessions, v| sessions.recency_power = v)
                },
                |source| source.sessions(&[0.0, 0.5, 1.0], |sessions, v| sessions.gap_power = v),
                |source| source.sessions(&[0.1, 0.3, 1.0], |sessions, v| sessions.backward = v),
            ],
            Self::Spectral(_) => vec![|source| {
                source.spectra(&[0.0, 0.5, 1.0], |spectral, v| spectral.recency_power = v)
            }],
            _ => Vec::new(),
        }
    }

    fn spectra(&self, values: &[f32], set: fn(&mut Spectral, f32)) -> Vec<Self> {
        self.each(values, |source, value| {
            if let Self::Spectral(spectral) = source {
                set(spectral, value);
            }
        })
    }

    fn graphs(&self, values: &[f32], set: fn(&mut ItemGraph, f32)) -> Vec<Self> {
        self.each(values, |source, value| {
            if let Self::ItemGraph(graph) = source {
                set(graph, value);
            }
        })
    }

    fn sessions(&self, values: &[f32], set: fn(&mut SessionNeighbours, f32)) -> Vec<Self> {
        self.each(values, |source, value| {
            if let Self::SessionNeighbours(sessions) = source {
                set(sessions, value);
            }
        })
    }

    fn each(&self, values: &[f32], set: impl Fn(&mut Self, f32)) -> Vec<Self> {
        let varied = values.iter().map(|value| {
            let mut source = self.clone();
            set(&mut source, *value);
            source
        });
        varied.filter(|source| source != self).collect()
    }
}

impl FittedSource {
    fn inner(&self) -> &dyn Source {
        match self {
            Self::ItemGraph(source) => source,
            Self::SessionNeighbours(source) => source,
            Self::Embeddings(source) => source,
            Self::Spectral(source) => source,
            Self::Popular(source) | Self::Newest(source) => source,
            Self::PopularIn(source) => source,
            Self::Repeats(source) => source,
        }
    }
}

impl Source for FittedSource {
    fn name(&self) -> &str {
        self.inner().name()
    }

    fn items(&self) -> usize {
        self.inner().items()
    }

    fn score(&self, query: &Query<'_>, scores: &mut Accumulator) {
        self.inner().score(query, scores);
    }

    fn fixed(&self, query: &Query<'_>) -> Option<Fixed<'_>> {
        self.inner().fixed(query)
    }
}
