//! The statistics of experiments, by simulation and on public experiments whose answers are known.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::collections::HashMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tidemill_evaluate::experiment::{
    Arm, Logged, SampleRatio, Sequence, Variations, compare, off_policy,
};

use support::data;

/// Nothing differs, and somebody looks after every person: at most one in twenty ever believes that something does.
#[test]
fn whoever_always_looks_is_seldom_ever_wrong() {
    const RUNS: u64 = 1_000;
    const PEOPLE: u64 = 10_000;
    let sequence = Sequence::default();
    let mut wrong = 0;
    for run in 0..RUNS {
        let mut random = ChaCha8Rng::seed_from_u64(run);
        let mut arms = [Arm::default(); 2];
        let excludes_zero = (0..PEOPLE).any(|_| {
            // most bring nothing, a few a lot: as orders are
            let brought = if random.random::<f64>() < 0.1 {
                10.0 + 90.0 * random.random::<f64>()
            } else {
                0.0
            };
            arms[usize::from(random.random::<bool>())].add(brought, 0.0);
            let interval = compare(&arms[0], &arms[1], &sequence).interval;
            interval.is_some_and(|(low, high)| low > 0.0 || high < 0.0)
        });
        wrong += u64::from(excludes_zero);
    }
    println!(
        "{wrong} of {RUNS} A/A experiments with a look after each of {PEOPLE} people ever exclude zero"
    );
    assert!(wrong <= RUNS / 20, "{wrong} of {RUNS}");
}

/// A row of Hillstrom's experiment: the arm, visit, spend, what they had spent before.
fn hillstrom(text: &str) -> Vec<(usize, f64, f64, f64)> {
    let arms = ["No E-Mail", "Mens E-Mail", "Womens E-Mail"];
    let row = |line: &str| {
        // from the end: a field near the front has commas in it
        let fields: Vec<&str> = line.rsplit(',').collect();
        let number = |place: usize| fields[place].parse::<f64>().unwrap();
        let arm = arms.iter().position(|arm| *arm == fields[3]).unwrap();
        (arm, number(2), number(0), number(9))
    };
    text.lines().skip(1).map(row).collect()
}

#[test]
fn an_experiment_with_a_known_answer_is_answered() {
    let Some(text) = data(
        "an_experiment_with_a_known_answer_is_answered",
        "hillstrom/hillstrom.csv.zst",
    ) else {
        return;
    };
    let rows = hillstrom(&text);
    assert_eq!(rows.len(), 64_000);
    // what the data's description says of visits: .1062 without, .1828 and .1514 with one of the e-mails
    for (arm, known) in [(1, 0.1828 - 0.1062), (2, 0.1514 - 0.1062)] {
        let (mut plain, mut informed) = ([Arm::default(); 2], [Arm::default(); 2]);
        for (of, visit, _, history) in rows.iter().filter(|row| row.0 == 0 || row.0 == arm) {
            let place = usize::from(*of == arm);
            plain[place].add(*visit, 0.0);
            informed[place].add(*visit, *history);
        }
        let plain = compare(&plain[0], &plain[1], &Sequence::default());
        let informed = compare(&informed[0], &informed[1], &Sequence::default());
        for compared in [plain, informed] {
            let (low, high) = compared.interval.unwrap();
            assert!(low < known && known < high && low > 0.0, "{compared:?}");
        }
        println!("e-mail {arm}: {informed:?}");
        assert!(informed.variance_reduction > 0.0);
        assert!(informed.standard_error < plain.standard_error);
    }
    // the arms are as large as they were meant to be, until every twentieth person of one is lost
    let thirds = [1.0 / 3.0; 3];
    let (mut whole, mut broken) = (SampleRatio::new(&thirds), SampleRatio::new(&thirds));
    for (number, (arm, ..)) in rows.iter().enumerate() {
        whole.add(*arm, 1);
        if !(*arm == 1 && number % 20 == 0) {
            broken.add(*arm, 1);
        }
    }
    assert!(!whole.is_broken(), "{}", whole.p_value());
    assert!(broken.is_broken(), "{}", broken.p_value());
    // and our own assignment divides these people as it says
    let arms = Variations::equal("e-mail", 3);
    let mut ratio = SampleRatio::new(&arms.weights);
    (0..rows.len()).for_each(|person| ratio.add(arms.arm(&format!("user:{person}")).unwrap(), 1));
    assert!(!ratio.is_broken(), "{}", ratio.p_value());
}

