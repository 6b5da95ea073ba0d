//! `recommend`: a list for somebody, items next to one, or lists for everybody in a file.

use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result};
use datafusion::arrow::array::{ArrayRef, Float64Array, StringArray, UInt32Array};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;
use serde_json::{Value, json};
use tidemill_core::notation::percent_encoded;

use super::dataset::spinner;
use super::decisions::by;
use super::target_file::{FileFormat, TargetFile};
use crate::cli::RecommendArgs;
use crate::client::Client;
use crate::output::{Output, table, thousands};

/// Persons that are asked for at a time.
const PAGE: usize = 500;
/// The columns of a file of lists: a row for each item.
const COLUMNS: [&str; 8] = [
    "user",
    "rank",
    "item",
    "score",
    "propensity",
    "reason",
    "decision_id",
    "version",
];

/// Asks a model for items.
pub async fn run(client: &Client, args: &RecommendArgs, output: Output) -> Result<()> {
    if let (true, Some(to)) = (args.all, &args.to) {
        return all(client, args, TargetFile::new(to, args.overwrite)?, output).await;
    }
    let answer = match &args.similar {
        Some(item) => {
            let item = percent_encoded(item);
            let path = format!(
                "/v1/similar/{}/{item}?reasons=true&limit={}",
                args.model, args.limit
            );
            client.get(&path).await?
        }
        None => {
            let body = json!({
                "user": args.user, "anonymous_id": args.anonymous_id, "session": args.session, "limit": args.limit,
                "exclude": args.exclude, "filter": args.filter, "diversity": args.diversity, "reasons": true,
            });
            let path = format!("/v1/recommend/{}", args.model);
            client.post(&path, &body).await?
        }
    };
    output.result(&answer, |answer| {
        let rows: Vec<Vec<String>> = answer["items"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|item| {
                let score = item["score"].as_f64().unwrap_or(f64::NAN);
                vec![
                    item["item"].as_str().unwrap_or("").to_owned(),
                    format!("{score:.2}"),
                    item["reason"].as_str().unwrap_or("").to_owned(),
                ]
            })
            .collect();
        let list = match rows.is_empty() {
            true => {
                "nothing may be shown: no items were taken or sent yet, or a filter leaves none"
                    .to_owned()
            }
            false => table(&["item", "score", "why"], &rows),
        };
        format!("{list}\n\n{}", by(answer))
    });
    Ok(())
}

/// Lists for everybody, into a file.
async fn all(
    client: &Client,
    args: &RecommendArgs,
    target: TargetFile,
    output: Output,
) -> Result<()> {
    let mut file = Lists::new(target.format, target.create()?)?;
    let spinner = spinner(format!("recommending {} to everybody", args.model));
    let path = format!("/v1/recommend/{}/batch", args.model);
    let (mut persons, mut rows, mut after) = (0_u64, 0_u64, Value::Null);
    loop {
        let body = json!({
            "limit": args.limit, "filter": args.filter, "diversity": args.diversity, "reasons": true,
            "active_within": args.active_within, "count": PAGE, "after": after,
        });
        let page = client.post(&path, &body).await?;
        let lists = page["lists"].as_array().map_or(&[][..], Vec::as_slice);
        persons += lists.len() as u64;
        rows += file.write(lists)?;
        spinner.set_message(format!("{} persons", thousands(persons)));
        after = page["next"].clone();
        if after.is_null() {
            break;
        }
    }
    spinner.finish_and_clear();
    file.finish()?;
    let format = target.format.as_str();
    let bytes = target.finish()?;
    let result = json!({
        "model": args.model, "file": args.to, "format": format, "persons": persons, "rows": rows, "bytes": bytes,
    });
    output.result(&result, |_| {
        let to = args.to.as_ref().map(|to| to.display().to_string());
        format!(
            "{}: {} items for {} persons; each list is a decision, so what becomes of it will be known",
            to.unwrap_or_default(),
            thousands(rows),
            thousands(persons)
        )
    });
    Ok(())
}

/// A file of lists that is being written.
enum Lists {
    Parquet(Box<ArrowWriter<File>>),
    Csv(Box<csv::Writer<File>>),
}

impl Lists {
    fn new(format: FileFormat, file: File) -> Result<Self> {
        Ok(match format {
            FileFormat::Parquet => {
                let zstd = Compression::ZSTD(ZstdLevel::try_new(3)?);
                let properties = WriterProperties::builder().set_compression(zstd).build();
                let schema = batch(&[])?.schema();
                let writer = ArrowWriter::try_new(file, schema, Some(properties));
                Self::Parquet(Box::new(writer.context("write the file")?))
            }
            FileFormat::Csv => {
                let mut writer = csv::Writer::from_writer(file);
                writer.write_record(COLUMNS).context("write the file")?;
                Self::Csv(Box::new(writer))
            }
        })
    }

    /// Adds some lists; returns how many rows they are.
    fn write(&mut self, lists: &[Value]) -> Result<u64> {
        let rows: Vec<Row<'_>> = lists.iter().flat_map(rows).collect();
        match self {
            Self::Parquet(writer) => writer.write(&batch(&rows)?).context("write the file")?,
            Self::Csv(writer) => {
                for row in &rows {
                    let rank = row.rank.to_string();
                    let (score, propensity) = (row.score.to_string(), row.propensity.to_string());
                    let record = [
                        row.user,
                        &rank,
                        row.item,
                        &score,
                        &propensity,
                        row.reason,
                        row.decision,
                        row.version,
                    ];
                    writer.write_record(record).context("write the file")?;
                }
            }
        }
        Ok(rows.len() as u64)
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::Parquet(writer) => writer.close().map(|_| ()).context("write the file"),
            Self::Csv(mut writer) => writer.flush().context("write the file"),
        }
    }
}

/// An item of somebody's list.
struct Row<'l> {
    user: &'l str,
    rank: u32,
    item: &'l str,
    score: f64,
    propensity: f64,
    reason: &'l str,
    decision: &'l str,
    version: &'l str,
}

fn rows(list: &Value) -> impl Iterator<Item = Row<'_>> {
    let items = list["items"].as_array().into_iter().flatten();
    items.zip(1..).map(|(item, rank)| Row {
        user: list["user"].as_str().unwrap_or(""),
        rank,
        item: item["item"].as_str().unwrap_or(""),
        score: item["score"].as_f64().unwrap_or(f64::NAN),
        propensity: item["propensity"].as_f64().unwrap_or(f64::NAN),
        reason: item["reason"].as_str().unwrap_or(""),
        decision: list["decision_id"].as_str().unwrap_or(""),
        version: list["version"].as_str().unwrap_or("fallback"),
    })
}

fn batch(rows: &[Row<'_>]) -> Result<RecordBatch> {
    let texts = |of: fn(&Row<'_>) -> String| -> ArrayRef {
        Arc::new(
            rows.iter()
                .map(|row| Some(of(row)))
                .collect::<StringArray>(),
        )
    };
    let numbers = |of: fn(&Row<'_>) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(rows.iter().map(of)))
    };
    let ranks = UInt32Array::from_iter_values(rows.iter().map(|row| row.rank));
    let columns: [ArrayRef; 8] = [
        texts(|row| row.user.to_owned()),
        Arc::new(ranks),
        texts(|row| row.item.to_owned()),
        numbers(|row| row.score),
        numbers(|row| row.propensity),
        texts(|row| row.reason.to_owned()),
        texts(|row| row.decision.to_owned()),
        texts(|row| row.version.to_owned()),
    ];
    Ok(RecordBatch::try_from_iter(
        COLUMNS.into_iter().zip(columns),
    )?)
}
