//! Users, links and sessions in SQLite.

use std::collections::BTreeSet;

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use tidemill_core::{ProjectName, Timestamp};

use super::rows::{column, parsed, read_audit, time};
use super::{SqliteCatalog, add_audit, commit, failed};
use crate::StoreError;
use crate::catalog::AuditEntry;
use crate::users::{Pass, User, Users};

fn read_user(row: &SqliteRow) -> Result<User, StoreError> {
    Ok(User {
        name: column(row, "name")?,
        role: parsed(row, "role")?,
        password: column(row, "password")?,
        created_at: time(row, "created_at")?,
        projects: read_projects(row)?,
    })
}

fn read_projects(row: &SqliteRow) -> Result<Option<BTreeSet<ProjectName>>, StoreError> {
    let Some(text) = column::<Option<String>>(row, "projects")? else {
        return Ok(None);
    };
    // who sees what is not guessed at
    let names = serde_json::from_str(&text);
    names
        .map(Some)
        .map_err(|e| StoreError::corrupt("the list of a user's projects", e))
}

fn written(projects: Option<&BTreeSet<ProjectName>>) -> Option<String> {
    let names = projects?.iter().map(ProjectName::as_str);
    Some(serde_json::Value::from_iter(names).to_string())
}

fn read_session(row: &SqliteRow) -> Result<Pass, StoreError> {
    Ok(Pass {
        hash: column(row, "hash")?,
        user: column(row, "user_name")?,
        created_at: time(row, "created_at")?,
        expires_at: time(row, "expires_at")?,
    })
}

fn no_user(name: &str) -> StoreError {
    StoreError::NotFound(format!("user '{name}'"))
}

#[async_trait]
impl Users for SqliteCatalog {
    async fn users(&self) -> Result<Vec<User>, StoreError> {
        let rows = sqlx::query("SELECT * FROM users ORDER BY name")
            .fetch_all(&self.pool)
            .await
            .map_err(|e| failed("read the users", e))?;
        rows.iter().map(read_user).collect()
    }

