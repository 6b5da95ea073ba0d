//! Outcomes as rows.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, Float64Array, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::Schema;
use datafusion::arrow::datatypes::{Float64Type, Int64Type};
use tidemill_core::{DecisionId, ModelName, Outcome};

use super::columns::{self, Columns, date, double, long, text, time};
use super::table::TableSpec;
use crate::StoreError;
use crate::lake::Sequenced;

/// The column of the place in the outcome log.
const SEQUENCE: &str = "sequence";

/// The table of outcomes; its date is the day on which an outcome became certain.
pub(super) fn spec() -> TableSpec {
    TableSpec {
        application: "tidemill/outcomes".to_owned(),
        schema: Arc::new(Schema::new(vec![
            long(SEQUENCE, false),
            date(),
            text("decision", false),
            text("model", false),
            long("version", true),
            text("entity", false),
            time("moment"),
            time("resolved_at"),
            double("score"),
            double("value"),
            text("class", true),
        ])),
        by_date: true,
        order: Some(SEQUENCE),
        statistics: "sequence,decision,model,moment,resolved_at",
    }
}

/// Rows of outcomes, in the columns of [`spec`].
pub(super) fn encode(outcomes: &[Sequenced<Outcome>]) -> Result<RecordBatch, StoreError> {
    let rows = || outcomes.iter().map(|sequenced| &sequenced.value);
    let columns = vec![
        columns::places(outcomes.iter().map(|sequenced| sequenced.sequence))?,
        columns::dates(rows().map(|outcome| outcome.resolved_at)),
        columns::texts(rows().map(|outcome| outcome.decision.to_string())),
        columns::texts(rows().map(|outcome| outcome.model.as_str())),
        Arc::new(
            rows()
                .map(|outcome| outcome.version.map(i64::from))
                .collect::<Int64Array>(),
        ),
        columns::texts(rows().map(|outcome| &outcome.entity)),
        columns::times(rows().map(|outcome| outcome.moment)),
        columns::times(rows().map(|outcome| outcome.resolved_at)),
        Arc::new(Float64Array::from_iter_values(
            rows().map(|outcome| outcome.score),
        )),
        Arc::new(Float64Array::from_iter_values(
            rows().map(|outcome| outcome.value),
        )),
        columns::optional_texts(rows().map(|outcome| outcome.class.as_deref())),
    ];
    RecordBatch::try_new(spec().schema, columns)
        .map_err(|e| StoreError::backend("encode outcomes", e))
}

/// The outcomes of rows; why a fallback answered and what was taken of a list is in none of their columns.
pub(super) fn decode(rows: &RecordBatch) -> Result<Vec<Outcome>, StoreError> {
    let columns = Columns(rows);
    let (decisions, models) = (columns.texts("decision")?, columns.texts("model")?);
    let (entities, classes) = (columns.texts("entity")?, columns.optional_texts("class")?);
    let (moments, resolved) = (columns.times("moment")?, columns.times("resolved_at")?);
    let of = |name: &'static str| {
        let column = rows.column_by_name(name);
        column.ok_or_else(|| StoreError::corrupt("outcomes", format!("there is no column {name}")))
    };
    let versions = of("version")?.as_primitive::<Int64Type>();
    let (scores, values) = (
        of("score")?.as_primitive::<Float64Type>(),
        of("value")?.as_primitive::<Float64Type>(),
    );
    let outcome = |row: usize| {
        let version = versions.is_valid(row).then(|| versions.value(row));
        let id = decisions.value(row).parse::<DecisionId>();
        let model = models.value(row).parse::<ModelName>();
        Ok(Outcome {
            decision: id.map_err(|e| StoreError::corrupt("outcomes", e.to_string()))?,
            model: model.map_err(|e| StoreError::corrupt("outcomes", e.to_string()))?,
            version: version.and_then(|number| u32::try_from(number).ok()),
            fallback: None,
            entity: entities.value(row).to_owned(),
            moment: moments[row],
            resolved_at: resolved[row],
            score: scores.value(row),
            value: values.value(row),
            class: classes.is_valid(row).then(|| classes.value(row).to_owned()),
            list: None,
        })
    };
    (0..rows.num_rows()).map(outcome).collect()
}
