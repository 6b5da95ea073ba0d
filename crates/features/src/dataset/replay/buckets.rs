//! Rows divided into buckets by what they are about: each bucket is small enough to be replayed with its states in memory, and
//! what the memory limit does not let stay goes to disk.

use std::collections::VecDeque;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::datatypes::{DataType, SchemaRef, UInt32Type};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, SpillFile, TaskContext};
use datafusion::physical_plan::SpillManager;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, SpillMetrics};
use futures::TryStreamExt;

use crate::dataset::division::{BUCKETS, bucket_of_group, bucket_of_key};

/// Rows that arrive in an order, kept in that order in each bucket.
pub(super) struct Buckets {
    by: usize,
    memory: Vec<Vec<RecordBatch>>,
    disk: Vec<VecDeque<Arc<dyn SpillFile>>>,
    reservation: MemoryReservation,
    spills: SpillManager,
}

/// The rows of one bucket, in the order in which they arrived.
pub(super) struct Bucket {
    spills: SpillManager,
    disk: VecDeque<Arc<dyn SpillFile>>,
    reading: Option<SendableRecordBatchStream>,
    memory: VecDeque<RecordBatch>,
}

impl Buckets {
    /// Buckets by the column with that number, which has `UInt32` or `Utf8`.
    pub(super) fn new(
        by: usize,
        schema: SchemaRef,
        name: &str,
        partition: usize,
        context: &TaskContext,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Self {
        let consumer = MemoryConsumer::new(format!("{name}[{partition}]")).with_can_spill(true);
        Self {
            by,
            memory: (0..BUCKETS).map(|_| Vec::new()).collect(),
            disk: (0..BUCKETS).map(|_| VecDeque::new()).collect(),
            reservation: consumer.register(context.memory_pool()),
            spills: SpillManager::new(
                context.runtime_env(),
                SpillMetrics::new(metrics, partition),
                schema,
            ),
        }
    }

    /// Adds rows that come after all others.
    pub(super) fn push(&mut self, batch: RecordBatch) -> Result<()> {
        let buckets = self.buckets_of(&batch)?;
        let Some(&first) = buckets.first() else {
            return Ok(());
        };
        // steps come divided; what other operators made of them does not
        if buckets.iter().all(|bucket| *bucket == first) {
            return self.keep(first, batch);
        }
        let mut rows: Vec<Vec<u32>> = vec![Vec::new(); BUCKETS];
        for (row, bucket) in (0..).zip(buckets) {
            rows[bucket].push(row);
        }
        for (bucket, rows) in rows.into_iter().enumerate() {
            if !rows.is_empty() {
                let part = take_record_batch(&batch, &UInt32Array::from(rows))?;
                self.keep(bucket, part)?;
            }
        }
        Ok(())
    }

    fn buckets_of(&self, batch: &RecordBatch) -> Result<Vec<usize>> {
        let column = batch.column(self.by);
        match column.data_type() {
            DataType::UInt32 => {
                let groups = column.as_primitive::<UInt32Type>().values().iter();
                Ok(groups.map(|group| bucket_of_group(*group)).collect())
            }
            DataType::Utf8 => {
                let keys = column.as_string::<i32>().iter();
                Ok(keys.map(|key| bucket_of_key(key.unwrap_or(""))).collect())
            }
            other => {
                let message = format!("rows cannot be divided by a column of {other}");
                Err(DataFusionError::Internal(message))
            }
        }
    }

    fn keep(&mut self, bucket: usize, part: RecordBatch) -> Result<()> {
        let bytes = part.get_array_memory_size();
        if self.reservation.try_grow(bytes).is_err() {
            self.spill()?;
            // one batch has to be in memory whatever the limit
            self.reservation.grow(bytes);
        }
        self.memory[bucket].push(part);
        Ok(())
    }

    /// Moves everything to disk: one more file for each bucket.
    fn spill(&mut self) -> Result<()> {
        for (files, batches) in self.disk.iter_mut().zip(&mut self.memory) {
            let batches = std::mem::take(batches);
            let Some(first) = batches.first() else {
                continue;
            };
            let rows = joined(&first.schema(), &batches)?;
            let file = self
                .spills
                .spill_record_batch_and_finish(&[rows], "replayed steps")?;
            files.extend(file);
        }
        self.reservation.free();
        Ok(())
    }

    /// The rows of a bucket; they are gone then.
    pub(super) fn take(&mut self, bucket: usize) -> Bucket {
        let memory = std::mem::take(&mut self.memory[bucket]);
        let bytes: usize = memory.iter().map(RecordBatch::get_array_memory_size).sum();
        self.reservation.shrink(bytes.min(self.reservation.size()));
        Bucket {
            spills: self.spills.clone(),
            disk: std::mem::take(&mut self.disk[bucket]),
            reading: None,
            memory: memory.into(),
        }
    }
}

impl Bucket {
    /// The next rows.
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(stream) = &mut self.reading {
                if let Some(batch) = stream.try_next().await? {
                    return Ok(Some(batch));
                }
                self.reading = None;
            }
            let Some(file) = self.disk.pop_front() else {
                return Ok(self.memory.pop_front());
            };
            self.reading = Some(self.spills.read_spill_as_stream(file, None)?);
        }
    }

    /// All rows, one batch after the other.
    pub(super) async fn all(mut self) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await? {
            batches.push(batch);
        }
        Ok(batches)
    }
}

/// The rows of several batches as one.
pub(super) fn joined(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch> {
    Ok(datafusion::arrow::compute::concat_batches(
        &Arc::clone(schema),
        batches,
    )?)
}
