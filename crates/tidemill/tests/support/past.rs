//! A shop with a past: orders of customers, each in a rhythm of their own, imported into a data folder that no server has open.

use std::fmt::Write;
use std::time::Duration;

use tidemill_core::clock::SystemClock;
use tidemill_core::{Clock, Span};

use super::Server;

/// Where the orders come from; a project file ends with it.
pub(crate) const SOURCE: &str = r#"
[sources.orders]
event = "Order Completed"
map   = { user_id = "customer", timestamp = "ordered_at", message_id = "order", "properties.total" = "total", "properties.channel" = "channel" }
"#;

/// How many people order.
pub(crate) const CUSTOMERS: i64 = 120;
/// For how long.
pub(crate) const DAYS: i64 = 240;

/// Orders of customers, each in a rhythm of their own.
pub(crate) fn in_rhythm() -> (String, u64) {
    let begin = SystemClock.now() - Span::from_days(DAYS);
    let mut csv = "order,customer,ordered_at,total,channel\n".to_owned();
    let mut orders = 0;
    for day in 0..DAYS {
        for customer in 0..CUSTOMERS {
            let rhythm = if customer % 3 == 0 {
                11
            } else {
                41 + customer % 17
            };
            if (day + customer * 7) % rhythm == 0 {
                let time = begin + Span::from_seconds(day * 86_400 + customer * 60);
                let channel = ["search", "letter", "street"][(customer % 3) as usize];
                let total = 10 + (day * customer) % 90;
                writeln!(csv, "o{orders},c{customer},{time},{total},{channel}")
                    .expect("a string grows");
                orders += 1;
            }
        }
    }
    (csv, orders)
}

/// Orders after which people come back soon where a cheap one came by search or a dear one otherwise: neither alone says it.
pub(crate) fn in_moods() -> (String, u64) {
    let begin = SystemClock.now() - Span::from_days(DAYS);
    let mut due: Vec<i64> = (0..CUSTOMERS).map(|customer| customer % 30).collect();
    let mut csv = "order,customer,ordered_at,total,channel\n".to_owned();
    let mut orders = 0;
    for day in 0..DAYS {
        for customer in 0..CUSTOMERS {
            if due[customer as usize] != day {
                continue;
            }
            let drawn = (day * 31 + customer * 17 + orders as i64 * 7) % 97;
            let (total, by_search) = (10 + drawn, (drawn * 5) % 11 < 5);
            let channel = if by_search { "search" } else { "letter" };
            let soon = by_search == (total < 58) && drawn % 10 != 0;
            due[customer as usize] += if soon { 5 + drawn % 5 } else { 25 + drawn % 15 };
            let time = begin + Span::from_seconds(day * 86_400 + customer * 60);
            writeln!(csv, "o{orders},c{customer},{time},{total},{channel}")
                .expect("a string grows");
            orders += 1;
        }
    }
    (csv, orders)
}

/// The shop, and how many orders it has had.
pub(crate) fn shop(project: &str, (csv, orders): (String, u64)) -> (Server, u64) {
    let project = format!("{project}{SOURCE}");
    let mut server = Server::start(&project, &[]);
    assert!(server.stop(Duration::from_secs(20)).success());
    std::fs::write(server.folder().join("orders.csv"), csv).expect("the history");
    let import = [
        "import",
        "orders.csv",
        "--source",
        "orders",
        "--project",
        "project.toml",
    ];
    let imported = server.json_of(&import);
    assert_eq!(imported["accepted"].as_u64(), Some(orders), "{imported}");
    (server, orders)
}
