//! What is like what, by its words: for items that nobody has taken yet.

use std::collections::HashMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::ItemIndex;
use super::accumulator::{Accumulator, keep_best};
use super::item_graph::{Graph, ItemGraph};

/// Cosines of words weighed by how rare they are (TF-IDF: Salton and Buckley 1988, with `1 + ln tf` and
/// `ln(1 + items / items with it)`), learnt from the catalogue's own text. Each attribute counts as one word. The result is a
/// [`Graph`], and answers histories as any other.
///
/// Words that more than `common_max` of the items have say nothing about likeness and are skipped, which also bounds the work: of
/// each word at most that share of the catalogue is read per item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Content {
    /// A name for tables.
    pub name: String,
    /// Neighbours that are kept of each item.
    pub neighbours: usize,
    /// The rarest words that are kept of each item.
    pub words_max: usize,
    /// Words of a larger share of items than this are skipped.
    pub common_max: f32,
    /// What an attribute weighs beside a word of the text.
    pub attribute_weight: f32,
}

impl Default for Content {
    fn default() -> Self {
        Self {
            name: "content".to_owned(),
            neighbours: 100,
            words_max: 64,
            common_max: 0.1,
            attribute_weight: 1.0,
        }
    }
}

/// What is known of an item before anybody took it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// Title, description: any text.
    pub text: String,
    /// Names and values, as `("category", "shoes")`.
    pub attributes: Vec<(String, String)>,
}

impl Content {
    /// Compares the items, in the order of their numbers.
    pub fn fit(&self, items: &[Description]) -> Graph {
        let vectors = self.vectors(items);
        let words = vectors.iter().flatten().map(|(word, _)| *word as usize + 1);
        let mut holders: Vec<Vec<(ItemIndex, f32)>> = vec![Vec::new(); words.max().unwrap_or(0)];
        for (item, vector) in vectors.iter().enumerate() {
            for (word, weight) in vector {
                holders[*word as usize].push((item as ItemIndex, *weight));
            }
        }
        let rows = vectors
            .par_iter()
            .enumerate()
            .map_init(
                || Accumulator::new(items.len()),
                |scores, (item, vector)| {
                    for (word, weight) in vector {
                        for (other, other_weight) in &holders[*word as usize] {
                            scores.add(*other, weight * other_weight);
                        }
                    }
                    scores.remove(item as ItemIndex);
                    let mut row = Vec::new();
                    scores.best(self.neighbours, &mut row);
                    scores.clear();
                    row
                },
            )
            .collect();
        let reading = ItemGraph {
            name: self.name.clone(),
            neighbours: self.neighbours,
            window: 0, // nothing is counted
            recency_power: 0.5,
            ..ItemGraph::default()
        };
        Graph::from_rows(reading, rows)
    }

    /// Of each item its words with their weights, of length 1.
    fn vectors(&self, items: &[Description]) -> Vec<Vec<(u32, f32)>> {
        let mut numbers: HashMap<String, u32> = HashMap::new();
        let mut frequency: Vec<f32> = Vec::new();
        let counted: Vec<Vec<(u32, f32)>> = items
            .iter()
            .map(|item| {
                let mut counts: Vec<(u32, f32)> = Vec::new();
                for (word, weight) in self.words(item) {
                    let next = numbers.len() as u32;
                    let number = *numbers.entry(word).or_insert(next);
                    match counts.iter_mut().find(|(word, _)| *word == number) {
                        Some((_, count)) => *count += weight,
                        None => counts.push((number, weight)),
                    }
                }
                frequency.resize(numbers.len(), 0.0);
                for (word, _) in &counts {
                    frequency[*word as usize] += 1.0;
                }
                counts
            })
            .collect();
        let common = (self.common_max * items.len() as f32).max(2.0);
        let rarity = |word: u32| (1.0 + items.len() as f32 / frequency[word as usize]).ln();
        let weighed = counted.into_iter().map(|counts| {
            let known = counts
                .into_iter()
                .filter(|(word, _)| frequency[*word as usize] <= common);
            let mut vector: Vec<(u32, f32)> = known
                .map(|(word, count)| (word, (1.0 + count).ln() * rarity(word)))
                .collect();
            let kept = keep_best(&mut vector, self.words_max);
            vector.truncate(kept);
            let length = vector
                .iter()
                .map(|(_, weight)| weight * weight)
                .sum::<f32>()
                .sqrt();
            vector
                .iter_mut()
                .for_each(|(_, weight)| *weight /= length.max(1e-12));
            vector
        });
        weighed.collect()
    }

    fn words<'a>(&'a self, item: &'a Description) -> impl Iterator<Item = (String, f32)> + 'a {
        let words = item.text.split(|letter: char| !letter.is_alphanumeric());
        let words = words.filter(|word| word.chars().count() > 1);
        let attributes = item.attributes.iter();
        let attributes =
            attributes.map(|(name, value)| (format!("{name}={value}"), self.attribute_weight));
        words
            .map(|word| (word.to_lowercase(), 1.0))
            .chain(attributes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(text: &str, category: &str) -> Description {
        Description {
            text: text.to_owned(),
            attributes: vec![("category".to_owned(), category.to_owned())],
        }
    }

    #[test]
    fn a_new_mug_is_like_the_mugs() {
        let catalogue = [
            description("Red retrospot MUG", "kitchen"),
            description("Blue polkadot mug", "kitchen"),
            description("Garden lantern, white", "garden"),
            description("White garden chair", "garden"),
            description("", "other"),
        ];
        let content = Content {
            common_max: 0.6,
            ..Content::default()
        };
        let graph = content.fit(&catalogue);
        let nearest = |item| graph.neighbours(item).next().map(|(other, _)| other);
        assert_eq!(nearest(0), Some(1));
        assert_eq!(nearest(3), Some(2));
        assert_eq!(nearest(4), None);
        let (_, likeness) = graph.neighbours(3).next().unwrap();
        assert!(likeness > 0.3 && likeness < 1.0);
    }

    #[test]
    fn words_that_everybody_has_are_skipped() {
        let catalogue: Vec<Description> = (0..30).map(|_| description("lamp", "x")).collect();
        assert_eq!(Content::default().fit(&catalogue).neighbours(0).count(), 0);
    }
}
