//! A real shop's thirteen months (demo/ATTRIBUTION.md) as events, and faults that are planted in them.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tidemill_core::{Event, Offset, Timestamp};
use tidemill_store::LoggedEvent;

/// A fault of the product, from a day on.
#[allow(dead_code, reason = "not every user of this file plants all of them")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// None.
    None,
    /// `country` of a line is null.
    Nulls,
    /// Prices and amounts are sent in pence.
    Pence,
    /// `United Kingdom` is called `UK`.
    Renamed,
    /// `Order Completed` is not sent any more.
    Stopped,
    /// `Product Ordered` is sent twice, with message ids of its own each time.
    Doubled,
    /// Prices become 2 % larger every day.
    Shift,
}

impl Fault {
    /// Those that come on one day.
    #[allow(dead_code, reason = "not every user of this file looks at all of them")]
    pub const SUDDEN: [Self; 5] = [
        Self::Nulls,
        Self::Pence,
        Self::Renamed,
        Self::Stopped,
        Self::Doubled,
    ];
}

/// One event as it is sent.
#[derive(Debug, Clone)]
pub struct Sent {
    /// What and when.
    pub name: &'static str,
    /// When.
    pub time: Timestamp,
    /// Who, and which line of which invoice.
    pub who: Option<String>,
    /// The sender's id.
    pub id: String,
    /// What it says.
    pub properties: Value,
}

/// The shop's events in the order of time.
pub fn events() -> Result<Vec<Sent>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo/online_retail.csv.zst");
    let file = std::fs::File::open(&path).with_context(|| format!("open {}", path.display()))?;
    let decoder: Box<dyn Read> = Box::new(zstd::Decoder::new(file)?);
    let mut reader = csv::Reader::from_reader(decoder);
    let headings = reader.headers()?.clone();
    let place: HashMap<&str, usize> = headings
        .iter()
        .enumerate()
        .map(|(n, name)| (name, n))
        .collect();
    let mut sent: Vec<Sent> = Vec::new();
    let mut order: Option<(String, Sent, f64, i64, i64)> = None;
    for (number, record) in reader.records().enumerate() {
        let record = record?;
        let text = |name: &str| {
            place
                .get(name)
                .and_then(|place| record.get(*place))
                .unwrap_or_default()
        };
        let (invoice, quantity): (&str, i64) = (text("InvoiceNo"), text("Quantity").parse()?);
        let price: f64 = text("UnitPrice").parse()?;
        let (whole, line) = match invoice.chars().next() {
            Some('C') => ("Order Cancelled", "Product Returned"),
            Some('A') => continue,
            _ if quantity < 0 => continue,
            _ => ("Order Completed", "Product Ordered"),
        };
        let time: Timestamp = text("InvoiceDate").parse()?;
        let customer = text("CustomerID").trim_end_matches(".0");
        let who = (!customer.is_empty()).then(|| customer.to_owned());
        let amount = (quantity as f64 * price).abs();
        if order.as_ref().is_some_and(|order| order.0 != invoice) {
            sent.extend(order.take().map(finished));
        }
        let of_order = order.get_or_insert_with(|| {
            let whole = Sent {
                name: whole,
                time,
                who: who.clone(),
                id: invoice.to_owned(),
                properties: json!({ "order": invoice, "country": text("Country") }),
            };
            (invoice.to_owned(), whole, 0.0, 0, 0)
        });
        of_order.2 += amount;
        of_order.3 += 1;
        of_order.4 += quantity.abs();
        sent.push(Sent {
            name: line,
            time,
            who,
            id: format!("{invoice}-{number}"),
            properties: json!({
                "product": text("StockCode"), "quantity": quantity.abs(), "price": price.max(0.0), "amount": amount, "country": text("Country"),
            }),
        });
    }
    sent.extend(order.take().map(finished));
    Ok(sent)
}

fn finished((_, mut whole, total, lines, pieces): (String, Sent, f64, i64, i64)) -> Sent {
    whole.properties["total"] = json!(total);
    whole.properties["lines"] = json!(lines);
    whole.properties["pieces"] = json!(pieces);
    whole
}

/// The event as it arrives with a fault that began on a day; none where it is not sent, two where it is sent twice.
pub fn arrives(sent: &Sent, fault: Fault, from: i64, offset: &mut u64) -> Vec<LoggedEvent> {
    let (mut properties, is_line) = (sent.properties.clone(), sent.name == "Product Ordered");
    let since = sent.time.day() - from;
    let mut times = 1;
    if since >= 0 {
        let multiply = |properties: &mut Value, name: &str, by: f64| {
            if let Some(value) = properties[name].as_f64() {
                properties[name] = json!((value * by * 100.0).round() / 100.0);
            }
        };
        match fault {
            Fault::None => {}
            Fault::Nulls if is_line => properties["country"] = Value::Null,
            Fault::Pence => {
                for name in ["price", "amount", "total"] {
                    multiply(&mut properties, name, 100.0);
                }
            }
            Fault::Renamed if properties["country"] == "United Kingdom" => {
                properties["country"] = json!("UK");
            }
            Fault::Stopped if sent.name == "Order Completed" => times = 0,
            Fault::Doubled if is_line => times = 2,
            Fault::Shift => {
                for name in ["price", "amount", "total"] {
                    multiply(&mut properties, name, 1.02f64.powf(since as f64));
                }
            }
            Fault::Nulls | Fault::Renamed | Fault::Stopped | Fault::Doubled => {}
        }
    }
    let once = |copy: u64| {
        *offset += 1;
        LoggedEvent {
            offset: Offset(*offset),
            event: event(sent, &properties, copy),
        }
    };
    (0..times).map(once).collect()
}

fn event(sent: &Sent, properties: &Value, copy: u64) -> Event {
    Event {
        message_id: format!("{}-{copy}", sent.id),
        kind: tidemill_core::EventKind::Track,
        name: sent.name.to_owned(),
        user_id: sent.who.clone(),
        anonymous_id: sent.who.is_none().then(|| sent.id.clone()),
        previous_id: None,
        group_id: None,
        timestamp: sent.time,
        received_at: sent.time,
        historical: false,
        properties: properties.as_object().cloned().unwrap_or_default(),
        context: serde_json::Map::new(),
    }
}
