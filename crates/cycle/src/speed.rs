//! Whether a version is fast and small enough to serve.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tidemill_core::clock::Stopwatch;
use tidemill_core::project::GateRules;
use tidemill_evaluate::Check;

/// How many answers are timed.
const TIMED: usize = 200;
/// How often each of them is given: the fastest time counts, since training gives way to whatever else the machine does.
const TIMES: usize = 3;
/// One answer in a hundred may take longer, in milliseconds, where the project file says nothing: what a rollout allows as well.
const LATENCY_MS_DEFAULT: f64 = 50.0;
/// The largest artifact, in megabytes, where the project file says nothing.
const SIZE_MB_DEFAULT: f64 = 4_096.0;

/// How long a version takes to answer: one question in a hundred takes longer. `answer` answers the question of a number; nothing is said of a version
/// that panics, which another check refuses.
pub(crate) fn fast(questions: usize, rules: &GateRules, answer: impl Fn(usize)) -> Option<Check> {
    let limit = rules.latency_ms.unwrap_or(LATENCY_MS_DEFAULT);
    let time = |question: usize| {
        let once = || {
            let stopwatch = Stopwatch::start();
            answer(question);
            stopwatch.micros()
        };
        (0..TIMES).map(|_| once()).min()
    };
    let times = || (0..questions.min(TIMED)).filter_map(time).collect();
    let mut times: Vec<u64> = catch_unwind(AssertUnwindSafe(times)).ok()?;
    times.sort_unstable();
    let place = (times.len() * 99 / 100).min(times.len().checked_sub(1)?);
    let found = times[place] as f64 / 1_000.0;
    let sentence = format!(
        "of {} answers one in a hundred takes longer than {found} ms, its features read; {limit} ms may be (gate.latency_ms)",
        times.len()
    );
    Some(Check::at_most("fast", found, limit, sentence))
}

/// How large the artifact of a version is.
pub(crate) fn small(bytes: usize, rules: &GateRules) -> Check {
    let limit = rules.size_mb.unwrap_or(SIZE_MB_DEFAULT);
    let found = bytes as f64 / 1e6;
    let sentence = format!("it has {found:.3} MB; {limit} MB may be (gate.size_mb)");
    Check::at_most("small", found, limit, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_or_much_is_refused() {
        let rules = GateRules {
            latency_ms: Some(5.0),
            size_mb: Some(2.0),
            ..GateRules::default()
        };
        let slow = |question: usize| {
            let (long, began) = (if question < 3 { 8_000 } else { 0 }, Stopwatch::start());
            while began.micros() < long {}
        };
        assert!(
            !fast(100, &rules, slow).unwrap().passed,
            "three in a hundred"
        );
        assert!(fast(2, &GateRules::default(), slow).unwrap().passed);
        assert_eq!(fast(0, &rules, slow), None, "nothing was asked");
        assert_eq!(fast(9, &rules, |_| panic!("a bad version")), None);
        assert!(small(2_000_000, &rules).passed);
        let refused = small(2_100_000, &rules);
        assert!(!refused.passed);
        assert_eq!(
            refused.sentence,
            "it has 2.100 MB; 2 MB may be (gate.size_mb)"
        );
    }
}
