//! The cheapest HTTP/1.1 client that keeps its connection: the generator shares two cores with what it measures, so
//! what it spends is taken from the result.

use std::fmt::Write as _;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take before the request counts as failed.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The longest head of an answer.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// The longest body of an answer.
const BODY_BYTES_MAX: usize = 16 << 20;

/// Requests to one path, ready to be filled with a body.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    head: String,
}

impl Route {
    /// A route of a server. An empty key sends none.
    pub(crate) fn new(method: &str, path: &str, server: SocketAddr, key: &str) -> Self {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {server}\r\ncontent-type: application/json\r\n"
        );
        if !key.is_empty() {
            let _ = write!(head, "authorization: Bearer {key}\r\n");
        }
        head.push_str("content-length: ");
        Self { head }
    }

    /// Writes a whole request over what `request` held.
    pub(crate) fn fill(&self, body: &[u8], request: &mut Vec<u8>) {
        request.clear();
        request.extend_from_slice(self.head.as_bytes());
        request.extend_from_slice(body.len().to_string().as_bytes());
        request.extend_from_slice(b"\r\n\r\n");
        request.extend_from_slice(body);
    }
}

/// One connection, used for one request after the other.
pub(crate) struct Connection {
    stream: TcpStream,
    /// What was received and not yet taken.
    received: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub(crate) fn open(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&server, ANSWER_WITHIN)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.set_write_timeout(Some(ANSWER_WITHIN))?;
        Ok(Self {
            stream,
            received: Vec::with_capacity(4096),
        })
    }

    /// Sends a request that [`Route::fill`] made and waits for the answer: its status, and its body in `body`.
    ///
    /// # Errors
    /// When the connection breaks, or the answer has no `content-length` (an answer in chunks is not read here).
    pub(crate) fn send(&mut self, request: &[u8], body: &mut Vec<u8>) -> Result<u16> {
        self.stream.write_all(request)?;
        let (status, length, head_bytes) = loop {
            if let Some(head) = parse_head(&self.received)? {
                break head;
            }
            if self.received.len() > HEAD_BYTES_MAX {
                return Err(invalid("the head of the answer is too long"));
            }
            self.receive()?;
        };
        while self.received.len() < head_bytes + length {
            self.receive()?;
        }
        body.clear();
        body.extend_from_slice(&self.received[head_bytes..head_bytes + length]);
        self.received.drain(..head_bytes + length);
        Ok(status)
    }

    fn receive(&mut self) -> Result<()> {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            count => {
                self.received.extend_from_slice(&chunk[..count]);
                Ok(())
            }
        }
    }
}

/// The status, the length of the body and the length of the head, once the head is complete.
fn parse_head(received: &[u8]) -> Result<Option<(u16, usize, usize)>> {
    let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&received[..end]).map_err(|_| invalid("the head is no text"))?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 "))
        .and_then(|line| line.get(..3))
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| invalid("no HTTP/1.1 status line"))?;
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .filter(|length| *length <= BODY_BYTES_MAX)
        .ok_or_else(|| invalid("no usable content-length"))?;
    Ok(Some((status, length, end + 4)))
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

/// One request on a connection of its own: for what is asked once.
///
/// # Errors
/// When there is no answer, or it is not 2xx; the message has its body.
pub(crate) fn ask(
    server: SocketAddr,
    method: &str,
    path: &str,
    key: &str,
    body: &[u8],
) -> anyhow::Result<serde_json::Value> {
    let mut request = Vec::new();
    Route::new(method, path, server, key).fill(body, &mut request);
    let mut answer = Vec::new();
    let status = Connection::open(server)?.send(&request, &mut answer)?;
    anyhow::ensure!(
        (200..300).contains(&status),
        "{method} {path}: {status} {}",
        String::from_utf8_lossy(&answer)
    );
    Ok(serde_json::from_slice(&answer)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(received: &str, expected: Option<(u16, usize, usize)>) {
        assert_eq!(parse_head(received.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn heads() {
        check("HTTP/1.1 200 OK\r\ncontent-le", None);
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            Some((200, 2, 38)),
        );
        check(
            "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length:0\r\n\r\n",
            Some((503, 0, 70)),
        );
        assert!(parse_head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(parse_head(b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n").is_err());
        assert!(parse_head(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n").is_err());
    }

    #[test]
    fn a_request_is_rendered_over_the_last_one() {
        let route = Route::new("POST", "/v1/track", ([127, 0, 0, 1], 80).into(), "k");
        let mut request = b"old".to_vec();
        route.fill(b"{}", &mut request);
        assert_eq!(
            String::from_utf8(request).unwrap(),
            "POST /v1/track HTTP/1.1\r\nhost: 127.0.0.1:80\r\ncontent-type: application/json\r\n\
             authorization: Bearer k\r\ncontent-length: 2\r\n\r\n{}"
        );
    }
}
