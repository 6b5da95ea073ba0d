//! One moment of everything, for a copy that is taken while the loop goes on.

use std::sync::Arc;

use tidemill_core::Timestamp;

use crate::project_loop::{CycleError, ProjectLoop};

impl ProjectLoop {
    /// Makes a copy of all stores as they were at one moment, for whoever takes it elsewhere, and returns once it stands; `all` are the
    /// projects that are at work on the stores, this one among them. Until the moment is fixed nothing lands and the log forgets nothing;
    /// events are taken and questions answered all the time. Returns when it began: what was acknowledged before is in the copy.
    ///
    /// # Errors
    /// When nobody takes it or another one is made, and when a store fails.
    pub async fn copy_moment(
        self: &Arc<Self>,
        all: Vec<Arc<ProjectLoop>>,
    ) -> Result<Timestamp, CycleError> {
        let this = self.clone();
        self.beside(async move {
            let mut landings = Vec::with_capacity(all.len());
            for project in &all {
                landings.push(project.landing.lock().await);
            }
            let began = this.clock.now();
            let writing = this.stores.moments.fix().await?;
            drop(landings);
            writing.await?;
            Ok(began)
        })
        .await
    }
}
