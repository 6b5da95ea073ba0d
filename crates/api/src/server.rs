//! The server: connections in, with limits on how many, how slow and how idle, and an orderly end.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::at_once::AtOnce;

/// How long accepting pauses when the system has no more descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a connection beyond the limit is told.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// The limits of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerOptions {
    /// The most connections at one time; one more is answered with 503 at once.
    pub connections_max: u32,
    /// How long the head of a request may take to arrive, and how long a connection may be idle.
    pub header_timeout: Duration,
    /// The largest head of a request, in bytes; at least 8,192.
    pub header_bytes_max: usize,
    /// How long requests may go on after the server was told to stop.
    pub drain_timeout: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            connections_max: 4_096,
            header_timeout: Duration::from_secs(30),
            header_bytes_max: 32 * 1024,
            drain_timeout: Duration::from_secs(10),
        }
    }
}

/// How the server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Served {
    /// Connections that were taken.
    pub connections: u64,
    /// Connections that were turned away because there were too many.
    pub refused: u64,
    /// Connections that were cut off because they had not ended in time after the stop.
    pub cut_off: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    Draining,
}

/// Serves until `shutdown` resolves; then takes no more connections, lets requests end, and returns after at most
/// [`ServerOptions::drain_timeout`].
pub async fn serve(
    listener: TcpListener,
    router: Router,
    options: ServerOptions,
    shutdown: impl Future<Output = ()> + Send,
) -> Served {
    let places = Arc::new(Semaphore::new(options.connections_max as usize));
    let (phase, phases) = watch::channel(Phase::Serving);
    let mut served = Served::default();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            served.refused += 1;
            if served.refused.is_power_of_two() {
                tracing::warn!(
                    refused = served.refused,
                    "too many connections: more are turned away"
                );
            }
            let _ = stream.try_write(FULL); // whoever does not hear it sees the connection close
            continue;
        };
        served.connections += 1;
        tokio::spawn(AtOnce::new(connection(
            stream,
            router.clone(),
            options.clone(),
            phases.clone(),
            place,
        )));
    }
    drop(listener);
    phase.send_replace(Phase::Draining);
    let drained = places.acquire_many(options.connections_max);
    if tokio::time::timeout(options.drain_timeout, drained)
        .await
        .is_err()
    {
        served.cut_off = options.connections_max as usize - places.available_permits();
        tracing::warn!(
            connections = served.cut_off,
            "some requests had not ended in time and were cut off"
        );
    }
    served // dropping `phase` ends the connections that are left
}

async fn connection(
    stream: TcpStream,
    router: Router,
    options: ServerOptions,
    mut phases: watch::Receiver<Phase>,
    _place: OwnedSemaphorePermit,
) {
    let _ = stream.set_nodelay(true); // only a matter of speed
    let service = tower::util::MapRequest::new(router, |request: hyper::Request<Incoming>| {
        request.map(Body::new)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout)
        .max_buf_size(options.header_bytes_max)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = pin!(connection);
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke off");
                }
                return;
            }
            changed = phases.changed() => match changed {
                Ok(()) => connection.as_mut().graceful_shutdown(),
                Err(_) => return,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::{Notify, oneshot};
    use tokio::task::JoinHandle;

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    async fn start(
        options: ServerOptions,
        router: Router,
    ) -> (String, oneshot::Sender<()>, JoinHandle<Served>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, router, options, async {
            let _ = stopped.await;
        }));
        (address, stop, server)
    }

    async fn read_head(stream: &mut TcpStream) -> String {
        let mut bytes = [0; 1024];
        let count = stream.read(&mut bytes).await.unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    #[tokio::test]
    async fn requests_under_way_end_before_the_server_does() {
        let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (enter, wait) = (entered.clone(), release.clone());
        let router = Router::new().route(
            "/",
            get(move || async move {
                enter.notify_one();
                wait.notified().await;
                "done"
            }),
        );
        let (address, stop, server) = start(ServerOptions::default(), router).await;
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        entered.notified().await;
        stop.send(()).unwrap();
        release.notify_one();
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
        let served = server.await.unwrap();
        assert_eq!(
            served,
            Served {
                connections: 1,
                refused: 0,
                cut_off: 0
            }
        );
        assert!(TcpStream::connect(&address).await.is_err());
    }

    #[tokio::test]
    async fn what_does_not_end_is_cut_off() {
        let entered = Arc::new(Notify::new());
        let enter = entered.clone();
        let router = Router::new().route(
            "/",
            get(move || async move {
                enter.notify_one();
                std::future::pending::<()>().await;
            }),
        );
        let options = ServerOptions {
            drain_timeout: Duration::from_millis(20),
            ..ServerOptions::default()
        };
        let (address, stop, server) = start(options, router).await;
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        entered.notified().await;
        stop.send(()).unwrap();
        assert_eq!(server.await.unwrap().cut_off, 1);
        assert_eq!(stream.read(&mut [0; 10]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn slow_heads_and_too_many_connections_are_turned_away() {
        let options = ServerOptions {
            connections_max: 1,
            header_timeout: Duration::from_millis(50),
            ..ServerOptions::default()
        };
        let (address, stop, server) = start(options, Router::new()).await;
        let mut slow = TcpStream::connect(&address).await.unwrap();
        slow.write_all(b"GET / HT").await.unwrap();
        let mut second = TcpStream::connect(&address).await.unwrap();
        assert!(read_head(&mut second).await.starts_with("HTTP/1.1 503"));
        let head = read_head(&mut slow).await;
        assert!(
            head.is_empty() || head.starts_with("HTTP/1.1 408"),
            "{head}"
        );
        stop.send(()).unwrap();
        assert_eq!(
            server.await.unwrap(),
            Served {
                connections: 1,
                refused: 1,
                cut_off: 0
            }
        );
    }
}
