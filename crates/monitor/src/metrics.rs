//! The numbers that operators watch, in the Prometheus text format.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tidemill_core::Timestamp;
use tidemill_core::sync::Mutex;

use crate::traffic::{Ended, ProcessLoad, Traffic};

/// Upper bounds of the latency buckets, in seconds: from 100 µs to 1 s.
const LATENCY_BUCKETS: [f64; 13] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
];

/// Upper bounds of the buckets of requests, in seconds: those of answers, and up to 10 s.
const REQUEST_BUCKETS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// Labels of counts of events.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EventLabels {
    /// The project.
    pub project: String,
    /// `accepted`, `duplicate`, or `quarantined_` and the reason.
    pub result: String,
}

/// Labels of counts of answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AnswerLabels {
    /// The project.
    pub project: String,
    /// The model.
    pub model: String,
    /// The version's number, or `fallback_` and the reason.
    pub version: String,
}

/// Labels of times that answers took.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ModelLabels {
    /// The project.
    pub project: String,
    /// The model.
    pub model: String,
}

/// Labels of what a project has one of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ProjectLabels {
    /// The project.
    pub project: String,
}

/// Labels of counts of runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RunLabels {
    /// The project.
    pub project: String,
    /// The model.
    pub model: String,
    /// How it ended.
    pub state: String,
}

/// Labels of counts of HTTP requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// The route's pattern, never the path itself: paths hold ids.
    pub route: String,
    /// The status.
    pub status: u16,
}

/// Labels of times that requests took.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RouteLabels {
    /// The route's pattern.
    pub route: String,
}

/// Labels of rollouts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StageLabels {
    /// The project.
    pub project: String,
    /// The model.
    pub model: String,
    /// `shadow`, `canary`, `promoted` or `rolled_back`.
    pub stage: String,
}

/// Every metric of the process.
pub struct Metrics {
    registry: Mutex<Registry>,
    /// Events by result; set from the intake's own counts when they are read.
    events: Family<EventLabels, Counter>,
    answers: Family<AnswerLabels, Counter>,
    latency: Family<ModelLabels, Histogram, fn() -> Histogram>,
    requests: Family<RequestLabels, Counter>,
    request_latency: Family<RouteLabels, Histogram, fn() -> Histogram>,
    requests_under_way: Gauge,
    memory_bytes: Gauge,
    data_bytes: Gauge,
    disk_free_bytes: Gauge,
    runs: Family<RunLabels, Counter>,
    log_offset: Family<ProjectLabels, Gauge>,
    features_lag: Family<ProjectLabels, Gauge>,
    landing_lag: Family<ProjectLabels, Gauge>,
    outcomes_waiting: Family<ProjectLabels, Gauge>,
    shadow_waiting: Family<ProjectLabels, Gauge>,
    loop_failures: Family<ProjectLabels, Counter>,
    consistency_values: Family<ProjectLabels, Gauge>,
    consistency_mismatches: Family<ProjectLabels, Gauge>,
    rollout_stage: Family<StageLabels, Gauge>,
    rollout_share: Family<ModelLabels, Gauge<f64, AtomicU64>>,
    rollout_answers: Family<ModelLabels, Gauge>,
    rollout_failed: Family<ModelLabels, Gauge>,
    rollout_dropped: Family<ModelLabels, Gauge>,
    /// What was asked lately, and how full the process was.
    pub traffic: Traffic,
}

