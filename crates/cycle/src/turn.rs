//! Who asks for a training while one is under way sets off nothing, so that impatience does not pile up runs.

use std::sync::Arc;

use tidemill_core::ModelName;

use crate::project_loop::ProjectLoop;

/// The right of a person to train a model or to build a dataset of it; given back when it is dropped.
pub struct Turn {
    project: Arc<ProjectLoop>,
    model: ModelName,
}

impl ProjectLoop {
    /// The right to train a model; `None` while somebody else has it.
    pub fn take_turn(self: &Arc<Self>, model: &ModelName) -> Option<Turn> {
        self.turns.lock().insert(model.clone()).then(|| Turn {
            project: self.clone(),
            model: model.clone(),
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.project.turns.lock().remove(&self.model);
    }
}
