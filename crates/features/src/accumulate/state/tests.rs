use proptest::prelude::*;
use tidemill_core::FeatureType;

use super::*;

fn recent(k: usize, kind: FeatureType) -> Operation {
    Operation::Recent { k, kind }
}

/// All operations, with and without windows, each on every event; the second half on a condition.
fn plan() -> StatePlan {
    let operations = [
        (Operation::Count, None),
        (Operation::Sum, Some(0)),
        (Operation::Mean, Some(0)),
        (Operation::Stddev, Some(0)),
        (Operation::Min, Some(0)),
        (Operation::Max, Some(0)),
        (Operation::Quantile { q: 0.5 }, Some(0)),
        (Operation::First(FeatureType::Number), Some(0)),
        (Operation::First(FeatureType::Category), Some(1)),
        (Operation::Last(FeatureType::Number), Some(0)),
        (Operation::Last(FeatureType::Category), Some(1)),
        (Operation::SinceFirst, None),
        (Operation::SinceLast, None),
        (Operation::Distinct, Some(1)),
        (Operation::Top { k: 2 }, Some(1)),
        (recent(3, FeatureType::Number), Some(0)),
        (recent(1, FeatureType::Category), Some(1)),
    ];
    let spans = ["45s", "1h", "1d", "90d"].map(|span| span.parse().unwrap());
    let (mut aggregates, mut steps) = (Vec::new(), Vec::new());
    for windows in [
        None,
        Some(Windows::new(&spans)),
        Some(Windows::new(&spans[1..3])),
    ] {
        for (operation, value) in operations {
            let condition = windows.is_some().then_some(0);
            steps.push(Step {
                aggregate: aggregates.len(),
                condition,
                value,
                ..Step::default()
            });
            aggregates.push(AggregatePlan {
                operation,
                windows: windows.clone(),
                part: Part::Whole,
            });
        }
    }
    for value in [None, Some(0)] {
        steps.push(Step {
            aggregate: aggregates.len(),
            condition: None,
            value,
            ..Step::default()
        });
        let half_life = Span::from_days(1);
        aggregates.push(AggregatePlan {
            operation: Operation::Decayed { half_life },
            windows: None,
            part: Part::Whole,
        });
    }
    StatePlan {
        aggregates,
        steps: vec![steps],
        ..StatePlan::default()
    }
}

prop_compose! {
    fn state()(draws in prop::collection::vec((0i64..90_000, -200_000i64..50_000, 0u8..6, -3.0..1e6f64), 0..60)) -> EntityState {
        let plan = plan();
        let mut state = EntityState::new(&plan);
        let mut now = 1_300_000_000_000_000;
        for (offset, (step, happened, category, number)) in draws.into_iter().enumerate() {
            now += step * 1_000_000;
            let number = if category % 2 == 0 { Value::Number(number) } else { Value::Number(number.round()) };
            let text = if category == 0 { Value::Missing } else { Value::Category(format!("c{category}").into()) };
            let event = Extracted {
                timestamp: now + happened * 1_000_000,
                offset: offset as u64,
                steps: 0,
                passed: u64::from(category % 3),
                values: Box::new([number, text]),
            };
            state.update(&plan, &event, Timestamp::from_micros(now));
        }
        state
    }
}

proptest! {
    #[test]
    fn states_are_stored_without_loss(state in state()) {
        let plan = plan();
        prop_assert_eq!(EntityState::decode(&plan, &state.encode(&plan)), Ok(state));
    }

    #[test]
    fn damaged_states_are_errors_or_states_but_never_panics(
        state in state(), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), cut: prop::sample::Index,
    ) {
        let plan = plan();
        let mut bytes = state.encode(&plan);
        prop_assert!(EntityState::decode(&plan, &bytes[..cut.index(bytes.len())]).is_err());
        for (index, flip) in flips {
            let index = index.index(bytes.len());
            bytes[index] ^= flip;
        }
        if let Ok(mut state) = EntityState::decode(&plan, &bytes) {
            let slots: Vec<(usize, usize)> = (0..plan.aggregates.len()).map(|aggregate| (aggregate, 0)).collect();
            let mut row = Vec::new();
            let moment = Timestamp::from_micros(1_400_000_000_000_000);
            state.read(&plan, &slots, moment, &mut row);
            state.merge(&plan, EntityState::new(&plan), moment);
        }
    }

    /// Merging with nothing changes no answer, and the order of three merges does not change what is counted.
    #[test]
    fn states_merge(a in state(), b in state()) {
        let plan = plan();
        let moment = Timestamp::from_micros(1_400_000_000_000_000);
        let read = |state: &EntityState| {
            let counts: Vec<(usize, usize)> = (0..plan.aggregates.len())
                .filter(|aggregate| plan.aggregates[*aggregate].operation == Operation::Count)
                .map(|aggregate| (aggregate, 0))
                .collect();
            let mut row = Vec::new();
            state.read(&plan, &counts, moment, &mut row);
            row.iter().map(FeatureValue::as_number).collect::<Vec<_>>()
        };
        let mut both = a.clone();
        both.merge(&plan, b.clone(), moment);
        let mut reversed = b.clone();
        reversed.merge(&plan, a.clone(), moment);
        prop_assert_eq!(read(&both), read(&reversed));
        let sums: Vec<f64> = read(&a).iter().zip(read(&b)).map(|(a, b)| a + b).collect();
        prop_assert_eq!(read(&both), sums);
        prop_assert_eq!(both.events(), a.events() + b.events());
    }
}

