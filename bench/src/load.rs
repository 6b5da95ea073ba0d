//! Load: as fast as the answers come (closed), or at a fixed rate whatever the answers do (open).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::client::{Connection, Route};

/// What came of a load.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Requests that were answered with 2xx.
    pub(crate) answered: u64,
    /// Requests that were not, by what they met: a status or an error.
    pub(crate) failed: u64,
    /// The first failure in words.
    pub(crate) failure: Option<String>,
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
    /// Of the answered ones. In an open load each is counted from when the request was due, not from when it could be
    /// sent: otherwise a server that stalls would make the generator stall and the stall would not be seen
    /// ("coordinated omission").
    pub(crate) latencies: Vec<Duration>,
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.failed += other.failed;
        self.failure = self.failure.take().or(other.failure);
        self.latencies.extend(other.latencies);
    }

    fn fail(&mut self, what: String) {
        self.failed += 1;
        self.failure.get_or_insert(what);
    }
}

/// Sends from `connections` connections, each its next request when its last was answered, for `duration`. `fill` writes the
/// body with that number; every number is used once.
pub(crate) fn closed(
    server: SocketAddr,
    route: &Route,
    connections: usize,
    duration: Duration,
    fill: impl Fn(u64, &mut Vec<u8>) + Sync,
) -> Outcome {
    let next = AtomicU64::new(0);
    let begin = Instant::now();
    run(server, route, connections, |sender, outcome| {
        while begin.elapsed() < duration {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let sent = Instant::now();
            if !sender.send(number, &fill, outcome) {
                break;
            }
            outcome.latencies.push(sent.elapsed());
        }
    })
}

/// Sends `rate` requests a second for `duration` (or until `stop`), whether or not earlier ones were answered, as far as
/// `connections` suffice; what waits for a free connection waits on the server's account.
pub(crate) fn open(
    server: SocketAddr,
    route: &Route,
    connections: usize,
    rate: f64,
    duration: Duration,
    stop: Option<&AtomicBool>,
    fill: impl Fn(u64, &mut Vec<u8>) + Sync,
) -> Outcome {
    let next = AtomicU64::new(0);
    // every connection is there before the first request is due
    let begin = Instant::now() + Duration::from_millis(200);
    run(server, route, connections, |sender, outcome| {
        while !stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let offset = Duration::from_secs_f64(number as f64 / rate);
            if offset >= duration {
                break;
            }
            let due = begin + offset;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if sender.send(number, &fill, outcome) {
                outcome.latencies.push(due.elapsed());
            }
        }
    })
}

/// Runs `work` once for each connection, on a thread of its own, and adds up.
fn run(
    server: SocketAddr,
    route: &Route,
    connections: usize,
    work: impl Fn(&mut Sender<'_>, &mut Outcome) + Sync,
) -> Outcome {
    let begin = Instant::now();
    let mut total = Outcome::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..connections)
            .map(|_| {
                scope.spawn(|| {
                    let mut outcome = Outcome::default();
                    work(&mut Sender::new(server, route), &mut outcome);
                    outcome
                })
            })
            .collect();
        for thread in threads {
            total.add(thread.join().expect("a connection's thread does not panic"));
        }
    });
    total.elapsed = begin.elapsed();
    total
}

/// A connection that is opened again when it breaks, with its buffers.
struct Sender<'r> {
    server: SocketAddr,
    route: &'r Route,
    connection: Option<Connection>,
    body: Vec<u8>,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl<'r> Sender<'r> {
    fn new(server: SocketAddr, route: &'r Route) -> Self {
        Self {
            server,
            route,
            connection: Connection::open(server).ok(),
            body: Vec::new(),
            request: Vec::new(),
            answer: Vec::new(),
        }
    }

    /// Sends the request with that number; says whether it was answered with 2xx.
    fn send(
        &mut self,
        number: u64,
        fill: impl Fn(u64, &mut Vec<u8>),
        outcome: &mut Outcome,
    ) -> bool {
        fill(number, &mut self.body);
        self.route.fill(&self.body, &mut self.request);
        let connection = match self.connection.take() {
            Some(connection) => Ok(connection),
            None => Connection::open(self.server),
        };
        let sent = connection.and_then(|mut connection| {
            let status = connection.send(&self.request, &mut self.answer)?;
            Ok((connection, status))
        });
        match sent {
            Ok((connection, status)) => {
                self.connection = Some(connection);
                if (200..300).contains(&status) {
                    outcome.answered += 1;
                    return true;
                }
                outcome.fail(format!(
                    "{status} {}",
                    String::from_utf8_lossy(&self.answer)
                ));
            }
            Err(error) => outcome.fail(error.to_string()),
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::Mutex;

    /// A server that answers every request (here: every read) after a pause, on each connection apart.
    fn server(pause: Duration, status: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut request = [0; 1024];
                    while stream.read(&mut request).is_ok_and(|count| count > 0) {
                        std::thread::sleep(pause);
                        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}");
                        if stream.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    fn route(server: SocketAddr) -> Route {
        Route::new("POST", "/", server, "")
    }

    #[test]
    fn a_closed_load_uses_every_number_once() {
        let address = server(Duration::ZERO, "200 OK");
        let seen = Mutex::new(Vec::new());
        let outcome = closed(
            address,
            &route(address),
            3,
            Duration::from_millis(50),
            |number, body| {
                body.clear();
                seen.lock().unwrap().push(number);
            },
        );
        let mut seen = seen.into_inner().unwrap();
        seen.sort_unstable();
        assert_eq!(outcome.failure, None);
        assert_eq!(seen, (0..outcome.answered).collect::<Vec<_>>());
        assert_eq!(outcome.latencies.len() as u64, outcome.answered);
    }

    #[test]
    fn an_open_load_counts_waiting_for_a_stalled_server() {
        // one connection, answers take 20 ms, a request is due every 5 ms: the n-th waits for all before it
        let address = server(Duration::from_millis(20), "200 OK");
        let outcome = open(
            address,
            &route(address),
            1,
            200.0,
            Duration::from_millis(50),
            None,
            |_, body| body.clear(),
        );
        assert_eq!((outcome.answered, outcome.failed), (10, 0));
        let longest = outcome.latencies.iter().max().unwrap();
        assert!(
            *longest >= Duration::from_millis(10 * 20 - 45),
            "the queue was not counted: {longest:?}"
        );
    }

    #[test]
    fn failures_are_counted_apart() {
        let address = server(Duration::ZERO, "503 Service Unavailable");
        let outcome = open(
            address,
            &route(address),
            2,
            1_000.0,
            Duration::from_millis(10),
            None,
            |_, body| body.clear(),
        );
        assert_eq!((outcome.answered, outcome.failed), (0, 10));
        assert_eq!(outcome.failure.as_deref(), Some("503 {}"));
        assert!(outcome.latencies.is_empty());
    }
}
