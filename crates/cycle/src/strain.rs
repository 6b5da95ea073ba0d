//! Whether the server keeps up: answers that fail or are slow, what lags behind, a disk that fills up.

use tidemill_core::project::AlertTargets;
use tidemill_core::{Span, Timestamp};
use tidemill_evaluate::experiment::is_rate_above;
use tidemill_monitor::alerts::{AlertKind, Finding};
use tidemill_monitor::metrics::Progress;
use tidemill_monitor::traffic::{Asked, Over, ProcessLoad, Step};

use crate::project_loop::ProjectLoop;

/// What is looked for here.
pub(crate) const OF_STRAIN: [AlertKind; 4] = [
    AlertKind::AnswersFail,
    AlertKind::AnswersSlow,
    AlertKind::LagsBehind,
    AlertKind::DiskFull,
];

/// How far is looked back: what is over again after a minute or two wakes nobody.
const LOOKED_BACK: Span = Span::from_seconds(300);
/// In so many of these minutes answers must be slow.
const MINUTES_MIN: usize = 3;
/// Fewer answers than this in a minute say nothing about the slowest of a hundred.
const ANSWERS_MIN: u64 = 100;
/// The share of answers that may fail where the project file says nothing.
const ERRORS_DEFAULT: f64 = 0.01;
/// What one answer in a hundred may take where the project file says nothing, in milliseconds.
const LATENCY_MS_DEFAULT: f64 = 100.0;
/// How often at most it is told falsely that answers fail.
const ALPHA: f64 = 0.001;
/// So many events behind is no backlog.
const LAG_MIN: u64 = 10_000;
/// The disk is full when less than this share of it is free …
const FREE_SHARE_MIN: f64 = 0.05;
/// … or less than this, in bytes.
const FREE_BYTES_MIN: u64 = 1 << 30;

impl ProjectLoop {
    /// What the server does not keep up with, by what was noted in the last minutes.
    pub(crate) fn strained(&self) -> Vec<Finding> {
        let now = self.clock.now();
        let traffic = &self.metrics.traffic;
        let name = self.project.name.as_str();
        let limits = &self.project.alerts;
        let mut findings = Vec::new();
        for series in traffic.answers(name, Over::Hour, now) {
            let lately = lately(&series.steps, now);
            findings.extend(failing(&series.name, &lately, limits));
            findings.extend(slow(&series.name, &lately, limits));
        }
        findings.extend(behind(&lately(
            &traffic.project(name, Over::Hour, now),
            now,
        )));
        let process = traffic.process(Over::Hour, now);
        findings.extend(process.last().and_then(|newest| full(&newest.of)));
        findings
    }
}

/// The whole minutes that are looked back over: the present one has hardly begun.
fn lately<T: Clone>(steps: &[Step<T>], now: Timestamp) -> Vec<Step<T>> {
    let (from, until) = (now - LOOKED_BACK, Over::Hour.step_of(now));
    let whole = steps
        .iter()
        .filter(|step| step.at >= from && step.at < until);
    whole.cloned().collect()
}

/// Answers that a version failed to give; a fallback gave them.
fn failing(model: &str, lately: &[Step<Asked>], limits: &AlertTargets) -> Option<Finding> {
    let all = Asked::together(lately);
    let limit = limits.errors.unwrap_or(ERRORS_DEFAULT);
    is_rate_above(all.failed, all.count, limit, ALPHA).then(|| Finding {
        kind: AlertKind::AnswersFail,
        subject: model.to_owned(),
        cause: format!(
            "{} of {} answers of the last minutes failed and were given by the fallback; {} may ([alerts] errors)",
            all.failed,
            all.count,
            percent(limit)
        ),
        next_step: format!(
            "the server's log says why the version fails; `tidemill rollback {model}` lets the one before it answer"
        ),
    })
}

/// Answers that take longer than they may, and not for a moment only.
fn slow(model: &str, lately: &[Step<Asked>], limits: &AlertTargets) -> Option<Finding> {
    let limit = limits.latency_p99_ms.unwrap_or(LATENCY_MS_DEFAULT);
    let is_slow = |step: &&Step<Asked>| {
        let asked = &step.of;
        asked.count >= ANSWERS_MIN && asked.quantile_ms(0.99).is_some_and(|found| found > limit)
    };
    let minutes = lately.iter().filter(is_slow).count();
    let all = Asked::together(lately);
    let found = all.quantile_ms(0.99);
    let found = found.filter(|found| minutes >= MINUTES_MIN && *found > limit)?;
    Some(Finding {
        kind: AlertKind::AnswersSlow,
        subject: model.to_owned(),
        cause: format!(
            "one in a hundred of the last {} answers took longer than {found:.0} ms, in {minutes} of the last minutes; {limit} ms may be ([alerts] latency_p99_ms)",
            all.count
        ),
        next_step: "see under Requests in the console what else is asked and how full the server is; a machine with more cores, or fewer questions at a time, help"
            .to_owned(),
    })
}

