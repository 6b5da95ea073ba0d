//! Composition: which backend stands behind which port, and the projects at work on them. The only file of the
//! only crate that names backends.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rand::RngCore;
use tidemill_api::{ApiOptions, App, KeyRing};
use tidemill_collect::{Intake, Limits};
use tidemill_console::Console;
use tidemill_core::clock::SystemClock;
use tidemill_core::project::Project;
use tidemill_core::{Clock, ProjectName};
use tidemill_cycle::{Background, LoopOptions, ProjectLoop};
use tidemill_monitor::Metrics;
use tidemill_store::catalog::Scope;
use tidemill_store::delta::{DeltaLake, DeltaOptions};
use tidemill_store::fjall_store::{FjallOptions, FjallStore};
use tidemill_store::keys::create_key;
use tidemill_store::local::LocalArtifacts;
use tidemill_store::local_moment::LocalMoments;
use tidemill_store::sqlite::SqliteCatalog;
use tidemill_store::{DataFolder, Stores};

use tokio::sync::watch;

use crate::config::Config;
use crate::courier::{MailServer, WebCourier};

/// The actor in the audit log for what the command line does.
pub const ACTOR: &str = "command line";

/// A data folder that is open, with its projects at work.
pub struct Node {
    /// The faces.
    pub app: Arc<App>,
    /// One backend of every port.
    pub stores: Stores,
    /// The projects.
    pub loops: BTreeMap<ProjectName, Arc<ProjectLoop>>,
    folder: PathBuf,
    /// The settings in force: name, value, origin.
    settings: Vec<(String, String, String)>,
    /// Held as long as the loops that give it work.
    _background: Background,
}

/// Opens the embedded backends in a folder that nobody else has open.
pub async fn open_stores(folder: &DataFolder) -> Result<Stores> {
    let fjall = FjallStore::open(folder, &FjallOptions::default())?;
    let (log, state) = (Arc::new(fjall.log), Arc::new(fjall.state));
    let catalog = Arc::new(SqliteCatalog::open(folder).await?);
    let lake = Arc::new(DeltaLake::open(folder, &DeltaOptions::default()));
    let opened = (log.clone(), state.clone());
    let moments = LocalMoments::open(folder, opened, catalog.clone(), lake.clone())?;
    Ok(Stores {
        log,
        state,
        catalog,
        lake,
        artifacts: Arc::new(LocalArtifacts::open(folder)),
        moments: Arc::new(moments),
    })
}

impl Node {
    /// Opens the data folder of the settings with these projects.
    pub async fn open(
        config: &Config,
        projects: Vec<Project>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let folder = DataFolder::open(config.data())?;
        let stores = open_stores(&folder).await?;
        Self::compose(config, &config.data(), stores, projects, clock).await
    }

    async fn compose(
        config: &Config,
        folder: &Path,
        stores: Stores,
        projects: Vec<Project>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let metrics = Arc::new(Metrics::default());
        let mut options = loop_options(config)?;
        let background =
            Background::start(options.training_threads).context("start the background threads")?;
        options.background = Some(background.handle());
        let mut loops = BTreeMap::new();
        for project in projects {
            let name = project.name.clone();
            if loops.contains_key(&name) {
                bail!("two project files have the name '{name}'");
            }
            if !project.alerts.email.is_empty() && !mail_server(config)?.is_known() {
                tracing::warn!(project = %name, "its alerts name e-mail addresses, but no mail server is known: set TIDEMILL_SMTP_URL");
            }
            let opened = ProjectLoop::open(
                project,
                stores.clone(),
                clock.clone(),
                metrics.clone(),
                options.clone(),
                Box::new(random),
            );
            loops.insert(
                name.clone(),
                opened
                    .await
                    .with_context(|| format!("open project {name}"))?,
            );
        }
        let intake = Arc::new(Intake::new(
            stores.log.clone(),
            clock.clone(),
            limits(config)?,
        ));
        let keys = KeyRing::open(stores.catalog.clone()).await?;
        let open_metrics = config
            .get::<std::net::SocketAddr>("listen")?
            .ip()
            .is_loopback();
        let api_options = ApiOptions {
            open_metrics,
            ..ApiOptions::default()
        };
        let app = App::new(
            loops.values().cloned(),
            intake,
            keys,
            metrics,
            api_options,
            Box::new(random),
        );
        let node = Self {
            app,
            stores,
            loops,
            folder: folder.to_owned(),
            settings: settings(config),
            _background: background,
        };
        for name in node.loops.keys() {
            node.ensure_local_key(name, clock.as_ref()).await?;
        }
        Ok(node)
    }

    /// The data folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The key with which the command line of this machine's user talks to the project.
    pub fn local_key(&self, project: &ProjectName) -> Result<String> {
        read_local_key(&self.folder, project)
    }

