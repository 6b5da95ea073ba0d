//! What lists of recommendations are like beside right or wrong: how much of the catalogue they show, how evenly, how
//! surprising and how varied they are.

use serde::{Deserialize, Serialize};

/// Measures over many lists of the same catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ListMeasures {
    /// The share of the catalogue that occurs in any list (Ge, Delgado-Battenfeld and Jannach, RecSys 2010).
    pub coverage: f64,
    /// How unevenly recommendations fall on the items of the catalogue: 0 if all are recommended alike, near 1 if one has it all:
    /// `Σ_i (2 i - n - 1) c_i / (n Σ c)` over the counts in ascending order (Gini 1912; Fleder and Hosanagar 2009).
    pub gini: f64,
    /// The mean self-information of a recommended item, `-log2(people who have it / people)`, in bits (Zhou et al., PNAS 2010). Items
    /// that nobody has count as if one person had them.
    pub novelty: f64,
    /// The mean share of people who have a recommended item, over that of the items which people have: 1 is as popular as
    /// what is taken anyway, above 1 is a bias towards the popular.
    pub popularity_lift: f64,
    /// The mean of 1 - similarity over the pairs of a list (Ziegler et al., WWW 2005), averaged over lists with two items or more;
    /// `None` if there is none.
    pub diversity: Option<f64>,
}

impl ListMeasures {
    /// Measures lists over a catalogue of `owners.len()` items, where `owners[i]` of `people` have item `i`. `similarity` is between 0
    /// and 1 and symmetric.
    ///
    /// # Panics
    /// When a list names an item that is not in the catalogue.
    pub fn new(
        lists: &[Vec<u32>],
        owners: &[f32],
        people: usize,
        similarity: impl Fn(u32, u32) -> f64,
    ) -> Self {
        let mut counts = vec![0_u64; owners.len()];
        for item in lists.iter().flatten() {
            counts[*item as usize] += 1;
        }
        let shown: u64 = counts.iter().sum();
        let people = people.max(1) as f64;
        let share = |item: usize| f64::from(owners[item]).max(1.0) / people;
        let over_shown = |value: &dyn Fn(usize) -> f64| {
            let terms = counts.iter().enumerate().filter(|(_, count)| **count > 0);
            let sum: f64 = terms.map(|(item, count)| *count as f64 * value(item)).sum();
            sum / shown.max(1) as f64
        };
        let owned: f64 = owners.iter().map(|owners| f64::from(*owners)).sum();
        let squares: f64 = owners.iter().map(|owners| f64::from(*owners).powi(2)).sum();
        let usual = if owned > 0.0 {
            squares / owned / people
        } else {
            1.0
        };
        Self {
            coverage: counts.iter().filter(|count| **count > 0).count() as f64
                / owners.len().max(1) as f64,
            gini: gini(&mut counts.clone()),
            novelty: over_shown(&|item| -share(item).log2()),
            popularity_lift: over_shown(&share) / usual,
            diversity: diversity(lists, similarity),
        }
    }
}

fn gini(counts: &mut [u64]) -> f64 {
    counts.sort_unstable();
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return 0.0;
    }
    let n = counts.len() as f64;
    let ranked = counts.iter().enumerate();
    let weighted: f64 = ranked
        .map(|(place, count)| (2.0 * (place as f64 + 1.0) - n - 1.0) * *count as f64)
        .sum();
    weighted / (n * total as f64)
}

fn diversity(lists: &[Vec<u32>], similarity: impl Fn(u32, u32) -> f64) -> Option<f64> {
    let mut sum = 0.0;
    let mut measured = 0_usize;
    for list in lists.iter().filter(|list| list.len() > 1) {
        let mut apart = 0.0;
        for (place, one) in list.iter().enumerate() {
            let others = list[place + 1..].iter();
            apart += others
                .map(|other| 1.0 - similarity(*one, *other))
                .sum::<f64>();
        }
        sum += apart / (list.len() * (list.len() - 1) / 2) as f64;
        measured += 1;
    }
    (measured > 0).then(|| sum / measured as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_of_three_lists_by_hand() {
        let lists = [vec![0, 1], vec![0, 2], vec![0]];
        let owners = [8.0, 4.0, 0.0, 4.0];
        let same_parity = |one: u32, other: u32| f64::from(u8::from(one % 2 == other % 2));
        let found = ListMeasures::new(&lists, &owners, 16, same_parity);
        assert_eq!(found.coverage, 0.75);
        // counts 0 1 1 3: (-3·0 - 1·1 + 1·1 + 3·3) / (4 · 5)
        assert!((found.gini - 0.45).abs() < 1e-12);
        // three times 1 bit, once 2 bits, once 4 bits
        assert!((found.novelty - 9.0 / 5.0).abs() < 1e-12);
        // shown: (3 · 8 + 4 + 1) / 16 / 5; usual: (64 + 16 + 16) / 16 / 16
        assert!((found.popularity_lift - (29.0 / 80.0) / 0.375).abs() < 1e-12);
        // the pair 0 1 is apart, the pair 0 2 is not
        assert_eq!(found.diversity, Some(0.5));
    }

    #[test]
    fn nothing_recommended_is_no_coverage_and_no_diversity() {
        let found = ListMeasures::new(&[vec![]], &[1.0, 2.0], 3, |_, _| 0.0);
        assert_eq!(
            (found.coverage, found.gini, found.diversity),
            (0.0, 0.0, None)
        );
    }

    #[test]
    fn even_lists_have_no_inequality() {
        let found = ListMeasures::new(&[vec![0, 1], vec![2, 3]], &[1.0; 4], 4, |_, _| 0.0);
        assert_eq!(
            (found.coverage, found.gini, found.diversity),
            (1.0, 0.0, Some(1.0))
        );
    }
}
