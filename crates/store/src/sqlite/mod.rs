//! The embedded catalog, in SQLite.
//!
//! The SQL is kept to what PostgreSQL understands too, so that the catalog can move there with the same text.

mod rows;
mod users;

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{SqlSafeStr, Sqlite, Transaction};
use tidemill_core::{ModelName, ProjectName, RunId, Timestamp};

use self::rows::{
    column, number, parsed, read_audit, read_key, read_rollout, read_run, read_version, state_text,
    time, to_json,
};
use crate::catalog::{AccessKey, AuditEntry, Rollout, Run, Version};
use crate::{Catalog, DataFolder, StoreError};

/// How the tables came to be what they are; a migration that was released is never changed.
const MIGRATIONS: [(i64, &str, &str); 4] = [
    (
        1,
        "catalog",
        include_str!("../../migrations/0001_catalog.sql"),
    ),
    (
        2,
        "rollouts",
        include_str!("../../migrations/0002_rollouts.sql"),
    ),
    (3, "users", include_str!("../../migrations/0003_users.sql")),
    (
        4,
        "user projects",
        include_str!("../../migrations/0004_user_projects.sql"),
    ),
];

/// How long a statement waits for another connection's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

const CONNECTIONS_MAX: u32 = 4;

/// [`Catalog`] in a SQLite file. Every change is on disk when the call returns.
#[derive(Debug)]
pub struct SqliteCatalog {
    pool: SqlitePool,
    /// Absent where another process has the folder.
    _folder: Option<DataFolder>,
}

impl SqliteCatalog {
    /// Opens the catalog of a data folder, or creates it.
    ///
    /// # Errors
    /// [`StoreError::Newer`] where a newer version wrote it, [`StoreError::Corrupt`], [`StoreError::Full`], and those
    /// of the file system.
    pub async fn open(folder: &DataFolder) -> Result<Self, StoreError> {
        let pool = connect(&folder.catalog(), true).await?;
        let migrations = MIGRATIONS
            .map(|(version, description, sql)| {
                Migration::new(
                    version,
                    description.into(),
                    MigrationType::Simple,
                    sql.into_sql_str(),
                    false,
                )
            })
            .to_vec();
        Migrator::with_migrations(migrations)
            .run(&pool)
            .await
            .map_err(|error| match error {
                sqlx::migrate::MigrateError::VersionMissing(found) => StoreError::Newer {
                    path: folder.path().to_owned(),
                    found: u32::try_from(found).unwrap_or(u32::MAX),
                    supported: MIGRATIONS.len() as u32,
                },
                sqlx::migrate::MigrateError::Execute(error) => failed("migrate the catalog", error),
                other => StoreError::backend("migrate the catalog", other),
            })?;
        Ok(Self {
            pool,
            _folder: Some(folder.clone()),
        })
    }

    /// Opens the catalog of a data folder beside the process that has the folder open. SQLite lets both write, one
    /// after the other; the other one has brought the tables up to date.
    ///
    /// # Errors
    /// When there is no catalog, and those of the file system.
    pub async fn open_beside(file: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            pool: connect(file, false).await?,
            _folder: None,
        })
    }

    /// Copies the catalog as it is at one moment to a file that is not there yet, while others go on using it.
    ///
    /// # Errors
    /// When the file is there, and those of the file system.
    pub async fn copy_to(&self, file: &Path) -> Result<(), StoreError> {
        let name = file.to_str().ok_or_else(|| {
            StoreError::corrupt(file.display().to_string(), "its name is not UTF-8")
        })?;
        let copied = sqlx::query("VACUUM INTO $1").bind(name).execute(&self.pool);
        copied.await.map_err(|e| failed("copy the catalog", e))?;
        Ok(())
    }

    /// Waits for what is under way and closes the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Keeps everybody from changing the catalog, once who does so at the moment is done; reading goes on.
    ///
    /// # Errors
    /// When somebody else changes it for too long, and those of the file system.
    pub(crate) async fn freeze(&self) -> Result<Frozen, StoreError> {
        Ok(Frozen(self.begin().await?))
    }

    /// A transaction that may write: it takes the write lock at once, because one that took it later could fail.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.pool
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(|e| failed("write the catalog", e))
    }
}

/// A catalog that nobody changes until this is dropped.
pub(crate) struct Frozen(Transaction<'static, Sqlite>);

impl Frozen {
    /// Lets others change it again.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) async fn thaw(self) -> Result<(), StoreError> {
        let ended = self.0.rollback().await;
        ended.map_err(|e| failed("write the catalog", e))
    }
}

