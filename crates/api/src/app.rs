//! What the faces are given: the projects at work, the intake, the keys and the limits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemill_collect::Intake;
use tidemill_core::clock::Stopwatch;
use tidemill_core::sync::Mutex;
use tidemill_core::{Clock, ProjectName};
use tidemill_cycle::ProjectLoop;
use tidemill_monitor::Metrics;
use tokio::task::{AbortHandle, JoinHandle};

use crate::admission::Admission;
use crate::keys::KeyRing;

/// Random bytes from the operating system, for new keys.
pub type RandomBytes = Box<dyn Fn() -> [u8; 32] + Send + Sync>;

/// The limits of the REST face. Those of events are the intake's.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiOptions {
    /// Whether `/metrics` answers without a key: set it when the listener is on loopback.
    pub open_metrics: bool,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// The largest body of routes that bring neither events nor batches, in bytes.
    pub body_bytes_max: usize,
    /// The largest body of a predict batch, in bytes.
    pub predict_batch_bytes_max: usize,
    /// The most calls that bring events at one time; one more is refused with 429.
    pub events_in_flight_max: usize,
    /// The memory for the bodies of such calls, in bytes.
    pub events_bytes_max: usize,
    /// The memory for all other bodies, in bytes.
    pub other_bytes_max: usize,
    /// The most lists, predict batches and pages about a person that are worked on at one time; others wait.
    pub heavy_max: usize,
    /// The most events that the features may be behind the log before the server says that it is not ready.
    pub features_lag_max: u64,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self {
            open_metrics: false,
            body_timeout: Duration::from_secs(10),
            body_bytes_max: 64 * 1024,
            predict_batch_bytes_max: 512 * 1024,
            events_in_flight_max: 1_024,
            events_bytes_max: 32 << 20,
            other_bytes_max: 16 << 20,
            heavy_max: 4,
            features_lag_max: 100_000,
        }
    }
}

/// Everything that the routes need.
pub struct App {
    /// The projects that are served.
    pub projects: BTreeMap<ProjectName, Arc<ProjectLoop>>,
    /// Takes events.
    pub intake: Arc<Intake>,
    /// Who may do what.
    pub keys: KeyRing,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The process's metrics.
    pub metrics: Arc<Metrics>,
    /// The limits.
    pub options: ApiOptions,
    pub(crate) random: RandomBytes,
    pub(crate) admission: Admission,
    /// The background tasks of each project, to see whether they still run.
    pub(crate) tasks: Mutex<BTreeMap<ProjectName, Vec<AbortHandle>>>,
    /// When events could last not be stored, unless storing has succeeded since.
    pub(crate) store_refused: Mutex<Option<Stopwatch>>,
}

impl App {
    /// Puts the parts together; the clock is the intake's.
    pub fn new(
        projects: impl IntoIterator<Item = Arc<ProjectLoop>>,
        intake: Arc<Intake>,
        keys: KeyRing,
        metrics: Arc<Metrics>,
        options: ApiOptions,
        random: RandomBytes,
    ) -> Arc<Self> {
        let admission = Admission::new(
            options.events_in_flight_max,
            options.events_bytes_max,
            options.other_bytes_max,
            options.heavy_max,
        );
        let projects = projects
            .into_iter()
            .map(|project| (project.project.name.clone(), project))
            .collect();
        Arc::new(Self {
            projects,
            clock: intake.clock().clone(),
            intake,
            keys,
            metrics,
            options,
            random,
            admission,
            tasks: Mutex::default(),
            store_refused: Mutex::default(),
        })
    }

    /// A project that is served.
    pub fn project(&self, name: &ProjectName) -> Option<&Arc<ProjectLoop>> {
        self.projects.get(name)
    }

    /// Watches the background tasks of a project: when one has ended, `/health/ready` says so.
    pub fn watch_tasks(&self, project: &ProjectName, tasks: &[JoinHandle<()>]) {
        let handles = tasks.iter().map(JoinHandle::abort_handle).collect();
        self.tasks.lock().insert(project.clone(), handles);
    }
}
