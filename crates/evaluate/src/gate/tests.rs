//! The gate on rows whose true probabilities are known.

use super::*;

/// 2,000 rows whose true probability is known; `sharpness` 1 tells it, 0 the base rate.
struct Data {
    targets: Vec<f64>,
    entities: Vec<u64>,
    truth: Vec<f64>,
}

fn data() -> Data {
    let count = 2_000;
    let truth: Vec<f64> = (0..count)
        .map(|i| 0.05 + 0.9 * (i * 611 % count) as f64 / count as f64)
        .collect();
    let targets = (0..count)
        .map(|i| {
            f64::from(u8::from(
                truth[i] > ((i * 389 + 7) * (i % 13 + 1) % count) as f64 / count as f64,
            ))
        })
        .collect();
    Data {
        targets,
        entities: (0..count as u64).collect(),
        truth,
    }
}

impl Data {
    fn scores(&self, sharpness: f64) -> Vec<f64> {
        self.truth
            .iter()
            .map(|p| 0.5 + sharpness * (p - 0.5))
            .collect()
    }

    fn noisy(&self) -> Vec<f64> {
        self.truth
            .iter()
            .enumerate()
            .map(|(i, p)| 0.6 * p + 0.4 * (i * 53 % 100) as f64 / 100.0)
            .collect()
    }

    fn gate<'a>(&'a self, challenger: &'a [f64]) -> Gate<'a> {
        Gate {
            rows: Rows::new(
                TaskKind::Binary,
                &self.targets,
                &[1.0; 2_000],
                &self.entities,
            )
            .unwrap(),
            metric: Metric::Auc,
            challenger: ScoresView::new(1, challenger).unwrap(),
            baselines: Vec::new(),
            champion: None,
            slices: &[],
            minimums: &[],
            further: Vec::new(),
            strictness: Strictness::default(),
        }
    }
}

fn find<'a>(verdict: &'a Verdict, name: &str) -> &'a Check {
    verdict
        .checks
        .iter()
        .find(|check| check.name == name)
        .unwrap_or_else(|| panic!("{name} in {verdict:?}"))
}

#[test]
fn a_good_first_version_is_promoted() {
    let data = data();
    let (scores, noisy, constant) = (data.scores(1.0), data.noisy(), data.scores(0.0));
    let view = |values| ScoresView::new(1, values).unwrap();
    let verdict = Gate {
        baselines: vec![
            ("constant", "the base rate", view(&constant)),
            (
                "recency_frequency",
                "the recency/frequency rule",
                view(&noisy),
            ),
        ],
        minimums: &[(Metric::Auc, 0.7), (Metric::LogLoss, 0.69)],
        ..data.gate(&scores)
    }
    .decide()
    .unwrap();
    assert!(verdict.promoted, "{verdict:#?}");
    assert_eq!(verdict.summary(), "promoted: all 7 checks passed");
    let sentence = &find(&verdict, "beats:recency_frequency").sentence;
    assert!(
        sentence.contains(" beats the recency/frequency rule (0."),
        "{sentence}"
    );
    assert!(sentence.contains(") by 0."), "{sentence}");
    assert!(
        find(&verdict, "champion")
            .sentence
            .contains("first version")
    );
    let json = serde_json::to_string(&verdict).unwrap();
    assert_eq!(serde_json::from_str::<Verdict>(&json).unwrap(), verdict);
}

#[track_caller]
fn check_rejected(verdict: &Verdict, name: &str, sentence: &str) {
    assert!(!verdict.promoted);
    let failed: Vec<&str> = verdict
        .checks
        .iter()
        .filter(|check| !check.passed)
        .map(|check| check.name.as_str())
        .collect();
    assert_eq!(failed, [name], "{verdict:#?}");
    assert!(
        verdict.summary().contains(sentence),
        "{}",
        verdict.summary()
    );
}