    /// The pages of the console. People live in real time, also where a driver moves the projects' clock.
    pub fn console(&self, stopping: watch::Receiver<bool>) -> Arc<Console> {
        Console::new(
            self.loops.values().cloned(),
            (self.stores.catalog.clone(), self.app.intake.clone()),
            Arc::new(SystemClock),
            Box::new(random),
            (self.settings.clone(), self.folder.clone()),
            stopping,
        )
    }

    /// Where nobody has signed in to the console yet: an address that signs the first user in, once.
    pub async fn first_link(&self, address: SocketAddr) -> Result<Option<String>> {
        let catalog = self.stores.catalog.as_ref();
        let path = tidemill_console::first_link(catalog, &SystemClock, random(), "first start");
        Ok(path.await?.map(|path| browser_url(address, &path)))
    }

    /// A new key; its secret is not stored.
    pub async fn new_key(
        &self,
        project: &ProjectName,
        scope: Scope,
        clock: &dyn Clock,
    ) -> Result<String> {
        let catalog = self.stores.catalog.as_ref();
        let (secret, _) = create_key(catalog, project, scope, random(), clock.now(), ACTOR).await?;
        self.app.keys.refresh().await?;
        Ok(secret.expose().to_owned())
    }

    /// Makes the local key where there is none that still opens the project.
    async fn ensure_local_key(&self, project: &ProjectName, clock: &dyn Clock) -> Result<()> {
        if let Ok(secret) = read_local_key(&self.folder, project)
            && self
                .app
                .keys
                .find(&secret)
                .await
                .is_some_and(|key| key.project == *project)
        {
            return Ok(());
        }
        let secret = self.new_key(project, Scope::Admin, clock).await?;
        let path = local_key_path(&self.folder, project);
        write_private(&path, &secret).with_context(|| format!("write {}", path.display()))
    }
}

/// An address for a browser on this machine.
pub fn browser_url(address: SocketAddr, path: &str) -> String {
    // browsers take no address that means every one
    match address.ip().is_unspecified() {
        true => format!("http://localhost:{}{path}", address.port()),
        false => format!("http://{address}{path}"),
    }
}

fn settings(config: &Config) -> Vec<(String, String, String)> {
    let lines = config.shown().map(|(setting, found)| {
        let origin = format!("{:?}", found.origin).to_lowercase();
        (setting.name.to_owned(), found.value, origin)
    });
    lines.collect()
}

/// Bytes from the operating system's generator.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    #[allow(
        clippy::disallowed_methods,
        reason = "secrets and ids must not be reproducible"
    )]
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

fn loop_options(config: &Config) -> Result<LoopOptions> {
    let default = LoopOptions::default();
    let training_threads = match config.text("training_threads") {
        "auto" => default.training_threads,
        "all" => tidemill_cycle::cores(),
        number => number.parse()?,
    };
    Ok(LoopOptions {
        landing_age: config.get("landing_age")?,
        landing_events: config.get("landing_events")?,
        commit_events: config.get("commit_events")?,
        log_keep_events: config.get("log_keep_events")?,
        decisions_keep: config.get("decisions_keep")?,
        datasets_keep: config.get("datasets_keep")?,
        cache_entries: config.get("cache_entries")?,
        training_threads,
        courier: Some(Arc::new(WebCourier::new(mail_server(config)?)?)),
        consistency_share: config.get("consistency_share")?,
        replay_memory_bytes_max: config.get("replay_memory_bytes")?,
        ..default
    })
}

fn mail_server(config: &Config) -> Result<MailServer> {
    MailServer::new(config.text("smtp_url"), config.text("smtp_from"))
}

fn limits(config: &Config) -> Result<Limits> {
    Ok(Limits {
        event_bytes_max: config.get("event_bytes_max")?,
        batch_bytes_max: config.get("batch_bytes_max")?,
        batch_events_max: config.get("batch_events_max")?,
        ..Limits::default()
    })
}

fn local_keys(folder: &Path) -> PathBuf {
    folder.join("keys")
}

fn local_key_path(folder: &Path, project: &ProjectName) -> PathBuf {
    local_keys(folder).join(project.as_str())
}

/// The key with which the command line talks to a project of a data folder.
pub fn read_local_key(folder: &Path, project: &ProjectName) -> Result<String> {
    let path = local_key_path(folder, project);
    std::fs::read_to_string(&path).with_context(|| {
        format!(
            "read {}: does the project '{project}' exist in this data folder?",
            path.display()
        )
    })
}

/// The projects of a data folder that the command line has a key for.
pub fn local_projects(folder: &Path) -> Vec<ProjectName> {
    let Ok(entries) = std::fs::read_dir(local_keys(folder)) else {
        return Vec::new();
    };
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut names: Vec<ProjectName> = names.collect();
    names.sort();
    names
}

/// Writes a file that only its owner may read.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path)?.write_all(text.as_bytes())
}
