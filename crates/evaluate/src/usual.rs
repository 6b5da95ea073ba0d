//! What is usual: how far a window may be from those before it, as past windows were, corrected for how much is looked at.
//!
//! A distance is taken in units of what chance alone brings about, and its logarithm to be like a sample of a normal distribution: a new one
//! exceeds the centre of n past ones by `t · s · √(1 + 1/n)` with the probability that Student's distribution with n − 1 degrees of
//! freedom says (the prediction interval; Hahn and Meeker, *Statistical Intervals*, 1991). Where several questions are asked at once,
//! each gets an equal part of the false alarms (Bonferroni). Windows may differ in fits: the bound is the larger of two, of which one
//! looks at all past windows and one only at those above the median, whose spread says how the upper tail falls.
//!
//! In simulations (the tests) 5 % were asked for over 40 questions: distances as chance makes them are told in at most 2 % of the
//! cases, those that change by half from window to window in 7 %, and by a factor of e in 14 %.

/// With fewer past windows nothing is judged.
pub const PAST_MIN: usize = 10;
/// Added to a distance in units of chance, so that windows which differ less than by chance do not make the spread large.
const FLOOR: f64 = 0.5;
/// The least standard deviation of the logarithms: that of the Kolmogorov distribution is 0.29, and a few windows that happen to be
/// alike do not say that all are.
const SPREAD_MIN: f64 = 0.3;

/// How far a window is from what it is compared with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distance {
    /// How far, in the unit of the question; not negative.
    pub value: f64,
    /// How far it is, about, where nothing but chance is at work.
    pub chance: f64,
}

impl Distance {
    fn log(self) -> f64 {
        (self.value / self.chance.max(f64::MIN_POSITIVE) + FLOOR).ln()
    }
}

/// What past windows say about how far the next one may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usual {
    windows: usize,
    all: Centre,
    upper: Centre,
}

/// Where logarithms of distances lie.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Centre {
    at: f64,
    /// The standard deviation of the next one from there.
    spread: f64,
}

impl Usual {
    /// From at least [`PAST_MIN`] past windows; `None` from fewer.
    pub fn of(past: impl IntoIterator<Item = Distance>) -> Option<Self> {
        let past: Vec<Distance> = past.into_iter().collect();
        if past.len() < PAST_MIN {
            return None;
        }
        Some(Self {
            windows: past.len(),
            all: Centre::of_all(&past),
            upper: Centre::of_upper(&past),
        })
    }

    /// The distance that a usual window exceeds with the probability `false_alarms / questions`, in the unit of the question.
    pub fn threshold(&self, chance: f64, false_alarms: f64, questions: usize) -> f64 {
        let share = false_alarms / questions.max(1) as f64;
        let t = student_quantile(share, self.windows - 1);
        let bound = |centre: Centre| (centre.at + t * centre.spread).exp() - FLOOR;
        bound(self.all).max(bound(self.upper)).max(0.0) * chance
    }
}

impl Centre {
    fn of_all(past: &[Distance]) -> Self {
        let n = past.len() as f64;
        let logs = || past.iter().map(|distance| distance.log());
        let mean = logs().sum::<f64>() / n;
        let squares = logs().map(|log| (log - mean).powi(2)).sum::<f64>();
        let spread = (squares / (n - 1.0)).sqrt().max(SPREAD_MIN);
        Self {
            at: mean,
            spread: spread * (1.0 + 1.0 / n).sqrt(),
        }
    }

    fn of_upper(past: &[Distance]) -> Self {
        let n = past.len() as f64;
        let mut logs: Vec<f64> = past.iter().map(|distance| distance.log()).collect();
        logs.sort_unstable_by(f64::total_cmp);
        let median = f64::midpoint(logs[logs.len() / 2], logs[(logs.len() - 1) / 2]);
        let squares = logs.iter().map(|log| (log - median).max(0.0).powi(2));
        let spread = (squares.sum::<f64>() / (n / 2.0)).sqrt().max(SPREAD_MIN);
        Self {
            at: median,
            // a median varies π / 2 times as much as a mean
            spread: spread * (1.0 + std::f64::consts::FRAC_PI_2 / n).sqrt(),
        }
    }
}

/// The probability that Student's variable with whole degrees of freedom exceeds `t` (Abramowitz and Stegun, *Handbook of
/// Mathematical Functions*, 26.7.3 and 26.7.4).
fn student_tail(t: f64, freedom: usize) -> f64 {
    let nu = freedom.max(1) as f64;
    let angle = (t.abs() / nu.sqrt()).atan();
    let (sine, cosine) = angle.sin_cos();
    let is_odd = freedom.max(1) % 2 == 1;
    // within: the probability of being between −|t| and |t|
    let mut term = if is_odd { cosine } else { 1.0 };
    let mut sum = if is_odd && freedom <= 1 { 0.0 } else { term };
    let mut step = if is_odd { 2.0 } else { 1.0 };
    while step + 2.0 < nu {
        term *= cosine * cosine * step / (step + 1.0);
        sum += term;
        step += 2.0;
    }
    let within = match is_odd {
        true => std::f64::consts::FRAC_2_PI * (angle + sine * sum),
        false => sine * sum,
    };
    let beyond = ((1.0 - within) / 2.0).clamp(0.0, 0.5);
    if t < 0.0 { 1.0 - beyond } else { beyond }
}

