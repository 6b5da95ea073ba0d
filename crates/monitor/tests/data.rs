//! The watch of the data on a small product whose days are alike.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

#[path = "support/shop.rs"]
mod shop;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tidemill_core::project::{Expectations, Project};
use tidemill_core::{Event, Offset, Span, Timestamp};
use tidemill_monitor::data::{DataFinding, DataWatch, FALSE_ALARMS, Rules};
use tidemill_store::LoggedEvent;
use tidemill_store::memory::MemoryState;

struct Product {
    watch: DataWatch,
    state: Arc<MemoryState>,
    offset: u64,
    expectations: BTreeMap<String, Expectations>,
}

fn moment(day: i64, second: i64) -> Timestamp {
    Timestamp::EPOCH
        + Span::from_micros(Span::from_days(1).micros() * day)
        + Span::from_seconds(second)
}

fn plan(number: i64) -> &'static str {
    ["free", "pro", "team"][number.unsigned_abs() as usize % 3]
}

impl Product {
    fn new(expect: &str) -> Self {
        let state = Arc::new(MemoryState::default());
        let text = format!("[project]\nname = \"app\"\n{expect}");
        Self {
            watch: DataWatch::open("app".parse().unwrap(), state.clone()).unwrap(),
            state,
            offset: 0,
            expectations: Project::parse(&text).unwrap().expectations,
        }
    }

    fn send(&mut self, day: i64, count: i64, name: &str, properties: &dyn Fn(i64) -> Value) {
        let events: Vec<LoggedEvent> = (0..count)
            .map(|number| {
                self.offset += 1;
                let at = moment(day, number * 60);
                let event: Event = serde_json::from_value(json!({
                    "message_id": format!("m{}", self.offset), "kind": "track", "name": name, "user_id": format!("u{number}"),
                    "timestamp": at, "received_at": at, "properties": properties(number)
                }))
                .unwrap();
                LoggedEvent { offset: Offset(self.offset), event }
            })
            .collect();
        self.watch.apply(&events).unwrap();
    }

    /// Days that are alike, but for what always differs.
    fn usual(&mut self, days: std::ops::Range<i64>) {
        for day in days {
            self.send(day, 200 + day * 7 % 30, "Paid", &|number| {
                let total = 20.0 + (number * 13 % 17) as f64 + (day % 5) as f64;
                json!({ "total": total, "plan": plan(number + day) })
            });
            self.send(
                day,
                90 + day * 11 % 20,
                "Visited",
                &|number| json!({ "page": format!("/{}", number % 5) }),
            );
            self.examine(day + 1);
        }
    }

    fn rules(&self) -> Rules<'_> {
        Rules {
            false_alarms: FALSE_ALARMS,
            expectations: &self.expectations,
        }
    }

    fn examine(&self, today: i64) {
        self.watch.examine(today, self.rules()).unwrap();
    }

    fn told(&self) -> Vec<String> {
        let id = |finding: &DataFinding| format!("{}:{}", finding.kind.as_str(), finding.subject());
        self.watch.findings().iter().map(id).collect()
    }
}

#[test]
fn usual_days_are_silent_and_a_restart_changes_nothing() {
    let mut product = Product::new("");
    product.usual(100..180);
    assert_eq!(product.told(), [""; 0]);
    let name = "app".parse().unwrap();
    let again = DataWatch::open(name, product.state.clone()).unwrap();
    again.examine(181, product.rules()).unwrap();
    assert_eq!(again.examined_day(), Some(180));
    // nothing came on the last day, and the two stopped together
    let told = again.findings();
    assert_eq!((told.len(), told[0].kind.as_str()), (1, "event_stopped"));
    assert!(!told[0].also.is_empty(), "{told:?}");
}

#[test]
fn a_fault_is_told_once_over_and_becomes_usual() {
    let mut product = Product::new("");
    product.usual(100..160);
    let mut days_told = 0;
    for day in 160..185 {
        product.send(
            day,
            200 + day * 7 % 30,
            "Paid",
            &|number| json!({ "total": 2_000 + number * 13 % 17 * 100, "plan": plan(number) }),
        );
        product.send(
            day,
            90 + day * 11 % 20,
            "Visited",
            &|number| json!({ "page": format!("/{}", number % 5) }),
        );
        product.examine(day + 1);
        let told = product.told();
        if told == ["values_changed:Paid.total"] {
            days_told += 1;
            assert!(product.watch.findings()[0].likely.contains("pence"));
        } else {
            assert!(told.is_empty(), "{day}: {told:?}");
        }
    }
    assert_eq!(days_told, 14, "from the fifteenth on it is the new usual");
}