async fn connect(file: &Path, create: bool) -> Result<SqlitePool, StoreError> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(create)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT);
    SqlitePoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .connect_with(options)
        .await
        .map_err(|e| failed("open the catalog", e))
}

async fn commit(transaction: Transaction<'static, Sqlite>) -> Result<(), StoreError> {
    transaction
        .commit()
        .await
        .map_err(|e| failed("write the catalog", e))
}

async fn add_audit(
    transaction: &mut Transaction<'static, Sqlite>,
    entry: &AuditEntry,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO audit (position, project, at, actor, action, subject, reason)
         VALUES ((SELECT COALESCE(MAX(position), 0) + 1 FROM audit), $1, $2, $3, $4, $5, $6)",
    )
    .bind(entry.project.as_ref().map(ProjectName::as_str))
    .bind(entry.at.micros())
    .bind(&entry.actor)
    .bind(&entry.action)
    .bind(&entry.subject)
    .bind(&entry.reason)
    .execute(&mut **transaction)
    .await
    .map_err(|e| failed("write the audit log", e))?;
    Ok(())
}

/// That there is such a version.
async fn check_version(
    transaction: &mut Transaction<'static, Sqlite>,
    project: &ProjectName,
    model: &ModelName,
    number: u32,
) -> Result<(), StoreError> {
    let found =
        sqlx::query("SELECT 1 FROM versions WHERE project = $1 AND model = $2 AND number = $3")
            .bind(project.as_str())
            .bind(model.as_str())
            .bind(i64::from(number))
            .fetch_optional(&mut **transaction)
            .await
            .map_err(|e| failed("read the version", e))?;
    match found {
        Some(_) => Ok(()),
        None => Err(StoreError::NotFound(format!(
            "version {model}@{number} of {project}"
        ))),
    }
}

/// What an error of SQLite means for the caller.
fn failed(action: &'static str, error: sqlx::Error) -> StoreError {
    // https://www.sqlite.org/rescode.html: the lowest byte is the primary code.
    const SQLITE_FULL: u32 = 13;
    const SQLITE_CORRUPT: u32 = 11;
    const SQLITE_NOTADB: u32 = 26;
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .and_then(|code| code.parse::<u32>().ok())
        .map(|code| code & 0xff);
    match code {
        Some(SQLITE_FULL) => StoreError::Full { action },
        Some(SQLITE_CORRUPT | SQLITE_NOTADB) => {
            StoreError::corrupt("the catalog", format!("{action}: {error}"))
        }
        _ => StoreError::backend(action, error),
    }
}

#[async_trait]
impl Catalog for SqliteCatalog {
    async fn put_project(
        &self,
        name: &ProjectName,
        file: &str,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let changed = sqlx::query(
            "INSERT INTO projects (name, file, seen_at) VALUES ($1, $2, $3)
             ON CONFLICT (name) DO UPDATE SET file = excluded.file, seen_at = excluded.seen_at
             WHERE projects.file <> excluded.file",
        )
        .bind(name.as_str())
        .bind(file)
        .bind(at.micros())
        .execute(&self.pool)
        .await
        .map_err(|e| failed("write the project", e))?;
        Ok(changed.rows_affected() > 0)
    }

    async fn projects(&self) -> Result<Vec<ProjectName>, StoreError> {
        let rows = sqlx::query("SELECT name FROM projects ORDER BY name")
            .fetch_all(&self.pool)
            .await
            .map_err(|e| failed("read the projects", e))?;
        rows.iter().map(|row| parsed(row, "name")).collect()
    }

    async fn project_file(&self, name: &ProjectName) -> Result<Option<String>, StoreError> {
        let row = sqlx::query("SELECT file FROM projects WHERE name = $1")
            .bind(name.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(|e| failed("read the project", e))?;
        row.map(|row| column(&row, "file")).transpose()
    }

    async fn create_key(&self, key: &AccessKey, audit: AuditEntry) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        add_audit(&mut transaction, &audit).await?;
        sqlx::query(
            "INSERT INTO access_keys (position, project, id, scope, hash, created_at, revoked_at)
             VALUES ((SELECT COALESCE(MAX(position), 0) + 1 FROM access_keys), $1, $2, $3, $4, $5, $6)",
        )
        .bind(key.project.as_str())
        .bind(&key.id)
        .bind(key.scope.to_string())
        .bind(&key.hash)
        .bind(key.created_at.micros())
        .bind(key.revoked_at.map(Timestamp::micros))
        .execute(&mut *transaction)
        .await
        .map_err(|e| failed("add the key", e))?;
        commit(transaction).await
    }

