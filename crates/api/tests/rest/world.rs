//! Two projects on embedded stores, their keys, and a way to call the router.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tidemill_api::{ApiOptions, App, KeyRing, router};
use tidemill_collect::{Intake, Limits};
use tidemill_core::clock::VirtualClock;
use tidemill_core::{Event, Offset, Project, ProjectName, Timestamp};
use tidemill_cycle::{LoopOptions, ProjectLoop};
use tidemill_monitor::Metrics;
use tidemill_store::catalog::Scope;
use tidemill_store::delta::{DeltaLake, DeltaOptions};
use tidemill_store::event_log::LogCounts;
use tidemill_store::fjall_store::{FjallOptions, FjallStore};
use tidemill_store::keys::create_key;
use tidemill_store::local::LocalArtifacts;
use tidemill_store::local_moment::LocalMoments;
use tidemill_store::sqlite::SqliteCatalog;
use tidemill_store::{
    Appended, DataFolder, EventLog, LoggedEvent, Quarantined, StoreError, Stores,
};
use tokio::sync::watch;
use tower::ServiceExt;

pub(crate) const SHOP: &str = r#"
[project]
name = "shop"

[items]
id = "properties.product"

[[features.user]]
name = "orders"
aggregate = "count"
event = "Order Completed"
windows = ["30d"]

[models.will_return]
kind = "predict"
question = "Will they order again?"
entity = "user"
observe = { event = "Order Completed" }
target = { event = "Order Completed", within = "30d" }

[models.for_you]
kind = "recommend"
signals = { "Order Completed" = 1.0 }
"#;

pub(crate) const TOOLS: &str = r#"
[project]
name = "tools"

[[features.user]]
name = "opens"
aggregate = "count"
event = "Tool Opened"
windows = ["7d"]

[models.will_upgrade]
kind = "predict"
entity = "user"
observe = { event = "Tool Opened" }
target = { event = "Upgraded", within = "14d" }
"#;

pub(crate) const SCOPES: [Scope; 3] = [Scope::Write, Scope::Read, Scope::Admin];

/// What a world differs in.
#[derive(Default)]
pub(crate) struct Setting {
    pub(crate) options: ApiOptions,
    /// Whether storing events fails because no space is left.
    pub(crate) full: bool,
}

pub(crate) struct World {
    pub(crate) app: Arc<App>,
    pub(crate) router: Router,
    pub(crate) stores: Stores,
    keys: BTreeMap<(String, String), String>,
    _folder: TempDir,
}

/// An answer of the router.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    /// Null where it is not JSON.
    pub(crate) json: Value,
}

impl Answer {
    /// The code of a problem; empty where it is none.
    pub(crate) fn code(&self) -> &str {
        self.json["code"].as_str().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map(|value| value.to_str().unwrap())
            .unwrap_or_default()
    }
}

pub(crate) async fn world() -> World {
    World::new(Setting::default()).await
}