/// An event with a number and a text that no other has.
fn many_values(offset: u64, timestamp: i64) -> Extracted {
    let mix = offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let number = Value::Number((mix % 1_000_000) as f64 / 7.0 - 10_000.0);
    let text = Value::Category(format!("value {mix}").into());
    Extracted {
        timestamp,
        offset,
        steps: 0,
        passed: 1,
        values: Box::new([number, text]),
    }
}

/// Every sketch full, every list at its bound: stored without loss, and damage is found or harmless.
#[test]
fn full_states_are_stored_without_loss() {
    let plan = plan();
    let mut state = EntityState::new(&plan);
    for offset in 0..3_000u64 {
        let now = 1_300_000_000_000_000 + offset as i64 * 1_000_000;
        let late = (offset % 100) as i64 * 1_000_000;
        state.update(
            &plan,
            &many_values(offset, now - late),
            Timestamp::from_micros(now),
        );
    }
    let bytes = state.encode(&plan);
    assert_eq!(EntityState::decode(&plan, &bytes), Ok(state));
    let moment = Timestamp::from_micros(1_400_000_000_000_000);
    for place in (0..bytes.len()).step_by(37) {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x55;
        if let Ok(state) = EntityState::decode(&plan, &damaged) {
            let mut row = Vec::new();
            let slots: Vec<(usize, usize)> = (0..plan.aggregates.len())
                .map(|aggregate| (aggregate, 0))
                .collect();
            state.read(&plan, &slots, moment, &mut row);
            let mut merged = state.clone();
            merged.merge(&plan, state, moment);
        }
    }
}

/// The largest states of `docs/features.md`, after thousands of events over 50 minutes with texts of at most 27 bytes.
#[test]
fn states_are_as_small_as_the_guide_says() {
    let (number, category) = (FeatureType::Number, FeatureType::Category);
    let text_bytes = 1 + 1 + 27;
    for (operation, value, bytes_max) in [
        (Operation::Count, None, 3),
        (Operation::Sum, Some(0), 9),
        (Operation::Mean, Some(0), 12),
        (Operation::Stddev, Some(0), 21),
        (Operation::Min, Some(0), 9),
        (Operation::Quantile { q: 0.5 }, Some(0), 3 + 256 * 5),
        (Operation::First(number), Some(0), 20 + 9),
        (Operation::Last(category), Some(1), 20 + text_bytes),
        (Operation::SinceFirst, None, 8),
        (Operation::SinceLast, None, 8),
        (Operation::Distinct, Some(1), 770),
        (Operation::Top { k: 10 }, Some(1), 1 + 32 * (text_bytes + 3)),
        (recent(20, category), Some(1), 1 + 20 * (12 + text_bytes)),
    ] {
        let plan = StatePlan {
            aggregates: vec![AggregatePlan {
                operation,
                windows: None,
                part: Part::Whole,
            }],
            steps: vec![vec![Step {
                aggregate: 0,
                condition: None,
                value,
                ..Step::default()
            }]],
            ..StatePlan::default()
        };
        let mut state = EntityState::new(&plan);
        let now =
            |offset: u64| Timestamp::from_micros(1_300_000_000_000_000 + offset as i64 * 1_000_000);
        for offset in 0..3_000 {
            let event = many_values(offset, now(offset).micros());
            state.update(&plan, &event, now(offset));
        }
        // Each accumulator without windows begins with a byte that says whether there is anything.
        let nothing = EntityState {
            accumulators: vec![Accumulator::Total(None)],
            ..state.clone()
        };
        let bytes = state.encode(&plan).len() - nothing.encode(&plan).len();
        assert!(bytes <= bytes_max, "{operation:?}: {bytes} bytes");
        assert!(
            bytes * 4 >= bytes_max || bytes < 64,
            "{operation:?}: {bytes} bytes only"
        );
    }
}

