//! People who use the console: who they are, what they may do, and how they are signed in.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use tidemill_core::{ProjectName, Timestamp};

use crate::StoreError;
use crate::catalog::AuditEntry;

/// The longest name of a user, in bytes.
pub const USER_NAME_BYTES_MAX: usize = 64;

/// What a user may do. Each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Look.
    Viewer,
    /// Also change what the loop does: promote, roll back, train, silence.
    Editor,
    /// Also see and change who may do what.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Editor, Self::Admin];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Editor => "editor",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| format!("'{text}' is not a role: use viewer, editor or admin"))
    }
}

/// A person who uses the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// What they are called, here and in the audit log: an address, a short name.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Their password as an argon2id string; without one only links sign them in.
    pub password: Option<String>,
    /// When they were added.
    pub created_at: Timestamp,
    /// The projects that they were given; `None` for all, also those to come.
    pub projects: Option<BTreeSet<ProjectName>>,
}

/// Which projects somebody was given, as people read it: names, `none`, or `all`.
pub fn projects_in_words(given: Option<&BTreeSet<ProjectName>>) -> String {
    let Some(given) = given else {
        return "all".to_owned();
    };
    let names: Vec<&str> = given.iter().map(ProjectName::as_str).collect();
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    }
}

impl User {
    /// Which projects they see, as people read it.
    pub fn sees_in_words(&self) -> String {
        let given = self.projects.as_ref();
        projects_in_words(given.filter(|_| self.role != Role::Admin))
    }

    /// Whether they may see a project, and with it do there what their role allows. An admin, who decides about that, sees all.
    pub fn sees(&self, project: &ProjectName) -> bool {
        let given = self.projects.as_ref();
        self.role == Role::Admin || given.is_none_or(|given| given.contains(project))
    }
}

/// What a name of a user may be.
///
/// # Errors
/// In words, when it is empty, too long, or has characters that do not belong in a name.
pub fn check_user_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_alphanumeric() || "-_.@+".contains(c);
    if !name.is_empty() && name.len() <= USER_NAME_BYTES_MAX && name.chars().all(allowed) {
        return Ok(());
    }
    Err(format!(
        "a user's name has 1 to {USER_NAME_BYTES_MAX} letters, digits and characters of -_.@+"
    ))
}

/// A secret that was handed out, by its SHA-256 in hexadecimal, and until when it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// The hash.
    pub hash: String,
    /// Whom it signs in.
    pub user: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it does not hold any more.
    pub expires_at: Timestamp,
}

/// The part of the catalog that knows people. What a person may want to look up later takes its audit entry along.
#[async_trait]
pub trait Users: Send + Sync {
    /// Everybody, by name.
    async fn users(&self) -> Result<Vec<User>, StoreError>;
    /// Adds a user, or replaces role and password of one with that name, whose projects stay.
    async fn put_user(&self, user: &User, audit: AuditEntry) -> Result<(), StoreError>;
    /// Replaces the projects of a user, `None` for all; `NotFound` where there is no such user.
    async fn set_projects(
        &self,
        name: &str,
        projects: Option<&BTreeSet<ProjectName>>,
        audit: AuditEntry,
    ) -> Result<(), StoreError>;
    /// Removes a user with their sessions and links; `NotFound` where there is none.
    async fn remove_user(&self, name: &str, audit: AuditEntry) -> Result<(), StoreError>;

    /// Adds a link that signs in once, and forgets links that do not hold any more; `NotFound` without such a user.
    async fn add_link(&self, link: &Pass, audit: AuditEntry) -> Result<(), StoreError>;
    /// Whom a link would sign in now.
    async fn link(&self, hash: &str, now: Timestamp) -> Result<Option<User>, StoreError>;
    /// Takes a link: of many who try, one gets the user.
    async fn take_link(&self, hash: &str, now: Timestamp) -> Result<Option<User>, StoreError>;

    /// Adds a session, and forgets sessions that do not hold any more.
    async fn add_session(&self, session: &Pass, audit: AuditEntry) -> Result<(), StoreError>;
    /// Whose session it is.
    async fn session(&self, hash: &str, now: Timestamp) -> Result<Option<User>, StoreError>;
    /// The sessions that hold, the newest first.
    async fn sessions(&self, now: Timestamp) -> Result<Vec<Pass>, StoreError>;
    /// Ends one session.
    async fn end_session(&self, hash: &str) -> Result<(), StoreError>;
    /// Ends all sessions and links of a user, but for one session.
    async fn end_other_sessions(&self, user: &str, but: &str) -> Result<(), StoreError>;

    /// The newest audit entries that belong to no project.
    async fn server_audit_log(&self, limit: u32) -> Result<Vec<AuditEntry>, StoreError>;
}