impl World {
    pub(crate) async fn new(setting: Setting) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let stores = open_stores(&DataFolder::open(folder.path().join("data")).unwrap()).await;
        let start: Timestamp = "2026-05-04T12:00:00Z".parse().unwrap();
        let clock = Arc::new(VirtualClock::at(start));
        let metrics = Arc::new(Metrics::default());
        let mut loops = Vec::new();
        for text in [SHOP, TOOLS] {
            let project = Project::parse(text).unwrap();
            let options = LoopOptions {
                training_threads: 1,
                ..LoopOptions::default()
            };
            let counter = AtomicU64::new(1);
            let opened = ProjectLoop::open(
                project,
                stores.clone(),
                clock.clone(),
                metrics.clone(),
                options,
                Box::new(move || counted(&counter)),
            );
            loops.push(opened.await.unwrap());
        }
        let log: Arc<dyn EventLog> = if setting.full {
            Arc::new(FullLog(stores.log.clone()))
        } else {
            stores.log.clone()
        };
        let intake = Arc::new(Intake::new(log, clock, Limits::default()));
        let mut keys = BTreeMap::new();
        let mut seed = 0;
        for project in ["shop", "tools"] {
            for scope in SCOPES {
                seed += 1;
                let name: ProjectName = project.parse().unwrap();
                let made = create_key(
                    stores.catalog.as_ref(),
                    &name,
                    scope,
                    [seed; 32],
                    start,
                    "test",
                )
                .await;
                let (secret, _) = made.unwrap();
                keys.insert(
                    (project.to_owned(), scope.to_string()),
                    secret.expose().to_owned(),
                );
            }
        }
        let ring = KeyRing::open(stores.catalog.clone()).await.unwrap();
        let counter = AtomicU64::new(1_000);
        let app = App::new(
            loops,
            intake,
            ring,
            metrics,
            setting.options,
            Box::new(move || counted(&counter)),
        );
        Self {
            router: router(app.clone()),
            app,
            stores,
            keys,
            _folder: folder,
        }
    }

    pub(crate) fn key(&self, project: &str, scope: Scope) -> &str {
        &self.keys[&(project.to_owned(), scope.to_string())]
    }

    pub(crate) fn project(&self, name: &str) -> &Arc<ProjectLoop> {
        &self.app.projects[&name.parse::<ProjectName>().unwrap()]
    }

    /// Lets the features see everything that was stored.
    pub(crate) async fn catch_up(&self) {
        for project in self.app.projects.values() {
            project.catch_up().await.unwrap();
        }
    }

    /// Calls the router.
    pub(crate) async fn call(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer {
            status: parts.status,
            headers: parts.headers,
            text,
            json,
        }
    }

    /// Calls with a Bearer key, where one is given.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: impl ToString,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        self.call(request.body(Body::from(body.to_string())).unwrap())
            .await
    }

    /// Asks as the shop's reader.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, Some(self.key("shop", Scope::Read)), "")
            .await
    }

    /// Posts to the shop with a key of that scope.
    pub(crate) async fn post(&self, scope: Scope, path: &str, body: impl ToString) -> Answer {
        self.send(Method::POST, path, Some(self.key("shop", scope)), body)
            .await
    }
}

async fn open_stores(folder: &DataFolder) -> Stores {
    let fjall = FjallStore::open(folder, &FjallOptions::default()).unwrap();
    let (log, state) = (Arc::new(fjall.log), Arc::new(fjall.state));
    let catalog = Arc::new(SqliteCatalog::open(folder).await.unwrap());
    let lake = Arc::new(DeltaLake::open(folder, &DeltaOptions::default()));
    let opened = (log.clone(), state.clone());
    let moments = LocalMoments::open(folder, opened, catalog.clone(), lake.clone()).unwrap();
    Stores {
        log,
        state,
        catalog,
        lake,
        artifacts: Arc::new(LocalArtifacts::open(folder)),
        moments: Arc::new(moments),
    }
}

/// Different bytes at every call, the same in every test run.
fn counted<const N: usize>(counter: &AtomicU64) -> [u8; N] {
    let count = counter.fetch_add(1, Ordering::Relaxed).to_le_bytes();
    std::array::from_fn(|place| count[place % 8])
}

/// A log that reads, and has no space to write.
struct FullLog(Arc<dyn EventLog>);

#[async_trait]
impl EventLog for FullLog {
    async fn append(
        &self,
        _: &ProjectName,
        _: Vec<Event>,
        _: Vec<Quarantined>,
    ) -> Result<Vec<Appended>, StoreError> {
        Err(StoreError::Full {
            action: "write the log",
        })
    }

    fn read(
        &self,
        project: &ProjectName,
        after: Offset,
        limit: usize,
    ) -> Result<Vec<LoggedEvent>, StoreError> {
        self.0.read(project, after, limit)
    }

    fn last(&self, project: &ProjectName) -> Result<Offset, StoreError> {
        self.0.last(project)
    }

    fn watch(&self, project: &ProjectName) -> Result<watch::Receiver<Offset>, StoreError> {
        self.0.watch(project)
    }

    fn truncate(&self, project: &ProjectName, up_to: Offset) -> Result<(), StoreError> {
        self.0.truncate(project, up_to)
    }

    fn forget_message_ids(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.0.forget_message_ids(before)
    }

    fn quarantined(
        &self,
        project: &ProjectName,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, Quarantined)>, StoreError> {
        self.0.quarantined(project, before, limit)
    }

    fn forget_quarantined(&self, project: &ProjectName, ids: &[u64]) -> Result<u64, StoreError> {
        self.0.forget_quarantined(project, ids)
    }

    fn counts(&self, project: &ProjectName) -> Result<LogCounts, StoreError> {
        self.0.counts(project)
    }
}
