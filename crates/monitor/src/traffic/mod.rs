//! What was asked of the process lately and how full it was: by the minute for an hour, by ten minutes for a day.
//!
//! `/metrics` counts since the start, which is what Prometheus wants; a person wants to know how it was an hour ago. Everything is
//! in memory, of a bounded size, and gone after a restart.

mod latencies;
mod load;
mod ring;

use std::collections::BTreeMap;

use tidemill_core::sync::Mutex;
use tidemill_core::{Span, Timestamp};

pub use latencies::Latencies;
pub use load::ProcessLoad;
use ring::Ring;
pub use ring::Step;

use crate::metrics::Progress;

/// The most routes and models that are told apart; what comes later is counted under [`OTHERS`].
const SERIES_MAX: usize = 200;
/// The name of everything beyond the most that are told apart.
pub const OTHERS: &str = "others";

/// Over which time is looked back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The last hour, by the minute.
    Hour,
    /// The last day, by ten minutes.
    Day,
}

impl Over {
    /// How long one step is.
    pub const fn step(self) -> Span {
        match self {
            Self::Hour => Span::from_seconds(60),
            Self::Day => Span::from_seconds(600),
        }
    }

    /// How many steps there are.
    pub const fn steps(self) -> usize {
        match self {
            Self::Hour => 60,
            Self::Day => 144,
        }
    }

    /// The beginning of the step in which `now` lies.
    pub const fn step_of(self, now: Timestamp) -> Timestamp {
        now.floor(self.step())
    }
}

/// How something ended that was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// As it was meant to.
    Well,
    /// Refused for a fault of the caller; of answers: a fallback gave it.
    Short,
    /// For a fault of the server or the version.
    Failed,
}

/// What was asked in one step of time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked {
    /// How often.
    pub count: u64,
    /// Of these, those that were refused, or that a fallback answered.
    pub short: u64,
    /// Of these, those that failed.
    pub failed: u64,
    /// How long they took.
    pub latencies: Latencies,
}

impl Asked {
    fn note(&mut self, ended: Ended, latency_us: u64) {
        self.count += 1;
        self.short += u64::from(ended == Ended::Short);
        self.failed += u64::from(ended == Ended::Failed);
        self.latencies.add(latency_us);
    }

    /// All steps together.
    pub fn together(steps: &[Step<Self>]) -> Self {
        let mut all = Self::default();
        steps.iter().for_each(|step| all.merge(&step.of));
        all
    }

    /// The time within which a share of them ended, in milliseconds. `None` where there are none.
    pub fn quantile_ms(&self, share: f64) -> Option<f64> {
        self.latencies.quantile(share).map(|us| us / 1_000.0)
    }

    /// Adds what was asked elsewhere or at another time.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.short += other.short;
        self.failed += other.failed;
        self.latencies.merge(&other.latencies);
    }
}

/// What was asked under one name, oldest step first; steps in which nothing was are left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The route's pattern, or the model.
    pub name: String,
    /// The steps.
    pub steps: Vec<Step<Asked>>,
}

/// A ring for each time that can be looked back over.
#[derive(Debug)]
struct Rings<T> {
    hour: Ring<T>,
    day: Ring<T>,
}

impl<T: Clone + Default> Default for Rings<T> {
    fn default() -> Self {
        Self {
            hour: Ring::new(Over::Hour),
            day: Ring::new(Over::Day),
        }
    }
}

impl<T: Clone + Default> Rings<T> {
    fn at(&mut self, now: Timestamp) -> [&mut T; 2] {
        [self.hour.at(now), self.day.at(now)]
    }

    fn of(&self, over: Over, now: Timestamp) -> Vec<Step<T>> {
        match over {
            Over::Hour => self.hour.steps(now),
            Over::Day => self.day.steps(now),
        }
    }
}

/// Everything that was noted. Noting takes a lock for the time of a few additions.
#[derive(Debug, Default)]
pub struct Traffic {
    routes: Mutex<BTreeMap<String, Rings<Asked>>>,
    /// By project and model.
    answers: Mutex<BTreeMap<String, BTreeMap<String, Rings<Asked>>>>,
    projects: Mutex<BTreeMap<String, Rings<Progress>>>,
    process: Mutex<Rings<ProcessLoad>>,
}

impl Traffic {
    /// Notes a request with its status and how long it took.
    pub fn requested(&self, route: &str, status: u16, latency_us: u64, now: Timestamp) {
        let ended = match status {
            500.. => Ended::Failed,
            400..500 => Ended::Short,
            _ => Ended::Well,
        };
        let mut routes = self.routes.lock();
        for asked in rings(&mut routes, route).at(now) {
            asked.note(ended, latency_us);
        }
    }

    /// Notes an answer of a model.
    pub fn answered(
        &self,
        (project, model): (&str, &str),
        ended: Ended,
        latency_us: u64,
        now: Timestamp,
    ) {
        let mut answers = self.answers.lock();
        // as many projects as the server has files of them
        let models = answers.entry(project.to_owned()).or_default();
        for asked in rings(models, model).at(now) {
            asked.note(ended, latency_us);
        }
    }

