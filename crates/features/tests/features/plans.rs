//! Plans that are written, read and run elsewhere.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch, UInt64Array};
use datafusion::arrow::compute::{concat_batches, take_record_batch};
use datafusion::arrow::datatypes::UInt32Type;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, collect_partitioned};
use datafusion_proto::bytes::{
    physical_plan_from_bytes_with_extension_codec, physical_plan_to_bytes_with_extension_codec,
};
use serde_json::json;
use tempfile::TempDir;
use tidemill_features::dataset::{PlanRecipe, RecipeModel, ReplayCodec};
use tidemill_store::delta::{DeltaLake, DeltaOptions, open_events};
use tidemill_store::memory::MemoryEvents;
use tidemill_store::{DataFolder, EventTable, Lake};

use crate::samples::{at, event, runtime};

const DAY: i64 = 86_400;

const PROJECT: &str = "[project]\nname = \"shop\"\n\
    [items]\nid = \"properties.item\"\n\
    [[features.user]]\nname = \"orders\"\naggregate = \"count\"\nevent = \"Order\"\nwindows = [\"7d\"]\n\
    [[features.user]]\nname = \"dear\"\naggregate = \"count\"\nevent = \"Order\"\nwhere = \"properties.total > 12\"\n\
    [[features.item]]\nname = \"sold\"\naggregate = \"sum\"\nevent = \"Order\"\nvalue = \"properties.total\"\n\
    [models.again]\nkind = \"predict\"\nobserve = { event = \"Order\" }\ntarget = { event = \"Order\", within = \"7d\" }\n\
    [models.weekly]\nkind = \"predict\"\nobserve = { every = \"7d\", active_within = \"30d\" }\n\
    target = { sum = \"Order.properties.total\", within = \"7d\" }\n";

fn recipe() -> PlanRecipe {
    let model = |name: &str, from| RecipeModel {
        name: name.parse().unwrap(),
        from,
    };
    PlanRecipe {
        project: PROJECT.to_owned(),
        models: vec![model("again", Some(at(5 * DAY))), model("weekly", None)],
        known_until: at(60 * DAY),
    }
}

/// What a plan says, in the order of the rows' numbers.
async fn rows(plan: Arc<dyn ExecutionPlan>) -> RecordBatch {
    let schema = plan.schema();
    let partitions = collect_partitioned(plan, Arc::new(TaskContext::default()));
    let batches: Vec<RecordBatch> = partitions.await.unwrap().into_iter().flatten().collect();
    let all = concat_batches(&schema, &batches).unwrap();
    let numbers = all.column(0).as_primitive::<UInt32Type>().values();
    let mut order: Vec<u64> = (0..all.num_rows() as u64).collect();
    order.sort_unstable_by_key(|&row| numbers[row as usize]);
    take_record_batch(&all, &UInt64Array::from(order)).unwrap()
}

/// The names and values of the counts of a plan that has run.
fn counts(plan: &dyn ExecutionPlan) -> Vec<String> {
    let own = plan.metrics().into_iter().flat_map(|metrics| {
        let metrics = metrics.aggregate_by_name();
        let told = metrics.iter().map(|metric| metric.value().clone());
        let counts =
            told.filter(|value| value.name().contains('.') || value.name() == "last_offset");
        counts
            .map(|value| format!("{}={}", value.name(), value.as_usize()))
            .collect::<Vec<_>>()
    });
    let below = plan
        .children()
        .into_iter()
        .flat_map(|child| counts(child.as_ref()));
    let mut all: Vec<String> = own.chain(below).collect();
    all.sort();
    all
}

#[test]
fn a_plan_that_was_written_and_read_gives_the_same_rows() {
    let events: Vec<_> = (0..400_i64)
        .map(|number| {
            let properties = json!({ "item": format!("i{}", number % 7), "total": number % 23 });
            let fields = json!({
                "name": "Order", "user_id": format!("u{}", number * number % 31), "properties": properties
            });
            event(number as u64 + 1, number * DAY / 8, fields)
        })
        .collect();
    let folder = TempDir::new().unwrap();
    runtime().block_on(async {
        let lake = DeltaLake::open(
            &DataFolder::open(folder.path()).unwrap(),
            &DeltaOptions::default(),
        );
        let project = "shop".parse().unwrap();
        for landed in events.chunks(150) {
            lake.land_events(&project, landed).await.unwrap();
        }
        let snapshot = lake.events_snapshot(&project).await.unwrap();
        let table: Arc<dyn EventTable> = lake.event_table(&project, snapshot).await.unwrap();

        let here = recipe().plan(&table, 3).unwrap();
        let codec = ReplayCodec::new(open_events);
        let bytes = physical_plan_to_bytes_with_extension_codec(here.clone(), &codec).unwrap();
        // another process knows nothing but the bytes
        let context = TaskContext::default();
        let codec = ReplayCodec::new(open_events);
        let there =
            physical_plan_from_bytes_with_extension_codec(&bytes, &context, &codec).unwrap();
        let (ours, theirs) = (rows(here.clone()).await, rows(there.clone()).await);
        assert!(ours.num_rows() > 300, "{}", ours.num_rows());
        assert_eq!(ours, theirs);
        let (ours, theirs) = (counts(here.as_ref()), counts(there.as_ref()));
        assert!(ours.contains(&"last_offset=400".to_owned()), "{ours:?}");
        assert!(
            ours.iter()
                .any(|count| count.starts_with("again.before_start=")),
            "{ours:?}"
        );
        assert_eq!(ours, theirs);

        // events in the memory of one process cannot be read by another
        let table: Arc<dyn EventTable> = Arc::new(MemoryEvents::new(&events).unwrap());
        let plan = recipe().plan(&table, 3).unwrap();
        let refused = physical_plan_to_bytes_with_extension_codec(plan, &codec);
        let refused = refused.unwrap_err().to_string();
        assert!(
            refused.contains("cannot be opened on another machine"),
            "{refused}"
        );
    });
}

#[test]
fn a_recipe_without_its_model_says_so() {
    let mut recipe = recipe();
    recipe.models[0].name = "other".parse().unwrap();
    let table: Arc<dyn EventTable> = Arc::new(MemoryEvents::default());
    let error = recipe.plan(&table, 1).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("models.other"), "{cause}");
}
