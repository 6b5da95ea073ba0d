//! Decisions as rows: columns to query by, and the whole decision as JSON.

use std::fs::File;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch,
};
use datafusion::arrow::datatypes::Schema;
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::{
    ArrowPredicateFn, ParquetRecordBatchReaderBuilder, RowFilter,
};
use serde_json::Value;
use tidemill_core::{Decision, DecisionId};

use super::columns::{self, Columns, date, double, long, text, time};
use super::table::{DataFile, TableSpec};
use crate::StoreError;
use crate::lake::Sequenced;

/// The column of the place in the decision log.
const SEQUENCE: &str = "sequence";
const ID: &str = "id";
const DECISION: &str = "decision";

pub(super) fn spec() -> TableSpec {
    TableSpec {
        application: "tidemill/decisions".to_owned(),
        schema: Arc::new(Schema::new(vec![
            long(SEQUENCE, false),
            date(),
            text(ID, false),
            text("model", false),
            long("version", true),
            text("fallback", true),
            text("entity", false),
            time("moment"),
            long("offset", false),
            double("score"),
            text("label", true),
            long("latency_us", false),
            text(DECISION, false),
        ])),
        by_date: true,
        order: Some(SEQUENCE),
        statistics: "sequence,id,model,moment",
    }
}

/// Rows of decisions, in the columns of [`spec`].
pub(super) fn encode(decisions: &[Sequenced<Decision>]) -> Result<RecordBatch, StoreError> {
    let rows = || decisions.iter().map(|sequenced| &sequenced.value);
    let encoding = |e| StoreError::backend("encode decisions", e);
    let json: Result<Vec<String>, _> = rows().map(serde_json::to_string).collect();
    let fallbacks: Result<Vec<Option<Value>>, _> = rows()
        .map(|decision| decision.fallback.map(serde_json::to_value).transpose())
        .collect();
    let columns = vec![
        columns::places(decisions.iter().map(|sequenced| sequenced.sequence))?,
        columns::dates(rows().map(|decision| decision.moment)),
        columns::texts(rows().map(|decision| decision.id.to_string())),
        columns::texts(rows().map(|decision| decision.model.as_str())),
        Arc::new(
            rows()
                .map(|decision| decision.version.map(i64::from))
                .collect::<Int64Array>(),
        ),
        columns::optional_texts(
            fallbacks
                .map_err(encoding)?
                .iter()
                .map(|fallback| fallback.as_ref().and_then(Value::as_str)),
        ),
        columns::texts(rows().map(|decision| &decision.entity)),
        columns::times(rows().map(|decision| decision.moment)),
        columns::places(rows().map(|decision| decision.offset.0))?,
        Arc::new(Float64Array::from_iter_values(
            rows().map(|decision| decision.answer.score),
        )),
        columns::optional_texts(rows().map(|decision| decision.answer.label.as_deref())),
        columns::places(rows().map(|decision| decision.latency_us))?,
        columns::texts(json.map_err(encoding)?.iter()),
    ];
    RecordBatch::try_new(spec().schema, columns)
        .map_err(|e| StoreError::backend("encode decisions", e))
}

/// The decisions of rows.
pub(super) fn decode(rows: &RecordBatch) -> Result<Vec<Decision>, StoreError> {
    let json = Columns(rows).texts(DECISION)?;
    let decisions = json.iter().flatten().map(|text| {
        serde_json::from_str(text).map_err(|e| StoreError::corrupt("a decision", e.to_string()))
    });
    decisions.collect()
}

/// Looks one decision up, newest files first. Ids begin with the time, so that few files can hold one.
pub(super) fn find(
    mut files: Vec<DataFile>,
    id: DecisionId,
) -> Result<Option<Decision>, StoreError> {
    let id = id.to_string();
    files.retain(|file| may_hold(file, &id));
    for file in files {
        if let Some(decision) = find_in(&file, &id)? {
            return Ok(Some(decision));
        }
    }
    Ok(None)
}

fn may_hold(file: &DataFile, id: &str) -> bool {
    // The texts of statistics may be cut off, the largest one then possibly below the id.
    let least = file.least(ID).and_then(Value::as_str);
    let greatest = file.greatest(ID).and_then(Value::as_str);
    least.is_none_or(|least| least <= id)
        && greatest.is_none_or(|greatest| id.get(..greatest.len()).unwrap_or(id) <= greatest)
}

fn find_in(file: &DataFile, id: &str) -> Result<Option<Decision>, StoreError> {
    let what = file.path.display().to_string();
    let damaged = |detail: String| StoreError::corrupt(what.clone(), detail);
    let opened = File::open(&file.path).map_err(|e| StoreError::file("open", &file.path, e))?;
    let builder =
        ParquetRecordBatchReaderBuilder::try_new(opened).map_err(|e| damaged(e.to_string()))?;
    let columns = builder.parquet_schema();
    let (ids, wanted) = (
        ProjectionMask::columns(columns, [ID]),
        ProjectionMask::columns(columns, [DECISION]),
    );
    let id = id.to_owned();
    let is_it = ArrowPredicateFn::new(ids, move |rows: RecordBatch| {
        let ids = rows.column(0).as_string::<i32>();
        Ok(BooleanArray::from_iter(
            (0..ids.len()).map(|row| Some(ids.value(row) == id)),
        ))
    });
    let reader = builder
        .with_projection(wanted)
        .with_row_filter(RowFilter::new(vec![Box::new(is_it)]))
        .build()
        .map_err(|e| damaged(e.to_string()))?;
    for rows in reader {
        let rows = rows.map_err(|e| damaged(e.to_string()))?;
        if rows.num_rows() > 0 {
            let json = Columns(&rows).texts(DECISION)?;
            return serde_json::from_str(json.value(0))
                .map(Some)
                .map_err(|e| damaged(e.to_string()));
        }
    }
    Ok(None)
}
