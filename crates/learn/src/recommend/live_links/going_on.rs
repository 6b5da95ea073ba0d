//! Where an item stands of which only some sources can say something.

use serde::{Deserialize, Serialize};

use super::LiveLinks;
use crate::recommend::ItemIndex;
use crate::recommend::any_source::SourceParameters;
use crate::recommend::blend::{Blend, BlendWeights};
use crate::recommend::choice::Choice;
use crate::recommend::query::Query;

/// The sources of a blend that go on while it serves, weighed by themselves on what was held back. About a fresh item the others are
/// silent, and their weights would take that for an opinion: it gets the place among the candidates that these sources
/// give it, and the log-odds of the item that stands there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::recommend) struct GoingOn {
    /// Their places among the sources of the blend.
    places: Vec<usize>,
    weights: BlendWeights,
}

impl GoingOn {
    /// Weighs those of the sources that are kept that go on; `None` where there is no graph among them.
    pub(in crate::recommend) fn fit(
        blend: &Blend,
        choices: &[Choice],
        (sources, kept): (&[SourceParameters], &[usize]),
    ) -> Option<Self> {
        let is_graph = |source: &SourceParameters| matches!(source, SourceParameters::ItemGraph(graph) if graph.is_counted());
        sources.iter().find(|source| is_graph(source))?;
        // a count of all times and one that fades contradict each other about what is new
        let fades = |source: &SourceParameters| matches!(source, SourceParameters::Popular(popular) if popular.half_life > 0.0);
        let any_fades = sources.iter().any(fades);
        let goes_on = |source: &SourceParameters| match source {
            SourceParameters::Popular(_) => fades(source) || !any_fades,
            SourceParameters::Repeats => true,
            source => is_graph(source),
        };
        let places = (0..sources.len()).filter(|place| goes_on(&sources[*place]));
        let places: Vec<usize> = places.collect();
        let among_all: Vec<usize> = places.iter().map(|place| kept[*place]).collect();
        Some(Self {
            weights: blend.fit_choices(choices, &among_all),
            places,
        })
    }

    /// Gives fresh items the log-odds of the places at which they stand. The rows have what `sources` say of the items.
    pub(in crate::recommend) fn place(
        &self,
        live: &LiveLinks,
        query: &Query<'_>,
        ((items, said), sources): ((&[ItemIndex], &[f32]), usize),
        odds: &mut [f64],
    ) {
        let is_fresh: Vec<bool> = items.iter().map(|item| live.is_fresh(*item)).collect();
        if !is_fresh.contains(&true) {
            return;
        }
        let sums = self
            .weights
            .sums_of(&self.places, (said, 2 * sources), query);
        let learnt = |of: &[f64]| -> Vec<f64> {
            let learnt = of.iter().zip(&is_fresh).filter(|(_, fresh)| !**fresh);
            let mut learnt: Vec<f64> = learnt.map(|(value, _)| *value).collect();
            learnt.sort_by(|one, other| other.total_cmp(one));
            learnt
        };
        let (order, steps) = (learnt(&sums), learnt(odds));
        let Some(last) = steps.last().copied() else {
            return;
        };
        for (place, odds) in odds
            .iter_mut()
            .enumerate()
            .filter(|(place, _)| is_fresh[*place])
        {
            let ahead = order.partition_point(|sum| *sum >= sums[place]);
            *odds = steps.get(ahead).copied().unwrap_or(last - 1.0);
        }
    }
}
