//! The shop's year as the events that its website would have sent.

use std::collections::HashMap;
use std::io::Read;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use tidemill_core::Timestamp;

/// The invoice lines (CC BY 4.0, see demo/ATTRIBUTION.md).
const LINES: &[u8] = include_bytes!("../../../../demo/online_retail.csv.zst");
/// The project file of the demo.
pub const PROJECT: &str = include_str!("../../../../demo/shop.toml");
/// How many lines there are.
pub const LINE_COUNT: u64 = 541_909;

/// One invoice line as it stands in the file.
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(rename = "InvoiceNo")]
    invoice: String,
    #[serde(rename = "StockCode")]
    product: String,
    #[serde(rename = "Description")]
    name: String,
    #[serde(rename = "Quantity")]
    quantity: i64,
    #[serde(rename = "InvoiceDate")]
    time: String,
    #[serde(rename = "UnitPrice")]
    price: f64,
    #[serde(rename = "CustomerID")]
    customer: String,
    #[serde(rename = "Country")]
    country: String,
}

/// One invoice: what somebody did at one moment.
#[derive(Debug)]
pub struct Visit {
    /// When.
    pub time: Timestamp,
    /// The customer's id; absent for an anonymous basket.
    pub customer: Option<String>,
    /// Whether it is an order, so that questions about the customer are asked.
    pub is_order: bool,
    /// How many lines of the file it is made of.
    pub lines: u64,
    /// The body of `POST /v1/batch`.
    pub batch: Value,
    /// Products seen for the first time, as the body of `PUT /v1/items`.
    pub new_items: Vec<Value>,
}

/// What kind of invoice it is, by its number and quantities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Order,
    Cancellation,
    /// Write-offs, samples, bad debt: the shop's own bookkeeping.
    Adjustment,
}

impl Kind {
    fn event(self) -> &'static str {
        match self {
            Self::Order => "Order Completed",
            Self::Cancellation => "Order Cancelled",
            Self::Adjustment => "Stock Adjusted",
        }
    }

    fn line_event(self) -> &'static str {
        match self {
            Self::Order => "Product Ordered",
            Self::Cancellation => "Product Returned",
            Self::Adjustment => "Stock Adjusted",
        }
    }
}

/// Reads the year, invoice by invoice, in the order of time.
pub fn visits() -> Result<impl Iterator<Item = Result<Visit>>> {
    let decoder = zstd::Decoder::new(LINES).context("open the shop's data")?;
    Ok(Visits {
        lines: csv::Reader::from_reader(Box::new(decoder) as Box<dyn Read>),
        waiting: None,
        names: HashMap::new(),
    })
}

struct Visits {
    lines: csv::Reader<Box<dyn Read>>,
    waiting: Option<Line>,
    /// The names under which products were last announced.
    names: HashMap<String, String>,
}

impl Iterator for Visits {
    type Item = Result<Visit>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = match self.waiting.take().map(Ok).or_else(|| self.line())? {
            Ok(line) => line,
            Err(error) => return Some(Err(error)),
        };
        let mut lines = vec![first];
        while let Some(line) = self.line() {
            match line {
                Ok(line) if line.invoice == lines[0].invoice => lines.push(line),
                Ok(line) => {
                    self.waiting = Some(line);
                    break;
                }
                Err(error) => return Some(Err(error)),
            }
        }
        Some(self.visit(&lines))
    }
}

impl Visits {
    fn line(&mut self) -> Option<Result<Line>> {
        let mut record = csv::StringRecord::new();
        match self.lines.read_record(&mut record) {
            Ok(false) => None,
            Ok(true) => {
                let headers = self.lines.headers().ok().cloned();
                Some(
                    record
                        .deserialize(headers.as_ref())
                        .context("read a line of the shop's data"),
                )
            }
            Err(error) => Some(Err(error).context("read the shop's data")),
        }
    }