    /// Notes how far behind a project is. Of a step of time the highest numbers are kept.
    pub fn project_sampled(&self, project: &str, load: &Progress, now: Timestamp) {
        let mut projects = self.projects.lock();
        for highest in rings(&mut projects, project).at(now) {
            highest.raise(load);
        }
    }

    /// Notes how full the process is. Of a step of time the worst numbers are kept.
    pub fn process_sampled(&self, load: &ProcessLoad, now: Timestamp) {
        for worst in self.process.lock().at(now) {
            worst.raise(load);
        }
    }

    /// The requests by route, all projects together.
    pub fn routes(&self, over: Over, now: Timestamp) -> Vec<Series> {
        series(&self.routes.lock(), over, now)
    }

    /// The answers of a project by model.
    pub fn answers(&self, project: &str, over: Over, now: Timestamp) -> Vec<Series> {
        let answers = self.answers.lock();
        answers
            .get(project)
            .map_or_else(Vec::new, |models| series(models, over, now))
    }

    /// How far behind a project was.
    pub fn project(&self, project: &str, over: Over, now: Timestamp) -> Vec<Step<Progress>> {
        let projects = self.projects.lock();
        projects
            .get(project)
            .map_or_else(Vec::new, |rings| rings.of(over, now))
    }

    /// How full the process was.
    pub fn process(&self, over: Over, now: Timestamp) -> Vec<Step<ProcessLoad>> {
        self.process.lock().of(over, now)
    }
}

/// The rings under a name, or where there are too many names those of all others.
fn rings<'r, T: Clone + Default>(
    all: &'r mut BTreeMap<String, Rings<T>>,
    name: &str,
) -> &'r mut Rings<T> {
    let is_told_apart = all.contains_key(name) || all.len() < SERIES_MAX;
    let name = if is_told_apart { name } else { OTHERS };
    all.entry(name.to_owned()).or_default()
}

fn series(all: &BTreeMap<String, Rings<Asked>>, over: Over, now: Timestamp) -> Vec<Series> {
    let all = all.iter().map(|(name, rings)| Series {
        name: name.clone(),
        steps: rings.of(over, now),
    });
    all.filter(|one| !one.steps.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(number: i64) -> Timestamp {
        Timestamp::EPOCH + Span::from_seconds(number * 60)
    }

    #[test]
    fn requests_are_told_apart_by_route_minute_and_end() {
        let traffic = Traffic::default();
        for (at, status) in [(0, 200), (0, 404), (1, 503), (1, 200)] {
            traffic.requested("/v1/track", status, 900, minute(at));
        }
        traffic.requested("/v1/items", 200, 100, minute(1));
        let routes = traffic.routes(Over::Hour, minute(1));
        let names: Vec<&str> = routes.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["/v1/items", "/v1/track"]);
        let found: Vec<(Timestamp, u64, u64, u64)> = routes[1]
            .steps
            .iter()
            .map(|step| (step.at, step.of.count, step.of.short, step.of.failed))
            .collect();
        assert_eq!(found, [(minute(0), 2, 1, 0), (minute(1), 2, 0, 1)]);
        let day = traffic.routes(Over::Day, minute(1));
        assert_eq!(day[1].steps.len(), 1, "both minutes are in one step");
        assert_eq!(day[1].steps[0].of.count, 4);
    }

    #[test]
    fn answers_of_other_projects_are_not_shown() {
        let traffic = Traffic::default();
        traffic.answered(("shop", "will_return"), Ended::Short, 900, minute(0));
        traffic.answered(("other", "secret"), Ended::Well, 900, minute(0));
        let shop = traffic.answers("shop", Over::Hour, minute(0));
        assert_eq!(shop.len(), 1);
        assert_eq!(
            (shop[0].name.as_str(), shop[0].steps[0].of.short),
            ("will_return", 1)
        );
        assert_eq!(traffic.answers("nobody", Over::Hour, minute(0)), []);
    }

    #[test]
    fn the_number_of_names_is_bounded() {
        let traffic = Traffic::default();
        for number in 0..SERIES_MAX + 5 {
            traffic.requested(&format!("/{number}"), 200, 1, minute(0));
        }
        let routes = traffic.routes(Over::Hour, minute(0));
        assert_eq!(routes.len(), SERIES_MAX + 1);
        let others = routes.iter().find(|one| one.name == OTHERS).unwrap();
        assert_eq!(others.steps[0].of.count, 5);
    }

    #[test]
    fn of_each_minute_the_worst_is_kept() {
        let traffic = Traffic::default();
        for (lag, free) in [(5, 90), (9, 70), (2, 80)] {
            let load = Progress {
                features_lag: lag,
                ..Progress::default()
            };
            traffic.project_sampled("shop", &load, minute(3));
            let load = ProcessLoad {
                disk_free_bytes: Some(free),
                ..ProcessLoad::default()
            };
            traffic.process_sampled(&load, minute(3));
        }
        let project = traffic.project("shop", Over::Hour, minute(3));
        assert_eq!(project[0].of.features_lag, 9);
        let process = traffic.process(Over::Day, minute(3));
        assert_eq!(process[0].of.disk_free_bytes, Some(70));
        assert_eq!(process[0].of.memory_bytes, None);
    }
}
