//! `kill -9` at random moments under load, seen from outside (reliability goals R1 and R6): no acknowledged event is
//! lost, none is doubled, none is invented, and a retried one counts once.
//!
//! Writers send batches and single events with known message ids and remember which were acknowledged. The server is
//! killed after a random number of acknowledgements, or while it starts; some of what failed is sent again, as clients
//! do, and the rest is given up. In the end the server is asked about every id that was ever sent.
//!
//! Killing a process keeps the page cache, so this does not prove that the disk has the bytes: the tests of the store
//! do that.
//!
//! `cargo test` runs a few rounds; `TIDEMILL_KILL_ROUNDS=100 cargo test --test crash` the long form.
//! `TIDEMILL_KILL_SEED` chooses another seed than 1; the one used is printed. (What the seed fixes is what is sent and
//! when the kill is asked for; what the scheduler makes of it is different every time, and meant to be.)

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use support::{Client, Counts, PROJECT, Scope, Server, offer_again};

/// Rounds of an ordinary test run.
const ROUNDS_DEFAULT: u64 = 5;

/// Concurrent clients.
const WRITERS: u64 = 4;

/// The largest batch that is sent; Segment's own clients send 100 at most by default.
const BATCH_EVENTS_MAX: u64 = 100;

/// A kill comes after at most so many acknowledged requests since the last start.
const REQUESTS_PER_ROUND_MAX: u64 = 200;

/// One start in so many is interrupted by a kill of its own.
const INTERRUPTED_STARTS: u32 = 3;

/// The longest that an interrupted start runs. A start that is quicker is simply a round without load.
const INTERRUPTED_START_MAX: Duration = Duration::from_millis(400);

/// How long no acknowledgement may come while the server runs.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn no_acknowledged_event_is_lost_or_doubled_by_kill_9() {
    let rounds = number_from_environment("TIDEMILL_KILL_ROUNDS", ROUNDS_DEFAULT);
    let seed = number_from_environment("TIDEMILL_KILL_SEED", 1);
    println!("{rounds} rounds, seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);

    let mut server = Server::start(PROJECT, &[]);
    let key = server.key(Scope::Write);
    let reader = server.key(Scope::Read);
    let address = server.address();
    let gate = Arc::new(Gate::default());
    let (acknowledged, acknowledgements) = channel();
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let writer = Writer::new(number, random.random(), key.clone(), Arc::clone(&gate));
            let acknowledged = acknowledged.clone();
            std::thread::spawn(move || writer.run(address, &acknowledged))
        })
        .collect();
    drop(acknowledged);

    for round in 1..=rounds {
        let requests = random.random_range(1..=REQUESTS_PER_ROUND_MAX);
        for _ in 0..requests {
            acknowledgements
                .recv_timeout(ACKNOWLEDGED_WITHIN)
                .unwrap_or_else(|_| {
                    panic!(
                        "round {round}: no request was acknowledged\n{}",
                        server.log()
                    )
                });
        }
        server.kill_9();
        // what was acknowledged before the kill does not count for the next round
        while acknowledgements.try_recv().is_ok() {}
        while random.random_ratio(1, INTERRUPTED_STARTS) {
            let patience = INTERRUPTED_START_MAX.mul_f64(random.random());
            server.restart_within(patience);
            server.kill_9();
        }
        server.restart();
        gate.open_again();
    }

    gate.end();
    let mut ledger = Ledger::default();
    for writer in writers {
        ledger.add(writer.join().expect("a writer ended by a panic"));
    }
    ledger.check(&server, &key, &reader);
}

/// Which ids were sent, and what is known of them.
#[derive(Debug, Default)]
struct Ledger {
    /// Sent and acknowledged: stored, once.
    acknowledged: BTreeSet<String>,
    /// Sent, never acknowledged: stored or not, but never twice.
    unknown: BTreeSet<String>,
    /// Requests that failed and were sent again.
    retried_requests: u64,
    /// Answers that were neither 200 nor a refusal that may be retried.
    complaints: Vec<String>,
}

impl Ledger {
    fn add(&mut self, other: Self) {
        self.acknowledged.extend(other.acknowledged);
        self.unknown.extend(other.unknown);
        self.retried_requests += other.retried_requests;
        self.complaints.extend(other.complaints);
    }

