//! Pages of lists: `limit` and an opaque `cursor`, and parameters of paths and queries.

use std::str::FromStr;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::problem::{ErrorCode, Problem};

/// How many entries a page has where nobody says.
const LIMIT_DEFAULT: u32 = 100;
/// The most entries of a page.
const LIMIT_MAX: u32 = 1_000;

/// Which page.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    limit: Option<u32>,
    cursor: Option<String>,
}

impl Page {
    /// How many entries.
    pub(crate) fn limit(&self) -> Result<u32, Problem> {
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        if (1..=LIMIT_MAX).contains(&limit) {
            return Ok(limit);
        }
        Err(Problem::new(
            ErrorCode::BadQuery,
            format!("limit is {limit}, it can be from 1 to {LIMIT_MAX}"),
        )
        .field("limit"))
    }

    /// The place of the last entry that the caller has.
    pub(crate) fn before<T: FromStr>(&self, list: &str) -> Result<Option<T>, Problem> {
        let Some(cursor) = &self.cursor else {
            return Ok(None);
        };
        let decoded = URL_SAFE_NO_PAD
            .decode(cursor)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let place = decoded
            .as_deref()
            .and_then(|text| text.strip_prefix(list)?.strip_prefix(':')?.parse().ok());
        place.map(Some).ok_or_else(|| {
            Problem::new(
                ErrorCode::BadQuery,
                "the cursor does not belong to this list",
            )
            .field("cursor")
            .hint(Some(
                "use the next_cursor of an earlier answer of the same list, unchanged".to_owned(),
            ))
        })
    }
}

/// The cursor of the next page of a list, where this page was full.
pub(crate) fn next_cursor(
    list: &str,
    limit: u32,
    count: usize,
    last: Option<impl ToString>,
) -> Option<String> {
    let full = count >= limit as usize;
    last.filter(|_| full)
        .map(|last| URL_SAFE_NO_PAD.encode(format!("{list}:{}", last.to_string())))
}

/// How a page is written: the list under its name, and the next cursor.
pub(crate) fn page_json(
    list: &str,
    entries: &impl Serialize,
    next: Option<String>,
) -> Result<axum::Json<serde_json::Value>, Problem> {
    let mut page = serde_json::Map::new();
    page.insert(
        list.to_owned(),
        serde_json::to_value(entries).map_err(|error| Problem::internal(&error))?,
    );
    if let Some(next) = next {
        page.insert("next_cursor".to_owned(), next.into());
    }
    Ok(axum::Json(page.into()))
}

/// Parameters in the path, percent-decoded.
pub(crate) struct InPath<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for InPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Path::from_request_parts(parts, state)
            .await
            .map(|Path(value)| Self(value))
            .map_err(|rejection: PathRejection| {
                Problem::new(ErrorCode::BadPath, rejection.body_text())
            })
    }
}

/// Parameters in the query.
pub(crate) struct InQuery<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for InQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::from_request_parts(parts, state).await;
        query
            .map(|Query(value)| Self(value))
            .map_err(|rejection| Problem::new(ErrorCode::BadQuery, rejection.body_text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_lead_on_in_their_own_list() {
        let cursor = next_cursor("decisions", 2, 2, Some(41_u64));
        let page = Page {
            limit: None,
            cursor,
        };
        assert_eq!(page.before::<u64>("decisions").unwrap(), Some(41));
        assert_eq!(
            page.before::<u64>("runs").unwrap_err().code,
            ErrorCode::BadQuery
        );
        assert_eq!(next_cursor("decisions", 3, 2, Some(41_u64)), None);
        let garbage = Page {
            limit: None,
            cursor: Some("%%%".to_owned()),
        };
        assert_eq!(
            garbage
                .before::<u64>("decisions")
                .unwrap_err()
                .field
                .as_deref(),
            Some("cursor")
        );
    }

    #[test]
    fn limits_are_checked() {
        for (limit, expected) in [
            (None, Some(100)),
            (Some(1), Some(1)),
            (Some(0), None),
            (Some(1_001), None),
        ] {
            assert_eq!(
                Page {
                    limit,
                    cursor: None
                }
                .limit()
                .ok(),
                expected,
                "{limit:?}"
            );
        }
    }
}