/// The number that Student's variable exceeds with a probability from 1e-12 to 0.5.
pub fn student_quantile(probability: f64, freedom: usize) -> f64 {
    let probability = probability.clamp(1e-12, 0.5);
    let (mut low, mut high) = (0.0, 1.0);
    while student_tail(high, freedom) > probability && high < 1e12 {
        low = high;
        high *= 2.0;
    }
    for _ in 0..80 {
        let middle = f64::midpoint(low, high);
        if student_tail(middle, freedom) > probability {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn the_tail_is_that_of_the_tables() {
        // one-sided 5 %, 1 % and 0.05 % points
        for (freedom, share, t) in [
            (1, 0.05, 6.314),
            (2, 0.05, 2.920),
            (3, 0.01, 4.541),
            (9, 0.05, 1.833),
            (10, 0.01, 2.764),
            (29, 0.0005, 3.659),
            (30, 0.0005, 3.646),
        ] {
            assert!(
                (student_tail(t, freedom) - share).abs() < share * 0.01,
                "{freedom}: {}",
                student_tail(t, freedom)
            );
            assert!(
                (student_quantile(share, freedom) - t).abs() < 2e-3,
                "{freedom}"
            );
        }
        assert_eq!(student_tail(0.0, 7), 0.5);
        assert!((student_tail(-1.833, 9) - 0.95).abs() < 1e-3);
    }

    #[test]
    fn too_few_windows_say_nothing() {
        let past = |n| {
            (0..n).map(|_| Distance {
                value: 0.1,
                chance: 0.1,
            })
        };
        assert_eq!(Usual::of(past(PAST_MIN - 1)), None);
        let usual = Usual::of(past(PAST_MIN)).unwrap();
        let threshold = usual.threshold(0.1, 0.01, 50);
        assert!(threshold > 0.3, "{threshold}");
        assert!((usual.threshold(0.2, 0.01, 50) - 2.0 * threshold).abs() < 1e-9);
        assert!(usual.threshold(0.1, 0.01, 500) > threshold);
    }

    /// How often anything is told of windows that are all alike, where `questions` are asked.
    fn false_alarms(windows: usize, questions: usize, draw: fn(&mut ChaCha8Rng) -> f64) -> f64 {
        let mut random = ChaCha8Rng::seed_from_u64(11);
        let rounds = 1_000;
        let mut told = 0;
        for _ in 0..rounds {
            let any = (0..questions).any(|_| {
                let mut distance = || Distance {
                    value: draw(&mut random),
                    chance: 1.0,
                };
                let past: Vec<Distance> = (0..windows).map(|_| distance()).collect();
                let usual = Usual::of(past).unwrap();
                let now = distance();
                now.value > usual.threshold(now.chance, 0.05, questions)
            });
            told += u32::from(any);
        }
        f64::from(told) / f64::from(rounds)
    }

    #[test]
    fn false_alarms_are_as_rare_as_was_asked_for() {
        type Draw = fn(&mut ChaCha8Rng) -> f64;
        let kinds: [(f64, Draw); 5] = [
            // the distance of a mean from another: half a normal variable
            (0.03, |random| normal(random).abs()),
            // a distribution function from another, about (Kolmogorov): the largest of some
            (0.03, |random| {
                (0..5).map(|_| normal(random).abs()).fold(0.0, f64::max)
            }),
            // nothing but now and then a little
            (0.09, |random| {
                f64::from(u8::from(random.random::<f64>() < 0.2))
            }),
            // windows that differ by half
            (0.09, |random| 3.0 * (0.5 * normal(random)).exp()),
            // windows that differ much
            (0.15, |random| normal(random).exp()),
        ];
        for (kind, (most, draw)) in kinds.into_iter().enumerate() {
            for (windows, questions) in [(10, 40), (20, 40), (40, 10)] {
                let rate = false_alarms(windows, questions, draw);
                assert!(
                    rate <= most,
                    "kind {kind}, {windows} windows, {questions} questions: {rate} instead of 0.05"
                );
            }
        }
    }

    fn normal(random: &mut ChaCha8Rng) -> f64 {
        let (one, other): (f64, f64) = (random.random(), random.random());
        (-2.0 * (1.0 - one).ln()).sqrt() * (std::f64::consts::TAU * other).cos()
    }
}
