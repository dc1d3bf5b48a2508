//! The internal partitions over the real ones: values to batches and back.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use sunseo_proto::batch::{self, BatchBuilder, Compression};
use sunseo_proto::clock::Clock;
use sunseo_proto::error::{Error, ErrorCode, Result};
use sunseo_proto::{PartitionId, Record};

use crate::api::check::CheckedBatch;
use crate::internal::{InternalLog, PartitionSettings};
use crate::log_thread::LogThread;
use crate::partition::{Append, Partition};

/// Bytes of batches that are read at once while a fold is read back.
const READ_BYTES: usize = 1 << 20;

/// Internal partitions of this node.
#[derive(Debug)]
pub(crate) struct LocalLog {
    log: LogThread,
    clock: Arc<dyn Clock>,
}

impl LocalLog {
    pub(crate) fn new(log: LogThread, clock: Arc<dyn Clock>) -> Self {
        Self { log, clock }
    }

    fn partition(&self, id: PartitionId) -> Result<Arc<Partition>> {
        self.log.partitions().get(id).ok_or_else(|| {
            Error::new(ErrorCode::UnknownPartition, format!("partition {id} is not on this node"))
        })
    }
}

#[async_trait]
impl InternalLog for LocalLog {
    async fn append(&self, id: PartitionId, values: Vec<Bytes>) -> Result<i64> {
        let partition = self.partition(id)?;
        let timestamp_ms = self.clock.now_ms();
        let mut builder = BatchBuilder::new(Compression::None);
        for value in values {
            builder.push(&Record { timestamp_ms, value: Some(value), ..Record::default() });
        }
        if builder.is_empty() {
            return Err(Error::internal("an append to an internal partition without a value"));
        }
        let bytes = builder.build();
        let header = batch::validate(&bytes)?;
        let append = Append { partition, batch: CheckedBatch { bytes, header, position: None } };
        let outcome = self.log.append(vec![append], None).await?.pop();
        match outcome {
            Some(Ok(appended)) => Ok(appended.last_offset),
            Some(Err(refused)) => Err(refused.error),
            None => Err(Error::internal("an append without an outcome")),
        }
    }

    async fn read(&self, id: PartitionId, from: i64) -> Result<Vec<(i64, Bytes)>> {
        let partition = self.partition(id)?;
        let end = partition.readable_end()?;
        if from >= end {
            return Ok(Vec::new());
        }
        tokio::task::spawn_blocking(move || values(partition.reader.read(from, READ_BYTES, end)?, from))
            .await
            .map_err(|error| Error::internal(format!("reading an internal partition: {error}")))?
    }

    async fn trim(&self, id: PartitionId, before: i64) -> Result<()> {
        let trim = move |owner: &mut crate::log_thread::Owner| owner.store().set_log_start(id, before);
        self.log.commit(Some(id), move |owner| trim(owner).map_err(Error::from)).await
    }

    async fn start(&self, id: PartitionId) -> Result<i64> {
        Ok(self.partition(id)?.reader.log_start())
    }

    async fn ensure(&self, id: PartitionId, settings: PartitionSettings) -> Result<()> {
        self.log.commit(Some(id), move |owner| owner.ensure(id, settings)).await
    }

    async fn remove(&self, id: PartitionId) -> Result<()> {
        self.log.commit(None, move |owner| owner.remove(id)).await
    }
}

fn values(bytes: Bytes, from: i64) -> Result<Vec<(i64, Bytes)>> {
    let mut values = Vec::new();
    for batch in batch::batches(bytes) {
        let (_, batch) = batch?;
        let records = batch::records(&batch)?.into_iter().filter(|record| record.offset >= from);
        values.extend(records.map(|record| (record.offset, record.value.unwrap_or_default())));
    }
    Ok(values)
}
