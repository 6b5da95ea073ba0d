//! E-mail through a server that takes it (SMTP, RFC 5321; submission over TLS, RFC 8314, or STARTTLS, RFC 3207).
//!
//! The conversation is lettre's. Its own TLS would build much of what the lake stands on with other features, so the connection is made here,
//! with the TLS that webhooks use.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Cx, Poll};

use anyhow::{Context, Result, anyhow, bail};
use lettre::Message;
use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream};
use lettre::transport::smtp::extension::ClientId;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use url::Url;

/// Longer lines are no answers of a mail server.
const LINE_BYTES_MAX: usize = 2_048;
/// More lines than this are no answer.
const LINES_MAX: usize = 100;

/// When the connection becomes a secret one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tls {
    /// `smtps://`: from the beginning.
    AtOnce,
    /// `?tls=required`: once both have greeted each other.
    Upgraded,
    /// Never: a server on this machine or in a network of one's own.
    Never,
}

/// A server that takes e-mails, and from whom they are.
#[derive(Clone)]
pub struct MailServer {
    server: Option<Server>,
    from: Mailbox,
}

#[derive(Clone)]
struct Server {
    host: String,
    port: u16,
    tls: Tls,
    login: Option<Credentials>,
}

impl MailServer {
    /// From `smtps://user:password@host:port`, `smtp://host:port?tls=required` or `smtp://host:port`; characters that a URL does not allow
    /// are percent-encoded. With an empty URL there is none, and sending says so.
    ///
    /// # Errors
    /// What is wrong with the URL or the address.
    pub fn new(url: &str, from: &str) -> Result<Self> {
        let from = from
            .parse()
            .map_err(|error| anyhow!("'{from}' is not an e-mail address: {error}"))?;
        let server = match url {
            "" => None,
            url => Some(Server::parse(url)?),
        };
        Ok(Self { server, from })
    }

    /// Whether there is one.
    pub fn is_known(&self) -> bool {
        self.server.is_some()
    }

    /// Gives the server an e-mail. When this returns, the server has taken it.
    ///
    /// # Errors
    /// When there is no server, it cannot be reached, it does not know the login, or it does not take the e-mail.
    pub async fn send(&self, to: &str, subject: &str, text: &str) -> Result<()> {
        let Some(server) = &self.server else {
            bail!(
                "no mail server is known: set TIDEMILL_SMTP_URL, for example to smtps://user:password@mail.example.com"
            );
        };
        let to: Mailbox = to.parse().context("read the address")?;
        let message = Message::builder()
            .from(self.from.clone())
            .to(to)
            .subject(subject)
            .header(ContentType::TEXT_PLAIN)
            .body(text.to_owned())
            .context("write the e-mail")?;
        let mut connection = server.connect().await?;
        let sent = connection
            .send(message.envelope(), &message.formatted())
            .await;
        // it has been taken or not: what is said at parting changes nothing
        let _ = connection.quit().await;
        sent.context("hand over the e-mail")?;
        Ok(())
    }
}

impl Server {
    fn parse(url: &str) -> Result<Self> {
        const EXAMPLES: &str =
            "for example smtps://user:password@mail.example.com, or smtp://localhost:25";
        let url = Url::parse(url).map_err(|error| anyhow!("not a URL ({error}); {EXAMPLES}"))?;
        let asked = url.query_pairs().find(|(name, _)| name == "tls");
        let asked = asked.map(|(_, value)| value.into_owned());
        let (tls, port) = match (url.scheme(), asked.as_deref()) {
            ("smtps", None) => (Tls::AtOnce, 465),
            ("smtp", Some("required")) => (Tls::Upgraded, 587),
            ("smtp", None) => (Tls::Never, 25),
            ("smtp" | "smtps", _) => bail!("tls is 'required' with smtp://, or is not named"),
            (scheme, _) => bail!("'{scheme}' is neither smtp nor smtps; {EXAMPLES}"),
        };
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.with_context(|| format!("it names no host; {EXAMPLES}"))?;
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let login = url
            .password()
            .map(|password| Credentials::new(decoded(url.username()), decoded(password)));
        if tls == Tls::Never && login.is_some() {
            bail!("a password would be sent in the clear: say smtps://, or smtp://…?tls=required");
        }
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port().unwrap_or(port),
            tls,
            login,
        })
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection> {
        let tcp = TcpStream::connect((&*self.host, self.port))
            .await
            .with_context(|| format!("reach {}:{}", self.host, self.port))?;
        let me = ClientId::default();
        let stream: Box<dyn AsyncTokioStream> = match self.tls {
            Tls::Never => Box::new(Stream::new(tcp, &[])?),
            Tls::AtOnce => Box::new(Stream::new(self.secret(tcp).await?, &[])?),
            Tls::Upgraded => {
                let (tcp, greeting) = ask_for_tls(tcp, &me).await?;
                // after STARTTLS both begin again, but nobody is greeted a second time: the library waits for it
                Box::new(Stream::new(self.secret(tcp).await?, &greeting)?)
            }
        };
        let mut connection = AsyncSmtpConnection::connect_with_transport(stream, &me)
            .await
            .context("greet the mail server")?;
        if let Some(login) = &self.login {
            let signed_in = connection.auth(DEFAULT_MECHANISMS, login).await;
            signed_in.context("sign in to the mail server")?;
        }
        Ok(connection)
    }

    /// TLS over a connection, with the certificates that the system trusts.
    async fn secret(&self, tcp: TcpStream) -> Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(self.host.clone())?;
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, tcp).await;
        stream.with_context(|| format!("speak TLS with {}", self.host))
    }
}

