//! Outcomes as rows.

use std::sync::Arc;

use datafusion::arrow::array::{Float64Array, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::Schema;
use tidemill_core::Outcome;

use super::columns::{self, date, double, long, text, time};
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
