//! Questions in SQL over the project's own tables.

use tidemill_core::ModelName;
use tidemill_store::StoreError;
use tidemill_store::query::{QueryAnswer, QueryError, QueryLimits, QueryTable};

use crate::project_loop::ProjectLoop;

impl ProjectLoop {
    /// The tables of the project that can be asked: events, decisions, outcomes, and each model's newest dataset. What has
    /// not landed yet is not in them.
    ///
    /// # Errors
    /// When the lake cannot be read.
    pub async fn query_tables(&self) -> Result<Vec<QueryTable>, StoreError> {
        let lake = &self.stores.lake;
        lake.query_tables(&self.project.name, &self.asked_models())
            .await
    }

    /// Answers a question in SQL over them.
    ///
    /// # Errors
    /// [`QueryError`] says whether the question or its size is wrong, or the lake cannot be read.
    pub async fn query(&self, sql: &str, limits: &QueryLimits) -> Result<QueryAnswer, QueryError> {
        let lake = &self.stores.lake;
        let models = self.asked_models();
        lake.query(&self.project.name, &models, sql, limits).await
    }

    fn asked_models(&self) -> Vec<ModelName> {
        self.project.models.keys().cloned().collect()
    }
}
