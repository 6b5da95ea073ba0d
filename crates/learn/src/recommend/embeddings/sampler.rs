//! The items that training examples are set against.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::recommend::interactions::Interactions;

/// The power of an item's frequency with which negatives are drawn (half of them; the other half evenly).
const NEGATIVE_POWER: f32 = 0.75;

/// Draws negatives: half of them evenly, half by frequency.
pub(super) struct Sampler {
    seen: Vec<u32>,
    cumulative: Vec<f32>,
}

impl Sampler {
    pub(super) fn new(data: &Interactions) -> Self {
        let degrees = data.degrees();
        let seen: Vec<u32> = (0..data.items() as u32)
            .filter(|item| degrees[*item as usize] > 0.0)
            .collect();
        let mut sum = 0.0_f64;
        let weights = seen.iter().map(|item| {
            sum += f64::from(degrees[*item as usize].powf(NEGATIVE_POWER));
            sum
        });
        let sums: Vec<f64> = weights.collect();
        Self {
            cumulative: sums.iter().map(|value| (value / sum) as f32).collect(),
            seen,
        }
    }

    /// Items, and for each the logarithm of how many items it stands for.
    pub(super) fn draw(&self, count: usize, random: &mut ChaCha8Rng) -> (Vec<u32>, Vec<f32>) {
        let mut items = Vec::with_capacity(count);
        let mut corrections = Vec::with_capacity(count);
        if self.seen.is_empty() {
            return (items, corrections);
        }
        let last = self.seen.len() - 1;
        for draw in 0..count {
            let place = match draw % 2 {
                0 => random.random_range(0..=last),
                _ => {
                    let wanted = random.random::<f32>();
                    self.cumulative
                        .partition_point(|sum| *sum < wanted)
                        .min(last)
                }
            };
            let before = match place {
                0 => 0.0,
                _ => self.cumulative[place - 1],
            };
            let frequent = (self.cumulative[place] - before).max(1e-9);
            let probability = 0.5 * frequent + 0.5 / self.seen.len() as f32;
            items.push(self.seen[place]);
            corrections.push(-(count as f32 * probability).ln());
        }
        (items, corrections)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::recommend::Signal;

    /// The corrections are right if the drawn items, each standing for as many as it says, stand for the whole catalogue.
    #[test]
    fn what_is_drawn_stands_for_all_that_was_seen() {
        let mut data = Interactions::builder();
        for person in 0..200_u32 {
            data.push([0, 1 + person % 3, 4 + person % 40].map(Signal::plain));
        }
        let data = data.build(1_000);
        let seen = data
            .degrees()
            .iter()
            .filter(|degree| **degree > 0.0)
            .count();
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let (items, corrections) = Sampler::new(&data).draw(20_000, &mut random);
        assert!(
            items
                .iter()
                .all(|item| data.degrees()[*item as usize] > 0.0)
        );
        let stands_for: f32 = corrections.iter().map(|correction| correction.exp()).sum();
        assert!(
            (stands_for / seen as f32 - 1.0).abs() < 0.05,
            "{stands_for} for {seen}"
        );
    }
}
