//! What goes wrong, in a form that programs can act on: RFC 9457 with a stable code, and a page for each.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tidemill_collect::{IntakeError, RequestError};
use tidemill_cycle::CycleError;
use tidemill_features::FeatureError;
use tidemill_store::StoreError;

/// The media type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:ident, $title:literal, $hint:literal;)*) => {
        /// The stable codes of what can go wrong. A code is never given another meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
        }

        impl ErrorCode {
            /// All codes.
            pub const ALL: &'static [ErrorCode] = &[$(Self::$name,)*];

            /// The code as programs see it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The HTTP status that it goes with.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// What happened, in a few words that do not change.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// What to do, where nothing more exact is known.
            pub const fn hint(self) -> &'static str {
                match self { $(Self::$name => $hint,)* }
            }

            /// The page about it: what happened, what it means, what to do. In Markdown.
            pub const fn page(self) -> &'static str {
                match self { $(Self::$name => include_str!(concat!("../../../docs/errors/", $code, ".md")),)* }
            }
        }
    };
}

error_codes! {
    /// The body is not JSON.
    UnreadableBody = "unreadable_body", BAD_REQUEST, "The body is not readable as JSON",
        "send JSON in UTF-8";
    /// The body is JSON of another shape.
    WrongShape = "wrong_shape", BAD_REQUEST, "The body has another shape than this route needs",
        "compare the body with the example in docs/api.md";
    /// `POST /v1/batch` without `batch`.
    BatchAbsent = "batch_absent", BAD_REQUEST, "The batch holds no list of events",
        "send {\"batch\": [ … ]}";
    /// A batch with too many events, items or entities.
    TooManyEvents = "too_many_events", BAD_REQUEST, "The batch has too many entries",
        "send several smaller batches";
    /// A filter, a boost or a share of a request is wrong.
    BadExpression = "bad_expression", BAD_REQUEST, "A part of the question cannot be understood",
        "the detail says what is wrong with it; docs/recommend.md has examples";
    /// More bytes than are accepted.
    TooLarge = "too_large", PAYLOAD_TOO_LARGE, "The body is too large",
        "send smaller bodies; the limits are in docs/api.md";
    /// Neither `user` nor `anonymous_id`.
    Nobody = "nobody", BAD_REQUEST, "The question names nobody",
        "name the person in 'user' or 'anonymous_id'";
    /// A parameter of the query string is unusable.
    BadQuery = "bad_query", BAD_REQUEST, "A parameter in the URL is not usable",
        "compare the parameters with docs/api.md";
    /// A part of the path is unusable.
    BadPath = "bad_path", BAD_REQUEST, "A part of the path is not usable",
        "percent-encode ids in paths, in UTF-8";
    /// A content encoding that is not understood.
    UnsupportedEncoding = "unsupported_encoding", UNSUPPORTED_MEDIA_TYPE, "The content encoding is not understood",
        "send the body plain or with Content-Encoding: gzip";
    /// The body came too slowly.
    BodyTimeout = "body_timeout", REQUEST_TIMEOUT, "The body did not arrive in time",
        "send it again; send smaller bodies over slow connections";
    /// No key was sent.
    NoKey = "no_key", UNAUTHORIZED, "A key is needed",
        "send Authorization: Bearer <key>; make keys with `tidemill keys create`";
    /// The key is unknown or revoked.
    UnknownKey = "unknown_key", UNAUTHORIZED, "The key is not known",
        "check the key for typing errors; if it was revoked, use another";
    /// The key may not do this.
    WrongScope = "wrong_scope", FORBIDDEN, "The key may not do this",
        "use a key with the scope that the detail names";
    /// No such route.
    UnknownRoute = "unknown_route", NOT_FOUND, "There is nothing at this path",
        "GET / lists the routes";
    /// The route exists with other methods.
    WrongMethod = "wrong_method", METHOD_NOT_ALLOWED, "This path does not take this method",
        "use a method from the Allow header";
    /// The key's project is not served here.
    UnknownProject = "unknown_project", NOT_FOUND, "The project of this key is not served here",
        "start the server with the project's file, or use a key of a project that it serves";
    /// No such model in the project.
    UnknownModel = "unknown_model", NOT_FOUND, "There is no such model",
        "GET /v1/models lists the models of the project file";
    /// No such version.
    UnknownVersion = "unknown_version", NOT_FOUND, "There is no such version",
        "GET /v1/models/{model}/versions lists the versions";
    /// No such run.
    UnknownRun = "unknown_run", NOT_FOUND, "There is no such run",
        "GET /v1/models/{model}/runs lists the runs";
    /// No such dataset.
    UnknownDataset = "unknown_dataset", NOT_FOUND, "There is no such dataset",
        "GET /v1/models/{model}/datasets lists the datasets; POST there builds one";
    /// The rows of an old dataset were removed.
    RowsRemoved = "rows_removed", GONE, "The rows of this dataset were removed",
        "POST /v1/models/{model}/datasets?again={version} builds them again from the record";
    /// Nothing is known of a person.
    UnknownPerson = "unknown_person", NOT_FOUND, "Nothing is known of this person",
        "see whether the id is an anonymous one: ?anonymous=true";
    /// No such decision.
    UnknownDecision = "unknown_decision", NOT_FOUND, "There is no such decision",
        "use the decision_id of an answer of this project";
    /// No such item.
    UnknownItem = "unknown_item", NOT_FOUND, "There is no such item",
        "send it with PUT /v1/items; a moment passes until it is seen";
    /// No such open alert.
    UnknownAlert = "unknown_alert", NOT_FOUND, "There is no open alert with this id",
        "GET /v1/alerts lists the open ones; it may be over by now";
    /// No such key in the project.
    UnknownAccessKey = "unknown_access_key", NOT_FOUND, "There is no key with this id",
        "GET /v1/keys lists the keys of the project";
    /// The state of the model does not allow what was asked for.
    NotAllowed = "not_allowed", CONFLICT, "The state of the model does not allow this",
        "the detail says what stands against it";
    /// Nobody takes a copy of the stores, or another one is made.
    NoBackup = "no_backup", CONFLICT, "A backup cannot be begun now",
        "`tidemill backup` on the server's machine begins one; one at a time is made";
    /// Too much at once.
    Overloaded = "overloaded", TOO_MANY_REQUESTS, "Too much is under way at this moment",
        "send it again after the seconds in Retry-After";
    /// The disk is full.
    StoreFull = "store_full", SERVICE_UNAVAILABLE, "No space is left to store this",
        "free space on the server's disk; nothing of this call was stored, send it again later";
    /// The server is stopping.
    StoreClosed = "store_closed", SERVICE_UNAVAILABLE, "The server is stopping",
        "send it again in a moment; nothing of this call was stored";
    /// Storing or reading failed.
    StoreFailed = "store_failed", SERVICE_UNAVAILABLE, "The server's store has failed",
        "send it again later; the server's log says what failed";
    /// A fault of the server.
    Internal = "internal", INTERNAL_SERVER_ERROR, "The server has failed",
        "the server's log says why; please report it";
}