    fn visit(&mut self, lines: &[Line]) -> Result<Visit> {
        let Some(first) = lines.first() else {
            bail!("an invoice without lines")
        };
        let kind = kind(first);
        let time: Timestamp = first.time.parse()?;
        let customer = customer(&first.customer);
        let mut events: Vec<Value> = Vec::with_capacity(lines.len() + 1);
        for (number, line) in lines.iter().enumerate() {
            let amount = (line.quantity as f64 * line.price).abs();
            let properties = json!({
                "product": line.product, "quantity": line.quantity.abs(), "price": line.price.max(0.0),
                "amount": amount, "country": line.country,
            });
            events.push(event(
                kind.line_event(),
                first,
                &customer,
                time,
                number + 1,
                properties,
            ));
        }
        let total: f64 = lines
            .iter()
            .map(|line| (line.quantity as f64 * line.price).abs())
            .sum();
        let quantity: i64 = lines.iter().map(|line| line.quantity.abs()).sum();
        let whole = match kind {
            Kind::Order => json!({
                "order": first.invoice, "total": total, "lines": lines.len(), "quantity": quantity,
                "country": first.country,
            }),
            Kind::Cancellation => json!({
                "order": first.invoice, "refund": total, "lines": lines.len(), "country": first.country,
            }),
            Kind::Adjustment => Value::Null,
        };
        if !whole.is_null() {
            events.push(event(kind.event(), first, &customer, time, 0, whole));
        }
        Ok(Visit {
            time,
            is_order: kind == Kind::Order,
            lines: lines.len() as u64,
            batch: json!({ "batch": events }),
            new_items: self.new_items(lines),
            customer,
        })
    }

    /// Products whose name was not announced yet, or has changed.
    fn new_items(&mut self, lines: &[Line]) -> Vec<Value> {
        let mut items = Vec::new();
        for line in lines
            .iter()
            .filter(|line| line.quantity > 0 && !line.name.is_empty())
        {
            if self
                .names
                .get(&line.product)
                .is_none_or(|known| *known != line.name)
            {
                self.names.insert(line.product.clone(), line.name.clone());
                let attributes = json!({ "name": line.name, "price": line.price.max(0.0) });
                items.push(json!({ "id": line.product, "attributes": attributes }));
            }
        }
        items
    }
}

fn kind(line: &Line) -> Kind {
    match line.invoice.chars().next() {
        Some('C') => Kind::Cancellation,
        Some('A') => Kind::Adjustment,
        _ if line.quantity < 0 => Kind::Adjustment,
        _ => Kind::Order,
    }
}

/// `17850.0` in the file is customer 17850.
fn customer(text: &str) -> Option<String> {
    let id = text.strip_suffix(".0").unwrap_or(text);
    (!id.is_empty()).then(|| id.to_owned())
}

fn event(
    name: &str,
    first: &Line,
    customer: &Option<String>,
    time: Timestamp,
    number: usize,
    properties: Value,
) -> Value {
    let mut event = json!({
        "type": "track",
        "event": name,
        "messageId": format!("{}-{}-{number}", first.invoice, time.micros() / 60_000_000),
        "timestamp": time,
        "properties": properties,
    });
    match customer {
        Some(id) => event["userId"] = Value::from(id.as_str()),
        None => event["anonymousId"] = Value::from(format!("basket-{}", first.invoice)),
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_year_is_read() {
        let mut lines = 0;
        let mut orders = 0;
        let mut before = Timestamp::EPOCH;
        for visit in visits().unwrap() {
            let visit = visit.unwrap();
            assert!(visit.time >= before, "visits come in the order of time");
            before = visit.time;
            lines += visit.lines;
            orders += u64::from(visit.is_order && visit.customer.is_some());
        }
        assert_eq!(lines, LINE_COUNT);
        assert_eq!(orders, 18_537);
    }

    #[test]
    fn the_project_file_is_valid() {
        tidemill_core::Project::parse(PROJECT).unwrap();
    }
}
