//! What intake has done since the process started, counted for `/metrics`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidemill_core::sync::{Mutex, RwLock};
use tidemill_core::{Event, ProjectName};
use tidemill_store::{Appended, QuarantineReason, Quarantined};

/// The most event names that are counted apart, per project; the rest is counted as [`OTHER_EVENTS`].
const EVENT_NAMES_MAX: usize = 500;
/// The name under which events beyond the limit are counted.
const OTHER_EVENTS: &str = "(other)";

/// What intake has done for one project since the process started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectCounts {
    /// The project.
    pub project: ProjectName,
    /// Events that were stored.
    pub accepted: u64,
    /// Events that had been stored before.
    pub duplicates: u64,
    /// Pieces that were quarantined, by reason; reasons that did not occur are absent.
    pub quarantined: BTreeMap<QuarantineReason, u64>,
    /// Calls that were refused as a whole.
    pub refused_calls: u64,
    /// Calls that could not be stored.
    pub failed_calls: u64,
    /// Stored events by name; names beyond the 500th are counted as `(other)`.
    pub events: BTreeMap<String, u64>,
}

/// The counters of all projects.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    projects: RwLock<HashMap<ProjectName, Arc<ProjectStats>>>,
}

#[derive(Debug, Default)]
struct ProjectStats {
    accepted: AtomicU64,
    duplicates: AtomicU64,
    refused_calls: AtomicU64,
    failed_calls: AtomicU64,
    quarantined: Mutex<BTreeMap<QuarantineReason, u64>>,
    events: Mutex<BTreeMap<String, u64>>,
}

impl Stats {
    fn of(&self, project: &ProjectName) -> Arc<ProjectStats> {
        if let Some(stats) = self.projects.read().get(project) {
            return Arc::clone(stats);
        }
        Arc::clone(self.projects.write().entry(project.clone()).or_default())
    }

    pub(crate) fn refused(&self, project: &ProjectName) {
        self.of(project)
            .refused_calls
            .fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self, project: &ProjectName) {
        self.of(project)
            .failed_calls
            .fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn stored(&self, project: &ProjectName, call: &CallNames, appended: &[Appended]) {
        let stats = self.of(project);
        let mut by_name = vec![0_u64; call.names.len()];
        let mut accepted = 0;
        for (outcome, name) in appended.iter().zip(&call.of_event) {
            if let Appended::Stored(_) = outcome {
                accepted += 1;
                by_name[*name] += 1;
            }
        }
        stats.accepted.fetch_add(accepted, Ordering::Relaxed);
        stats
            .duplicates
            .fetch_add(appended.len() as u64 - accepted, Ordering::Relaxed);
        let mut events = stats.events.lock();
        for (name, count) in call
            .names
            .iter()
            .zip(by_name)
            .filter(|(_, count)| *count > 0)
        {
            let known = events.contains_key(name) || events.len() < EVENT_NAMES_MAX;
            let name = if known { name.as_str() } else { OTHER_EVENTS };
            match events.get_mut(name) {
                Some(total) => *total += count,
                None => {
                    events.insert(name.to_owned(), count);
                }
            }
        }
        drop(events);
        if !call.quarantined.is_empty() {
            let mut quarantined = stats.quarantined.lock();
            for (reason, count) in &call.quarantined {
                *quarantined.entry(*reason).or_default() += count;
            }
        }
    }

    pub(crate) fn snapshot(&self) -> Vec<ProjectCounts> {
        let mut all: Vec<ProjectCounts> = self
            .projects
            .read()
            .iter()
            .map(|(project, stats)| ProjectCounts {
                project: project.clone(),
                accepted: stats.accepted.load(Ordering::Relaxed),
                duplicates: stats.duplicates.load(Ordering::Relaxed),
                quarantined: stats.quarantined.lock().clone(),
                refused_calls: stats.refused_calls.load(Ordering::Relaxed),
                failed_calls: stats.failed_calls.load(Ordering::Relaxed),
                events: stats.events.lock().clone(),
            })
            .collect();
        all.sort_by(|a, b| a.project.cmp(&b.project));
        all
    }
}

/// What has to be remembered of a call to count it, because the log takes the events.
#[derive(Debug, Default)]
pub(crate) struct CallNames {
    names: Vec<String>,
    /// For each event, which of the names it has.
    of_event: Vec<usize>,
    quarantined: BTreeMap<QuarantineReason, u64>,
}

impl CallNames {
    pub(crate) fn of(events: &[Event], quarantined: &[Quarantined]) -> Self {
        let mut call = Self {
            of_event: Vec::with_capacity(events.len()),
            ..Self::default()
        };
        let mut places: HashMap<&str, usize> = HashMap::new();
        for event in events {
            let place = *places.entry(&event.name).or_insert_with(|| {
                call.names.push(event.name.clone());
                call.names.len() - 1
            });
            call.of_event.push(place);
        }
        for piece in quarantined {
            *call.quarantined.entry(piece.reason).or_default() += 1;
        }
        call
    }
}
