//! The port for the catalog: projects, keys, versions, runs, rollouts and the audit log.

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidemill_core::{ModelName, ProjectName, RunId, Timestamp};

use crate::{ArtifactHash, StoreError, Users};

/// What a key may do. `Admin` includes `Read`; neither includes sending events from a browser by accident:
/// `Write` is its own scope, and `Admin` includes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Send events. Safe in a browser.
    Write,
    /// Ask for answers.
    Read,
    /// Everything.
    Admin,
}

impl Scope {
    /// Whether a key with this scope may do what needs `needed`.
    pub fn allows(self, needed: Scope) -> bool {
        self == Self::Admin || self == needed
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::Admin => "admin",
        })
    }
}

impl FromStr for Scope {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "write" => Ok(Self::Write),
            "read" => Ok(Self::Read),
            "admin" => Ok(Self::Admin),
            other => Err(format!(
                "'{other}' is not a scope: use write, read or admin"
            )),
        }
    }
}

/// A key, without its secret: only the SHA-256 of the secret is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKey {
    /// Public id: the first characters of the key, enough to tell keys apart.
    pub id: String,
    /// The only project that it opens.
    pub project: ProjectName,
    /// What it may do there.
    pub scope: Scope,
    /// SHA-256 of the secret, in hexadecimal.
    pub hash: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Under way.
    Running,
    /// Its version was registered and passed the gate.
    Passed,
    /// Its version was registered and the gate refused it.
    Refused,
    /// There was too little to learn from; said in `summary`.
    Skipped,
    /// It broke off; said in `summary`.
    Failed,
}

/// One pass of the cycle for one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// The project.
    pub project: ProjectName,
    /// The model.
    pub model: ModelName,
    /// What set it off: `schedule`, `new_targets`, `new_definition`, `person`.
    pub trigger: String,
    /// How far it has come.
    pub state: RunState,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// The number of the version that it made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// One sentence for a person.
    pub summary: String,
    /// Snapshot, dataset record, fit, evaluation and gate, stage by stage.
    pub detail: Value,
}

/// A trained answerer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// The project.
    pub project: ProjectName,
    /// The model.
    pub model: ModelName,
    /// Its number, counting up from 1.
    pub number: u32,
    /// The run that made it.
    pub run: RunId,
    /// When it was registered.
    pub created_at: Timestamp,
    /// The packaged model.
    pub artifact: ArtifactHash,
    /// Whether the gate let it pass.
    pub passed: bool,
    /// The evaluation report and the gate's verdict.
    pub detail: Value,
}

/// How far a version has come in taking over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutStage {
    /// It answers beside the champion and is not heard.
    Shadow,
    /// It answers for a share of the people.
    Canary,
    /// It became the champion.
    Promoted,
    /// The champion stayed.
    RolledBack,
}

impl RolloutStage {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Canary => "canary",
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled_back",
        }
    }
}

/// How a version takes over from the champion, or did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// The project.
    pub project: ProjectName,
    /// The model.
    pub model: ModelName,
    /// Counts the rollouts of the model from 1.
    pub position: u32,
    /// The number of the version that wants to answer.
    pub version: u32,
    /// The number of the version that answered when it began.
    pub champion: Option<u32>,
    /// How far it has come.
    pub stage: RolloutStage,
    /// The share of the people that it answers for, from 0 to 1.
    pub share: f64,
    /// When it began.
    pub started_at: Timestamp,
    /// Since when it is at this stage and share.
    pub since: Timestamp,
    /// Who brought it there.
    pub actor: String,
    /// Why it is there.
    pub reason: String,
    /// The stages that it has been through, with their numbers.
    pub detail: Value,
}

impl Rollout {
    /// Whether it goes on.
    pub fn is_under_way(&self) -> bool {
        matches!(self.stage, RolloutStage::Shadow | RolloutStage::Canary)
    }
}