/// Asks for TLS; the connection as it is then, and how the server greeted.
async fn ask_for_tls(tcp: TcpStream, me: &ClientId) -> Result<(TcpStream, Vec<u8>)> {
    let mut plain = BufReader::new(tcp);
    let greeting = answer(&mut plain, b"220").await?;
    plain.write_all(format!("EHLO {me}\r\n").as_bytes()).await?;
    answer(&mut plain, b"250").await?;
    plain.write_all(b"STARTTLS\r\n").await?;
    answer(&mut plain, b"220").await?;
    // what was sent before there is TLS could be anybody's (CVE-2011-0411)
    if !plain.buffer().is_empty() {
        bail!("the mail server went on in the clear after STARTTLS");
    }
    Ok((plain.into_inner(), greeting))
}

/// Reads an answer of a server to its last line.
async fn answer(from: &mut BufReader<TcpStream>, wanted: &[u8]) -> Result<Vec<u8>> {
    let mut whole = Vec::new();
    for _ in 0..LINES_MAX {
        let start = whole.len();
        let mut limited = tokio::io::AsyncReadExt::take(&mut *from, LINE_BYTES_MAX as u64);
        limited.read_until(b'\n', &mut whole).await?;
        let line = &whole[start..];
        if !line.starts_with(wanted) || !line.ends_with(b"\n") {
            let said = String::from_utf8_lossy(line);
            bail!("the mail server answered '{}'", said.trim_end());
        }
        if line.get(3) != Some(&b'-') {
            return Ok(whole);
        }
    }
    bail!("the answer of the mail server does not end")
}

/// A connection, before whose bytes others are read.
struct Stream<S> {
    inner: S,
    peer: SocketAddr,
    first: Vec<u8>,
    read: usize,
}

/// What has a TCP connection in it.
trait OverTcp {
    fn tcp(&self) -> &TcpStream;
}

impl OverTcp for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl OverTcp for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

impl<S: OverTcp> Stream<S> {
    fn new(inner: S, first: &[u8]) -> io::Result<Self> {
        Ok(Self {
            peer: inner.tcp().peer_addr()?,
            inner,
            first: first.to_vec(),
            read: 0,
        })
    }
}

impl<S> fmt::Debug for Stream<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a connection to {}", self.peer)
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> AsyncTokioStream for Stream<S> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Cx<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = &self.first[self.read..];
        if rest.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buffer);
        }
        let some = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..some]);
        self.read += some;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Cx<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<(String, u16, Tls, bool), String> {
        let server = Server::parse(url).map_err(|error| error.to_string())?;
        Ok((server.host, server.port, server.tls, server.login.is_some()))
    }

    #[test]
    fn a_url_says_where_and_how() {
        let found = |host: &str, port, tls, login| Ok((host.to_owned(), port, tls, login));
        for (url, wanted) in [
            (
                "smtps://me%40x:p%2Fw@mail.example.com",
                found("mail.example.com", 465, Tls::AtOnce, true),
            ),
            (
                "smtp://me:pw@mail.example.com?tls=required",
                found("mail.example.com", 587, Tls::Upgraded, true),
            ),
            (
                "smtp://localhost",
                found("localhost", 25, Tls::Never, false),
            ),
            ("smtp://[::1]:2525", found("::1", 2_525, Tls::Never, false)),
        ] {
            assert_eq!(parse(url), wanted, "{url}");
        }
        for (url, said) in [
            ("mail.example.com", "not a URL"),
            ("https://mail.example.com", "neither smtp nor smtps"),
            ("smtp://me:pw@mail.example.com", "in the clear"),
            ("smtp://localhost?tls=maybe", "'required'"),
            ("smtps://", "host"),
        ] {
            let refused = parse(url).unwrap_err();
            assert!(refused.contains(said), "{url}: {refused}");
        }
    }
}
