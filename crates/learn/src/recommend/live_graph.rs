//! The item graph as events arrive, in bounded memory.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::ItemIndex;
use super::accumulator::{Accumulator, keep_best};
use super::query::{Query, Source};

/// Counts as [`super::ItemGraph`] does, event by event: each pairs with the last items of the same person. Counts fade by time
/// (forward decay: Cormode et al., ICDE 2009), and what is small is forgotten when there is no room.
///
/// Memory: at most `people_max × recent × 16` bytes and `items × 2 × neighbours × 8` bytes. An event costs at most `2 × recent × 2 ×
/// neighbours` comparisons.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveGraph {
    parameters: LiveParameters,
    start: Option<i64>,
    people: HashMap<u64, VecDeque<(ItemIndex, f32, i64)>>,
    items: Vec<LiveItem>,
    /// People who were forgotten for want of room.
    forgotten: u64,
}

/// Limits and powers of a [`LiveGraph`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveParameters {
    /// People whose last items are kept; the one fourth that was seen least recently makes room.
    pub people_max: usize,
    /// How many last items of a person are kept.
    pub recent: usize,
    /// Neighbours of an item that are certain to be kept; twice as many are kept for a while.
    pub neighbours: usize,
    /// Seconds after which a count is worth half; 0 where age does not matter.
    pub half_life_seconds: f64,
    /// How much an item's degree damps its links.
    pub degree_power: f32,
    /// Links are raised to this.
    pub similarity_power: f32,
    /// When asked: `(1 + age in steps)^-recency_power` weighs the signals of the history.
    pub recency_power: f32,
}

