//! Merging the many small files that landings leave into fewer large ones, in order, while landing and reading go on.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray, new_null_array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::SchemaRef;
use deltalake_core::DeltaTable;
use deltalake_core::kernel::transaction::CommitProperties;
use deltalake_core::kernel::{Action, Add, Remove};
use deltalake_core::protocol::DeltaOperation;
use deltalake_core::writer::DeltaWriter;

use super::ordered::{OrderedRows, Selection};
use super::table::{DATE, DataFile, Open, Table, commit, failed, file_writer, off_executor};
use crate::StoreError;
use crate::lake::Compacted;

impl Table {
    /// Merges small files of a day into larger ones where there are many.
    pub(super) async fn compact(&self) -> Result<Compacted, StoreError> {
        let Some(order) = self.spec.order else {
            return Ok(Compacted::default());
        };
        let _one_at_a_time = self.compaction.lock().await;
        let mut done = Compacted::default();
        let (table, files) = {
            let current = self.lock().await?;
            let Some(open) = current.as_ref() else {
                return Ok(done);
            };
            (open.table.clone(), self.files_of(&open.table)?)
        };
        for small in self.mergeable(files) {
            let removed = small.len() as u64;
            let (removes, adds) = merge(table.clone(), small, order).await?;
            let added = adds.len() as u64;
            self.swap(removes, adds).await?;
            done.files_removed += removed;
            done.files_added += added;
        }
        if done.files_removed > 0 {
            self.remove_replaced().await?;
        }
        Ok(done)
    }

    /// Removes data files from the disk that were replaced by merged ones a week ago: readers have moved on.
    async fn remove_replaced(&self) -> Result<(), StoreError> {
        let mut current = self.lock().await?;
        off_executor(async move {
            let Some(before) = current.take() else {
                return Ok(());
            };
            let (table, removed) = before
                .table
                .vacuum()
                .await
                .map_err(|e| failed("remove replaced files", e))?;
            tracing::debug!(
                files = removed.files_deleted.len(),
                "removed replaced files"
            );
            *current = Some(Open {
                table,
                landed: before.landed,
            });
            Ok(())
        })
        .await
    }

    /// Groups of small files of one day, each at most as large as a file ought to be.
    fn mergeable(&self, files: Vec<DataFile>) -> Vec<Vec<DataFile>> {
        let mut by_date: BTreeMap<Option<String>, Vec<DataFile>> = BTreeMap::new();
        for file in files
            .into_iter()
            .filter(|file| file.bytes < self.options.file_bytes_max / 2)
        {
            by_date.entry(file.date.clone()).or_default().push(file);
        }
        let mut groups = Vec::new();
        for (_, files) in by_date {
            let mut group: Vec<DataFile> = Vec::new();
            let mut bytes = 0;
            for file in files {
                if bytes + file.bytes > self.options.file_bytes_max {
                    groups.push(std::mem::take(&mut group));
                    bytes = 0;
                }
                bytes += file.bytes;
                group.push(file);
            }
            groups.push(group);
        }
        groups.retain(|group| group.len() >= self.options.small_files_min.max(2));
        groups
    }

    /// Puts merged files in the place of those that they were merged from.
    async fn swap(&self, removes: Vec<Remove>, adds: Vec<Add>) -> Result<(), StoreError> {
        let mut current = self.lock().await?;
        let target_size = i64::try_from(self.options.file_bytes_max).unwrap_or(i64::MAX);
        off_executor(async move {
            // Landings only ever add files, so that those to be removed are there still.
            let before = current.take().ok_or(StoreError::Closed)?;
            let actions = removes
                .into_iter()
                .map(Action::Remove)
                .chain(adds.into_iter().map(|add| {
                    Action::Add(Add {
                        data_change: false,
                        ..add
                    })
                }))
                .collect();
            let optimize = DeltaOperation::Optimize {
                predicate: None,
                target_size,
            };
            let table = commit(before.table, CommitProperties::default(), actions, optimize)
                .await
                .map_err(|e| failed("commit the compaction", e))?;
            *current = Some(Open {
                table,
                landed: before.landed,
            });
            Ok(())
        })
        .await
    }
}

/// Writes the rows of files of one day into a new file, in order.
async fn merge(
    table: DeltaTable,
    files: Vec<DataFile>,
    order: &'static str,
) -> Result<(Vec<Remove>, Vec<Add>), StoreError> {
    off_executor(async move {
        let date = files.first().and_then(|file| file.date.clone());
        let removes = files.iter().map(|file| file.remove.clone()).collect();
        let mut writer = file_writer(&table).map_err(|e| failed("merge files", e))?;
        for batch in OrderedRows::new(files, order, u64::MAX, Selection::default()) {
            let batch = with_date(&batch?, date.as_deref(), &writer.arrow_schema())?;
            writer
                .write(batch)
                .await
                .map_err(|e| failed("merge files", e))?;
        }
        let adds = writer.flush().await.map_err(|e| failed("merge files", e))?;
        Ok((removes, adds))
    })
    .await
}

/// A batch of a data file with the column that stands in the name of its folder only.
pub(super) fn with_date(
    batch: &RecordBatch,
    date: Option<&str>,
    schema: &SchemaRef,
) -> Result<RecordBatch, StoreError> {
    let columns: Result<Vec<ArrayRef>, _> = schema
        .fields()
        .iter()
        .map(|field| match (batch.column_by_name(field.name()), date) {
            (Some(column), _) => cast(column, field.data_type()),
            (None, Some(date)) if field.name() == DATE => cast(
                &StringArray::from(vec![date; batch.num_rows()]),
                field.data_type(),
            ),
            (None, _) => Ok(new_null_array(field.data_type(), batch.num_rows())),
        })
        .collect();
    columns
        .and_then(|columns| RecordBatch::try_new(Arc::clone(schema), columns))
        .map_err(|e| StoreError::backend("merge files", e))
}
