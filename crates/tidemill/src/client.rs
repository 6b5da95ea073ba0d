//! How commands talk to a project: the same requests to the same handlers, over HTTP where a server has the
//! data folder open, inside this process where none has.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use futures::StreamExt;
use serde_json::Value;
use tidemill_core::clock::SystemClock;
use tidemill_core::project::Project;
use tidemill_core::{Clock, ProjectName};
use tidemill_store::{DataFolder, StoreError};
use tower::ServiceExt;

use crate::cli::DataArgs;
use crate::config::Config;
use crate::node::{self, Node};
use crate::server_file;

/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// How long a server may take to answer: a training is waited for.
const TIMEOUT: Duration = Duration::from_secs(3_600);

/// A way to a project.
pub struct Client {
    /// The project.
    pub project: ProjectName,
    key: String,
    way: Way,
}

enum Way {
    /// A server of this data folder.
    Server { address: String },
    /// The handlers themselves.
    Process { node: Box<Node> },
}

impl Client {
    /// Finds the project that is meant, and the way to it.
    pub async fn connect(config: &Config, args: &DataArgs) -> Result<Self> {
        let data = config.data();
        if !data.exists() {
            bail!(
                "there is no data folder {}; `tidemill serve` or `tidemill import` makes one, --data names another",
                data.display()
            );
        }
        match DataFolder::open(&data) {
            Err(StoreError::Locked { .. }) => Self::to_server(&data, args),
            Err(error) => Err(error.into()),
            Ok(folder) => {
                let stores = node::open_stores(&folder).await?;
                let project = find_project(&stores, args).await?;
                drop((stores, folder));
                Self::in_process(config, project, Arc::new(SystemClock)).await
            }
        }
    }

    fn to_server(data: &Path, args: &DataArgs) -> Result<Self> {
        let server = server_file::read(data)?;
        let project = match &args.project {
            Some(text) if Path::new(text).is_file() => read_project(Path::new(text))?.name,
            Some(text) => text.parse()?,
            None => only_one(node::local_projects(data))?,
        };
        Self::of_server(data, project, server.address)
    }

    /// A way to a project of the server that has a data folder open.
    pub fn beside(data: &Path, project: ProjectName) -> Result<Self> {
        let server = server_file::read(data)?;
        Self::of_server(data, project, server.address)
    }

    fn of_server(data: &Path, project: ProjectName, address: String) -> Result<Self> {
        let key = node::read_local_key(data, &project)?;
        Ok(Self {
            project,
            key,
            way: Way::Server { address },
        })
    }

    /// Opens the data folder in this process.
    pub async fn in_process(
        config: &Config,
        project: Project,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let name = project.name.clone();
        let node = Node::open(config, vec![project], clock).await?;
        let client = Self::of_node(node, name)?;
        client.catch_up().await?;
        Ok(client)
    }

    /// A way to a project of a node of this process.
    pub fn of_node(node: Node, project: ProjectName) -> Result<Self> {
        let key = node.local_key(&project)?;
        Ok(Self {
            project,
            key,
            way: Way::Process {
                node: Box::new(node),
            },
        })
    }

    /// The node, where it is in this process.
    pub fn node(&self) -> Option<&Node> {
        match &self.way {
            Way::Process { node } => Some(node),
            Way::Server { .. } => None,
        }
    }

    async fn catch_up(&self) -> Result<()> {
        if let Some(project_loop) = self.node().and_then(|node| node.loops.get(&self.project)) {
            project_loop.catch_up().await?;
        }
        Ok(())
    }

    /// Commits what this process holds in memory.
    pub fn close(&self) -> Result<()> {
        if let Some(project_loop) = self.node().and_then(|node| node.loops.get(&self.project)) {
            project_loop.commit()?;
        }
        Ok(())
    }

