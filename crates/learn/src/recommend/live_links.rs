//! What goes with items that came after a version was learnt: counted event by event, as the version's item graphs count.

mod counts;
mod going_on;

use std::collections::BTreeMap;

use super::ItemIndex;
use super::accumulator::{Accumulator, keep_best};
use super::any_source::FittedSource;
use super::interactions::Signal;
use super::item_graph::ItemGraph;
use super::query::{Fixed, Query, Source};
use super::recommender::Recommendations;
use counts::LiveCounts;
pub(super) use going_on::GoingOn;

/// Links from and to *fresh* items: those of which nobody had taken anything when the model was learnt. All that is known of them
/// happened since, so that counting from there on gives them the links that [`ItemGraph::fit`] would, in the units of the graphs that
/// the blend has weights for. What was learnt stays as it is: what was examined is what serves.
///
/// A history weighs by its length when it is counted, and items that were learnt keep the degree that they had then.
///
/// Memory: at most `2 × neighbours_max × 8` bytes for each graph and each fresh item or learnt one that goes with any.
/// To observe costs a comparison for each pair of the history within the window.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveLinks {
    /// In how many histories each item of the model occurs.
    learnt: Vec<f32>,
    /// In how many histories each fresh item occurs.
    fresh: BTreeMap<ItemIndex, f32>,
    /// Beside the graphs of the blend, by their places among its sources.
    graphs: Vec<(usize, LiveGraph)>,
    /// Beside the sources that count how often items are taken, by their places.
    popular: Vec<(usize, LiveCounts)>,
}

/// The counts `c_ij` of pairs of which one item is fresh.
#[derive(Debug, Clone, PartialEq)]
struct LiveGraph {
    parameters: ItemGraph,
    rows: BTreeMap<ItemIndex, Vec<(ItemIndex, f32)>>,
}

/// Neighbours of an item that are certain to be kept; twice as many are for a while.
const NEIGHBOURS_MAX: usize = 100;
/// There is room for one fresh item for so many that the model has numbers for, and for at least [`ROOM_MIN`].
const NUMBERED_PER_FRESH: usize = 10;
/// See [`NUMBERED_PER_FRESH`].
const ROOM_MIN: usize = 10_000;

impl LiveLinks {
    /// Nothing seen yet, beside a model; `None` where its blend has no graph of what was taken.
    pub fn beside(model: &Recommendations) -> Option<Self> {
        let sources = model.sources().iter().enumerate();
        let graphs = sources.filter_map(|(place, source)| match source {
            FittedSource::ItemGraph(graph) if graph.parameters().is_counted() => Some((
                place,
                LiveGraph {
                    parameters: graph.parameters().clone(),
                    rows: BTreeMap::new(),
                },
            )),
            _ => None,
        });
        let graphs: Vec<(usize, LiveGraph)> = graphs.collect();
        let sources = model.sources().iter().enumerate();
        let popular = sources.filter_map(|(place, source)| match source {
            FittedSource::Popular(popular) => Some((place, LiveCounts::beside(popular))),
            _ => None,
        });
        let learnt = model.degrees().to_vec();
        (!graphs.is_empty() && !learnt.is_empty()).then(|| Self {
            learnt,
            fresh: BTreeMap::new(),
            graphs,
            popular: popular.collect(),
        })
    }

    /// How many items there is room for beyond those that a model has numbers for.
    pub fn room(numbered: usize) -> usize {
        (numbered / NUMBERED_PER_FRESH).max(ROOM_MIN)
    }

    /// Whether nothing was known of an item when the model was learnt.
    pub fn is_fresh(&self, item: ItemIndex) -> bool {
        degree_of(&self.learnt, item) <= 0.0
    }

