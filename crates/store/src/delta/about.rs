//! Everything that is about somebody: found, or removed.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::{filter_record_batch, not};
use deltalake_core::kernel::transaction::CommitProperties;
use deltalake_core::kernel::{Action, Add, Remove};
use deltalake_core::protocol::DeltaOperation;
use deltalake_core::writer::DeltaWriter;
use tidemill_core::event::PersonKey;

use super::compaction::with_date;
use super::ordered::{OrderedRows, Selection};
use super::table::{Open, Table, commit, failed, file_writer, off_executor};
use crate::StoreError;
use crate::local::blocking;

/// Which rows are about somebody.
pub(super) type IsOf = Arc<dyn Fn(&RecordBatch) -> BooleanArray + Send + Sync>;

/// The events of some persons.
pub(super) fn events_of(persons: &[PersonKey]) -> IsOf {
    let ids = |is_user: bool| -> HashSet<String> {
        let of = persons.iter().filter(|person| person.is_user() == is_user);
        of.map(|person| person.id().to_owned()).collect()
    };
    let (users, anonymous) = (ids(true), ids(false));
    Arc::new(move |rows| {
        let has = |column: &str, row: usize, ids: &HashSet<String>| {
            text(rows, column, row).is_some_and(|id| ids.contains(id))
        };
        let is_of = |row| {
            // an id that became one with another may be of either kind
            has("user_id", row, &users)
                || has("anonymous_id", row, &anonymous)
                || has("previous_id", row, &users)
                || has("previous_id", row, &anonymous)
        };
        (0..rows.num_rows()).map(|row| Some(is_of(row))).collect()
    })
}

/// Decisions and outcomes about some persons.
pub(super) fn answers_about(persons: &[PersonKey]) -> IsOf {
    let keys: HashSet<String> = persons.iter().map(ToString::to_string).collect();
    Arc::new(move |rows| {
        let is_of = |row| text(rows, "entity", row).is_some_and(|key| keys.contains(key));
        (0..rows.num_rows()).map(|row| Some(is_of(row))).collect()
    })
}

fn text<'r>(rows: &'r RecordBatch, column: &str, row: usize) -> Option<&'r str> {
    let column = rows.column_by_name(column)?.as_string_opt::<i32>()?;
    column.is_valid(row).then(|| column.value(row))
}

impl Table {
    /// The first `limit` of such rows, in order.
    pub(super) async fn rows_of(
        &self,
        is_of: IsOf,
        limit: usize,
    ) -> Result<Vec<RecordBatch>, StoreError> {
        let (Some(order), Some((_, files))) = (self.spec.order, self.files().await?) else {
            return Ok(Vec::new());
        };
        blocking(move || {
            let (mut found, mut left) = (Vec::new(), limit);
            for batch in OrderedRows::new(files, order, u64::MAX, Selection::default()) {
                let batch = batch?;
                let theirs = filter_record_batch(&batch, &is_of(&batch))
                    .map_err(|e| StoreError::backend("find rows", e))?;
                let theirs = theirs.slice(0, theirs.num_rows().min(left));
                left -= theirs.num_rows();
                if theirs.num_rows() > 0 {
                    found.push(theirs);
                }
                if left == 0 {
                    break;
                }
            }
            Ok(found)
        })
        .await
    }

    /// Writes the files that have such rows again without them, and removes those that they replace. Returns how many rows there were.
    pub(super) async fn erase(&self, is_of: IsOf) -> Result<u64, StoreError> {
        let Some(order) = self.spec.order else {
            return Ok(0);
        };
        let _one_at_a_time = self.compaction.lock().await;
        let mut current = self.lock().await?;
        let Some(open) = current.as_ref() else {
            return Ok(0);
        };
        let files = self.files_of(&open.table)?;
        off_executor(async move {
            let before = current.take().ok_or(StoreError::Closed)?;
            let (mut removes, mut adds, mut paths) =
                (Vec::<Remove>::new(), Vec::<Add>::new(), Vec::new());
            let mut erased = 0;
            for file in files {
                let date = file.date.clone();
                let mut writer = file_writer(&before.table).map_err(|e| failed("erase rows", e))?;
                let (mut of_file, mut left) = (0, 0);
                let schema = writer.arrow_schema();
                let (path, remove) = (file.path.clone(), file.remove.clone());
                for batch in OrderedRows::new(vec![file], order, u64::MAX, Selection::default()) {
                    let batch = batch?;
                    let gone = is_of(&batch);
                    of_file += gone.true_count() as u64;
                    let kept = not(&gone).and_then(|keep| filter_record_batch(&batch, &keep));
                    let kept = kept.map_err(|e| StoreError::backend("erase rows", e))?;
                    left += kept.num_rows();
                    if kept.num_rows() > 0 {
                        let kept = with_date(&kept, date.as_deref(), &schema)?;
                        let written = writer.write(kept).await;
                        written.map_err(|e| failed("erase rows", e))?;
                    }
                }
                if of_file == 0 {
                    continue; // what was written of it is in memory only
                }
                erased += of_file;
                if left > 0 {
                    adds.extend(writer.flush().await.map_err(|e| failed("erase rows", e))?);
                }
                removes.push(Remove {
                    data_change: true,
                    ..remove
                });
                paths.push(path);
            }
            let mut table = before.table;
            if erased > 0 {
                let removes = removes.into_iter().map(Action::Remove);
                let actions = removes.chain(adds.into_iter().map(Action::Add)).collect();
                let delete = DeltaOperation::Delete { predicate: None };
                table = commit(table, CommitProperties::default(), actions, delete)
                    .await
                    .map_err(|e| failed("commit the erasure", e))?;
            }
            *current = Some(Open {
                table,
                landed: before.landed,
            });
            for path in paths {
                std::fs::remove_file(&path).map_err(|e| StoreError::file("remove", &path, e))?;
            }
            Ok(erased)
        })
        .await
    }
}
