//! What models that recommend learn from beside what was taken: what the items are like, and where they stood in the lists that were
//! shown.

use std::sync::Arc;

use serde_json::{Value, json};
use tidemill_core::clock::VirtualClock;
use tidemill_core::{Clock, Event, ModelName, Span, Timestamp};
use tidemill_cycle::ProjectLoop;
use tidemill_serve::recommend::RecommendRequest;

use crate::shop::open;

const LIBRARY: &str = r#"
[project]
name = "library"

[items]
id = "properties.book"
attributes = { price = "float", subject = "string" }

[[features.user]]
name = "lent"
aggregate = "count"
event = "Lent"
windows = ["30d"]

[models.for_you]
kind = "recommend"
signals = { Lent = 1.0 }
within = "10d"
training = { budget = 0.1 }
"#;

const PEOPLE: u64 = 600;
/// So many that hardly any two people lent the same ones: what books are like says more than who else lent them.
const BOOKS: u64 = 1_500;
/// A word that more than a tenth of the books have would say nothing of them.
const SUBJECTS: u64 = 15;
const DAYS: i64 = 130;
const ASKED_A_DAY: u64 = 60;

/// A sequence of numbers that is the same in every process.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(0xd134_2543_de82_ef95)
            .wrapping_add(0x9e37_79b9_7f4a_7c15);
        (self.0 >> 33) % bound
    }
}

struct Library {
    project: Arc<ProjectLoop>,
    clock: Arc<VirtualClock>,
    model: ModelName,
    start: Timestamp,
    /// What people lend without being shown anything, by time.
    lent: std::iter::Peekable<std::vec::IntoIter<Event>>,
    _folder: tempfile::TempDir,
}

impl Library {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let clock = Arc::new(VirtualClock::at(start));
        let project = open(&folder, LIBRARY, clock.clone(), 3).await;
        let library = Self {
            project,
            clock,
            model: "for_you".parse().unwrap(),
            start,
            lent: lent(start).into_iter().peekable(),
            _folder: folder,
        };
        let books = (0..BOOKS).map(|book| {
            let attributes = json!({ "price": price(book), "subject": subject(book) });
            let properties = json!({ "id": format!("b{book}"), "attributes": attributes });
            event("item_changed", "", None, properties, start)
        });
        library.append(books.collect()).await;
        library
    }

    async fn append(&self, events: Vec<Event>) {
        let log = &self.project.stores.log;
        let name = &self.project.project.name;
        log.append(name, events, Vec::new()).await.unwrap();
        self.project.catch_up().await.unwrap();
    }

    /// Everybody lends what they would without being shown anything, until a day.
    async fn live_until(&mut self, day: i64) {
        let until = self.start + Span::from_days(day);
        let mut events = Vec::new();
        while let Some(event) = self.lent.next_if(|event| event.timestamp <= until) {
            events.push(event);
        }
        self.clock.advance_to(until);
        self.append(events).await;
    }

    /// Some people are shown a list, and lend the first book of it, whatever it is.
    async fn show(&self, day: u64) {
        let shown_at = self.clock.now();
        let mut lent = Vec::new();
        for number in 0..ASKED_A_DAY {
            let person = format!("u{}", (day * ASKED_A_DAY + number) % PEOPLE);
            let request = RecommendRequest {
                user: Some(person.clone()),
                limit: Some(10),
                ..RecommendRequest::default()
            };
            let answerer = &self.project.answerer;
            let (list, _) = answerer.recommend(&self.model, &request).unwrap();
            let first = list.items.first().unwrap().item.clone();
            let at = shown_at + Span::from_seconds(3_600);
            lent.push(event(
                "track",
                "Lent",
                Some(&person),
                json!({ "book": first }),
                at,
            ));
        }
        self.clock.advance_to(shown_at + Span::from_seconds(3_600));
        self.append(lent).await;
    }

    /// What the sources and the ranker of a new version were worth, as its run has it.
    async fn train(&self) -> Value {
        let models = std::slice::from_ref(&self.model);
        let runs = self.project.train(models, "person", "test").await.unwrap();
        let run = runs.into_iter().next().unwrap();
        let version = run.version.unwrap_or_else(|| panic!("{}", run.summary));
        let promoted = self
            .project
            .promote(&self.model, version, "test", "to have answers", true);
        promoted.await.unwrap();
        run.detail["record"].clone()
    }
}

fn price(book: u64) -> f64 {
    (book / SUBJECTS) as f64
}

fn subject(book: u64) -> String {
    format!("subject{}", book % SUBJECTS)
}

/// Everybody has a subject and a price that they are used to; which of the books of that kind is left to chance.
fn lent(start: Timestamp) -> Vec<Event> {
    let mut draws = Draws(1);
    let mut lent = Vec::new();
    for person in 0..PEOPLE {
        let (liked, used_to) = (draws.below(SUBJECTS), draws.below(100) as f64);
        let books = (0..BOOKS)
            .filter(|book| *book % SUBJECTS == liked && (price(*book) - used_to).abs() <= 8.0);
        let books: Vec<u64> = books.collect();
        for _ in 0..8 {
            let at = start + Span::from_seconds(60 + draws.below(DAYS as u64 * 86_400) as i64);
            let book = books[draws.below(books.len() as u64) as usize];
            let person = format!("u{person}");
            let properties = json!({ "book": format!("b{book}") });
            lent.push(event("track", "Lent", Some(&person), properties, at));
        }
    }
    lent.sort_by_key(|event| event.timestamp);
    lent
}

fn event(kind: &str, name: &str, person: Option<&str>, properties: Value, at: Timestamp) -> Event {
    let about = &properties["id"];
    let id = format!("{name} {person:?} {about} {} {at}", properties["book"]);
    serde_json::from_value(json!({
        "message_id": id, "kind": kind, "name": name, "user_id": person, "timestamp": at, "received_at": at,
        "properties": properties
    }))
    .unwrap()
}

fn columns(record: &Value) -> Vec<&str> {
    let columns = record["ranker"]["columns"].as_array().into_iter().flatten();
    columns.filter_map(|column| column[0].as_str()).collect()
}

#[tokio::test]
async fn what_items_are_like_and_where_they_stood_is_learnt_from() {
    let mut library = Library::open().await;
    library.live_until(100).await;
    let first = library.train().await;
    assert_eq!(first["ranker"]["shown"], 0, "{first:#}");
    // attributes that are words say which items are alike …
    let sources = first["sources"].as_array().unwrap();
    let content = sources
        .iter()
        .find(|source| source["parameters"].to_string().contains("ontent"))
        .unwrap();
    assert!(content["alone"].as_f64() > Some(0.0), "{content:#}");
    // … and those that are numbers put the best candidates in order
    assert_eq!(first["ranker"]["kept"], true, "{first:#}");
    let by_price = |column: &str| column.starts_with("item.price");
    assert!(columns(&first).iter().any(|one| by_price(one)), "{first:#}");
    assert!(!columns(&first).contains(&"position"), "{first:#}");

    for day in 110..118 {
        library.live_until(day).await;
        library.show(day as u64).await;
    }
    library.live_until(DAYS).await;
    let second = library.train().await;
    // there is not half as much again to choose on
    assert_eq!(first["taken_over"], 0);
    assert_eq!(second["taken_over"], 1, "{second:#}");
    assert_eq!(second["chosen_on"], first["chosen_on"]);
    let shown = second["ranker"]["shown"].as_u64().unwrap();
    assert!(shown >= 100, "{shown} lists that were shown: {second:#}");
    // it was the place that decided what was lent of them, and it is learnt from
    assert!(columns(&second).contains(&"position"), "{second:#}");
}