    /// Takes in what somebody took, oldest first: the pairs of which one signal is new and one item fresh. Of a history that is seen for
    /// the first time, all signals are new. Items beyond [`room`](Self::room) must not occur.
    pub fn observe(&mut self, history: &[Signal], is_new: &[bool]) {
        debug_assert_eq!(history.len(), is_new.len());
        if !history.iter().any(|signal| self.is_fresh(signal.item)) {
            return;
        }
        for (place, signal) in history.iter().enumerate() {
            let before = &history[..place];
            if is_new[place] && self.is_fresh(signal.item) {
                let is_first = !before.iter().any(|other| other.item == signal.item);
                *self.fresh.entry(signal.item).or_insert(0.0) += f32::from(u8::from(is_first));
                for (_, counts) in &mut self.popular {
                    counts.add(signal.item, signal.weight, signal.time);
                }
            }
        }
        let learnt = &self.learnt;
        let is_fresh = |item| degree_of(learnt, item) <= 0.0;
        for (_, graph) in &mut self.graphs {
            graph.observe(history, is_new, is_fresh);
        }
    }

    /// How many fresh items were taken.
    pub fn fresh_items(&self) -> usize {
        self.fresh.len()
    }

    /// How well one item goes with another, from 0 to 1, where one of them is fresh: its weight over the largest of such links.
    pub fn likeness(&self, from: ItemIndex, to: ItemIndex) -> f32 {
        let Some((_, graph)) = self.graphs.first() else {
            return 0.0;
        };
        let links = self.links(graph, from);
        let strongest = links.iter().map(|(_, weight)| *weight).fold(0.0, f32::max);
        let link = links.iter().find(|(item, _)| *item == to);
        link.map_or(0.0, |(_, weight)| weight / strongest.max(f32::MIN_POSITIVE))
    }

    fn degree(&self, item: ItemIndex) -> f32 {
        let learnt = degree_of(&self.learnt, item);
        match learnt > 0.0 {
            true => learnt,
            false => self.fresh.get(&item).copied().unwrap_or(0.0).max(1.0),
        }
    }

    /// The fresh part of a row, in the units of the graph.
    fn links(&self, graph: &LiveGraph, from: ItemIndex) -> Vec<(ItemIndex, f32)> {
        let Some(row) = graph.rows.get(&from) else {
            return Vec::new();
        };
        let reading = &graph.parameters;
        let scale = self.degree(from).powf(-reading.from_power);
        let links = row.iter().map(|(to, count)| {
            let scaled = count * scale * self.degree(*to).powf(-reading.to_power);
            (*to, scaled.powf(reading.similarity_power))
        });
        links.collect()
    }

    /// The sources of a model, with fresh links beside its graphs.
    pub(super) fn extend<'a>(&'a self, sources: &'a [FittedSource]) -> Vec<Extended<'a>> {
        let sources = sources.iter().enumerate();
        let extended = sources.map(|(place, source)| {
            let live = self.graphs.iter().find(|(graph, _)| *graph == place);
            let counts = self.popular.iter().find(|(popular, _)| *popular == place);
            Extended {
                source,
                live: live.map(|(_, graph)| (self, graph)),
                counts: counts.map(|(_, counts)| counts),
            }
        });
        extended.collect()
    }
}

/// In how many histories an item occurred that has a number; 0 of one that has none.
fn degree_of(learnt: &[f32], item: ItemIndex) -> f32 {
    learnt.get(item as usize).copied().unwrap_or(0.0)
}

impl LiveGraph {
    fn observe(
        &mut self,
        history: &[Signal],
        is_new: &[bool],
        is_fresh: impl Fn(ItemIndex) -> bool,
    ) {
        let (counting, rows) = (&self.parameters, &mut self.rows);
        let length = history.len().max(1) as f32;
        let damped = length.powf(-2.0 * counting.history_power);
        for (place, later) in history.iter().enumerate() {
            let start = place.saturating_sub(counting.window);
            for (earlier_place, earlier) in history.iter().enumerate().take(place).skip(start) {
                let is_counted = (is_new[place] || is_new[earlier_place])
                    && earlier.item != later.item
                    && (is_fresh(earlier.item) || is_fresh(later.item));
                if !is_counted {
                    continue;
                }
                let gap = (place - earlier_place) as f32;
                let kernel = gap.powf(-counting.gap_power);
                let count = earlier.weight * later.weight * damped * kernel;
                add(rows, (earlier.item, later.item), count);
                if counting.backward > 0.0 {
                    add(rows, (later.item, earlier.item), count * counting.backward);
                }
            }
        }
    }
}