    /// Asks with GET.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.ask(Method::GET, path, None).await
    }

    /// Sends a body with POST.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.ask(Method::POST, path, Some(body)).await
    }

    /// Asks, and turns a problem into an error.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let (status, bytes) = self
            .request(method, path, body.map(Value::to_string))
            .await?;
        let value: Value = match bytes.as_slice() {
            [] => Value::Null,
            bytes => serde_json::from_slice(bytes)
                .with_context(|| format!("read the answer of {path}"))?,
        };
        if status.is_success() {
            return Ok(value);
        }
        Err(refusal(&value))
    }

    /// Writes the answer to a GET as it comes, however large it is; a problem is an error.
    pub async fn download(&self, path: &str, to: &mut (impl Write + Send)) -> Result<()> {
        let request = Request::builder()
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.key));
        match &self.way {
            Way::Process { node } => {
                let router = tidemill_api::router(node.app.clone());
                let response = match router.oneshot(request.body(Body::empty())?).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                };
                if !response.status().is_success() {
                    let body = axum::body::to_bytes(response.into_body(), ANSWER_BYTES_MAX).await?;
                    return Err(refusal(&serde_json::from_slice(&body)?));
                }
                let mut pieces = response.into_body().into_data_stream();
                while let Some(piece) = pieces.next().await {
                    to.write_all(&piece?)?;
                }
                Ok(())
            }
            Way::Server { address } => {
                let request = request.uri(format!("http://{address}{path}")).body(())?;
                let mut response = agent().run(request).context("ask the server")?;
                if !response.status().is_success() {
                    return Err(refusal(&response.body_mut().read_json()?));
                }
                std::io::copy(&mut response.body_mut().as_reader(), to)?;
                Ok(())
            }
        }
    }

    /// Sends a request and returns the status and the body as they come.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<(StatusCode, Vec<u8>)> {
        let request = Request::builder()
            .method(method)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.key))
            .header(header::CONTENT_TYPE, "application/json");
        match &self.way {
            Way::Process { node } => {
                let request = request
                    .uri(path)
                    .body(Body::from(body.unwrap_or_default()))?;
                let router = tidemill_api::router(node.app.clone());
                let response = match router.oneshot(request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                };
                let status = response.status();
                let bytes = axum::body::to_bytes(response.into_body(), ANSWER_BYTES_MAX).await?;
                Ok((status, bytes.to_vec()))
            }
            Way::Server { address } => {
                let request = request
                    .uri(format!("http://{address}{path}"))
                    .body(body.unwrap_or_default())?;
                tokio::task::spawn_blocking(move || send(request)).await?
            }
        }
    }
}

/// A problem as an error: what went wrong and what to do.
fn refusal(problem: &Value) -> anyhow::Error {
    let text = |field: &str| problem.get(field).and_then(Value::as_str);
    let mut message = text("detail")
        .or(text("title"))
        .unwrap_or("the server refused")
        .to_owned();
    if let Some(hint) = text("hint") {
        message = format!("{message}\n  {hint}");
    }
    anyhow::Error::msg(message)
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .http_status_as_error(false)
        .build()
        .into()
}

fn send(request: Request<String>) -> Result<(StatusCode, Vec<u8>)> {
    let mut response = agent().run(request).context("ask the server")?;
    let bytes = response
        .body_mut()
        .with_config()
        .limit(ANSWER_BYTES_MAX as u64)
        .read_to_vec()?;
    Ok((response.status(), bytes))
}

/// Reads a project file; all its problems are the error.
pub fn read_project(path: &Path) -> Result<Project> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("read the project file {}", path.display()))?;
    Project::parse(&text)
        .with_context(|| format!("the project file {} has problems", path.display()))
}

/// The project that is meant: of a file, by its name, or the only one.
pub async fn find_project(stores: &tidemill_store::Stores, args: &DataArgs) -> Result<Project> {
    let name = match &args.project {
        Some(text) if Path::new(text).is_file() => return read_project(Path::new(text)),
        Some(text) => text
            .parse::<ProjectName>()
            .with_context(|| format!("there is no project file {text}"))?,
        None => only_one(stores.catalog.projects().await?)?,
    };
    let Some(text) = stores.catalog.project_file(&name).await? else {
        bail!("there is no project '{name}' in this data folder");
    };
    Project::parse(&text).with_context(|| format!("the stored file of project {name} has problems"))
}

fn only_one(mut projects: Vec<ProjectName>) -> Result<ProjectName> {
    match (projects.pop(), projects.is_empty()) {
        (Some(project), true) => Ok(project),
        (None, _) => {
            bail!("there is no project in this data folder yet; name its file with --project")
        }
        (Some(last), false) => {
            projects.push(last);
            let names: Vec<&str> = projects.iter().map(ProjectName::as_str).collect();
            bail!(
                "there are several projects; name one with --project: {}",
                names.join(", ")
            )
        }
    }
}
