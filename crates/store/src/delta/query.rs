//! Questions in SQL over the tables, with DataFusion.

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{Array, AsArray, RecordBatch, StringBuilder};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::DFSchema;
use datafusion::common::config::Dialect;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::DataFusionError;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::sqlparser::ast::BinaryOperator;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::{SessionConfig, SessionContext};
use deltalake_core::DeltaTable;
use futures::StreamExt;
use serde_json::Value;

use super::table::{failed, off_executor};
use crate::StoreError;
use crate::query::{QueryAnswer, QueryColumn, QueryError, QueryLimits, QueryTable};

/// How cells are written.
const FORMAT: FormatOptions<'static> = FormatOptions::new()
    .with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.fZ"))
    .with_timestamp_format(Some("%Y-%m-%dT%H:%M:%S%.f"));

/// The columns of tables.
pub(super) fn describe(tables: Vec<(String, DeltaTable)>) -> Result<Vec<QueryTable>, StoreError> {
    let described = tables.into_iter().map(|(name, table)| {
        let state = table.snapshot().map_err(|e| failed("read the table", e))?;
        Ok(QueryTable {
            columns: columns(&state.snapshot().arrow_schema()),
            name,
        })
    });
    described.collect()
}

/// Answers a question in the time that is left, away from the executor: on one thread, so that answers to programs keep the others.
pub(super) async fn answer(
    tables: Vec<(String, DeltaTable)>,
    sql: &str,
    (limits, left): (&QueryLimits, Duration),
) -> Result<QueryAnswer, QueryError> {
    let (sql, limits) = (sql.to_owned(), limits.clone());
    off_executor(async move {
        let asked = tokio::time::timeout(left, ask(tables, &sql, &limits));
        Ok(asked
            .await
            .unwrap_or(Err(QueryError::TooSlow(limits.time_max))))
    })
    .await?
}

async fn ask(
    tables: Vec<(String, DeltaTable)>,
    sql: &str,
    limits: &QueryLimits,
) -> Result<QueryAnswer, QueryError> {
    let context = context(limits).map_err(refused)?;
    for (name, table) in tables {
        let provider = table
            .table_provider()
            .await
            .map_err(|e| StoreError::backend("read the table", e))?;
        context.register_table(name, provider).map_err(refused)?;
    }
    let only_questions = SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false);
    let frame = context
        .sql_with_options(sql, only_questions)
        .await
        .map_err(refused)?;
    let engine = Arc::new(frame.task_ctx());
    let plan = frame.create_physical_plan().await.map_err(refused)?;
    let plan = interruptible(plan).map_err(refused)?;
    let mut stream = execute_stream(plan, engine).map_err(refused)?;
    let mut answer = QueryAnswer {
        columns: columns(&stream.schema()),
        rows: Vec::new(),
        more: false,
    };
    let mut bytes = 0;
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(refused)?;
        let left = limits.rows_max - answer.rows.len();
        answer.more = batch.num_rows() > left;
        let batch = batch.slice(0, batch.num_rows().min(left));
        bytes += add_rows(&mut answer.rows, &batch).map_err(refused)?;
        if bytes > limits.answer_bytes_max {
            return Err(QueryError::TooLarge(format!(
                "the answer is larger than {} MiB: ask for fewer columns or rows",
                limits.answer_bytes_max >> 20
            )));
        }
        if answer.more {
            break;
        }
    }
    Ok(answer)
}

/// The same plan, of which every part gives the clock a turn now and then. By itself only what reads does, and a join of
/// few rows with each other can go on for hours without reading.
fn interruptible(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    let wrapped = plan.transform_up(|part| {
        let part: Arc<dyn ExecutionPlan> = Arc::new(CooperativeExec::new(part));
        Ok(Transformed::yes(part))
    });
    wrapped.map(|wrapped| wrapped.data)
}

/// An engine that knows nothing yet and can do nothing but compute within the limits.
fn context(limits: &QueryLimits) -> Result<SessionContext, DataFusionError> {
    let no_disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(limits.memory_bytes_max)))
        .with_disk_manager_builder(no_disk)
        .build_arc()?;
    let mut config = SessionConfig::new()
        .with_target_partitions(1)
        .with_information_schema(true);
    // there `properties ->> 'a' = 'b'` compares what the arrow takes
    config.options_mut().sql_parser.dialect = Dialect::PostgreSQL;
    let (as_text, as_json) = (taker("json_text", true), taker("json_value", false));
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        .build();
    let context = SessionContext::new_with_state(state);
    context.register_udf(as_text.clone());
    context.register_udf(as_json.clone());
    let arrows = Arrows { as_text, as_json };
    context
        .state_ref()
        .write()
        .register_expr_planner(Arc::new(arrows))?;
    Ok(context)
}