impl Default for Metrics {
    fn default() -> Self {
        let latency: fn() -> Histogram = || Histogram::new(LATENCY_BUCKETS);
        let request_latency: fn() -> Histogram = || Histogram::new(REQUEST_BUCKETS);
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("tidemill")),
            events: Family::default(),
            answers: Family::default(),
            latency: Family::new_with_constructor(latency),
            requests: Family::default(),
            request_latency: Family::new_with_constructor(request_latency),
            requests_under_way: Gauge::default(),
            memory_bytes: Gauge::default(),
            data_bytes: Gauge::default(),
            disk_free_bytes: Gauge::default(),
            runs: Family::default(),
            log_offset: Family::default(),
            features_lag: Family::default(),
            landing_lag: Family::default(),
            outcomes_waiting: Family::default(),
            shadow_waiting: Family::default(),
            loop_failures: Family::default(),
            consistency_values: Family::default(),
            consistency_mismatches: Family::default(),
            rollout_stage: Family::default(),
            rollout_share: Family::default(),
            rollout_answers: Family::default(),
            rollout_failed: Family::default(),
            rollout_dropped: Family::default(),
            traffic: Traffic::default(),
        };
        metrics.register();
        metrics.register_process();
        metrics.register_rollouts();
        metrics
    }
}

impl Metrics {
    fn register(&self) {
        let mut registry = self.registry.lock();
        registry.register(
            "events",
            "Events by what became of them",
            self.events.clone(),
        );
        registry.register("answers", "Answers by who gave them", self.answers.clone());
        registry.register_with_unit(
            "answer_latency",
            "Time to an answer",
            Unit::Seconds,
            self.latency.clone(),
        );
        registry.register(
            "http_requests",
            "HTTP requests by route and status",
            self.requests.clone(),
        );
        registry.register("runs", "Runs by how they ended", self.runs.clone());
        registry.register(
            "log_offset",
            "The last offset of the event log",
            self.log_offset.clone(),
        );
        registry.register(
            "features_lag",
            "Events that the features have not seen yet",
            self.features_lag.clone(),
        );
        registry.register(
            "landing_lag",
            "Events that have not landed in the lake yet",
            self.landing_lag.clone(),
        );
        registry.register(
            "outcomes_waiting",
            "Decisions whose outcome is not known yet",
            self.outcomes_waiting.clone(),
        );
        registry.register(
            "loop_failures",
            "Steps of the background loop that failed and are tried again",
            self.loop_failures.clone(),
        );
        registry.register(
            "consistency_values",
            "Values that were served and read again offline, since the features are defined as they are",
            self.consistency_values.clone(),
        );
        registry.register(
            "consistency_mismatches",
            "Of these, those that differ: training sees what serving did not",
            self.consistency_mismatches.clone(),
        );
    }

    fn register_process(&self) {
        let mut registry = self.registry.lock();
        registry.register_with_unit(
            "http_latency",
            "Time until a request was answered",
            Unit::Seconds,
            self.request_latency.clone(),
        );
        registry.register(
            "http_requests_under_way",
            "HTTP requests that came and whose answer has not begun yet",
            self.requests_under_way.clone(),
        );
        registry.register_with_unit(
            "memory",
            "Resident memory of the process, as of the last minute",
            Unit::Bytes,
            self.memory_bytes.clone(),
        );
        registry.register_with_unit(
            "data",
            "Files in the data folder, as of the last minute",
            Unit::Bytes,
            self.data_bytes.clone(),
        );
        registry.register_with_unit(
            "disk_free",
            "What is free where the data folder is, as of the last minute",
            Unit::Bytes,
            self.disk_free_bytes.clone(),
        );
    }

    fn register_rollouts(&self) {
        let mut registry = self.registry.lock();
        registry.register(
            "rollout_stage",
            "1 at the stage that the newest rollout of a model is at, 0 at the others",
            self.rollout_stage.clone(),
        );
        registry.register(
            "rollout_share",
            "The share of the people that the version that takes over answers for",
            self.rollout_share.clone(),
        );
        registry.register(
            "rollout_answers",
            "Answers of the version that takes over at its present stage",
            self.rollout_answers.clone(),
        );
        registry.register(
            "rollout_failed",
            "Of these, those that failed and that the champion gave",
            self.rollout_failed.clone(),
        );
        registry.register(
            "rollout_dropped",
            "Questions that were not answered in the shadow because too many waited",
            self.rollout_dropped.clone(),
        );
        registry.register(
            "shadow_waiting",
            "Questions that wait to be answered in the shadow",
            self.shadow_waiting.clone(),
        );
    }

