//! Appends of clients: check each partition's part, queue what is good, answer in the order of the request.
//!
//! Everything up to the queue happens before the call returns, so requests take effect in the order of the calls. Parts that are
//! refused do not stop the others.

use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use sunseo_proto::error::{Error, ErrorCode, Result};
use sunseo_proto::v1;
use tokio::sync::oneshot;

use super::check::{CheckedBatch, check};
use super::join::Joins;
use crate::api::keys::require_keys;
use crate::log_thread::{COMMAND_BYTES, stopped};
use crate::metadata::State;
use crate::node::Node;
use crate::partition::{Append, Outcome, Refused};

/// Who appends: each has its own share of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Network,
    /// A part of the server itself.
    Internal,
}

/// A request that was queued.
pub(crate) struct Queued {
    /// Resolves when the request has room; a stream that is read on before is not bounded.
    pub(crate) admitted: BoxFuture<'static, ()>,
    pub(crate) answer: BoxFuture<'static, Result<v1::ProduceResponse>>,
}

/// A part's place in the answer.
struct Part {
    topic: String,
    partition: i32,
    /// `None`: its outcome comes from the log, in order.
    refused: Option<Refused>,
}

impl Node {
    /// Checks and queues a request.
    pub(crate) fn produce(&self, request: v1::ProduceRequest, origin: Origin) -> Queued {
        match self.queue_produce(request, origin) {
            Ok(queued) => queued,
            Err(error) => Queued { admitted: ready(()).boxed(), answer: ready(Err(error)).boxed() },
        }
    }

    fn queue_produce(&self, request: v1::ProduceRequest, origin: Origin) -> Result<Queued> {
        check_partitions(request.partitions.len(), self.limits.request_partitions_max)?;
        let correlation_id = request.correlation_id;
        let now_ms = self.clock.now_ms();
        let image = self.metadata.image();
        let mut appends = Vec::with_capacity(request.partitions.len());
        let mut parts = Vec::with_capacity(request.partitions.len());
        let mut joins = Joins::new(request.transactional_id);
        for (index, mut part) in request.partitions.into_iter().enumerate() {
            let (topic, partition) = (std::mem::take(&mut part.topic), part.partition);
            let checked = self.check_part(&image, &topic, part, now_ms);
            let checked = checked.and_then(|append| joins.add(&self.transactions, &append).map(|()| append));
            let refused = checked.map(|append| appends.push(append)).err();
            let refused = refused.map(|error| Refused::from(within(error, index)));
            parts.push(Part { topic, partition, refused });
        }
        let bytes: usize =
            appends.iter().map(|append: &Append| append.batch.bytes.len() + COMMAND_BYTES).sum();
        let (reply, outcomes) = oneshot::channel();
        let (admit, admitted) = oneshot::channel();
        let log = self.log.clone();
        let joining = match joins.is_empty() {
            true => None,
            // the room may come from a thread of another kind
            false => Some((tokio::runtime::Handle::current(), self.transactions.clone())),
        };
        self.gate(origin).submit(bytes + COMMAND_BYTES, move |permit| {
            match joining {
                None => log.push_append(appends, reply, Some(permit)),
                Some((runtime, transactions)) => {
                    drop(runtime.spawn(joins.append(transactions, log, appends, reply, permit)));
                }
            }
            // the one who waits for room may have left
            let _ = admit.send(());
        })?;
        metrics::counter!("sunseo_produce_bytes_total").increment(bytes as u64);
        let answer = async move {
            let outcomes = outcomes.await.map_err(|_| stopped())?;
            Ok(v1::ProduceResponse {
                correlation_id,
                results: results(parts, outcomes),
                ..Default::default()
            })
        };
        Ok(Queued { admitted: admitted.map(drop).boxed(), answer: answer.boxed() })
    }

    fn check_part(
        &self,
        image: &State,
        topic: &str,
        part: v1::ProducePartition,
        now_ms: i64,
    ) -> Result<Append> {
        let found = image.topic_as(topic, &part.topic_id)?;
        found.check_writable()?;
        let id = found.partition(part.partition)?;
        let partition = self.partition(id)?;
        let max_batch_bytes = partition.settings().max_batch_bytes;
        let field = if part.batch.is_some() { "batch" } else { "records" };
        let batch: CheckedBatch = check(part, max_batch_bytes, now_ms)?;
        self.check_records(batch.header.record_count)?;
        if partition.settings().compaction.is_some() {
            require_keys(topic, &batch).map_err(|error| error.at(field))?;
        }
        Ok(Append { partition, batch })
    }
}

impl Node {
    /// As values, records take many times the bytes that small ones have in a batch, here and at every reader.
    fn check_records(&self, records: i32) -> Result<()> {
        let max = self.limits.batch_records_max;
        if usize::try_from(records).is_ok_and(|records| records <= max) {
            return Ok(());
        }
        let message = format!("the batch has {records} records, {max} are allowed: send smaller batches");
        Err(Error::new(ErrorCode::BatchTooLarge, message).at("batch"))
    }
}

pub(crate) fn check_partitions(count: usize, max: usize) -> Result<()> {
    if count <= max {
        return Ok(());
    }
    let message = format!("the request names {count} partitions, {max} are allowed: send several requests");
    Err(Error::invalid("partitions", message))
}

/// The same error with the field's place in the request.
pub(crate) fn within(error: Error, index: usize) -> Error {
    let field = match &error.field {
        Some(field) => format!("partitions[{index}].{field}"),
        None => format!("partitions[{index}]"),
    };
    error.at(field)
}

fn results(parts: Vec<Part>, outcomes: Vec<Outcome>) -> Vec<v1::ProduceResult> {
    let mut outcomes = outcomes.into_iter();
    let result = |part: Part| {
        let outcome = match part.refused {
            Some(refused) => Err(refused),
            None => {
                outcomes.next().unwrap_or_else(|| Err(Error::internal("an append without an outcome").into()))
            }
        };
        let mut result = v1::ProduceResult {
            topic: part.topic,
            partition: part.partition,
            base_offset: -1,
            last_offset: -1,
            ..Default::default()
        };
        match outcome {
            Ok(appended) => {
                result.base_offset = appended.base_offset;
                // of a positioned duplicate only the producer's newest offset is known, which is not this batch's
                result.last_offset = if appended.base_offset < 0 { -1 } else { appended.last_offset };
                result.duplicate = appended.duplicate;
            }
            Err(refused) => {
                result.error = Some(refused.error.into());
                result.accepted_through = refused.accepted_through;
            }
        }
        result
    };
    parts.into_iter().map(result).collect()
}