#[test]
fn a_sequence_has_as_many_values_as_there_are() {
    let span: Span = "1m".parse().unwrap();
    let plan = StatePlan {
        aggregates: vec![AggregatePlan {
            operation: recent(3, FeatureType::Number),
            windows: Some(Windows::new(&[span])),
            part: Part::Whole,
        }],
        steps: vec![vec![Step {
            aggregate: 0,
            condition: None,
            value: Some(0),
            ..Step::default()
        }]],
        ..StatePlan::default()
    };
    let mut state = EntityState::new(&plan);
    let at = |second: i64| Timestamp::from_micros(1_300_000_000_000_000 + second * 1_000_000);
    let check = |state: &EntityState, second: i64, expected: &[f64]| {
        let expected: Vec<FeatureValue> = expected
            .iter()
            .map(|number| FeatureValue::Number(*number))
            .collect();
        assert_eq!(state.sequence(&plan, (0, 0), at(second)), expected);
    };
    check(&state, 0, &[]);
    // The third happened before the others; the last is stamped in the future.
    for (offset, (happened, received)) in [(10, 10), (20, 20), (5, 25), (50, 30)]
        .into_iter()
        .enumerate()
    {
        let event = Extracted {
            timestamp: at(happened).micros(),
            offset: offset as u64,
            steps: 0,
            passed: 0,
            values: Box::new([Value::Number(happened as f64)]),
        };
        state.update(&plan, &event, at(received));
    }
    check(&state, 30, &[20.0, 10.0, 5.0]);
    check(&state, 50, &[50.0, 20.0, 10.0]);
    check(&state, 75, &[50.0, 20.0]);
    check(&state, 200, &[]);
}

#[test]
fn events_of_the_future_wait_for_their_time() {
    let plan = StatePlan {
        aggregates: vec![AggregatePlan {
            operation: Operation::Count,
            windows: None,
            part: Part::Whole,
        }],
        steps: vec![vec![Step {
            aggregate: 0,
            condition: None,
            value: None,
            ..Step::default()
        }]],
        ..StatePlan::default()
    };
    let mut state = EntityState::new(&plan);
    let read = |state: &EntityState, moment: i64| {
        let mut row = Vec::new();
        state.read(&plan, &[(0, 0)], Timestamp::from_micros(moment), &mut row);
        row[0].as_number()
    };
    let event = |timestamp: i64, offset: u64| Extracted {
        timestamp,
        offset,
        steps: 0,
        passed: 0,
        values: Box::new([]),
    };
    assert!(!state.update(&plan, &event(500, 1), Timestamp::from_micros(100)));
    assert_eq!(
        [read(&state, 100), read(&state, 499), read(&state, 500)],
        [0.0, 0.0, 1.0]
    );
    assert!(!state.update(&plan, &event(600, 2), Timestamp::from_micros(600)));
    assert_eq!(read(&state, 600), 2.0);
    for offset in 0..PENDING_MAX as u64 {
        assert!(!state.update(&plan, &event(900, 3 + offset), Timestamp::from_micros(600)));
    }
    assert!(state.update(&plan, &event(900, 1_000), Timestamp::from_micros(600)));
    assert_eq!(read(&state, 600), 3.0);
}

/// States that were stored before there were sessions and pairs are read as they are.
#[test]
fn the_format_before_is_read() {
    let mut plan = plan();
    let mut state = EntityState::new(&plan);
    for offset in 0..20 {
        let now = 1_300_000_000_000_000 + offset as i64 * 7_000_000;
        state.update(
            &plan,
            &many_values(offset, now),
            Timestamp::from_micros(now),
        );
    }
    let mut bytes = state.encode(&plan);
    assert_eq!(bytes[0], FORMAT);
    bytes[0] = FORMAT_WITHOUT_PARTS;
    assert_eq!(EntityState::decode(&plan, &bytes), Ok(state));
    plan.session_gap = Some(1);
    assert!(EntityState::decode(&plan, &bytes).is_err());
}
