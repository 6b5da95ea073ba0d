//! What the pages are given, and how somebody comes in.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidemill_collect::Intake;
use tidemill_core::sync::Mutex;
use tidemill_core::{Clock, ProjectName, Span};
use tidemill_cycle::ProjectLoop;
use tidemill_store::catalog::AuditEntry;
use tidemill_store::users::{Pass, Role, User};
use tidemill_store::{Catalog, StoreError};
use tokio::sync::{Semaphore, watch};

use crate::attempts::Attempts;
use crate::problem::Problem;
use crate::secret;

/// How long a link can be used.
pub const LINK_HOLDS: Span = Span::from_seconds(24 * 3_600);
/// How long a session holds.
pub(crate) const SESSION_HOLDS: Span = Span::from_days(14);
/// The user whom the first start makes.
const FIRST_USER: &str = "admin";
/// The most pages that read much at one time; others wait.
const HEAVY_MAX: usize = 2;
/// How long such a page may take, waiting included.
const HEAVY_PATIENCE: Duration = Duration::from_secs(30);
/// The most pages that are followed live at one time.
const LIVE_MAX: usize = 64;
/// The most passwords that are checked at one time: each takes a core and 19 MB.
const PASSWORDS_MAX: usize = 2;

/// Random bytes from the operating system, for secrets.
pub type RandomBytes = Box<dyn Fn() -> [u8; 32] + Send + Sync>;

/// Everything that the pages need.
pub struct Console {
    /// Handed out by [`seen`](Self::seen) and [`names_seen`](Self::names_seen) alone, so that nobody is shown another's.
    projects: BTreeMap<ProjectName, Arc<ProjectLoop>>,
    pub(crate) catalog: Arc<dyn Catalog>,
    /// What takes events in, to try again what was none.
    pub(crate) intake: Arc<Intake>,
    /// The time of people, also where that of a project is moved by a driver.
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: RandomBytes,
    /// The effective settings: name, value, where it comes from.
    pub(crate) settings: Vec<(String, String, String)>,
    /// The data folder, to tell how it is backed up.
    pub(crate) folder: PathBuf,
    pub(crate) attempts: Mutex<Attempts>,
    pub(crate) live: Arc<Semaphore>,
    pub(crate) passwords: Semaphore,
    pub(crate) stopping: watch::Receiver<bool>,
    heavy: Semaphore,
}

impl Console {
    /// Puts the parts together. Pages that are followed live end when `stopping` turns true.
    pub fn new(
        projects: impl IntoIterator<Item = Arc<ProjectLoop>>,
        (catalog, intake): (Arc<dyn Catalog>, Arc<Intake>),
        clock: Arc<dyn Clock>,
        random: RandomBytes,
        (settings, folder): (Vec<(String, String, String)>, PathBuf),
        stopping: watch::Receiver<bool>,
    ) -> Arc<Self> {
        let named = projects.into_iter();
        let named = named.map(|project| (project.project.name.clone(), project));
        Arc::new(Self {
            projects: named.collect(),
            catalog,
            intake,
            clock,
            random,
            settings,
            folder,
            attempts: Mutex::default(),
            live: Arc::new(Semaphore::new(LIVE_MAX)),
            passwords: Semaphore::new(PASSWORDS_MAX),
            stopping,
            heavy: Semaphore::new(HEAVY_MAX),
        })
    }

    /// A project, for somebody who may see it. Whoever may not is told the same as where there is none.
    pub(crate) fn seen(&self, name: &ProjectName, by: &User) -> Option<Arc<ProjectLoop>> {
        let project = self.projects.get(name)?;
        by.sees(name).then(|| project.clone())
    }

    /// The names of the projects that somebody may see.
    pub(crate) fn names_seen(&self, by: &User) -> Vec<&ProjectName> {
        self.projects.keys().filter(|name| by.sees(name)).collect()
    }

    /// Does what may read much: a few at a time, and not for ever, so that answers to programs do not wait for it.
    pub(crate) async fn heavy<T>(
        &self,
        work: impl Future<Output = Result<T, Problem>>,
    ) -> Result<T, Problem> {
        let turn = async {
            let _turn = self.heavy.acquire().await.map_err(|_| Problem::busy())?;
            work.await
        };
        tokio::time::timeout(HEAVY_PATIENCE, turn)
            .await
            .map_err(|_| Problem::busy())?
    }

    /// An audit entry of the server, at this moment.
    pub(crate) fn entry(&self, actor: &str, action: &str, subject: &str) -> AuditEntry {
        entry(self.clock.as_ref(), actor, action, subject)
    }
}

fn entry(clock: &dyn Clock, actor: &str, action: &str, subject: &str) -> AuditEntry {
    AuditEntry {
        at: clock.now(),
        project: None,
        actor: actor.to_owned(),
        action: action.to_owned(),
        subject: subject.to_owned(),
        reason: String::new(),
    }
}

/// A link that signs a user in once: the path behind the server's address.
///
/// # Errors
/// When there is no such user, or the catalog fails.
pub async fn new_link(
    catalog: &dyn Catalog,
    clock: &dyn Clock,
    random: [u8; 32],
    user: &str,
    actor: &str,
) -> Result<String, StoreError> {
    let secret = secret::written(random);
    let created_at = clock.now();
    let link = Pass {
        hash: secret::hash("link", &secret),
        user: user.to_owned(),
        created_at,
        expires_at: created_at + LINK_HOLDS,
    };
    let audit = entry(clock, actor, "add_link", user);
    catalog.add_link(&link, audit).await?;
    Ok(format!("/console/sign-in?link={secret}"))
}

/// Where nobody can sign in yet: makes the first user and returns a link for them.
///
/// # Errors
/// When the catalog fails.
pub async fn first_link(
    catalog: &dyn Catalog,
    clock: &dyn Clock,
    random: [u8; 32],
    actor: &str,
) -> Result<Option<String>, StoreError> {
    let users = catalog.users().await?;
    // whoever lost the first link gets another one at the next start
    let has_signed_in = !catalog
        .sessions(tidemill_core::Timestamp::EPOCH)
        .await?
        .is_empty();
    let may_come_in = users
        .iter()
        .any(|user| user.password.is_some() || user.name != FIRST_USER);
    if may_come_in || has_signed_in {
        return Ok(None);
    }
    if users.is_empty() {
        let first = User {
            name: FIRST_USER.to_owned(),
            role: Role::Admin,
            password: None,
            created_at: clock.now(),
            projects: None,
        };
        let audit = entry(clock, actor, "add_user", FIRST_USER);
        catalog.put_user(&first, audit).await?;
    }
    new_link(catalog, clock, random, FIRST_USER, actor)
        .await
        .map(Some)
}