fn columns(schema: &SchemaRef) -> Vec<QueryColumn> {
    let described = schema.fields().iter().map(|field| {
        let kind = field.data_type();
        QueryColumn {
            name: field.name().clone(),
            is_number: kind.is_numeric(),
            kind: match kind {
                kind if kind.is_numeric() => "number".to_owned(),
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".to_owned(),
                DataType::Timestamp(..) => "time".to_owned(),
                DataType::Date32 | DataType::Date64 => "date".to_owned(),
                DataType::Boolean => "yes or no".to_owned(),
                other => other.to_string(),
            },
        }
    });
    described.collect()
}

/// Adds the rows of a batch and returns how many bytes their texts have.
fn add_rows(
    rows: &mut Vec<Vec<Option<String>>>,
    batch: &RecordBatch,
) -> Result<usize, DataFusionError> {
    let cells: Result<Vec<ArrayFormatter<'_>>, _> = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &FORMAT))
        .collect();
    let cells = cells?;
    let mut bytes = 0;
    for row in 0..batch.num_rows() {
        let mut written = Vec::with_capacity(cells.len());
        for (column, cell) in batch.columns().iter().zip(&cells) {
            let text = (!column.is_null(row)).then(|| cell.value(row).try_to_string());
            let text = text.transpose()?;
            bytes += text.as_ref().map_or(0, String::len);
            written.push(text);
        }
        rows.push(written);
    }
    Ok(bytes)
}

/// What an error of the engine means for whoever asked.
fn refused(error: impl Into<DataFusionError>) -> QueryError {
    let error = error.into();
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => QueryError::TooLarge(
            "it needs more memory than a question may have: ask for fewer days, columns or groups"
                .to_owned(),
        ),
        DataFusionError::IoError(_)
        | DataFusionError::ObjectStore(_)
        | DataFusionError::ParquetError(_) => {
            QueryError::Store(StoreError::backend("read the tables", error))
        }
        root => QueryError::Refused(root.strip_backtrace()),
    }
}

/// `column ->> 'key'` and `column -> 'key'` for columns that hold JSON.
#[derive(Debug)]
struct Arrows {
    as_text: ScalarUDF,
    as_json: ScalarUDF,
}

impl ExprPlanner for Arrows {
    fn plan_binary_op(
        &self,
        expression: RawBinaryExpr,
        _: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>, DataFusionError> {
        let take = match expression.op {
            BinaryOperator::LongArrow => &self.as_text,
            BinaryOperator::Arrow => &self.as_json,
            _ => return Ok(PlannerResult::Original(expression)),
        };
        let taken = take.call(vec![expression.left, expression.right]);
        Ok(PlannerResult::Planned(taken))
    }
}

/// A function of a text of JSON and a key that takes the value out: as JSON, or a text without its quotes.
fn taker(name: &str, is_text: bool) -> ScalarUDF {
    let take = move |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let [json, keys] = arrays.as_slice() else {
            return Err(DataFusionError::Plan(
                "it takes a JSON text and a key".to_owned(),
            ));
        };
        let (json, keys) = (json.as_string::<i32>(), keys.as_string::<i32>());
        let mut taken = StringBuilder::new();
        for (json, key) in json.iter().zip(keys) {
            taken.append_option(
                json.zip(key)
                    .and_then(|(json, key)| value_at(json, key, is_text)),
            );
        }
        Ok(ColumnarValue::Array(Arc::new(taken.finish())))
    };
    let texts = vec![DataType::Utf8, DataType::Utf8];
    create_udf(
        name,
        texts,
        DataType::Utf8,
        Volatility::Immutable,
        Arc::new(take),
    )
}

fn value_at(json: &str, key: &str, is_text: bool) -> Option<String> {
    let value: Value = serde_json::from_str(json).ok()?;
    let found = match &value {
        Value::Object(fields) => fields.get(key)?,
        Value::Array(values) => values.get(key.parse::<usize>().ok()?)?,
        _ => return None,
    };
    match found {
        Value::Null => None,
        Value::String(text) if is_text => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
