//! Bodies: read whole, within limits of size, memory and time, and then as JSON.

use std::io::Read;
use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use futures::StreamExt;
use serde::de::{DeserializeOwned, IgnoredAny};
use tidemill_core::project::did_you_mean;

use crate::admission::Memory;
use crate::problem::{ErrorCode, Problem};

/// How much is decompressed at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// The body of the request, plain. The gate has read it before the handler runs.
#[derive(Clone)]
pub(crate) struct Received(pub(crate) Bytes);

impl<S: Sync> FromRequestParts<S> for Received {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(parts
            .extensions
            .get()
            .cloned()
            .unwrap_or(Self(Bytes::new())))
    }
}

/// The body as JSON of a certain shape. An empty body counts as `{}`.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Received(bytes) = Received::from_request_parts(parts, state).await?;
        from_object(bytes.trim_ascii()).map(Self)
    }
}

/// Reads an object. A list is refused before serde sees it, which would take its entries for fields in their order.
fn from_object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    if bytes.is_empty() {
        return serde_json::from_slice(b"{}").map_err(|error| json_problem(&error));
    }
    if bytes[0] != b'{' {
        serde_json::from_slice::<IgnoredAny>(bytes).map_err(|error| json_problem(&error))?;
        return Err(Problem::new(
            ErrorCode::WrongShape,
            "the body is not an object",
        ));
    }
    serde_json::from_slice(bytes).map_err(|error| json_problem(&error))
}

/// What is wrong with a body, with the field and what was probably meant.
fn json_problem(error: &serde_json::Error) -> Problem {
    if error.classify() != serde_json::error::Category::Data {
        return Problem::new(
            ErrorCode::UnreadableBody,
            format!("the body is not readable as JSON: {error}"),
        );
    }
    let text = error.to_string();
    let problem = Problem::new(
        ErrorCode::WrongShape,
        format!("the body is not as it should be: {text}"),
    );
    let mut quoted = text.split('`').skip(1).step_by(2);
    match quoted.next() {
        Some(field) if text.starts_with("unknown field") || text.starts_with("missing field") => {
            let meant = did_you_mean(field, quoted);
            problem.field(field).hint(meant)
        }
        _ => problem,
    }
}

/// Whether the body is compressed.
///
/// # Errors
/// When it is compressed otherwise than with gzip.
pub(crate) fn is_gzip(headers: &HeaderMap) -> Result<bool, Problem> {
    let Some(encoding) = headers.get(header::CONTENT_ENCODING) else {
        return Ok(false);
    };
    match encoding
        .to_str()
        .map(|text| text.trim().to_ascii_lowercase())
        .as_deref()
    {
        Ok("" | "identity") => Ok(false),
        Ok("gzip" | "x-gzip") => Ok(true),
        _ => Err(Problem::new(
            ErrorCode::UnsupportedEncoding,
            format!("the body is sent with Content-Encoding {encoding:?}"),
        )),
    }
}

/// Reads a body of at most `bytes_max` bytes, compressed and plain, within `timeout`.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
    timeout: Duration,
    memory: &mut Memory,
) -> Result<Bytes, Problem> {
    let gzip = is_gzip(headers)?;
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: u64| bytes > bytes_max as u64) {
        return Err(too_large(bytes_max));
    }
    let sent = tokio::time::timeout(timeout, collect(body, bytes_max, memory))
        .await
        .map_err(|_| {
            Problem::new(
                ErrorCode::BodyTimeout,
                format!(
                    "the body was not complete after {} s",
                    timeout.as_secs_f32()
                ),
            )
        })??;
    if gzip {
        decompress(&sent, bytes_max, memory).map(Bytes::from)
    } else {
        Ok(sent)
    }
}

async fn collect(body: Body, bytes_max: usize, memory: &mut Memory) -> Result<Bytes, Problem> {
    let mut frames = body.into_data_stream();
    let mut first = Bytes::new();
    let mut rest: Vec<u8> = Vec::new();
    let mut total = 0;
    while let Some(frame) = frames.next().await {
        let frame = frame.map_err(|_| {
            Problem::new(
                ErrorCode::UnreadableBody,
                "the connection broke off before the body was complete",
            )
        })?;
        total += frame.len();
        if total > bytes_max {
            return Err(too_large(bytes_max));
        }
        memory.take(frame.len())?;
        if first.is_empty() {
            first = frame; // most bodies are one frame and are not copied
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&frame);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.into() })
}