impl Default for LiveParameters {
    fn default() -> Self {
        Self {
            people_max: 100_000,
            recent: 20,
            neighbours: 100,
            half_life_seconds: 90.0 * 86_400.0,
            degree_power: 0.35,
            similarity_power: 0.6,
            recency_power: 0.5,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct LiveItem {
    degree: f64,
    links: Vec<(ItemIndex, f64)>,
}

/// Counts are brought back to ordinary size when the weight of a new one passes this.
const LARGE: f64 = 1e12;

impl LiveGraph {
    /// An empty graph.
    pub fn new(parameters: LiveParameters) -> Self {
        Self {
            parameters,
            start: None,
            people: HashMap::new(),
            items: Vec::new(),
            forgotten: 0,
        }
    }

    /// Takes an event in: a person (by a number that stays the same) did something with an item. Events may come late: they
    /// count by their own time. An item that the person had among the last ones already is moved to the front and not counted again.
    pub fn observe(&mut self, person: u64, item: ItemIndex, weight: f32, time: i64) {
        if weight <= 0.0 || !weight.is_finite() {
            return;
        }
        let grown = self.grown(time);
        if self.items.len() <= item as usize {
            self.items.resize(item as usize + 1, LiveItem::default());
        }
        self.make_room(person);
        let recent = self.people.entry(person).or_default();
        let again = recent.iter().position(|(other, _, _)| *other == item);
        if let Some(place) = again {
            recent.remove(place);
        } else {
            self.items[item as usize].degree += grown;
            for (other, other_weight, _) in recent.iter() {
                let count = grown * f64::from(weight * other_weight);
                let room = self.parameters.neighbours;
                self.items[item as usize].add(*other, count, room);
                self.items[*other as usize].add(item, count, room);
            }
        }
        recent.push_back((item, weight, time));
        if recent.len() > self.parameters.recent {
            recent.pop_front();
        }
    }

    /// People who were forgotten because there were more than `people_max`.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The neighbours of an item with their weights, strongest first.
    pub fn neighbours(&self, item: ItemIndex) -> Vec<(ItemIndex, f32)> {
        let Some(own) = self.items.get(item as usize) else {
            return Vec::new();
        };
        let power = -f64::from(self.parameters.degree_power);
        let from = own.degree.max(1e-300).powf(power);
        // counts and degrees have grown alike; what is left of the growth is the same factor for all links
        let links = own.links.iter().map(|(other, count)| {
            let to = self.items[*other as usize].degree.max(1e-300).powf(power);
            let link = (count * from * to).powf(f64::from(self.parameters.similarity_power));
            (*other, link as f32)
        });
        let mut links: Vec<(ItemIndex, f32)> = links.collect();
        let kept = keep_best(&mut links, self.parameters.neighbours);
        links.truncate(kept);
        links
    }

    /// What a count of this time weighs: more, the later it is.
    fn grown(&mut self, time: i64) -> f64 {
        if self.parameters.half_life_seconds <= 0.0 {
            return 1.0;
        }
        let start = *self.start.get_or_insert(time);
        let grown = ((time - start) as f64 / self.parameters.half_life_seconds).exp2();
        if grown <= LARGE {
            return grown;
        }
        for item in &mut self.items {
            item.degree /= grown;
            item.links.iter_mut().for_each(|(_, count)| *count /= grown);
        }
        self.start = Some(time);
        1.0
    }

    fn make_room(&mut self, person: u64) {
        if self.people.len() < self.parameters.people_max || self.people.contains_key(&person) {
            return;
        }
        let last = |recent: &VecDeque<(ItemIndex, f32, i64)>| {
            recent.back().map_or(i64::MIN, |signal| signal.2)
        };
        let mut order: Vec<(i64, u64)> = self
            .people
            .iter()
            .map(|(id, recent)| (last(recent), *id))
            .collect();
        let leaving = (order.len() / 4).max(1);
        order.select_nth_unstable(leaving - 1);
        for (_, id) in &order[..leaving] {
            self.people.remove(id);
        }
        self.forgotten += leaving as u64;
    }
}

impl LiveItem {
    fn add(&mut self, other: ItemIndex, count: f64, room: usize) {
        if let Some((_, sum)) = self.links.iter_mut().find(|(item, _)| *item == other) {
            *sum += count;
            return;
        }
        self.links.push((other, count));
        if self.links.len() > 2 * room.max(1) {
            self.links
                .sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            self.links.truncate(room.max(1));
        }
    }
}

impl Source for LiveGraph {
    fn name(&self) -> &str {
        "live item graph"
    }

    fn items(&self) -> usize {
        self.items.len()
    }

    fn score(&self, query: &Query<'_>, scores: &mut Accumulator) {
        for (age, signal) in query.newest(self.parameters.recent) {
            let weight = signal.weight * (1.0 + age as f32).powf(-self.parameters.recency_power);
            for (item, link) in self.neighbours(signal.item) {
                scores.add(item, weight * link);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recommend::conformance::two_tastes;
    use crate::recommend::{Interactions, ItemGraph};

    fn live(data: &Interactions, parameters: LiveParameters) -> LiveGraph {
        let mut graph = LiveGraph::new(parameters);
        for (person, history) in data.iter().enumerate() {
            for signal in history {
                graph.observe(person as u64, signal.item, signal.weight, signal.time);
            }
        }
        graph
    }

    #[test]
    fn without_limits_it_counts_what_the_whole_data_give() {
        let mut data = Interactions::builder();
        for history in two_tastes().iter() {
            let mut signals = history.to_vec();
            signals.sort_by_key(|signal| signal.item);
            signals.dedup_by_key(|signal| signal.item);
            data.push(signals);
        }
        let data = data.build(24);
        let graph = live(
            &data,
            LiveParameters {
                half_life_seconds: 0.0,
                ..LiveParameters::default()
            },
        );
        let whole = ItemGraph {
            history_power: 0.0,
            ..ItemGraph::default()
        }
        .fit(&data);
        for item in 0..20 {
            let wanted: Vec<(u32, f32)> = whole.neighbours(item).collect();
            let found = graph.neighbours(item);
            assert_eq!(found.len(), wanted.len());
            for (found, wanted) in found.iter().zip(&wanted) {
                assert!(
                    (found.1 / wanted.1 - 1.0).abs() < 1e-4,
                    "{found:?} {wanted:?}"
                );
            }
        }
    }

    #[test]
    fn memory_stays_within_the_limits() {
        let limits = LiveParameters {
            people_max: 10,
            recent: 3,
            neighbours: 2,
            ..LiveParameters::default()
        };
        let graph = live(&two_tastes(), limits);
        assert!(graph.people.len() <= 10 && graph.forgotten() > 0);
        assert!(graph.people.values().all(|recent| recent.len() <= 3));
        assert!(graph.items.iter().all(|item| item.links.len() <= 4));
    }

    #[test]
    fn what_is_new_outweighs_what_is_old_across_a_rescaling() {
        let mut graph = LiveGraph::new(LiveParameters {
            half_life_seconds: 1.0,
            ..LiveParameters::default()
        });
        for person in 0..5 {
            graph.observe(person, 0, 1.0, 0);
            graph.observe(person, 1, 1.0, 0);
        }
        graph.observe(9, 0, 1.0, 100);
        graph.observe(9, 2, 1.0, 100);
        let found: Vec<u32> = graph.neighbours(0).iter().map(|(item, _)| *item).collect();
        assert_eq!(found, [2, 1]);
    }
}
