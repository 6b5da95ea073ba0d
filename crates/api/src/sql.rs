//! Questions in SQL.

use axum::Json;
use serde::Deserialize;
use serde_json::{Value, json};
use tidemill_store::query::{QueryColumn, QueryError, QueryLimits};

use crate::body::JsonBody;
use crate::gate::Caller;
use crate::problem::{ErrorCode, Problem};

/// A question.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    sql: String,
}

/// Answers a question over the project's tables.
pub(crate) async fn ask(
    caller: Caller,
    JsonBody(Question { sql }): JsonBody<Question>,
) -> Result<Json<Value>, Problem> {
    let answer = caller.project.query(&sql, &QueryLimits::default()).await?;
    Ok(Json(json!({
        "columns": columns(&answer.columns),
        "rows": answer.rows,
        "more": answer.more,
    })))
}

/// The tables and their columns.
pub(crate) async fn tables(caller: Caller) -> Result<Json<Value>, Problem> {
    let tables = caller.project.query_tables().await?;
    let tables = tables
        .iter()
        .map(|table| json!({ "name": table.name, "columns": columns(&table.columns) }));
    Ok(Json(json!({ "tables": tables.collect::<Vec<_>>() })))
}

fn columns(of: &[QueryColumn]) -> Vec<Value> {
    let columns = of.iter();
    columns
        .map(|column| json!({ "name": column.name, "kind": column.kind }))
        .collect()
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Store(error) => error.into(),
            error => Self::new(ErrorCode::BadExpression, error.to_string()).hint(Some(
                "GET /v1/sql lists the tables and their columns; docs/sql.md has examples"
                    .to_owned(),
            )),
        }
    }
}
