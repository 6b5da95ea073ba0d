//! Changed definitions: their states are built beside the current ones, from the events, and then take their place.

use std::sync::Arc;

use tidemill_core::{Offset, Project};
use tidemill_store::{LoggedEvent, StateBatch, StateStore};

use super::checkpoint::{
    CHECKPOINTS, CURRENT, Checkpoint, REBUILD, SOURCE, read_checkpoint, source_of, write_checkpoint,
};
use super::shared::Shared;
use super::{Engine, EngineOptions};
use crate::{FeatureError, FeatureSet};

/// States of new definitions that are being built while the current ones go on answering.
///
/// The caller applies all events from the beginning (the lake, then the log), commits now and then, and finishes when it has caught
/// up. After a crash [`Rebuild::begin`] goes on from the last commit.
pub struct Rebuild {
    engine: Engine,
    project: Project,
    options: EngineOptions,
}

impl Rebuild {
    /// Begins a rebuild, or goes on with an unfinished one of the same definitions; [`applied`](Self::applied) says from where.
    ///
    /// # Errors
    /// When the store fails.
    pub fn begin(
        project: &Project,
        set: FeatureSet,
        state: Arc<dyn StateStore>,
        options: EngineOptions,
    ) -> Result<Self, FeatureError> {
        let current = read_checkpoint(&project.name, &*state, CURRENT)?;
        let unfinished = read_checkpoint(&project.name, &*state, REBUILD)?;
        let checkpoint = match unfinished {
            Some(unfinished) if unfinished.hash == set.hash() => unfinished,
            unfinished => {
                // Generations are never used twice, so nothing of an abandoned one is ever read.
                let used = [&current, &unfinished]
                    .into_iter()
                    .flatten()
                    .map(|checkpoint| checkpoint.generation);
                let mut start = Checkpoint::start(used.max().unwrap_or(0) + 1, &set);
                start.retired = unfinished.map_or(Vec::new(), |abandoned| {
                    abandoned
                        .retired
                        .into_iter()
                        .chain([abandoned.generation])
                        .collect()
                });
                let mut batch = StateBatch::default();
                write_checkpoint(&mut batch, REBUILD, &start)?;
                state.commit(&project.name, batch)?;
                start
            }
        };
        let engine = Engine::new(project, set, state, options, checkpoint, None, REBUILD);
        Ok(Self {
            engine,
            project: project.clone(),
            options,
        })
    }

    /// The last event that it has seen.
    pub fn applied(&self) -> Offset {
        self.engine.applied()
    }

    /// Applies events in the order of the log; those that were applied before are skipped.
    ///
    /// # Errors
    /// As [`Engine::apply`].
    pub fn apply(&self, events: &[LoggedEvent]) -> Result<(), FeatureError> {
        self.engine.apply(events)
    }

    /// Makes what was applied survive a crash.
    ///
    /// # Errors
    /// As [`Engine::commit`].
    pub fn commit(&self) -> Result<Offset, FeatureError> {
        self.engine.commit()
    }

    /// Makes the new states the current ones, in one commit. An engine that is open on the old ones must have committed and must not
    /// be used for anything but reading afterwards. The old states are deleted by [`Engine::sweep`].
    ///
    /// Items, timelines and what has been seen do not depend on definitions and were not rebuilt. Where they are behind the new
    /// states, [`Engine::committed`] says so, and applying the events after it brings them up.
    ///
    /// # Errors
    /// When the store fails: then the old states stay the current ones.
    pub fn finish(self) -> Result<Engine, FeatureError> {
        self.engine.commit()?;
        let Self {
            engine,
            project,
            options,
        } = self;
        let store = engine.store.clone();
        let current = read_checkpoint(&project.name, &*store, CURRENT)?;
        let mut checkpoint = engine.writer.lock().checkpoint.clone();
        if let Some(current) = current {
            checkpoint.shared = current.shared;
            checkpoint.retired.extend(current.retired);
            checkpoint.retired.push(current.generation);
        }
        let mut batch = StateBatch::default();
        write_checkpoint(&mut batch, CURRENT, &checkpoint)?;
        batch.remove(CHECKPOINTS, REBUILD);
        batch.put(CHECKPOINTS, SOURCE, source_of(&project, &engine.set));
        store.commit(&project.name, batch)?;
        let shared = Shared::open(&project.name, &store, options)?;
        let set = engine.set.clone();
        Ok(Engine::new(
            &project,
            set,
            store,
            options,
            checkpoint,
            Some(shared),
            CURRENT,
        ))
    }
}
