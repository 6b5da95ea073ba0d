//! Rows divided into buckets by what they are about: each bucket is small enough to be replayed with its states in memory, and
//! what the memory limit does not let stay goes to disk.

use std::collections::VecDeque;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::datatypes::{DataType, SchemaRef, UInt32Type};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, SpillFile, TaskContext};
use datafusion::physical_plan::SpillManager;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, SpillMetrics};
use futures::TryStreamExt;

/// Buckets of one partition. The states of a 128th of its people are in memory at a time.
pub(super) const BUCKETS: usize = 128;

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
    pub(super) fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut rows: Vec<Vec<u32>> = vec![Vec::new(); BUCKETS];
        let column = batch.column(self.by);
        match column.data_type() {
            DataType::UInt32 => {
                let numbers = column.as_primitive::<UInt32Type>();
                for (row, number) in (0..).zip(numbers.values()) {
                    rows[bucket_of(&number.to_le_bytes())].push(row);
                }
            }
            DataType::Utf8 => {
                let texts = column.as_string::<i32>();
                for (row, text) in (0..).zip(texts.iter()) {
                    rows[bucket_of(text.unwrap_or_default().as_bytes())].push(row);
                }
            }
            other => {
                let message = format!("rows cannot be divided by a column of {other}");
                return Err(DataFusionError::Internal(message));
            }
        }
        for (bucket, rows) in rows.into_iter().enumerate() {
            if !rows.is_empty() {
                let part = take_record_batch(batch, &UInt32Array::from(rows))?;
                self.keep(bucket, part)?;
            }
        }
        Ok(())
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

/// Another division than that into partitions, which hash the same column.
fn bucket_of(bytes: &[u8]) -> usize {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    ((hash ^ (hash >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % BUCKETS
}

/// The rows of several batches as one.
pub(super) fn joined(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch> {
    Ok(datafusion::arrow::compute::concat_batches(
        &Arc::clone(schema),
        batches,
    )?)
}