/// A backlog that does not become smaller.
fn behind(lately: &[Step<Progress>]) -> Vec<Finding> {
    let of = |lag: fn(&Progress) -> u64, subject: &str, next_step: &str| {
        let lags: Vec<u64> = lately.iter().map(|step| lag(&step.of)).collect();
        let (first, newest) = (*lags.first()?, *lags.last()?);
        let stays = lags.len() >= MINUTES_MIN && lags.iter().all(|lag| *lag >= LAG_MIN);
        (stays && newest >= first).then(|| Finding {
            kind: AlertKind::LagsBehind,
            subject: subject.to_owned(),
            cause: format!("{newest} events wait, and {first} did some minutes ago"),
            next_step: next_step.to_owned(),
        })
    };
    let features = of(
        |progress| progress.features_lag,
        "features",
        "answers do not know the newest events; see the server's log for steps that fail, and whether more comes than one core can follow",
    );
    let lake = of(
        |progress| progress.landing_lag,
        "lake",
        "nothing is lost, the log keeps what has not landed; see the server's log for steps that fail, and whether the disk is slow or full",
    );
    features.into_iter().chain(lake).collect()
}

/// A disk on which soon nothing can be written any more.
fn full(load: &ProcessLoad) -> Option<Finding> {
    let (free, all) = (load.disk_free_bytes?, load.disk_bytes?);
    let share = free as f64 / all.max(1) as f64;
    (share < FREE_SHARE_MIN || free < FREE_BYTES_MIN).then(|| Finding {
        kind: AlertKind::DiskFull,
        subject: "data folder".to_owned(),
        cause: format!(
            "{:.1} GB of {:.1} GB are free ({})",
            free as f64 / 1e9,
            all as f64 / 1e9,
            percent(share)
        ),
        next_step: "make room, or move the data folder to a larger disk: events are refused when it is full"
            .to_owned(),
    })
}

fn percent(share: f64) -> String {
    format!("{} %", (share * 10_000.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes<T>(of: Vec<T>) -> Vec<Step<T>> {
        let at = |minute: usize| Timestamp::EPOCH + Span::from_seconds(60 * minute as i64);
        let steps = of.into_iter().enumerate();
        steps
            .map(|(minute, of)| Step { at: at(minute), of })
            .collect()
    }

    /// Minutes of answers that took so long, in milliseconds, of which so many failed.
    fn answers(of: &[(u64, u64)]) -> Vec<Step<Asked>> {
        let minute = |(ms, failed): &(u64, u64)| {
            let mut asked = Asked {
                count: 200,
                failed: *failed,
                ..Asked::default()
            };
            (0..200).for_each(|_| asked.latencies.add(ms * 1_000));
            asked
        };
        minutes(of.iter().map(minute).collect())
    }

    #[test]
    fn failures_are_told_and_chance_is_not() {
        let limits = AlertTargets::default();
        assert_eq!(
            failing("m", &answers(&[(1, 0), (1, 2), (1, 0)]), &limits),
            None
        );
        let found = failing("m", &answers(&[(1, 0), (1, 40)]), &limits).unwrap();
        assert_eq!(
            found.cause,
            "40 of 400 answers of the last minutes failed and were given by the fallback; 1 % may ([alerts] errors)"
        );
        let wide = AlertTargets {
            errors: Some(0.4),
            ..AlertTargets::default()
        };
        assert_eq!(failing("m", &answers(&[(1, 40)]), &wide), None);
    }

    #[test]
    fn what_is_slow_for_a_moment_wakes_nobody() {
        let limits = AlertTargets::default();
        assert_eq!(
            slow(
                "m",
                &answers(&[(900, 0), (1, 0), (1, 0), (900, 0)]),
                &limits
            ),
            None
        );
        let found = slow(
            "m",
            &answers(&[(900, 0), (900, 0), (1, 0), (900, 0)]),
            &limits,
        );
        assert!(found.unwrap().cause.contains("in 3 of the last minutes"));
    }

    #[test]
    fn a_backlog_that_is_worked_off_is_none() {
        let lag = |lags: &[u64]| {
            let progress = lags.iter().map(|lag| Progress {
                landing_lag: *lag,
                ..Progress::default()
            });
            behind(&minutes(progress.collect()))
        };
        assert_eq!(lag(&[90_000, 60_000, 30_000]), []);
        assert_eq!(lag(&[9, 9, 9]), []);
        assert_eq!(lag(&[90_000, 95_000]), [], "two minutes say little");
        let found = lag(&[90_000, 95_000, 99_000]);
        assert_eq!((found.len(), found[0].subject.as_str()), (1, "lake"));
    }

    #[test]
    fn a_disk_is_full_before_nothing_fits() {
        let of = |free: u64, all: u64| {
            full(&ProcessLoad {
                disk_free_bytes: Some(free << 30),
                disk_bytes: Some(all << 30),
                ..ProcessLoad::default()
            })
        };
        assert_eq!(of(50, 100), None);
        assert!(of(4, 100).unwrap().cause.ends_with("are free (4 %)"));
        assert!(of(0, 3).is_some());
        assert_eq!(full(&ProcessLoad::default()), None, "not known");
    }

    #[test]
    fn the_minute_that_has_begun_is_not_judged() {
        let steps = minutes((0..10).collect());
        let now = Timestamp::EPOCH + Span::from_seconds(9 * 60 + 30);
        let found: Vec<usize> = lately(&steps, now).iter().map(|step| step.of).collect();
        assert_eq!(found, [5, 6, 7, 8]);
    }
}
