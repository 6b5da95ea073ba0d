//! A log of any size with the shape of the demo's shop, and the dataset that is made of it: what `bench/dataset/run` measures
//! beside SQL engines.
//!
//! ```sh
//! cargo run --release -p tidemill-features --example dataset_scale -- generate FOLDER [EVENTS] [PERSONS] [SEED]
//! cargo run --release -p tidemill-features --example dataset_scale -- build FOLDER OBSERVE [PARTITIONS] [MEMORY_MIB]
//! ```
//!
//! OBSERVE is `orders` or `events`: at what a row is read. `build` writes `FOLDER/tidemill-OBSERVE.parquet` and prints what it did
//! as JSON.

use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc::Receiver;

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::Compression;
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::properties::WriterProperties;
use serde_json::json;
use tidemill_core::clock::Stopwatch;
use tidemill_core::{Event, EventKind, Offset, Project, ProjectName, Timestamp};
use tidemill_features::FeatureSet;
use tidemill_features::dataset::{DatasetRequest, ReplayOptions, RowStream};
use tidemill_store::delta::{DeltaLake, DeltaOptions};
use tidemill_store::{DataFolder, Lake, LoggedEvent};

/// As in the binary.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Failure = Box<dyn std::error::Error>;

/// Twenty windowed features about a person.
const PROJECT: &str = r#"[project]
name = "scale"

[events."Order Completed"]
properties = { total = "float >= 0" }

[events."Product Ordered"]
properties = { product = "string", price = "float >= 0", amount = "float >= 0" }

[[features.user]]
name      = "orders"
aggregate = "count"
event     = "Order Completed"
windows   = ["1d", "7d", "30d", "90d"]

[[features.user]]
name      = "products"
aggregate = "count"
event     = "Product Ordered"
windows   = ["1d", "7d", "30d", "90d"]

[[features.user]]
name      = "spent"
aggregate = "sum"
event     = "Order Completed"
value     = "properties.total"
windows   = ["1d", "7d", "30d", "90d"]

[[features.user]]
name      = "price"
aggregate = "mean"
event     = "Product Ordered"
value     = "properties.price"
windows   = ["1d", "7d", "30d", "90d"]

[[features.user]]
name      = "largest"
aggregate = "max"
event     = "Product Ordered"
value     = "properties.amount"
windows   = ["1d", "7d", "30d", "90d"]

[models.orders]
kind    = "predict"
observe = { event = "Order Completed" }
target  = { event = "Order Completed", within = "1s" }

[models.events]
kind    = "predict"
observe = { event = "*" }
target  = { event = "Order Completed", within = "1s" }
"#;

/// Events that land together.
const LANDED_TOGETHER: usize = 200_000;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |place: usize, default: u64| match arguments.get(place) {
        Some(text) => text.parse::<u64>(),
        None => Ok(default),
    };
    match arguments.as_slice() {
        ["generate", folder, ..] => {
            generate(
                folder,
                number(2, 1_000_000)?,
                number(3, 20_000)?,
                number(4, 1)?,
            )
            .await
        }
        ["build", folder, observe, ..] => {
            let cores = std::thread::available_parallelism()?.get() as u64;
            let options = ReplayOptions {
                partitions: usize::try_from(number(3, cores)?)?,
                memory_bytes_max: usize::try_from(number(4, 1_024)?)? << 20,
                spill_folder: None,
            };
            build(folder, observe, &options).await
        }
        _ => Err("say generate FOLDER or build FOLDER orders|events".into()),
    }
}

fn name() -> Result<ProjectName, Failure> {
    Ok("scale".parse()?)
}

fn lake(folder: &str) -> Result<DeltaLake, Failure> {
    let folder = DataFolder::open(folder)?;
    Ok(DeltaLake::open(&folder, &DeltaOptions::default()))
}

/// Numbers that look random and are the same for a seed (SplitMix64: Steele, Lea, Flood, OOPSLA 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

/// A line of an invoice: the product, its price, what was paid for it.
type Line = (u32, f32, f32);

/// An invoice of a real customer: minutes since the beginning of the year, and its lines.
struct Order {
    minute: i64,
    lines: Vec<Line>,
}

/// The customers of the demo's shop, each with all orders, and the names of the products.
fn customers() -> Result<(Vec<Vec<Order>>, Vec<String>), Failure> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo/online_retail.csv.zst");
    let mut reader = csv::Reader::from_reader(zstd::Decoder::new(std::fs::File::open(path)?)?);
    let mut orders: HashMap<(String, String), Order> = HashMap::new();
    let (mut numbers, mut products) = (HashMap::new(), Vec::new());
    for record in reader.records() {
        let record = record?;
        let field = |place: usize| record.get(place).unwrap_or_default();
        let (quantity, price): (f32, f32) = (field(3).parse()?, field(5).parse()?);
        if field(6).is_empty() || quantity <= 0.0 {
            continue;
        }
        let product = *numbers.entry(field(1).to_owned()).or_insert_with(|| {
            products.push(field(1).to_owned());
            products.len() as u32 - 1
        });
        let at: Timestamp = format!("{}Z", field(4).replace(' ', "T")).parse()?;
        let order = orders
            .entry((field(6).to_owned(), field(0).to_owned()))
            .or_insert_with(|| Order {
                minute: at.micros() / 60_000_000,
                lines: Vec::new(),
            });
        order.lines.push((product, price, quantity * price));
    }
    let mut customers: std::collections::BTreeMap<String, Vec<Order>> = Default::default();
    let mut orders: Vec<_> = orders.into_iter().collect();
    orders.sort_by(|a, b| a.0.cmp(&b.0));
    for ((customer, _), order) in orders {
        customers.entry(customer).or_default().push(order);
    }
    Ok((customers.into_values().collect(), products))
}

