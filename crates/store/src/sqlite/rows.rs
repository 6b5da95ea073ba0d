//! Rows of the catalog as what they stand for.

use sqlx::Row;
use sqlx::Sqlite;
use sqlx::sqlite::SqliteRow;
use tidemill_core::Timestamp;

use crate::StoreError;
use crate::catalog::{AccessKey, AuditEntry, Rollout, RolloutStage, Run, RunState, Version};

/// Reads a column.
pub(super) fn column<'r, T>(row: &'r SqliteRow, name: &'static str) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>,
{
    row.try_get(name)
        .map_err(|e| StoreError::corrupt("the catalog", e))
}

/// Reads a column that holds something with a written form.
pub(super) fn parsed<T>(row: &SqliteRow, name: &'static str) -> Result<T, StoreError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let text: &str = column(row, name)?;
    text.parse()
        .map_err(|e| StoreError::corrupt("the catalog", format!("column {name}: {e}")))
}

pub(super) fn time(row: &SqliteRow, name: &'static str) -> Result<Timestamp, StoreError> {
    Ok(Timestamp::from_micros(column(row, name)?))
}

pub(super) fn optional_time(
    row: &SqliteRow,
    name: &'static str,
) -> Result<Option<Timestamp>, StoreError> {
    Ok(column::<Option<i64>>(row, name)?.map(Timestamp::from_micros))
}

pub(super) fn number(row: &SqliteRow, name: &'static str) -> Result<Option<u32>, StoreError> {
    column::<Option<i64>>(row, name)?
        .map(|number| u32::try_from(number).map_err(|e| StoreError::corrupt("the catalog", e)))
        .transpose()
}

pub(super) fn json<T: serde::de::DeserializeOwned>(
    row: &SqliteRow,
    name: &'static str,
) -> Result<T, StoreError> {
    let text: &str = column(row, name)?;
    serde_json::from_str(text)
        .map_err(|e| StoreError::corrupt("the catalog", format!("column {name}: {e}")))
}

pub(super) fn to_json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::backend("encode for the catalog", e))
}

/// How a state is written in its column.
pub(super) fn state_text(state: RunState) -> &'static str {
    match state {
        RunState::Running => "running",
        RunState::Passed => "passed",
        RunState::Refused => "refused",
        RunState::Skipped => "skipped",
        RunState::Failed => "failed",
    }
}

pub(super) fn read_state(row: &SqliteRow) -> Result<RunState, StoreError> {
    let text: &str = column(row, "state")?;
    [
        RunState::Running,
        RunState::Passed,
        RunState::Refused,
        RunState::Skipped,
        RunState::Failed,
    ]
    .into_iter()
    .find(|state| state_text(*state) == text)
    .ok_or_else(|| {
        StoreError::corrupt("the catalog", format!("'{text}' is not the state of a run"))
    })
}

pub(super) fn read_key(row: &SqliteRow) -> Result<AccessKey, StoreError> {
    Ok(AccessKey {
        id: column(row, "id")?,
        project: parsed(row, "project")?,
        scope: parsed(row, "scope")?,
        hash: column(row, "hash")?,
        created_at: time(row, "created_at")?,
        revoked_at: optional_time(row, "revoked_at")?,
    })
}

pub(super) fn read_run(row: &SqliteRow) -> Result<Run, StoreError> {
    Ok(Run {
        id: parsed(row, "id")?,
        project: parsed(row, "project")?,
        model: parsed(row, "model")?,
        trigger: column(row, "trigger_name")?,
        state: read_state(row)?,
        started_at: time(row, "started_at")?,
        finished_at: optional_time(row, "finished_at")?,
        version: number(row, "version")?,
        summary: column(row, "summary")?,
        detail: json(row, "detail")?,
    })
}

pub(super) fn read_version(row: &SqliteRow) -> Result<Version, StoreError> {
    Ok(Version {
        project: parsed(row, "project")?,
        model: parsed(row, "model")?,
        number: number(row, "number")?.unwrap_or_default(),
        run: parsed(row, "run")?,
        created_at: time(row, "created_at")?,
        artifact: parsed(row, "artifact")?,
        passed: column(row, "passed")?,
        detail: json(row, "detail")?,
    })
}

pub(super) fn read_rollout(row: &SqliteRow) -> Result<Rollout, StoreError> {
    Ok(Rollout {
        project: parsed(row, "project")?,
        model: parsed(row, "model")?,
        position: number(row, "position")?.unwrap_or_default(),
        version: number(row, "version")?.unwrap_or_default(),
        champion: number(row, "champion")?,
        stage: read_stage(row)?,
        share: column(row, "share")?,
        started_at: time(row, "started_at")?,
        since: time(row, "since")?,
        actor: column(row, "actor")?,
        reason: column(row, "reason")?,
        detail: json(row, "detail")?,
    })
}

fn read_stage(row: &SqliteRow) -> Result<RolloutStage, StoreError> {
    let text: &str = column(row, "stage")?;
    [
        RolloutStage::Shadow,
        RolloutStage::Canary,
        RolloutStage::Promoted,
        RolloutStage::RolledBack,
    ]
    .into_iter()
    .find(|stage| stage.as_str() == text)
    .ok_or_else(|| {
        let detail = format!("'{text}' is not the stage of a rollout");
        StoreError::corrupt("the catalog", detail)
    })
}

pub(super) fn read_audit(row: &SqliteRow) -> Result<AuditEntry, StoreError> {
    let project: Option<&str> = column(row, "project")?;
    Ok(AuditEntry {
        at: time(row, "at")?,
        project: project
            .map(|name| {
                name.parse()
                    .map_err(|e| StoreError::corrupt("the catalog", e))
            })
            .transpose()?,
        actor: column(row, "actor")?,
        action: column(row, "action")?,
        subject: column(row, "subject")?,
        reason: column(row, "reason")?,
    })
}
