//! Months of a real shop pass on the virtual clock, with faults planted in them: each is told the next morning, by its name, first of
//! what differs, and nothing else is told.

use std::sync::Arc;

use tempfile::TempDir;
use tidemill_core::clock::VirtualClock;
use tidemill_core::{Event, Span, Timestamp};
use tidemill_monitor::data::DataFinding;

use crate::real_shop::{Fault, Sent, arrives, events};
use crate::shop::open;

const PROJECT: &str = r#"
[project]
name = "shop"

[[features.user]]
name = "orders"
aggregate = "count"
event = "Order Completed"
"#;
const DAY: Span = Span::from_days(1);

fn day(date: &str) -> i64 {
    date.parse::<Timestamp>().unwrap().day()
}

fn begins(day: i64) -> Timestamp {
    Timestamp::EPOCH + Span::from_micros(DAY.micros() * day)
}

/// What is told of a fault: the alert's id, and what its cause says.
fn expected(fault: Fault) -> (&'static str, &'static str) {
    match fault {
        Fault::None | Fault::Shift => ("", ""), // see crates/monitor/tests/data.rs
        Fault::Nulls => (
            "property_missing:Product Ordered.country",
            "no longer filled",
        ),
        Fault::Pence => (
            "values_changed:Product Ordered.price",
            "pence instead of pounds",
        ),
        Fault::Renamed => (
            "values_changed:Product Ordered.country",
            "was 'United Kingdom' renamed to 'UK'?",
        ),
        Fault::Stopped => (
            "event_stopped:Order Completed",
            "does the product still send it",
        ),
        Fault::Doubled => ("event_doubled:Product Ordered", "is it sent twice"),
    }
}

struct Year {
    project: Arc<tidemill_cycle::ProjectLoop>,
    clock: Arc<VirtualClock>,
    sent: Vec<Sent>,
    offset: u64,
    _folder: TempDir,
}

impl Year {
    async fn begin(from: i64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(VirtualClock::at(begins(from)));
        let project = open(&folder, PROJECT, clock.clone(), 1).await;
        Self {
            project,
            clock,
            sent: events().unwrap(),
            offset: 0,
            _folder: folder,
        }
    }

    /// Lets a day pass and looks for what is wrong the next morning: what differs, and the ids of open alerts.
    async fn pass(
        &mut self,
        day: i64,
        fault: Fault,
        since: i64,
    ) -> (Vec<DataFinding>, Vec<String>) {
        let from = self.sent.partition_point(|sent| sent.time.day() < day);
        let until = self.sent.partition_point(|sent| sent.time.day() <= day);
        let mut events: Vec<Event> = Vec::new();
        for sent in &self.sent[from..until] {
            let arrived = arrives(sent, fault, since, &mut self.offset);
            events.extend(arrived.into_iter().map(|logged| logged.event));
        }
        let name = &self.project.project.name;
        let log = &self.project.stores.log;
        log.append(name, events, Vec::new()).await.unwrap();
        self.clock.advance_to(begins(day + 1));
        self.project.catch_up().await.unwrap();
        self.project.check_alerts().await.unwrap();
        let open = self.project.alerts.open().unwrap();
        (
            self.project.data.findings(),
            open.into_iter().map(|alert| alert.id).collect(),
        )
    }
}

#[tokio::test]
async fn planted_faults_are_told_the_next_morning_and_nothing_else() {
    let mut year = Year::begin(day("2011-03-01")).await;
    let planted = [
        ("2011-06-07", Fault::Nulls),
        ("2011-06-09", Fault::Pence),
        ("2011-06-14", Fault::Renamed),
        ("2011-06-16", Fault::Stopped),
        ("2011-06-21", Fault::Doubled),
    ];
    let mut told = Vec::new();
    for today in day("2011-03-01")..day("2011-06-24") {
        let fault = planted.iter().find(|(date, _)| day(date) == today);
        let (_, fault) = fault.copied().unwrap_or(("", Fault::None));
        let (findings, open) = year.pass(today, fault, today).await;
        if fault == Fault::None {
            if today >= day("2011-06-01") && !open.is_empty() {
                told.push((today, open));
            }
            continue;
        }
        let (id, words) = expected(fault);
        let first = findings
            .first()
            .unwrap_or_else(|| panic!("{fault:?} is not told"));
        let alerts = year.project.alerts.open().unwrap();
        let alert = alerts.iter().find(|alert| alert.id == id);
        let alert = alert.unwrap_or_else(|| panic!("{fault:?}: {open:?} {findings:#?}"));
        assert!(alert.cause.contains(words), "{fault:?}: {}", alert.cause);
        assert_eq!(id, format!("{}:{}", first.kind.as_str(), first.subject()));
        assert_eq!(alerts.len(), 1, "one fault is one alert: {open:?}");
    }
    // what was resolved is over the day after
    assert!(told.is_empty(), "{told:?}");
    let report = year.project.data_report(Some("Order Completed")).unwrap();
    let [orders] = report.events.as_slice() else {
        panic!("one event was asked for");
    };
    assert!(
        orders.yesterday > 10 && orders.days.len() == 28,
        "{orders:?}"
    );
    let total = orders
        .properties
        .iter()
        .find(|property| property.property == "total");
    assert!(total.unwrap().numbers.is_some() && total.unwrap().missing == 0.0);
}