    /// Asks the server about every id. Counts alone would not do: one lost and one doubled event look like none. So each
    /// id is offered again: an acknowledged one must be known, and the unknown ones must explain the rest of `stored`.
    fn check(&self, server: &Server, key: &str, reader: &str) {
        assert_eq!(self.complaints, Vec::<String>::new());
        let acknowledged = self.acknowledged.len() as u64;
        let unknown = self.unknown.len() as u64;
        let before = Counts::of(server, reader);
        println!(
            "{acknowledged} acknowledged, {unknown} sent and never acknowledged, {} requests retried, {} stored",
            self.retried_requests, before.stored
        );
        assert!(acknowledged > 0, "nothing was acknowledged");
        assert_eq!(before.quarantined, 0);

        let lost = offer_again(server, key, self.acknowledged.iter().map(String::as_str));
        assert_eq!(lost, 0, "acknowledged events were lost");
        assert_eq!(
            Counts::of(server, reader).stored,
            before.stored,
            "offering known events again changed the count"
        );
        let absent = offer_again(server, key, self.unknown.iter().map(String::as_str));
        assert_eq!(
            before.stored,
            acknowledged + (unknown - absent),
            "events were doubled or invented"
        );
        assert_eq!(
            Counts::of(server, reader).stored,
            acknowledged + unknown,
            "the count is not the number of distinct ids"
        );
    }
}

/// Where writers wait while the server is away.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default, Clone, Copy)]
struct GateState {
    /// How often the server has come back.
    starts: u64,
    ended: bool,
}

impl Gate {
    fn now(&self) -> GateState {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, GateState> {
        self.state
            .lock()
            .expect("no thread panics while it holds the gate")
    }

    fn open_again(&self) {
        self.lock().starts += 1;
        self.changed.notify_all();
    }

    fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// Waits until the server has come back since `seen`, or the test ends.
    fn wait_after(&self, seen: GateState) -> GateState {
        let state = self.lock();
        let changed = self
            .changed
            .wait_while(state, |now| now.starts == seen.starts && !now.ended);
        *changed.expect("no thread panics while it holds the gate")
    }
}

/// One client.
struct Writer {
    number: u64,
    random: StdRng,
    key: String,
    gate: Arc<Gate>,
    client: Client,
    events: u64,
    ledger: Ledger,
}

impl Writer {
    fn new(number: u64, seed: u64, key: String, gate: Arc<Gate>) -> Self {
        Self {
            number,
            random: StdRng::seed_from_u64(seed),
            key,
            gate,
            client: Client::new(),
            events: 0,
            ledger: Ledger::default(),
        }
    }

    /// Sends until the test ends; tells `acknowledged` of each request that was.
    fn run(mut self, server: SocketAddr, acknowledged: &Sender<()>) -> Ledger {
        let mut gate = self.gate.now();
        while !gate.ended {
            let request = self.request();
            loop {
                match self.send(server, &request) {
                    Sent::Acknowledged => {
                        self.ledger.acknowledged.extend(request.ids);
                        // the receiver is gone only after the end
                        let _ = acknowledged.send(());
                        gate = self.gate.now();
                        break;
                    }
                    Sent::Refused => {
                        self.ledger.unknown.extend(request.ids);
                        return self.ledger;
                    }
                    Sent::Failed => {
                        gate = self.gate.wait_after(gate);
                        // most clients retry; some are gone, and their events with them
                        if gate.ended || self.random.random_ratio(1, 4) {
                            self.ledger.unknown.extend(request.ids);
                            break;
                        }
                        self.ledger.retried_requests += 1;
                    }
                }
            }
        }
        self.ledger
    }

    fn request(&mut self) -> Request {
        if self.random.random_ratio(1, 3) {
            let (id, event) = self.event();
            return Request {
                path: "/v1/track",
                body: event,
                ids: vec![id],
            };
        }
        let size = self.random.random_range(1..=BATCH_EVENTS_MAX);
        let (ids, events): (Vec<_>, Vec<_>) = (0..size).map(|_| self.event()).unzip();
        Request {
            path: "/v1/batch",
            body: json!({ "batch": events }),
            ids,
        }
    }

    fn event(&mut self) -> (String, Value) {
        let id = format!("writer-{}-event-{}", self.number, self.events);
        self.events += 1;
        let event = json!({
            "type": "track",
            "event": "Order Completed",
            "userId": format!("user-{}", self.random.random_range(0..50)),
            "messageId": id,
            "properties": { "total": self.events, "currency": "EUR" },
        });
        (id, event)
    }

    fn send(&mut self, server: SocketAddr, request: &Request) -> Sent {
        let answer = self
            .client
            .post(server, request.path, &self.key, &request.body);
        let (status, answer) = match answer {
            Ok((200, answer)) => (200, answer),
            // refused, reset, or "not now": the event may be stored or not
            Err(_) | Ok((429 | 503, _)) => return Sent::Failed,
            Ok(other) => other,
        };
        let counted = answer["accepted"].as_u64().unwrap_or_default()
            + answer["duplicates"].as_u64().unwrap_or_default();
        if status == 200 && counted == request.ids.len() as u64 {
            return Sent::Acknowledged;
        }
        let complaint = format!(
            "{} with {} events: {status} {answer}",
            request.path,
            request.ids.len()
        );
        self.ledger.complaints.push(complaint);
        Sent::Refused
    }
}

struct Request {
    path: &'static str,
    body: Value,
    ids: Vec<String>,
}

enum Sent {
    Acknowledged,
    Failed,
    Refused,
}

fn number_from_environment(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}