    async fn put_user(&self, user: &User, audit: AuditEntry) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        add_audit(&mut transaction, &audit).await?;
        sqlx::query(
            "INSERT INTO users (name, role, password, created_at, projects) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (name) DO UPDATE SET role = excluded.role, password = excluded.password",
        )
        .bind(&user.name)
        .bind(user.role.as_str())
        .bind(&user.password)
        .bind(user.created_at.micros())
        .bind(written(user.projects.as_ref()))
        .execute(&mut *transaction)
        .await
        .map_err(|e| failed("write the user", e))?;
        commit(transaction).await
    }

    async fn set_projects(
        &self,
        name: &str,
        projects: Option<&BTreeSet<ProjectName>>,
        audit: AuditEntry,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        add_audit(&mut transaction, &audit).await?;
        let set = sqlx::query("UPDATE users SET projects = $2 WHERE name = $1")
            .bind(name)
            .bind(written(projects))
            .execute(&mut *transaction)
            .await
            .map_err(|e| failed("write the user", e))?;
        if set.rows_affected() == 0 {
            return Err(no_user(name));
        }
        commit(transaction).await
    }

    async fn remove_user(&self, name: &str, audit: AuditEntry) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        add_audit(&mut transaction, &audit).await?;
        let removed = sqlx::query("DELETE FROM users WHERE name = $1")
            .bind(name)
            .execute(&mut *transaction)
            .await
            .map_err(|e| failed("remove the user", e))?;
        if removed.rows_affected() == 0 {
            return Err(no_user(name));
        }
        commit(transaction).await
    }

    async fn add_link(&self, link: &Pass, audit: AuditEntry) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        add_audit(&mut transaction, &audit).await?;
        sqlx::query("DELETE FROM sign_in_links WHERE expires_at <= $1")
            .bind(link.created_at.micros())
            .execute(&mut *transaction)
            .await
            .map_err(|e| failed("forget old links", e))?;
        let added = sqlx::query(
            "INSERT INTO sign_in_links (hash, user_name, expires_at) SELECT $1, name, $3 FROM users WHERE name = $2",
        )
        .bind(&link.hash)
        .bind(&link.user)
        .bind(link.expires_at.micros())
        .execute(&mut *transaction)
        .await
        .map_err(|e| failed("add the link", e))?;
        if added.rows_affected() == 0 {
            return Err(no_user(&link.user));
        }
        commit(transaction).await
    }

    async fn link(&self, hash: &str, now: Timestamp) -> Result<Option<User>, StoreError> {
        let row = sqlx::query(
            "SELECT users.* FROM users JOIN sign_in_links ON user_name = name WHERE hash = $1 AND expires_at > $2",
        )
        .bind(hash)
        .bind(now.micros())
        .fetch_optional(&self.pool)
        .await
        .map_err(|e| failed("read the link", e))?;
        row.as_ref().map(read_user).transpose()
    }

    async fn take_link(&self, hash: &str, now: Timestamp) -> Result<Option<User>, StoreError> {
        let user = self.link(hash, now).await?;
        let taken = sqlx::query("DELETE FROM sign_in_links WHERE hash = $1")
            .bind(hash)
            .execute(&self.pool)
            .await
            .map_err(|e| failed("take the link", e))?;
        Ok(user.filter(|_| taken.rows_affected() == 1))
    }

    async fn add_session(&self, session: &Pass, audit: AuditEntry) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        add_audit(&mut transaction, &audit).await?;
        sqlx::query("DELETE FROM sessions WHERE expires_at <= $1")
            .bind(session.created_at.micros())
            .execute(&mut *transaction)
            .await
            .map_err(|e| failed("forget old sessions", e))?;
        let added = sqlx::query(
            "INSERT INTO sessions (hash, user_name, created_at, expires_at) SELECT $1, name, $3, $4 FROM users WHERE name = $2",
        )
        .bind(&session.hash)
        .bind(&session.user)
        .bind(session.created_at.micros())
        .bind(session.expires_at.micros())
        .execute(&mut *transaction)
        .await
        .map_err(|e| failed("add the session", e))?;
        if added.rows_affected() == 0 {
            return Err(no_user(&session.user));
        }
        commit(transaction).await
    }

    async fn session(&self, hash: &str, now: Timestamp) -> Result<Option<User>, StoreError> {
        let row = sqlx::query(
            "SELECT users.* FROM users JOIN sessions ON user_name = name WHERE hash = $1 AND expires_at > $2",
        )
        .bind(hash)
        .bind(now.micros())
        .fetch_optional(&self.pool)
        .await
        .map_err(|e| failed("read the session", e))?;
        row.as_ref().map(read_user).transpose()
    }

    async fn sessions(&self, now: Timestamp) -> Result<Vec<Pass>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM sessions WHERE expires_at > $1 ORDER BY created_at DESC, hash",
        )
        .bind(now.micros())
        .fetch_all(&self.pool)
        .await
        .map_err(|e| failed("read the sessions", e))?;
        rows.iter().map(read_session).collect()
    }

    async fn end_session(&self, hash: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM sessions WHERE hash = $1")
            .bind(hash)
            .execute(&self.pool)
            .await
            .map_err(|e| failed("end the session", e))?;
        Ok(())
    }

    async fn end_other_sessions(&self, user: &str, but: &str) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        for statement in [
            "DELETE FROM sessions WHERE user_name = $1 AND hash <> $2",
            "DELETE FROM sign_in_links WHERE user_name = $1 AND hash <> $2",
        ] {
            sqlx::query(statement)
                .bind(user)
                .bind(but)
                .execute(&mut *transaction)
                .await
                .map_err(|e| failed("end the sessions", e))?;
        }
        commit(transaction).await
    }

    async fn server_audit_log(&self, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM audit WHERE project IS NULL ORDER BY position DESC LIMIT $1",
        )
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(|e| failed("read the audit log", e))?;
        rows.iter().map(read_audit).collect()
    }
}