impl ErrorCode {
    /// The code of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == name)
    }

    /// Seconds after which the same call may succeed, where that is so.
    const fn retry_after_seconds(self) -> Option<u16> {
        match self {
            Self::Overloaded | Self::StoreClosed => Some(1),
            Self::StoreFull | Self::StoreFailed => Some(5),
            _ => None,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An answer that says what went wrong and what to do.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The stable code.
    pub code: ErrorCode,
    /// What went wrong this time.
    pub detail: String,
    /// Which field of the body, the query or the path.
    pub field: Option<String>,
    /// What to do.
    pub hint: Cow<'static, str>,
    /// The chain of causes: for the server's log, never for the caller.
    pub(crate) cause: Option<Box<str>>,
}

/// A problem on the wire.
#[derive(Serialize)]
struct Wire<'p> {
    /// Only the tracking API says this, so that its clients find the word that they look for.
    #[serde(skip_serializing_if = "Option::is_none")]
    success: Option<bool>,
    r#type: String,
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: &'p str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'p str>,
    hint: &'p str,
}

impl Problem {
    /// A problem with its usual hint.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            field: None,
            hint: Cow::Borrowed(code.hint()),
            cause: None,
        }
    }

    /// Names the field.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Says more exactly what to do, where that is known.
    #[must_use]
    pub fn hint(mut self, hint: Option<String>) -> Self {
        if let Some(hint) = hint {
            self.hint = Cow::Owned(hint);
        }
        self
    }

    /// Keeps the causes for the server's log.
    #[must_use]
    pub(crate) fn caused_by(mut self, error: &dyn Error) -> Self {
        self.cause = Some(chain(error).into());
        self
    }

    /// A fault of the server.
    pub(crate) fn internal(error: &dyn Error) -> Self {
        Self::new(
            ErrorCode::Internal,
            "the server could not do this because of a fault of its own",
        )
        .caused_by(error)
    }

    /// Something that could not be read or written.
    pub(crate) fn store(error: &StoreError) -> Self {
        match error {
            StoreError::Full { .. } => {
                Self::new(ErrorCode::StoreFull, "no space is left on the server")
            }
            StoreError::Closed => Self::new(ErrorCode::StoreClosed, "the server is stopping"),
            StoreError::NotNow(_) => Self::new(ErrorCode::NoBackup, error.to_string()),
            _ => Self::new(
                ErrorCode::StoreFailed,
                "the server could not read or write its data",
            ),
        }
        .caused_by(error)
    }

    /// The same answer for callers of the tracking API: they look for `success`, and know 400 for bodies that are too
    /// large.
    pub(crate) fn tracking_response(&self) -> Response {
        let status = match self.code.status() {
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                StatusCode::BAD_REQUEST
            }
            status => status,
        };
        self.response(status, Some(false))
    }

    fn response(&self, status: StatusCode, success: Option<bool>) -> Response {
        let wire = Wire {
            success,
            r#type: format!("/errors/{}", self.code),
            title: self.code.title(),
            status: status.as_u16(),
            code: self.code.as_str(),
            detail: &self.detail,
            field: self.field.as_deref(),
            hint: &self.hint,
        };
        let mut response = (status, axum::Json(wire)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"tidemill\""),
            );
        }
        if let Some(seconds) = self.code.retry_after_seconds() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl IntoResponse for Problem {
    /// The answer; the problem itself travels along, so that the gate can log and count it.
    fn into_response(self) -> Response {
        let mut response = self.response(self.code.status(), None);
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::store(&error)
    }
}

