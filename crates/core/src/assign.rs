//! Who is in which arm: a hash of the person and the experiment, so that everybody who knows both agrees without asking.
//!
//! It is the hash of GrowthBook's SDKs (version 2, "Build Your Own SDK" in its documentation), so that an application that asks
//! one of them sees the same arms.

use crate::event::PersonKey;
use crate::id::ModelName;

/// Where in [0, 1) a person stands in an experiment: FNV-1a with 32 bits of `seed + person`, written in decimal and hashed once
/// more, in steps of 1/10,000.
pub fn bucket(seed: &str, person: &str) -> f64 {
    let once = fnv32a(seed.bytes().chain(person.bytes()));
    let twice = fnv32a(once.to_string().bytes());
    f64::from(twice % 10_000) / 10_000.0
}

fn fnv32a(bytes: impl Iterator<Item = u8>) -> u32 {
    bytes.fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// Whether a person is in the permanent holdout of a model: one of that share of the people who never get its answers, so that it is
/// known what the others gain by them.
pub fn is_held_out(model: &ModelName, share: f64, person: &PersonKey) -> bool {
    share > 0.0 && bucket(&format!("holdout:{model}"), person.as_str()) < share
}

/// The arms of an experiment: the share of the people who take part, and how they are divided.
#[derive(Debug, Clone, PartialEq)]
pub struct Variations {
    /// What sets this experiment apart from others.
    pub seed: String,
    /// The share of people who take part, from 0 to 1.
    pub coverage: f64,
    /// The share of each arm among those; they sum to 1.
    pub weights: Vec<f64>,
}

impl Variations {
    /// Arms of equal size, for everybody.
    pub fn equal(seed: &str, arms: usize) -> Self {
        Self {
            seed: seed.to_owned(),
            coverage: 1.0,
            weights: vec![1.0 / arms as f64; arms],
        }
    }

    /// The arm of a person; `None` for those who do not take part. A larger coverage moves nobody from one arm to another.
    pub fn arm(&self, person: &str) -> Option<usize> {
        let at = bucket(&self.seed, person);
        let mut start = 0.0;
        for (arm, weight) in self.weights.iter().enumerate() {
            if (start..start + weight * self.coverage).contains(&at) {
                return Some(arm);
            }
            start += weight;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published vectors of version 2.
    #[test]
    fn people_stand_where_other_sdks_see_them() {
        for (seed, person, expected) in [
            ("seed", "a", 0.0505),
            ("seed", "b", 0.2696),
            ("foo", "ab", 0.2575),
            ("foo", "def", 0.2019),
            ("89123klj", "8952klfjas09ujkasdf", 0.124),
            ("90850943850283058242805", "123", 0.7516),
            ("()**(%$##$%#$#", "___)((*\":&", 0.0128),
        ] {
            assert_eq!(bucket(seed, person), expected, "{seed} {person}");
        }
    }

    #[test]
    fn arms_have_their_shares_and_growing_moves_nobody() {
        let arms = |coverage| Variations {
            seed: "holdout".to_owned(),
            coverage,
            weights: vec![0.2, 0.8],
        };
        let of = |coverage: f64| -> Vec<Option<usize>> {
            let arms = arms(coverage);
            (0..20_000)
                .map(|person| arms.arm(&format!("user:{person}")))
                .collect()
        };
        let (half, all) = (of(0.5), of(1.0));
        let share = |people: &[Option<usize>], arm| {
            people.iter().filter(|of| **of == arm).count() as f64 / people.len() as f64
        };
        assert!((share(&all, Some(0)) - 0.2).abs() < 0.01);
        assert!((share(&half, None) - 0.5).abs() < 0.01);
        assert_eq!(share(&all, None), 0.0);
        let moved = half
            .iter()
            .zip(&all)
            .filter(|(half, all)| half.is_some() && half != all);
        assert_eq!(moved.count(), 0);
    }
}
