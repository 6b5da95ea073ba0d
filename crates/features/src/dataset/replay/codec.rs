//! The operators as bytes, so that a plan can be sent to other machines and run there, as Ballista does.

use std::fmt;
use std::sync::Arc;

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use serde::{Deserialize, Serialize};
use tidemill_core::sync::Mutex;
use tidemill_store::{EventTable, StoreError};

use super::exec::ReplayExec;
use super::recipe::PlanRecipe;
use super::steps_exec::StepsExec;
use crate::dataset::asked::Asked;

/// How events are opened from what [`EventTable::description`] said of them.
type Open = dyn Fn(&str) -> std::result::Result<Arc<dyn EventTable>, StoreError> + Send + Sync;

/// Writes and reads the operators of a [`PlanRecipe`]'s plan; an extension codec for `datafusion_proto`.
pub struct ReplayCodec {
    open: Box<Open>,
    /// What was read last: the operators of one plan share it.
    known: Mutex<Option<(PlanRecipe, Arc<Asked>)>>,
}

impl fmt::Debug for ReplayCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplayCodec")
    }
}

/// An operator as it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    recipe: PlanRecipe,
    node: Node,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "operator", rename_all = "snake_case")]
enum Node {
    Steps {
        entity: usize,
        partitions: usize,
        events: String,
    },
    Replay {
        other: Option<(usize, usize)>,
    },
}

impl ReplayCodec {
    /// A codec that opens events with this function where a plan is read.
    pub fn new(
        open: impl Fn(&str) -> std::result::Result<Arc<dyn EventTable>, StoreError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self {
            open: Box::new(open),
            known: Mutex::new(None),
        }
    }

    fn asked(&self, recipe: &PlanRecipe) -> Result<Arc<Asked>> {
        let mut known = self.known.lock();
        if let Some((of, asked)) = &*known
            && of == recipe
        {
            return Ok(asked.clone());
        }
        let asked = recipe.asked().map_err(|error| external(error.into()))?;
        let asked = Arc::new(asked);
        *known = Some((recipe.clone(), asked.clone()));
        Ok(asked)
    }
}

fn external(error: Box<dyn std::error::Error + Send + Sync>) -> DataFusionError {
    DataFusionError::External(error)
}

fn refused(message: &str) -> DataFusionError {
    DataFusionError::NotImplemented(message.to_owned())
}

impl PhysicalExtensionCodec for ReplayCodec {
    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buffer: &mut Vec<u8>,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let (asked, node) = if let Some(steps) = node.downcast_ref::<StepsExec>() {
            let events = steps.events.description();
            let node = Node::Steps {
                entity: steps.entity,
                partitions: steps.partitions,
                events: events
                    .ok_or_else(|| refused("these events cannot be opened on another machine"))?,
            };
            (&steps.asked, node)
        } else if let Some(replay) = node.downcast_ref::<ReplayExec>() {
            let other = replay.other;
            (&replay.asked, Node::Replay { other })
        } else {
            let message = format!("{} is not an operator of a replay", node.name());
            return Err(refused(&message));
        };
        let recipe = asked.recipe.clone();
        let recipe = recipe.ok_or_else(|| refused("the plan was not made by a recipe"))?;
        let written = Written { recipe, node };
        serde_json::to_writer(buffer, &written).map_err(|error| external(error.into()))
    }

    fn try_decode(
        &self,
        buffer: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        _: &TaskContext,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let written: Written =
            serde_json::from_slice(buffer).map_err(|error| external(error.into()))?;
        let asked = self.asked(&written.recipe)?;
        Ok(match (written.node, inputs) {
            (
                Node::Steps {
                    entity,
                    partitions,
                    events,
                },
                [],
            ) => {
                let events = (self.open)(&events).map_err(|error| external(error.into()))?;
                Arc::new(StepsExec::new(asked, entity, events, partitions))
            }
            (Node::Replay { other: None }, [steps]) => {
                Arc::new(ReplayExec::persons(asked, steps.clone()))
            }
            (Node::Replay { other: Some(other) }, [steps, rows]) => {
                Arc::new(ReplayExec::keys(asked, other, steps.clone(), rows.clone()))
            }
            _ => {
                let message = "an operator of a replay has other inputs than it had".to_owned();
                return Err(DataFusionError::Internal(message));
            }
        })
    }
}
