//! What drives the loop on a virtual clock: the demo and backtests. Nothing here is a side door: what is asked goes to the handlers that
//! live traffic meets, and the loop trains, examines and promotes when its own schedule says so.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use axum::body::Body;
use axum::http::{Method, Request, header};
use serde_json::Value;
use tidemill_core::clock::VirtualClock;
use tidemill_core::{Clock, ProjectName, Span, Timestamp};
use tidemill_cycle::ProjectLoop;
use tidemill_store::catalog::Run;
use tower::ServiceExt;

use crate::node::Node;

/// How often the loop does what is due.
const DAY: Span = Span::from_days(1);
/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Settings that suit a past that goes by in minutes; flags of the user win over them.
pub const SETTINGS: [(&str, &str); 2] = [("landing_age", "14d"), ("decisions_keep", "1000000")];

/// Where a replay takes place: a named folder that is empty, or a temporary one that goes away.
pub struct Folder {
    /// The data folder.
    pub path: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl Folder {
    /// The named one, or one of its own called after `kind`; `who` says in an error what has to start from nothing.
    pub fn new(named: Option<PathBuf>, kind: &str, who: &str) -> Result<Self> {
        let Some(path) = named else {
            let folder = tempfile::Builder::new()
                .prefix(&format!("tidemill-{kind}-"))
                .tempdir()?;
            return Ok(Self {
                path: folder.path().to_owned(),
                _temporary: Some(folder),
            });
        };
        let occupied = path
            .read_dir()
            .is_ok_and(|mut entries| entries.next().is_some());
        if occupied {
            bail!(
                "the folder {} is not empty; {who} starts from nothing, name another",
                path.display()
            );
        }
        Ok(Self {
            path,
            _temporary: None,
        })
    }
}

/// Somebody who watches days pass.
pub trait Watcher {
    /// A day begins, and the loop has done what was due.
    async fn morning(&mut self, today: Timestamp, project_loop: &Arc<ProjectLoop>) -> Result<()>;

    /// What was trained then.
    async fn trained(&mut self, today: Timestamp, runs: &[Run]) -> Result<()>;
}

/// A project on a clock that is moved, and a way to ask it.
pub struct Driver {
    /// The project.
    pub project_loop: Arc<ProjectLoop>,
    /// Its clock.
    pub clock: Arc<VirtualClock>,
    router: axum::Router,
    key: String,
    today: Timestamp,
    _node: Option<Box<Node>>,
}

impl Driver {
    /// Drives a project of a node with the key that the command line has.
    pub fn new(node: &Node, project: &ProjectName, clock: Arc<VirtualClock>) -> Result<Self> {
        let Some(project_loop) = node.loops.get(project) else {
            bail!("the project {project} is not open");
        };
        Ok(Self {
            project_loop: project_loop.clone(),
            router: tidemill_api::router(node.app.clone()),
            key: node.local_key(project)?,
            today: clock.now().floor(DAY),
            clock,
            _node: None,
        })
    }

    /// Moves the clock on day by day; each morning the loop does what is due.
    pub async fn pass_time_until(
        &mut self,
        time: Timestamp,
        watcher: &mut impl Watcher,
    ) -> Result<()> {
        while self.is_due(time) {
            self.pass_a_day(watcher).await?;
        }
        self.clock.advance_to(time);
        Ok(())
    }

    /// Whether another day begins before a time.
    pub fn is_due(&self, time: Timestamp) -> bool {
        self.today + DAY <= time
    }

    /// Goes on to the next morning, on which the loop does what is due.
    pub async fn pass_a_day(&mut self, watcher: &mut impl Watcher) -> Result<()> {
        self.today = self.today + DAY;
        self.clock.advance_to(self.today);
        let runs = self.project_loop.tick().await?;
        watcher.morning(self.today, &self.project_loop).await?;
        watcher.trained(self.today, &runs).await
    }

    /// Keeps the node at work as long as it is driven.
    pub fn keep(&mut self, node: Node) {
        self._node = Some(Box::new(node));
    }

    /// Goes on to a time without anything being done on the days between: what was before is history.
    pub fn skip_to(&mut self, time: Timestamp) {
        self.clock.advance_to(time);
        self.today = self.clock.now().floor(DAY);
    }

    /// The day after the last event, and a look at whether anything is wrong.
    pub async fn finish(&mut self, watcher: &mut impl Watcher) -> Result<()> {
        let end = self.today + DAY;
        self.pass_time_until(end, watcher).await?;
        Ok(self.project_loop.check_alerts().await?)
    }

    /// Asks the handlers; a refusal is an error.
    pub async fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.key))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()))?;
        let response = match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), ANSWER_BYTES_MAX).await?;
        if !status.is_success() {
            bail!(
                "{path} answered {status}: {}",
                String::from_utf8_lossy(&bytes)
            );
        }
        Ok(serde_json::from_slice(&bytes)?)
    }
}