    /// Sets the count of events with a result to what the intake has counted.
    pub fn set_events(&self, project: &str, result: &str, count: u64) {
        let labels = EventLabels {
            project: project.to_owned(),
            result: result.to_owned(),
        };
        let counter: Counter<u64, AtomicU64> = self.events.get_or_create_owned(&labels);
        counter.inner().fetch_max(count, Ordering::Relaxed);
    }

    /// Counts an answer and how long it took; `version` is the version's number, or why there was none.
    pub fn answered(
        &self,
        (project, model): (&str, &str),
        version: &str,
        ended: Ended,
        latency_us: u64,
        now: Timestamp,
    ) {
        self.traffic
            .answered((project, model), ended, latency_us, now);
        let labels = ModelLabels {
            project: project.to_owned(),
            model: model.to_owned(),
        };
        self.latency
            .get_or_create(&labels)
            .observe(latency_us as f64 / 1e6);
        let ModelLabels { project, model } = labels;
        self.answers
            .get_or_create(&AnswerLabels {
                project,
                model,
                version: version.to_owned(),
            })
            .inc();
    }

    /// Counts a request as under way until what is returned is dropped.
    pub fn request_begins(&self) -> UnderWay {
        self.requests_under_way.inc();
        UnderWay(self.requests_under_way.clone())
    }

    /// How many requests are under way.
    pub fn requests_under_way(&self) -> u64 {
        u64::try_from(self.requests_under_way.get()).unwrap_or(0)
    }

    /// Counts an HTTP request and how long it took until its answer began.
    pub fn requested(&self, route: &str, status: u16, latency_us: u64, now: Timestamp) {
        self.traffic.requested(route, status, latency_us, now);
        let labels = RequestLabels {
            route: route.to_owned(),
            status,
        };
        self.requests.get_or_create(&labels).inc();
        let RequestLabels { route, .. } = labels;
        self.request_latency
            .get_or_create(&RouteLabels { route })
            .observe(latency_us as f64 / 1e6);
    }

    /// Sets how full the process is.
    pub fn set_process(&self, load: &ProcessLoad, now: Timestamp) {
        self.traffic.process_sampled(load, now);
        for (gauge, bytes) in [
            (&self.memory_bytes, load.memory_bytes),
            (&self.data_bytes, load.data_bytes),
            (&self.disk_free_bytes, load.disk_free_bytes),
        ] {
            if let Some(bytes) = bytes {
                gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
            }
        }
    }

    /// Counts a run that has ended.
    pub fn run_ended(&self, project: &str, model: &str, state: &str) {
        let labels = RunLabels {
            project: project.to_owned(),
            model: model.to_owned(),
            state: state.to_owned(),
        };
        self.runs.get_or_create(&labels).inc();
    }

    /// Counts a step of the background loop that failed.
    pub fn loop_failed(&self, project: &str) {
        self.loop_failures
            .get_or_create(&ProjectLabels {
                project: project.to_owned(),
            })
            .inc();
    }

    /// Sets how many served values were read again, and how many of them differ.
    pub fn set_consistency(&self, project: &str, values: u64, mismatches: u64) {
        let labels = ProjectLabels {
            project: project.to_owned(),
        };
        let families = [&self.consistency_values, &self.consistency_mismatches];
        for (family, count) in families.into_iter().zip([values, mismatches]) {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            family.get_or_create(&labels).set(count);
        }
    }