/// A row of the Open Bandit Dataset: item, position, click, propensity.
fn bandit(text: &str) -> Vec<(u32, u32, f64, f64)> {
    let row = |line: &str| {
        let mut fields = line.split(',').skip(2);
        let mut next = || fields.next().unwrap();
        (
            next().parse().unwrap(),
            next().parse().unwrap(),
            next().parse().unwrap(),
            next().parse().unwrap(),
        )
    };
    text.lines().skip(1).map(row).collect()
}

/// What the Thompson policy earns is known from its own log, and estimated from that of the random one.
#[test]
fn a_policy_is_judged_by_the_log_of_another() {
    const TEST: &str = "a_policy_is_judged_by_the_log_of_another";
    let (Some(random), Some(thompson)) = (
        data(TEST, "open-bandit/random/all/all.csv.zst"),
        data(TEST, "open-bandit/bts/all/all.csv.zst"),
    ) else {
        return;
    };
    let (random, thompson) = (bandit(&random), bandit(&thompson));
    let truth = thompson.iter().map(|row| row.2).sum::<f64>() / thompson.len() as f64;
    // how often it shows each item in each position, as its log says
    let mut shown: HashMap<(u32, u32), f64> = HashMap::new();
    let mut at: HashMap<u32, f64> = HashMap::new();
    for (item, position, ..) in &thompson {
        *shown.entry((*item, *position)).or_insert(0.0) += 1.0;
        *at.entry(*position).or_insert(0.0) += 1.0;
    }
    let chance = |item: u32, position: u32| {
        shown
            .get(&(item, position))
            .map_or(0.0, |count| count / at[&position])
    };
    // what is expected of an item: its clicks in the log, drawn towards those of all
    let mean = random.iter().map(|row| row.2).sum::<f64>() / random.len() as f64;
    let mut clicks: HashMap<u32, (f64, f64)> = HashMap::new();
    for (item, _, click, _) in &random {
        let of = clicks.entry(*item).or_insert((0.0, 0.0));
        (of.0, of.1) = (of.0 + click, of.1 + 1.0);
    }
    let expected = |item: u32| {
        let (clicked, shown) = clicks.get(&item).copied().unwrap_or_default();
        (clicked + 100.0 * mean) / (shown + 100.0)
    };
    let items: Vec<u32> = clicks.keys().copied().collect();
    let of_policy: HashMap<u32, f64> = at
        .keys()
        .map(|position| {
            (
                *position,
                items
                    .iter()
                    .map(|item| chance(*item, *position) * expected(*item))
                    .sum(),
            )
        })
        .collect();
    let log: Vec<Logged> = random
        .iter()
        .map(|(item, position, click, propensity)| Logged {
            reward: *click,
            propensity: *propensity,
            probability: chance(*item, *position),
            expected: expected(*item),
            expected_of_policy: of_policy[position],
        })
        .collect();
    let found = off_policy(&log).unwrap();
    println!("on its own log {truth:.5}, from the other's {found:?}");
    for estimate in [
        found.inverse_propensity,
        found.self_normalised,
        found.doubly_robust,
    ] {
        let (low, high) = estimate.interval;
        assert!(low < truth && truth < high, "{estimate:?}");
    }
    assert!(
        found.effective > 500.0 && found.effective < log.len() as f64,
        "{found:?}"
    );
}