/// Who changed what, when and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// The project; absent for changes of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectName>,
    /// Who: `system`, `key tm_…`, or a name that was given.
    pub actor: String,
    /// What: `promote`, `rollback`, `create_key`, …
    pub action: String,
    /// On what: `will_return@3`.
    pub subject: String,
    /// Why.
    pub reason: String,
}

/// Projects, keys, versions, runs and audit. Every method that changes something for a person takes the audit
/// entry and records it in the same transaction.
#[async_trait]
pub trait Catalog: Users {
    /// Adds a project or notes that its file changed; returns whether the text is new.
    async fn put_project(
        &self,
        name: &ProjectName,
        file: &str,
        at: Timestamp,
    ) -> Result<bool, StoreError>;
    /// The names of all projects, sorted.
    async fn projects(&self) -> Result<Vec<ProjectName>, StoreError>;
    /// The text of a project's file as last seen.
    async fn project_file(&self, name: &ProjectName) -> Result<Option<String>, StoreError>;

    /// Adds a key.
    async fn create_key(&self, key: &AccessKey, audit: AuditEntry) -> Result<(), StoreError>;
    /// All keys of all projects, revoked ones too, oldest first.
    async fn keys(&self) -> Result<Vec<AccessKey>, StoreError>;
    /// Revokes a key by its public id; `NotFound` where there is none in that project.
    async fn revoke_key(
        &self,
        project: &ProjectName,
        id: &str,
        at: Timestamp,
        audit: AuditEntry,
    ) -> Result<(), StoreError>;

    /// Adds a run or replaces what was stored under its id.
    async fn put_run(&self, run: &Run) -> Result<(), StoreError>;
    /// One run.
    async fn run(&self, project: &ProjectName, id: RunId) -> Result<Option<Run>, StoreError>;
    /// The newest runs, of one model or all, older than `before` where given.
    async fn runs(
        &self,
        project: &ProjectName,
        model: Option<&ModelName>,
        before: Option<RunId>,
        limit: u32,
    ) -> Result<Vec<Run>, StoreError>;

    /// Registers a version under the next free number of its model (the number in `version` is ignored) and returns it.
    async fn add_version(&self, version: &Version) -> Result<u32, StoreError>;
    /// One version.
    async fn version(
        &self,
        project: &ProjectName,
        model: &ModelName,
        number: u32,
    ) -> Result<Option<Version>, StoreError>;
    /// A model's newest versions, with numbers smaller than `before` where given.
    async fn versions(
        &self,
        project: &ProjectName,
        model: &ModelName,
        before: Option<u32>,
        limit: u32,
    ) -> Result<Vec<Version>, StoreError>;

    /// Makes a version the champion, or with `None` returns the model to its fallback.
    async fn set_champion(
        &self,
        project: &ProjectName,
        model: &ModelName,
        number: Option<u32>,
        audit: AuditEntry,
    ) -> Result<(), StoreError>;
    /// The version that answers.
    async fn champion(
        &self,
        project: &ProjectName,
        model: &ModelName,
    ) -> Result<Option<u32>, StoreError>;
    /// Every version that was champion, newest first, with when it became it; repeats where it came back.
    async fn champions(
        &self,
        project: &ProjectName,
        model: &ModelName,
        limit: u32,
    ) -> Result<Vec<(Timestamp, Option<u32>)>, StoreError>;

    /// Adds a rollout or replaces what was stored under its position; `NotFound` where there is no such version.
    async fn put_rollout(&self, rollout: &Rollout, audit: AuditEntry) -> Result<(), StoreError>;
    /// A model's newest rollouts, newest first.
    async fn rollouts(
        &self,
        project: &ProjectName,
        model: &ModelName,
        limit: u32,
    ) -> Result<Vec<Rollout>, StoreError>;

    /// Adds an audit entry by itself.
    async fn audit(&self, entry: AuditEntry) -> Result<(), StoreError>;
    /// The newest audit entries of a project.
    async fn audit_log(
        &self,
        project: &ProjectName,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, StoreError>;
}