/// Decompresses step by step and stops at the limit, so that a small body cannot become a large one.
fn decompress(sent: &[u8], bytes_max: usize, memory: &mut Memory) -> Result<Vec<u8>, Problem> {
    let mut plain = Vec::new();
    let mut decoder = flate2::read::MultiGzDecoder::new(sent);
    let mut chunk = [0; CHUNK_BYTES];
    loop {
        let bytes = decoder.read(&mut chunk).map_err(|error| {
            Problem::new(
                ErrorCode::UnreadableBody,
                format!("the body is not readable as gzip: {error}"),
            )
        })?;
        if bytes == 0 {
            return Ok(plain);
        }
        if plain.len() + bytes > bytes_max {
            return Err(too_large(bytes_max));
        }
        memory.take(bytes)?;
        plain.extend_from_slice(&chunk[..bytes]);
    }
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::new(
        ErrorCode::TooLarge,
        format!("the body has more than the {bytes_max} bytes that are accepted here"),
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::admission::Admission;

    const LIMIT: usize = 100_000;

    async fn check(body: Body, headers: &[(&str, &str)]) -> Result<usize, ErrorCode> {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let admission = Admission::new(1, 0, 10 * LIMIT, 1);
        let timeout = Duration::from_millis(50);
        let read = read(
            &headers,
            body,
            LIMIT,
            timeout,
            &mut admission.other_memory(),
        )
        .await;
        read.map(|bytes| bytes.len())
            .map_err(|problem| problem.code)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[tokio::test]
    async fn bodies_are_limited_in_every_form() {
        let gz = ("content-encoding", "gzip");
        assert_eq!(check(Body::from(vec![b'x'; LIMIT]), &[]).await, Ok(LIMIT));
        assert_eq!(
            check(Body::from(vec![b'x'; LIMIT + 1]), &[]).await,
            Err(ErrorCode::TooLarge)
        );
        assert_eq!(
            check(Body::empty(), &[("content-length", "1000000000")]).await,
            Err(ErrorCode::TooLarge)
        );
        assert_eq!(
            check(Body::from(gzip(&vec![b'x'; LIMIT])), &[gz]).await,
            Ok(LIMIT)
        );
        let bomb = gzip(&vec![0; 50_000_000]);
        assert!(bomb.len() < LIMIT, "{}", bomb.len());
        assert_eq!(
            check(Body::from(bomb), &[gz]).await,
            Err(ErrorCode::TooLarge)
        );
        assert_eq!(
            check(Body::from("no gzip"), &[gz]).await,
            Err(ErrorCode::UnreadableBody)
        );
        let cut = gzip(b"something longer");
        assert_eq!(
            check(Body::from(cut[..cut.len() - 4].to_vec()), &[gz]).await,
            Err(ErrorCode::UnreadableBody)
        );
        assert_eq!(
            check(Body::from("x"), &[("content-encoding", "br")]).await,
            Err(ErrorCode::UnsupportedEncoding)
        );
    }

    #[tokio::test]
    async fn frames_are_put_together_and_slow_ones_given_up() {
        let frames = ["{\"a\":", "1", "}"].map(|frame| Ok::<_, std::io::Error>(Bytes::from(frame)));
        assert_eq!(
            check(Body::from_stream(futures::stream::iter(frames)), &[]).await,
            Ok(7)
        );
        let endless = futures::stream::pending::<Result<Bytes, std::io::Error>>();
        assert_eq!(
            check(Body::from_stream(endless), &[]).await,
            Err(ErrorCode::BodyTimeout)
        );
    }

    #[test]
    fn misspelt_fields_are_named() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Question {
            #[expect(dead_code, reason = "only its name matters here")]
            user: Option<String>,
            #[expect(dead_code, reason = "only its name matters here")]
            reasons: Option<bool>,
        }
        let problem =
            json_problem(&serde_json::from_str::<Question>(r#"{"usr": "u1"}"#).unwrap_err());
        assert_eq!(problem.code, ErrorCode::WrongShape);
        assert_eq!(
            (problem.field.as_deref(), &*problem.hint),
            (Some("usr"), "did you mean 'user'?")
        );
        let problem = json_problem(&serde_json::from_str::<Question>("{").unwrap_err());
        assert_eq!(problem.code, ErrorCode::UnreadableBody);
    }
}