    async fn keys(&self) -> Result<Vec<AccessKey>, StoreError> {
        let rows = sqlx::query("SELECT * FROM access_keys ORDER BY position")
            .fetch_all(&self.pool)
            .await
            .map_err(|e| failed("read the keys", e))?;
        rows.iter().map(read_key).collect()
    }

    async fn revoke_key(
        &self,
        project: &ProjectName,
        id: &str,
        at: Timestamp,
        audit: AuditEntry,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        add_audit(&mut transaction, &audit).await?;
        // A key that was revoked before keeps that time.
        let changed = sqlx::query(
            "UPDATE access_keys SET revoked_at = COALESCE(revoked_at, $3) WHERE project = $1 AND id = $2",
        )
        .bind(project.as_str())
        .bind(id)
        .bind(at.micros())
        .execute(&mut *transaction)
        .await
        .map_err(|e| failed("revoke the key", e))?;
        if changed.rows_affected() == 0 {
            // The transaction is rolled back, and with it the audit entry.
            return Err(StoreError::NotFound(format!("key '{id}' of {project}")));
        }
        commit(transaction).await
    }

    async fn put_run(&self, run: &Run) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO runs (project, id, model, trigger_name, state, started_at, finished_at, version, summary, detail)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
             ON CONFLICT (project, id) DO UPDATE SET
                 model = excluded.model, trigger_name = excluded.trigger_name, state = excluded.state,
                 started_at = excluded.started_at, finished_at = excluded.finished_at,
                 version = excluded.version, summary = excluded.summary, detail = excluded.detail",
        )
        .bind(run.project.as_str())
        .bind(run.id.to_string())
        .bind(run.model.as_str())
        .bind(&run.trigger)
        .bind(state_text(run.state))
        .bind(run.started_at.micros())
        .bind(run.finished_at.map(Timestamp::micros))
        .bind(run.version.map(i64::from))
        .bind(&run.summary)
        .bind(to_json(&run.detail)?)
        .execute(&self.pool)
        .await
        .map_err(|e| failed("write the run", e))?;
        Ok(())
    }

    async fn run(&self, project: &ProjectName, id: RunId) -> Result<Option<Run>, StoreError> {
        let row = sqlx::query("SELECT * FROM runs WHERE project = $1 AND id = $2")
            .bind(project.as_str())
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await
            .map_err(|e| failed("read the run", e))?;
        row.as_ref().map(read_run).transpose()
    }

    async fn runs(
        &self,
        project: &ProjectName,
        model: Option<&ModelName>,
        before: Option<RunId>,
        limit: u32,
    ) -> Result<Vec<Run>, StoreError> {
        // Ids sort by time.
        let rows = sqlx::query(
            "SELECT * FROM runs
             WHERE project = $1 AND ($2 IS NULL OR model = $2) AND ($3 IS NULL OR id < $3)
             ORDER BY id DESC LIMIT $4",
        )
        .bind(project.as_str())
        .bind(model.map(ModelName::as_str))
        .bind(before.map(|id| id.to_string()))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(|e| failed("read the runs", e))?;
        rows.iter().map(read_run).collect()
    }

    async fn add_version(&self, version: &Version) -> Result<u32, StoreError> {
        let mut transaction = self.begin().await?;
        let row = sqlx::query(
            "INSERT INTO versions (project, model, number, run, created_at, artifact, passed, detail)
             VALUES ($1, $2,
                 (SELECT COALESCE(MAX(number), 0) + 1 FROM versions WHERE project = $1 AND model = $2),
                 $3, $4, $5, $6, $7)
             RETURNING number",
        )
        .bind(version.project.as_str())
        .bind(version.model.as_str())
        .bind(version.run.to_string())
        .bind(version.created_at.micros())
        .bind(version.artifact.as_str())
        .bind(version.passed)
        .bind(to_json(&version.detail)?)
        .fetch_one(&mut *transaction)
        .await
        .map_err(|e| failed("register the version", e))?;
        commit(transaction).await?;
        Ok(number(&row, "number")?.unwrap_or_default())
    }

    async fn version(
        &self,
        project: &ProjectName,
        model: &ModelName,
        number: u32,
    ) -> Result<Option<Version>, StoreError> {
        let row =
            sqlx::query("SELECT * FROM versions WHERE project = $1 AND model = $2 AND number = $3")
                .bind(project.as_str())
                .bind(model.as_str())
                .bind(i64::from(number))
                .fetch_optional(&self.pool)
                .await
                .map_err(|e| failed("read the version", e))?;
        row.as_ref().map(read_version).transpose()
    }

    async fn versions(
        &self,
        project: &ProjectName,
        model: &ModelName,
        before: Option<u32>,
        limit: u32,
    ) -> Result<Vec<Version>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM versions
             WHERE project = $1 AND model = $2 AND ($3 IS NULL OR number < $3)
             ORDER BY number DESC LIMIT $4",
        )
        .bind(project.as_str())
        .bind(model.as_str())
        .bind(before.map(i64::from))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(|e| failed("read the versions", e))?;
        rows.iter().map(read_version).collect()
    }

    async fn set_champion(
        &self,
        project: &ProjectName,
        model: &ModelName,
        number: Option<u32>,
        audit: AuditEntry,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        if let Some(number) = number {
            check_version(&mut transaction, project, model, number).await?;
        }
        add_audit(&mut transaction, &audit).await?;
        sqlx::query(
            "INSERT INTO champions (project, model, position, number, at)
             VALUES ($1, $2,
                 (SELECT COALESCE(MAX(position), 0) + 1 FROM champions WHERE project = $1 AND model = $2), $3, $4)",
        )
        .bind(project.as_str())
        .bind(model.as_str())
        .bind(number.map(i64::from))
        .bind(audit.at.micros())
        .execute(&mut *transaction)
        .await
        .map_err(|e| failed("set the champion", e))?;
        commit(transaction).await
    }

    async fn champion(
        &self,
        project: &ProjectName,
        model: &ModelName,
    ) -> Result<Option<u32>, StoreError> {
        Ok(self
            .champions(project, model, 1)
            .await?
            .first()
            .and_then(|(_, number)| *number))
    }

    async fn champions(
        &self,
        project: &ProjectName,
        model: &ModelName,
        limit: u32,
    ) -> Result<Vec<(Timestamp, Option<u32>)>, StoreError> {
        let rows = sqlx::query(
            "SELECT at, number FROM champions WHERE project = $1 AND model = $2 ORDER BY position DESC LIMIT $3",
        )
        .bind(project.as_str())
        .bind(model.as_str())
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(|e| failed("read the champions", e))?;
        rows.iter()
            .map(|row| Ok((time(row, "at")?, number(row, "number")?)))
            .collect()
    }

    async fn put_rollout(&self, rollout: &Rollout, audit: AuditEntry) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        let (project, model) = (&rollout.project, &rollout.model);
        check_version(&mut transaction, project, model, rollout.version).await?;
        add_audit(&mut transaction, &audit).await?;
        sqlx::query(
            "INSERT INTO rollouts (project, model, position, version, champion, stage, share, started_at, since, actor, reason, detail)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
             ON CONFLICT (project, model, position) DO UPDATE SET
                 version = excluded.version, champion = excluded.champion, stage = excluded.stage,
                 share = excluded.share, started_at = excluded.started_at, since = excluded.since,
                 actor = excluded.actor, reason = excluded.reason, detail = excluded.detail",
        )
        .bind(project.as_str())
        .bind(model.as_str())
        .bind(i64::from(rollout.position))
        .bind(i64::from(rollout.version))
        .bind(rollout.champion.map(i64::from))
        .bind(rollout.stage.as_str())
        .bind(rollout.share)
        .bind(rollout.started_at.micros())
        .bind(rollout.since.micros())
        .bind(&rollout.actor)
        .bind(&rollout.reason)
        .bind(to_json(&rollout.detail)?)
        .execute(&mut *transaction)
        .await
        .map_err(|e| failed("write the rollout", e))?;
        commit(transaction).await
    }

    async fn rollouts(
        &self,
        project: &ProjectName,
        model: &ModelName,
        limit: u32,
    ) -> Result<Vec<Rollout>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM rollouts WHERE project = $1 AND model = $2 ORDER BY position DESC LIMIT $3",
        )
        .bind(project.as_str())
        .bind(model.as_str())
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(|e| failed("read the rollouts", e))?;
        rows.iter().map(read_rollout).collect()
    }

    async fn audit(&self, entry: AuditEntry) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        add_audit(&mut transaction, &entry).await?;
        commit(transaction).await
    }

    async fn audit_log(
        &self,
        project: &ProjectName,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM audit WHERE project = $1 ORDER BY position DESC LIMIT $2")
                .bind(project.as_str())
                .bind(i64::from(limit))
                .fetch_all(&self.pool)
                .await
                .map_err(|e| failed("read the audit log", e))?;
        rows.iter().map(read_audit).collect()
    }
}
