//! What a page says when it cannot show what was asked for.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tidemill_collect::IntakeError;
use tidemill_cycle::CycleError;
use tidemill_store::StoreError;

use crate::html::html;
use crate::layout;

/// Why a page is not shown.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    title: &'static str,
    detail: String,
}

impl Problem {
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            title: "There is nothing here",
            detail: detail.into(),
        }
    }

    pub(crate) fn denied(detail: impl Into<String>) -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            title: "This was not done",
            detail: detail.into(),
        }
    }

    pub(crate) fn refused(detail: impl Into<String>) -> Self {
        Self {
            status: StatusCode::CONFLICT,
            title: "This was not done",
            detail: detail.into(),
        }
    }

    pub(crate) fn bad(detail: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            title: "This cannot be read",
            detail: detail.into(),
        }
    }

    pub(crate) fn busy() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            title: "Too much is being read at the moment",
            detail: "Try again in a moment: answers to your app come first.".to_owned(),
        }
    }

    /// As a page.
    pub(crate) fn into_page(self) -> Response {
        self.into_response()
    }

    pub(crate) fn failed(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "cannot show a page of the console");
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            title: "The server could not do this",
            detail: format!("{error}. The log of the server has more."),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = html!(
            "<main class=\"lone\" id=\"main\"><h1>{}</h1><p>{}</p><p><a class=\"button\" href=\"/console\">To the overview</a></p></main>",
            self.title,
            self.detail
        );
        (self.status, layout::bare(self.title, &body)).into_response()
    }
}

impl From<CycleError> for Problem {
    fn from(error: CycleError) -> Self {
        match &error {
            CycleError::UnknownModel(_)
            | CycleError::UnknownVersion(_)
            | CycleError::UnknownPerson
            | CycleError::UnknownDataset(_) => Self::not_found(error.to_string()),
            CycleError::NotAllowed(_) | CycleError::RowsRemoved(_) => {
                Self::refused(error.to_string())
            }
            _ => Self::failed(&error),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::NotFound(_) => Self::not_found(error.to_string()),
            _ => Self::failed(&error),
        }
    }
}

impl From<IntakeError> for Problem {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::Store(error) => error.into(),
            error => Self::failed(&error),
        }
    }
}

impl From<tidemill_features::FeatureError> for Problem {
    fn from(error: tidemill_features::FeatureError) -> Self {
        Self::failed(&error)
    }
}

impl From<tidemill_serve::ServeError> for Problem {
    fn from(error: tidemill_serve::ServeError) -> Self {
        Self::failed(&error)
    }
}