/// One event of the generated log: microseconds, person, and a line, or the total of an order.
struct Made {
    at: i64,
    person: u32,
    line: Option<Line>,
    total: f32,
}

/// Each person does what a real customer did, some weeks earlier or later, with lines left out evenly until the number of events is
/// right.
fn made(events: u64, persons: u64, seed: u64) -> Result<(Vec<Made>, Vec<String>), Failure> {
    let (customers, products) = customers()?;
    let mut random = Random(seed);
    let per_person: usize = customers
        .iter()
        .flatten()
        .map(|order| order.lines.len() + 1)
        .sum::<usize>()
        / customers.len();
    let kept = (events as f64 / persons as f64) / per_person as f64;
    let mut made = Vec::with_capacity(events as usize + 1_000);
    let mut left: f64 = 0.0;
    for person in 0..persons as u32 {
        let customer = &customers[random.below(customers.len() as u64) as usize];
        let moved = random.below(60 * 86_400) as i64 * 1_000_000;
        for order in customer {
            let mut at = order.minute * 60_000_000 + moved + random.below(50_000_000) as i64;
            let mut total = 0.0;
            for line in &order.lines {
                left += kept;
                if left < 1.0 {
                    continue;
                }
                left -= left.floor();
                at += 1;
                total += line.2;
                made.push(Made {
                    at,
                    person,
                    line: Some(*line),
                    total: 0.0,
                });
            }
            if total > 0.0 {
                made.push(Made {
                    at: at + 1,
                    person,
                    line: None,
                    total,
                });
            }
        }
    }
    made.sort_by_key(|event| (event.at, event.person));
    Ok((made, products))
}

async fn generate(folder: &str, events: u64, persons: u64, seed: u64) -> Result<(), Failure> {
    let (made, products) = made(events, persons, seed)?;
    let (lake, project) = (lake(folder)?, name()?);
    let mut offset = 0;
    for chunk in made.chunks(LANDED_TOGETHER) {
        let logged: Vec<LoggedEvent> = chunk
            .iter()
            .map(|made| {
                offset += 1;
                LoggedEvent {
                    offset: Offset(offset),
                    event: event(offset, made, &products),
                }
            })
            .collect();
        lake.land_events(&project, &logged).await?;
    }
    println!(
        "{}",
        json!({ "events": offset, "persons": persons, "seed": seed })
    );
    Ok(())
}

fn event(offset: u64, made: &Made, products: &[String]) -> Event {
    let cents = |amount: f32| (f64::from(amount) * 100.0).round() / 100.0;
    let (name, properties) = match made.line {
        Some((product, price, amount)) => (
            "Product Ordered",
            json!({ "product": products[product as usize], "price": cents(price), "amount": cents(amount) }),
        ),
        None => ("Order Completed", json!({ "total": cents(made.total) })),
    };
    Event {
        message_id: format!("m{offset}"),
        kind: EventKind::Track,
        name: name.to_owned(),
        user_id: Some(format!("{}", 100_000 + made.person)),
        anonymous_id: None,
        previous_id: None,
        group_id: None,
        timestamp: Timestamp::from_micros(made.at),
        received_at: Timestamp::from_micros(made.at),
        historical: true,
        properties: properties.as_object().cloned().unwrap_or_default(),
        context: serde_json::Map::new(),
    }
}

async fn build(folder: &str, observe: &str, options: &ReplayOptions) -> Result<(), Failure> {
    let watch = Stopwatch::start();
    let (lake, project) = (lake(folder)?, name()?);
    let snapshot = lake.events_snapshot(&project).await?;
    let events = lake.event_table(&project, snapshot).await?;
    let project = Project::parse(PROJECT)?;
    let set = FeatureSet::compile(&project, &project.features)?;
    let model = project
        .models
        .get(&observe.parse()?)
        .ok_or("orders or events")?;
    let features = set.select(model)?;
    let request = DatasetRequest {
        model,
        features,
        from: None,
    };
    let far = Timestamp::from_micros(2_000_000_000_000_000);
    let mut stream = RowStream::start(&set, &[request], events, far, options)?;
    let path = Path::new(folder).join(format!("tidemill-{observe}.parquet"));
    let (sender, receiver) = std::sync::mpsc::sync_channel(4);
    let writing = tokio::task::spawn_blocking(move || write(&path, &receiver));
    let mut rows = 0;
    while let Some(batch) = stream.next().await? {
        rows += batch.num_rows();
        sender.send(batch)?;
    }
    drop(sender);
    writing.await?.map_err(|error| error.to_string())?;
    eprintln!("{}", stream.explained());
    let seconds = watch.seconds();
    println!(
        "{}",
        json!({ "rows": rows, "seconds": seconds, "events": snapshot.last.0 })
    );
    Ok(())
}

/// Writes rows as they come. Numbers that hardly repeat need no dictionary.
fn write(path: &Path, rows: &Receiver<RecordBatch>) -> Result<(), ParquetError> {
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_compression(Compression::SNAPPY);
    let mut writer = None;
    for batch in rows {
        let writer = match &mut writer {
            Some(writer) => writer,
            None => writer.insert(ArrowWriter::try_new(
                std::fs::File::create(path)?,
                batch.schema(),
                Some(properties.clone().build()),
            )?),
        };
        writer.write(&batch)?;
    }
    if let Some(writer) = writer {
        writer.close()?;
    }
    Ok(())
}
