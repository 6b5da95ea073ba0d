//! From scored candidates to a list: unlike one another, at most so many of a kind, and now and then one at random.

use std::collections::HashMap;

/// How a list is chosen.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The length of the list.
    pub limit: usize,
    /// From 0, the best ones, to 1, those that are least alike: maximal marginal relevance (Carbonell and Goldstein 1998).
    pub diversity: f64,
    /// The share of the places that is drawn at random from the candidates.
    pub explore: f64,
    /// Where random numbers start.
    pub seed: u64,
}

/// A candidate that was chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chosen {
    /// Which candidate.
    pub candidate: usize,
    /// With which probability it was chosen here, given those before it.
    pub propensity: f64,
    /// Whether it was drawn at random.
    pub explored: bool,
}

/// Chooses from candidates by their scores, best first. `alike` says how alike two are, from 0 to 1; `kinds` says for each candidate which
/// kinds it is of, of each of which only so many are taken.
///
/// Each place is, with probability `1 − explore`, the candidate with the best `(1 − diversity) · score − diversity · likeness` to those
/// above it (scores between 0 and 1), and otherwise one of all candidates that may still be taken, each as likely. So the probabilities of
/// what could stand at a place sum to 1.
pub fn choose(
    scores: &[f64],
    kinds: &[Vec<(usize, usize)>],
    alike: impl Fn(usize, usize) -> f64,
    rules: Rules,
) -> Vec<Chosen> {
    let (low, high) = scores
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), score| {
            (low.min(*score), high.max(*score))
        });
    let worth = |candidate: usize| match high > low {
        true => (scores[candidate] - low) / (high - low),
        false => 1.0,
    };
    let mut random = rules.seed;
    let mut taken: HashMap<usize, usize> = HashMap::new();
    let mut nearest = vec![0.0f64; scores.len()];
    let mut left: Vec<usize> = (0..scores.len()).collect();
    let mut chosen = Vec::new();
    while chosen.len() < rules.limit {
        left.retain(|candidate| {
            let of: &[(usize, usize)] = kinds.get(*candidate).map_or(&[], Vec::as_slice);
            of.iter()
                .all(|(kind, most)| taken.get(kind).is_none_or(|count| count < most))
        });
        let value = |candidate: usize| {
            (1.0 - rules.diversity) * worth(candidate) - rules.diversity * nearest[candidate]
        };
        // of equal ones the first, which has the better score
        let best = left.iter().copied().reduce(|best, other| {
            if value(other) > value(best) {
                other
            } else {
                best
            }
        });
        let Some(best) = best else {
            break;
        };
        let explores = rules.explore > 0.0 && next(&mut random) < rules.explore;
        let candidate = if explores {
            left[(next(&mut random) * left.len() as f64) as usize]
        } else {
            best
        };
        let at_random = rules.explore / left.len() as f64;
        let of_best = if candidate == best {
            1.0 - rules.explore
        } else {
            0.0
        };
        chosen.push(Chosen {
            candidate,
            propensity: of_best + at_random,
            explored: explores && candidate != best,
        });
        left.retain(|other| *other != candidate);
        for (kind, _) in kinds.get(candidate).into_iter().flatten() {
            *taken.entry(*kind).or_insert(0) += 1;
        }
        if rules.diversity > 0.0 {
            for &other in &left {
                nearest[other] = nearest[other].max(alike(other, candidate));
            }
        }
    }
    chosen
}

/// SplitMix64 (Steele, Lea, Flood 2014) as a number in [0, 1).
fn next(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCORES: [f64; 6] = [9.0, 8.0, 7.0, 3.0, 2.0, 1.0];

    /// The first three are alike, and so are the others.
    fn alike(one: usize, other: usize) -> f64 {
        if (one < 3) == (other < 3) { 0.9 } else { 0.0 }
    }

    fn items(chosen: &[Chosen]) -> Vec<usize> {
        chosen.iter().map(|chosen| chosen.candidate).collect()
    }

    fn rules(limit: usize) -> Rules {
        Rules {
            limit,
            diversity: 0.0,
            explore: 0.0,
            seed: 1,
        }
    }

    #[test]
    fn the_best_come_first_and_diversity_mixes() {
        assert_eq!(items(&choose(&SCORES, &[], alike, rules(4))), [0, 1, 2, 3]);
        let likeness = |diversity: f64| {
            let chosen = items(&choose(
                &SCORES,
                &[],
                alike,
                Rules {
                    diversity,
                    ..rules(3)
                },
            ));
            let pairs = chosen
                .iter()
                .enumerate()
                .flat_map(|(place, one)| chosen[..place].iter().map(|other| alike(*one, *other)));
            pairs.sum::<f64>()
        };
        let measured: Vec<f64> = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
            .into_iter()
            .map(likeness)
            .collect();
        assert!(
            measured.windows(2).all(|pair| pair[1] <= pair[0] + 1e-9),
            "{measured:?}"
        );
        assert!(measured[5] < measured[0]);
    }

    #[test]
    fn of_a_kind_there_are_at_most_so_many() {
        let kinds: Vec<Vec<(usize, usize)>> = (0..6).map(|item| vec![(item / 3, 2)]).collect();
        assert_eq!(
            items(&choose(&SCORES, &kinds, alike, rules(6))),
            [0, 1, 3, 4]
        );
    }

    #[test]
    fn propensities_are_how_often_it_happens() {
        let mut counts = [0u32; 6];
        let mut said = [0.0f64; 6];
        const DRAWS: u64 = 40_000;
        for draw in 0..DRAWS {
            let rules = Rules {
                explore: 0.3,
                seed: draw.wrapping_mul(0x1234_5678_9abc_def1),
                ..rules(1)
            };
            let first = choose(&SCORES, &[], alike, rules)[0];
            counts[first.candidate] += 1;
            said[first.candidate] = first.propensity;
        }
        assert!((said.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{said:?}");
        for (count, said) in counts.iter().zip(said) {
            let share = f64::from(*count) / DRAWS as f64;
            let error = 4.0 * (said * (1.0 - said) / DRAWS as f64).sqrt();
            assert!((share - said).abs() < error, "{share} {said}");
        }
    }

    #[test]
    fn few_candidates_make_a_short_list() {
        assert_eq!(choose(&[], &[], alike, rules(3)), []);
        assert_eq!(items(&choose(&SCORES[..2], &[], alike, rules(3))), [0, 1]);
    }
}