    /// Sets how far the parts of a project's loop are.
    pub fn set_progress(&self, project: &str, progress: Progress) {
        let labels = ProjectLabels {
            project: project.to_owned(),
        };
        let set = |family: &Family<ProjectLabels, Gauge>, value: u64| {
            family
                .get_or_create(&labels)
                .set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(&self.log_offset, progress.log_offset);
        set(&self.features_lag, progress.features_lag);
        set(&self.landing_lag, progress.landing_lag);
        set(&self.outcomes_waiting, progress.outcomes_waiting);
        set(&self.shadow_waiting, progress.shadow_waiting);
    }

    /// Sets how far a version of a project has come in taking over.
    pub fn set_rollout(&self, project: &str, progress: &RolloutProgress) {
        let labels = ModelLabels {
            project: project.to_owned(),
            model: progress.model.clone(),
        };
        for stage in ["shadow", "canary", "promoted", "rolled_back"] {
            let labels = StageLabels {
                project: project.to_owned(),
                model: progress.model.clone(),
                stage: stage.to_owned(),
            };
            let is_there = i64::from(stage == progress.stage);
            self.rollout_stage.get_or_create(&labels).set(is_there);
        }
        self.rollout_share
            .get_or_create(&labels)
            .set(progress.share);
        let set = |family: &Family<ModelLabels, Gauge>, count: u64| {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            family.get_or_create(&labels).set(count);
        };
        set(&self.rollout_answers, progress.answers);
        set(&self.rollout_failed, progress.failed);
        set(&self.rollout_dropped, progress.dropped);
    }

    /// All metrics in the text format that Prometheus reads.
    ///
    /// # Errors
    /// When formatting fails, which writing into a string does not.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry.lock())?;
        Ok(text)
    }
}

/// A request that is under way.
#[derive(Debug)]
pub struct UnderWay(Gauge);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// How far the parts of a project's loop are, in events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last offset of the log.
    pub log_offset: u64,
    /// Events that the features have not seen yet.
    pub features_lag: u64,
    /// Events that have not landed yet.
    pub landing_lag: u64,
    /// Decisions whose outcome is not known yet.
    pub outcomes_waiting: u64,
    /// Questions that wait to be answered in the shadow.
    pub shadow_waiting: u64,
}

impl Progress {
    /// Keeps the higher numbers of both.
    pub(crate) fn raise(&mut self, other: &Self) {
        self.log_offset = self.log_offset.max(other.log_offset);
        self.features_lag = self.features_lag.max(other.features_lag);
        self.landing_lag = self.landing_lag.max(other.landing_lag);
        self.outcomes_waiting = self.outcomes_waiting.max(other.outcomes_waiting);
        self.shadow_waiting = self.shadow_waiting.max(other.shadow_waiting);
    }
}

/// How far a version has come in taking over.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutProgress {
    /// The model.
    pub model: String,
    /// `shadow`, `canary`, `promoted` or `rolled_back`.
    pub stage: &'static str,
    /// The share of the people that it answers for.
    pub share: f64,
    /// Its answers at this stage.
    pub answers: u64,
    /// Of these, those that failed.
    pub failed: u64,
    /// Questions that were not answered in the shadow.
    pub dropped: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_written_as_text() {
        let metrics = Metrics::default();
        metrics.set_events("shop", "accepted", 7);
        let now = Timestamp::EPOCH;
        metrics.answered(("shop", "will_return"), "3", Ended::Well, 900, now);
        metrics.requested("/v1/track", 200, 2_000_000, now);
        let load = ProcessLoad {
            memory_bytes: Some(7),
            ..ProcessLoad::default()
        };
        metrics.set_process(&load, now);
        let (first, second) = (metrics.request_begins(), metrics.request_begins());
        drop(first);
        assert_eq!(metrics.requests_under_way(), 1);
        let progress = Progress {
            shadow_waiting: 5,
            ..Progress::default()
        };
        metrics.set_progress("shop", progress);
        let text = metrics.encode().unwrap();
        drop(second);
        assert_eq!(metrics.requests_under_way(), 0);
        for line in [
            "tidemill_http_requests_under_way 1\n",
            "tidemill_shadow_waiting{project=\"shop\"} 5\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(
            text.contains(r#"tidemill_events_total{project="shop",result="accepted"} 7"#),
            "{text}"
        );
        assert!(text.contains(r#"tidemill_answer_latency_seconds_bucket{le="0.001",project="shop",model="will_return"} 1"#), "{text}");
        assert!(
            text.contains(r#"tidemill_http_latency_seconds_bucket{le="2.5",route="/v1/track"} 1"#),
            "{text}"
        );
        assert!(text.contains("tidemill_memory_bytes 7"), "{text}");
    }
}
