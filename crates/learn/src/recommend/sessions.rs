//! What came next in sessions like this one.

use serde::{Deserialize, Serialize};

use super::ItemIndex;
use super::accumulator::{Accumulator, keep_best};
use super::interactions::{Interactions, Signal};
use super::query::{Query, Source};

/// Nearest neighbours among past sessions, with weights for position, recency and distance as in V-SKNN (Ludewig and Jannach
/// 2018) and STAN (Garg et al., SIGIR 2019), here with powers in place of exponentials.
///
/// The similarity of a past session sums over the items that it shares with the question
/// `(1 + age of the item in the question)^-recency_power`, over the session's length to `length_power`, times
/// `2^(-sessions since then / (half_life · sessions))`. Of the `neighbours` most similar ones each item scores the similarity times
/// `distance^-gap_power` from the place of the most recent shared item, and `backward` of that if it came before.
///
/// Memory: 12 bytes per signal kept. A query reads at most `history_max × occurrences_max` entries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionNeighbours {
    /// A name for tables.
    pub name: String,
    /// Of each item, in how many of the last sessions with it is looked.
    pub occurrences_max: usize,
    /// How many similar sessions count.
    pub neighbours: usize,
    /// How many signals of the question are read, the last ones.
    pub history_max: usize,
    /// See above.
    pub recency_power: f32,
    /// See above.
    pub length_power: f32,
    /// See above.
    pub gap_power: f32,
    /// See above.
    pub backward: f32,
    /// A session counts half when this share of all sessions came after it; 0 where that does not matter.
    pub half_life: f32,
    /// Similarities are raised to this: above 1 the most similar sessions count more.
    pub similarity_power: f32,
    /// Scores are over the item's degree to this power.
    pub to_power: f32,
}

impl Default for SessionNeighbours {
    fn default() -> Self {
        Self {
            name: "session neighbours".to_owned(),
            occurrences_max: 2_000,
            neighbours: 1_000,
            history_max: 20,
            recency_power: 1.0,
            length_power: 0.5,
            gap_power: 0.5,
            backward: 0.5,
            half_life: 0.0,
            similarity_power: 1.0,
            to_power: 0.0,
        }
    }
}

/// A fitted [`SessionNeighbours`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionMemory {
    parameters: SessionNeighbours,
    items: usize,
    starts: Vec<u32>,
    sessions: Vec<ItemIndex>,
    index_starts: Vec<u32>,
    index: Vec<(u32, u16)>,
    degrees: Vec<f32>,
}

impl SessionNeighbours {
    /// Indexes the sessions.
    pub fn fit(&self, data: &Interactions) -> SessionMemory {
        let occurrences = data.occurrences(&data.all_items());
        let mut index = Vec::new();
        let mut index_starts = vec![0];
        for item in 0..data.items() {
            let places = occurrences.of(item);
            let skipped = places.len().saturating_sub(self.occurrences_max);
            let kept = places[skipped..].iter();
            index.extend(
                kept.map(|(session, place)| (*session, (*place).min(u32::from(u16::MAX)) as u16)),
            );
            index_starts.push(index.len() as u32);
        }
        let mut starts = vec![0];
        let mut sessions = Vec::with_capacity(data.len());
        for history in data.iter() {
            sessions.extend(history.iter().map(|signal: &Signal| signal.item));
            starts.push(sessions.len() as u32);
        }
        SessionMemory {
            parameters: self.clone(),
            items: data.items(),
            starts,
            sessions,
            index_starts,
            index,
            degrees: data.degrees().to_vec(),
        }
    }
}

/// A past session that shares something with the question.
#[derive(Clone, Copy)]
struct Match {
    session: u32,
    place: u16,
    age: u16,
}

impl SessionMemory {
    fn matches(&self, query: &Query<'_>) -> Vec<Match> {
        let mut matches = Vec::new();
        let mut seen: Vec<ItemIndex> = Vec::new();
        for (age, signal) in query.newest(self.parameters.history_max) {
            let item = signal.item as usize;
            if item >= self.items || seen.contains(&signal.item) {
                continue;
            }
            seen.push(signal.item);
            let entries = self.index_starts[item] as usize..self.index_starts[item + 1] as usize;
            matches.extend(self.index[entries].iter().map(|(session, place)| Match {
                session: *session,
                place: *place,
                age: age as u16,
            }));
        }
        matches.sort_unstable_by_key(|found| (found.session, found.age, found.place));
        matches
    }

    fn similarity(&self, shared: &[Match], ages: &[f32]) -> f32 {
        let mut sum = 0.0;
        let mut last_age = u16::MAX;
        for found in shared {
            if found.age != last_age {
                sum += ages[found.age as usize];
                last_age = found.age;
            }
        }
        let session = shared[0].session as usize;
        let length = (self.starts[session + 1] - self.starts[session]) as f32;
        let since = (self.starts.len() - 1 - session) as f32;
        let half_life = self.parameters.half_life * (self.starts.len() - 1) as f32;
        let recency = match half_life > 0.0 {
            true => (-since / half_life).exp2(),
            false => 1.0,
        };
        (sum * length.powf(-self.parameters.length_power)).powf(self.parameters.similarity_power)
            * recency
    }

    fn vote(&self, nearest: Match, similarity: f32, gaps: &[f32], scores: &mut Accumulator) {
        let session = nearest.session as usize;
        let items =
            &self.sessions[self.starts[session] as usize..self.starts[session + 1] as usize];
        let weight = |gap: usize| gaps[gap.min(gaps.len() - 1)];
        for (place, item) in items.iter().enumerate() {
            let from = nearest.place as usize;
            let factor = match place.cmp(&from) {
                std::cmp::Ordering::Greater => weight(place - from),
                std::cmp::Ordering::Less => self.parameters.backward * weight(from - place),
                std::cmp::Ordering::Equal => continue,
            };
            scores.add(*item, similarity * factor);
        }
    }
}

impl Source for SessionMemory {
    fn name(&self) -> &str {
        &self.parameters.name
    }

    fn items(&self) -> usize {
        self.items
    }

    fn score(&self, query: &Query<'_>, scores: &mut Accumulator) {
        let matches = self.matches(query);
        let ages: Vec<f32> = (0..self.parameters.history_max)
            .map(|age| (1.0 + age as f32).powf(-self.parameters.recency_power))
            .collect();
        let gaps: Vec<f32> = (0..64)
            .map(|gap: usize| (gap.max(1) as f32).powf(-self.parameters.gap_power))
            .collect();
        let mut nearest: Vec<Match> = Vec::new();
        let mut similar: Vec<(u32, f32)> = Vec::new();
        for shared in matches.chunk_by(|one, other| one.session == other.session) {
            similar.push((nearest.len() as u32, self.similarity(shared, &ages)));
            nearest.push(shared[0]);
        }
        let kept = keep_best(&mut similar, self.parameters.neighbours);
        for (place, similarity) in &similar[..kept] {
            self.vote(nearest[*place as usize], *similarity, &gaps, scores);
        }
        if self.parameters.to_power != 0.0 {
            scores.scale(|item| {
                self.degrees[item as usize]
                    .max(1.0)
                    .powf(-self.parameters.to_power)
            });
        }
    }
}