fn add(
    rows: &mut BTreeMap<ItemIndex, Vec<(ItemIndex, f32)>>,
    (from, to): (ItemIndex, ItemIndex),
    count: f32,
) {
    let row = rows.entry(from).or_default();
    if let Some((_, sum)) = row.iter_mut().find(|(item, _)| *item == to) {
        *sum += count;
        return;
    }
    row.push((to, count));
    if row.len() > 2 * NEIGHBOURS_MAX {
        let kept = keep_best(row, NEIGHBOURS_MAX);
        row.truncate(kept);
    }
}

/// A source of a model with what was counted since beside it.
pub(super) struct Extended<'a> {
    source: &'a FittedSource,
    live: Option<(&'a LiveLinks, &'a LiveGraph)>,
    counts: Option<&'a LiveCounts>,
}

impl Source for Extended<'_> {
    fn name(&self) -> &str {
        self.source.name()
    }

    fn items(&self) -> usize {
        self.source.items()
    }

    fn score(&self, query: &Query<'_>, scores: &mut Accumulator) {
        self.source.score(query, scores);
        if let FittedSource::Repeats(repeats) = self.source {
            // what was taken before may be wanted again, however new it is
            return repeats.score_all(query, scores, |item| item as usize >= repeats.items);
        }
        if let Some((all, graph)) = self.live {
            let links = |item| all.links(graph, item);
            graph.parameters.score_links(query, links, scores);
        }
    }

    fn fixed(&self, query: &Query<'_>) -> Option<Fixed<'_>> {
        let fixed = self.source.fixed(query)?;
        Some(Fixed {
            fresh: self.counts.map(|counts| counts.at(query.now)),
            ..fixed
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recommend::conformance::two_tastes;
    use crate::recommend::{Interactions, Question, Recommender, SourceParameters};

    const FRESH: ItemIndex = 21;

    fn graphs() -> Vec<ItemGraph> {
        let plain = ItemGraph {
            from_power: 0.0,
            to_power: 0.0,
            ..ItemGraph::default()
        };
        let after = ItemGraph {
            name: "comes after".to_owned(),
            gap_power: 0.5,
            backward: 0.1,
            window: 3,
            recency_power: 1.0,
            ..plain.clone()
        };
        vec![plain, after]
    }

    /// A model of graphs alone, whichever blend weights they get.
    fn model(data: &Interactions) -> Recommendations {
        let mut recommender = Recommender::new(Question::Next);
        recommender.ranker = None;
        recommender.search_signals_max = 0;
        recommender.worth_min = -1.0;
        let sources = graphs().into_iter().map(SourceParameters::ItemGraph);
        recommender.sources = sources.collect();
        recommender.fit(data)
    }

    fn with_fresh() -> Vec<Vec<Signal>> {
        [[1, 3, FRESH], [5, FRESH, 7], [FRESH, 1, 9], [2, FRESH, 4]]
            .map(|items| items.map(Signal::plain).to_vec())
            .to_vec()
    }

    fn rows(links: &LiveLinks, item: ItemIndex) -> Vec<Vec<(ItemIndex, f32)>> {
        let graphs = links.graphs.iter();
        let rows = graphs.map(|(_, graph)| {
            let mut row = links.links(graph, item);
            row.sort_by_key(|(item, _)| *item);
            row
        });
        rows.collect()
    }

    #[test]
    fn a_fresh_item_gets_the_links_that_fitting_again_would_give_it() {
        let model = model(&two_tastes());
        let mut links = LiveLinks::beside(&model).expect("the blend has graphs");
        let mut whole = Interactions::builder();
        two_tastes().iter().for_each(|history| {
            whole.push(history.iter().copied());
        });
        for history in with_fresh() {
            links.observe(&history, &vec![true; history.len()]);
            whole.push(history);
        }
        let whole = whole.build(24);
        for (found, graph) in rows(&links, FRESH).into_iter().zip(graphs()) {
            let mut wanted: Vec<(ItemIndex, f32)> = graph.fit(&whole).neighbours(FRESH).collect();
            wanted.sort_by_key(|(item, _)| *item);
            assert_eq!(found.len(), wanted.len(), "{found:?} {wanted:?}");
            for (found, wanted) in found.iter().zip(&wanted) {
                assert_eq!(found.0, wanted.0);
                assert!(
                    (found.1 / wanted.1 - 1.0).abs() < 1e-5,
                    "{found:?} {wanted:?}"
                );
            }
        }
        assert_eq!(links.fresh_items(), 1);
    }

    #[test]
    fn signal_by_signal_counts_each_pair_once() {
        let mut graph = graphs().swap_remove(1);
        graph.history_power = 0.0; // a history weighs by its length when it is counted
        let count = |steps: &[&[bool]]| {
            let mut live = LiveGraph {
                parameters: graph.clone(),
                rows: BTreeMap::new(),
            };
            let history = [1, FRESH, 3, 1].map(Signal::plain);
            for is_new in steps {
                live.observe(&history[..is_new.len()], is_new, |item| item == FRESH);
            }
            live.rows
        };
        let whole = count(&[&[true; 4]]);
        let stepwise = count(&[
            &[true],
            &[false, true],
            &[false, false, true],
            &[false, false, false, true],
        ]);
        assert_eq!(whole, stepwise);
        assert!(!whole[&1].iter().any(|(item, _)| *item == 3));
    }

    #[test]
    fn it_is_recommended_to_those_whom_it_is_for_and_leads_on_from_there() {
        let model = model(&two_tastes());
        let mut links = LiveLinks::beside(&model).expect("the blend has graphs");
        let mut scratch = model.scratch_live();
        let mut scored = |links: &LiveLinks, items: &[ItemIndex]| -> Vec<(ItemIndex, f32)> {
            let history: Vec<Signal> = items.iter().copied().map(Signal::plain).collect();
            model.recommend_live(&Query::new(&history), 20, &mut scratch, Some(links))
        };
        let mut ask = |links: &LiveLinks, items: &[ItemIndex]| -> Vec<ItemIndex> {
            let best = scored(links, items).into_iter();
            best.map(|(item, _)| item).collect()
        };
        assert!(!ask(&links, &[1, 3]).contains(&FRESH));
        for _ in 0..5 {
            for history in with_fresh() {
                links.observe(&history, &vec![true; history.len()]);
            }
        }
        assert!(ask(&links, &[1, 3]).contains(&FRESH));
        let mut next = ask(&links, &[FRESH]);
        next.sort_unstable();
        assert_eq!(next, [1, 2, 3, 4, 5, 7, 9], "what its takers took");
        assert!(links.likeness(1, FRESH) > links.likeness(8, FRESH));
        // it has the log-odds of what was learnt and stands at its place, and so never more than the best of that
        let best = scored(&links, &[1, 3]);
        let fresh = best.iter().find(|(item, _)| *item == FRESH);
        let fresh = fresh.map(|(_, odds)| *odds);
        let learnt = || best.iter().filter(|(item, _)| *item != FRESH);
        assert!(learnt().any(|(_, odds)| Some(*odds) == fresh), "{best:?}");
    }

    #[test]
    fn what_was_learnt_is_answered_as_before() {
        let model = model(&two_tastes());
        let mut links = LiveLinks::beside(&model).expect("the blend has graphs");
        links.observe(&[0, 2, 4].map(Signal::plain), &[true; 3]);
        assert_eq!(links.fresh_items(), 0);
        let history = [0, 2].map(Signal::plain);
        let query = Query::new(&history);
        let mut scratch = model.scratch();
        let live = model.recommend_live(&query, 20, &mut scratch, Some(&links));
        assert_eq!(live, model.recommend(&query, 20, &mut scratch));
    }

    #[test]
    fn memory_stays_within_the_limits() {
        let mut rows = BTreeMap::new();
        for item in 0..10_000 {
            add(&mut rows, (FRESH, item), item as f32);
        }
        let row = &rows[&FRESH];
        assert!(row.len() <= 2 * NEIGHBOURS_MAX);
        assert!(row.iter().any(|(item, _)| *item == 9_999));
    }
}
