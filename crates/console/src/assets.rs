//! The files that pages need, under names that change with their contents.

use std::io::Write;
use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::secret;

struct Asset {
    path: String,
    content_type: &'static str,
    bytes: &'static [u8],
    gzip: Vec<u8>,
}

impl Asset {
    fn new(name: &str, content_type: &'static str, bytes: &'static [u8]) -> Self {
        let hash = secret::hash("asset", &String::from_utf8_lossy(bytes));
        Self {
            path: format!("/console/assets/{}-{name}", &hash[..16]),
            content_type,
            bytes,
            gzip: gzip(bytes, Compression::best()),
        }
    }
}

static ICON: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new(
        "icon.svg",
        "image/svg+xml",
        include_bytes!("../assets/icon.svg"),
    )
});
static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new(
        "console.css",
        "text/css; charset=utf-8",
        include_bytes!("../assets/console.css"),
    )
});
static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new(
        "console.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../assets/console.js"),
    )
});

/// The path of the picture of the site.
pub(crate) fn icon() -> &'static str {
    &ICON.path
}

/// The path of the style sheet.
pub(crate) fn style() -> &'static str {
    &STYLE.path
}

/// The path of the script.
pub(crate) fn script() -> &'static str {
    &SCRIPT.path
}

/// Compresses; writing to memory does not fail, and if it did nothing would be said to be compressed.
pub(crate) fn gzip(bytes: &[u8], level: Compression) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), level);
    if encoder.write_all(bytes).is_err() {
        return Vec::new();
    }
    encoder.finish().unwrap_or_default()
}

/// Whether the sender of a request reads gzip.
pub(crate) fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers
        .get(header::ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok());
    accepted.is_some_and(|accepted| {
        accepted.split(',').any(|one| {
            one.split(';')
                .next()
                .is_some_and(|name| name.trim() == "gzip")
        })
    })
}

/// Sends a file. What has this name never changes.
pub(crate) async fn get(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let all = [&*ICON, &*STYLE, &*SCRIPT];
    let found = all
        .into_iter()
        .find(|asset| asset.path.strip_prefix("/console/assets/") == Some(name.as_str()));
    let Some(asset) = found else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let kept = [
        (header::CONTENT_TYPE, asset.content_type),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::VARY, "accept-encoding"),
    ];
    if takes_gzip(&headers) && !asset.gzip.is_empty() {
        return (
            kept,
            [(header::CONTENT_ENCODING, "gzip")],
            asset.gzip.clone(),
        )
            .into_response();
    }
    (kept, asset.bytes).into_response()
}