impl From<FeatureError> for Problem {
    fn from(error: FeatureError) -> Self {
        match &error {
            FeatureError::Store(store) => Self::store(store),
            _ => Self::internal(&error),
        }
    }
}

impl From<IntakeError> for Problem {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::Request(error) => {
                let code = match error {
                    RequestError::Unreadable { .. } => ErrorCode::UnreadableBody,
                    RequestError::WrongShape { .. } => ErrorCode::WrongShape,
                    RequestError::TooLarge { .. } => ErrorCode::TooLarge,
                    RequestError::TooMany { .. } => ErrorCode::TooManyEvents,
                    RequestError::BatchAbsent => ErrorCode::BatchAbsent,
                };
                Self::new(code, error.to_string())
            }
            IntakeError::Store(error) => Self::store(&error),
        }
    }
}

impl From<CycleError> for Problem {
    fn from(error: CycleError) -> Self {
        match error {
            CycleError::Store(error) => Self::store(&error),
            CycleError::Features(error) => error.into(),
            CycleError::UnknownModel(_) => Self::new(ErrorCode::UnknownModel, error.to_string()),
            CycleError::UnknownVersion(_) => {
                Self::new(ErrorCode::UnknownVersion, error.to_string())
            }
            CycleError::UnknownPerson => {
                Self::new(ErrorCode::UnknownPerson, error.to_string()).field("id")
            }
            CycleError::UnknownDataset(_) => {
                Self::new(ErrorCode::UnknownDataset, error.to_string())
            }
            CycleError::RowsRemoved(_) => Self::new(ErrorCode::RowsRemoved, error.to_string()),
            CycleError::NotAllowed(detail) => Self::new(ErrorCode::NotAllowed, detail),
            other => Self::internal(&other),
        }
    }
}

/// An error and what caused it, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_code_has_a_page_and_every_page_a_code() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
        let pages: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .map(|name| name.strip_suffix(".md").expect("only pages").to_owned())
            .collect();
        let codes: BTreeSet<String> = ErrorCode::ALL
            .iter()
            .map(|code| code.as_str().to_owned())
            .collect();
        assert_eq!(pages, codes);
        for code in ErrorCode::ALL {
            let page = code.page();
            assert!(page.starts_with(&format!("# `{code}`")), "{code}");
            for part in ["## What happened", "## What it means", "## What to do"] {
                assert!(page.contains(part), "{code}: {part}");
            }
            let status = code.status().as_u16().to_string();
            assert!(
                page.lines()
                    .nth(2)
                    .is_some_and(|line| line.contains(&status)),
                "{code}: {status}"
            );
            assert_eq!(ErrorCode::named(code.as_str()), Some(*code));
        }
    }

    #[test]
    fn causes_stay_on_the_server() {
        let error = StoreError::Io {
            action: "write a secret place".to_owned(),
            source: std::io::Error::other("broken wire"),
        };
        let problem = Problem::store(&error);
        assert_eq!(
            problem.cause.as_deref(),
            Some("write a secret place: broken wire")
        );
        let text = serde_json::to_string(&problem.detail).unwrap();
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn what_may_be_tried_again_says_when() {
        for code in ErrorCode::ALL {
            let response = Problem::new(*code, "x").into_response();
            let temporary = matches!(
                response.status(),
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
            );
            assert_eq!(
                response.headers().contains_key(header::RETRY_AFTER),
                temporary,
                "{code}"
            );
            assert_eq!(
                response.headers().contains_key(header::WWW_AUTHENTICATE),
                response.status() == StatusCode::UNAUTHORIZED,
                "{code}"
            );
        }
    }
}