#[test]
fn what_is_unmistakable_is_told_on_the_running_day() {
    let mut product = Product::new("");
    product.usual(100..160);
    product.send(
        160,
        120,
        "Paid",
        &|_| json!({ "total": null, "plan": "pro" }),
    );
    product.watch.examine_running(160, product.rules()).unwrap();
    let findings = product.watch.findings();
    let missing = findings
        .iter()
        .find(|finding| finding.subject() == "Paid.total")
        .unwrap();
    assert!(
        missing.running && missing.kind.as_str() == "property_missing",
        "{missing:?}"
    );
    // a part of a day says nothing about volumes
    assert!(
        findings
            .iter()
            .all(|finding| !finding.kind.as_str().contains("volume"))
    );
}

#[test]
fn a_renamed_event_is_told_with_its_new_name() {
    let mut product = Product::new("");
    product.usual(100..160);
    product.send(
        160,
        210,
        "Paid",
        &|number| json!({ "total": 20 + number * 13 % 17, "plan": "pro" }),
    );
    product.send(
        160,
        100,
        "Page Visited",
        &|number| json!({ "page": format!("/{}", number % 5) }),
    );
    product.examine(161);
    let findings = product.watch.findings();
    let stopped = findings
        .iter()
        .find(|finding| finding.kind.as_str() == "event_stopped")
        .unwrap();
    assert_eq!(stopped.subject(), "Visited");
    assert_eq!(
        stopped.likely,
        "'Page Visited' comes for the first time, about as often: was it renamed?"
    );
}

/// Lets the days of the real shop pass, with a fault from a day on; what is first told then as `wanted` says, and after how many days.
fn first_told(
    fault: shop::Fault,
    from: &str,
    days: i64,
    wanted: impl Fn(&str) -> bool,
) -> Option<(i64, Vec<String>)> {
    let sent = shop::events().unwrap();
    let product = Product::new("");
    let from = from.parse::<Timestamp>().unwrap().day();
    let (mut offset, mut next) = (0, 0);
    for day in sent[0].time.day()..from + days {
        let until = sent.partition_point(|sent| sent.time.day() <= day);
        let events: Vec<LoggedEvent> = sent[next..until]
            .iter()
            .flat_map(|sent| shop::arrives(sent, fault, from, &mut offset))
            .collect();
        next = until;
        product.watch.apply(&events).unwrap();
        product.examine(day + 1);
        let told = product.told();
        if day >= from && told.iter().any(|one| wanted(one)) {
            return Some((day - from, told));
        }
    }
    None
}

#[test]
fn prices_that_creep_up_in_a_real_shop_are_told_within_the_month() {
    let drifted = |told: &str| told == "data_drifted:Product Ordered.price";
    let found = first_told(shop::Fault::Shift, "2011-06-24", 31, drifted);
    let (after, _) = found.expect("it is told");
    assert!((7..=30).contains(&after), "{after}");
}

/// What few people do is unusual in the week before it is unusual on a day: the unit is the cause of both.
#[test]
fn a_unit_that_changes_in_all_events_of_a_real_shop_is_one_thing() {
    let changed = |told: &str| told.starts_with("values_changed:");
    let found = first_told(shop::Fault::Pence, "2011-05-10", 3, changed);
    let (_, told) = found.expect("it is told");
    assert_eq!(told, ["values_changed:Product Ordered.price"]);
}

#[test]
fn the_project_file_wins() {
    let mut product = Product::new(
        "[events.Paid]\nexpect = { per_day = \"10..100\", null_max = { total = 0.5 }, median = { total = \"1..10\" }, unwatched = \"plan\" }\n",
    );
    product.usual(100..130);
    // from the first whole day on
    let told = product.told();
    assert_eq!(
        told,
        ["expectation_broken:Paid", "expectation_broken:Paid.total"]
    );
    let noticed = &product.watch.findings()[0].noticed;
    assert!(
        noticed.ends_with("came; the project file expects 10 to 100 a day"),
        "{noticed}"
    );
    // less than half of them missing is as expected, another plan is nobody's business
    product.send(130, 50, "Paid", &|number| {
        let total = if number % 3 == 0 {
            Value::Null
        } else {
            json!(5)
        };
        json!({ "total": total, "plan": "other" })
    });
    product.send(
        130,
        100,
        "Visited",
        &|number| json!({ "page": format!("/{}", number % 5) }),
    );
    product.examine(131);
    let told = product.told();
    assert!(
        told.iter()
            .all(|id| !id.contains("plan") && !id.starts_with("property_missing")),
        "{told:?}"
    );
    assert!(
        !told.iter().any(|id| id.starts_with("expectation_broken")),
        "{told:?}"
    );
}