#[test]
fn each_condition_rejects_on_its_own() {
    let data = data();
    let view = |values| ScoresView::new(1, values).unwrap();
    let (scores, noisy) = (data.scores(1.0), data.noisy());

    let verdict = Gate {
        baselines: vec![("same", "itself", view(&scores))],
        ..data.gate(&scores)
    }
    .decide()
    .unwrap();
    check_rejected(&verdict, "beats:same", "does not clearly beat itself (0.");

    let verdict = Gate {
        champion: Some(("m@1", view(&scores))),
        ..data.gate(&noisy)
    }
    .decide()
    .unwrap();
    check_rejected(
        &verdict,
        "champion",
        "not surely as good as the champion m@1",
    );

    let verdict = Gate {
        minimums: &[(Metric::Auc, 0.99)],
        ..data.gate(&scores)
    }
    .decide()
    .unwrap();
    check_rejected(&verdict, "min:auc", "is below the declared minimum 0.990");

    let bold: Vec<f64> = scores
        .iter()
        .map(|p| {
            if *p > 0.5 {
                0.97 + p / 100.0
            } else {
                p / 100.0
            }
        })
        .collect();
    let verdict = data.gate(&bold).decide().unwrap();
    check_rejected(&verdict, "calibrated", "probabilities are off by 0.");

    let check = undefined("golden", "2 of 10 golden answers changed".to_owned());
    let verdict = Gate {
        further: vec![check],
        ..data.gate(&scores)
    }
    .decide()
    .unwrap();
    check_rejected(
        &verdict,
        "golden",
        "rejected by 1 of 4 checks: 2 of 10 golden answers changed",
    );
}

#[test]
fn unsound_answers_are_a_rejection_not_an_error() {
    let data = data();
    let mut scores = data.scores(1.0);
    scores[5] = f64::NAN;
    scores[6] = 1.5;
    let verdict = data.gate(&scores).decide().unwrap();
    check_rejected(
        &verdict,
        "sound",
        "2 of 2000 answers are not finite and between 0 and 1",
    );
    let verdict = data.gate(&[0.3; 2_000]).decide().unwrap();
    check_rejected(&verdict, "sound", "all 2000 answers are the same");
}

#[test]
fn a_version_is_as_good_as_itself_and_a_broken_slice_is_seen() {
    let data = data();
    let scores = data.scores(1.0);
    let view = |values| ScoresView::new(1, values).unwrap();
    let slice = |name: &str, rows: Vec<usize>| Slice {
        feature: "country".into(),
        name: name.into(),
        rows,
    };
    let slices = [
        slice("country is Germany", (0..2_000).step_by(5).collect()),
        slice("country is Liechtenstein", (0..30).collect()),
    ];
    let verdict = Gate {
        champion: Some(("m@1", view(&scores))),
        slices: &slices,
        ..data.gate(&scores)
    }
    .decide()
    .unwrap();
    assert!(verdict.promoted, "{verdict:#?}");
    assert!(
        find(&verdict, "slice:country is Liechtenstein")
            .sentence
            .contains("30 rows of the 100")
    );

    let mut broken = scores.clone();
    for row in (0..2_000).step_by(5) {
        broken[row] = 1.0 - broken[row];
    }
    let verdict = Gate {
        champion: Some(("m@1", view(&scores))),
        slices: &slices,
        ..data.gate(&broken)
    }
    .decide()
    .unwrap();
    let check = find(&verdict, "slice:country is Germany");
    assert!(
        !check.passed
            && check
                .sentence
                .starts_with("where country is Germany, AUC 0."),
        "{check:?}"
    );
}

#[test]
fn outcomes_of_one_kind_are_explained() {
    let data = data();
    let scores = data.scores(1.0);
    let ones = vec![1.0; 2_000];
    let noisy = data.noisy();
    let rows = Rows::new(TaskKind::Binary, &ones, &[1.0; 2_000], &data.entities).unwrap();
    let baselines = vec![("noisy", "noise", ScoresView::new(1, &noisy).unwrap())];
    let verdict = Gate {
        rows,
        baselines,
        ..data.gate(&scores)
    }
    .decide()
    .unwrap();
    let sentence = &find(&verdict, "beats:noisy").sentence;
    assert_eq!(
        sentence,
        "AUC cannot be compared with noise: all 2000 outcomes are the same"
    );
}

#[test]
fn a_tolerance_that_a_person_sets_is_in_the_metrics_own_unit() {
    let data = data();
    let scores = data.scores(1.0);
    let tolerance = |metric, decided| {
        let mut gate = data.gate(&scores);
        gate.metric = metric;
        gate.strictness.tolerance = decided;
        gate.tolerance(200.0)
    };
    assert_eq!(tolerance(Metric::Auc, None), 0.005);
    assert_eq!(tolerance(Metric::Mae, None), 2.0);
    assert_eq!(tolerance(Metric::Auc, Some(0.01)), 0.01);
    assert_eq!(tolerance(Metric::Mae, Some(0.01)), 0.01);
}
