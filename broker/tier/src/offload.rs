//! Uploads: intent, PUT, read back, commit.
//!
//! Crash consistency: the intent is durable before the first byte leaves, so every object in the store has a name in the records; the
//! commit is durable before a local copy may go. After a crash the same name is used again: the object's bytes are a function of
//! the segment, so writing it twice is writing it once.

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use sunseo_proto::error::{Error, ErrorCode, Result};

use crate::core::Core;
use crate::host::PartitionFacts;
use crate::objects::Put;
use crate::plan::{Upload, segment_object_name};
use crate::record::{SegmentKey, SegmentObject, TierRecord};
use crate::segment::SegmentFooter;

/// What was committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloaded {
    pub segments: u32,
    pub bytes: u64,
}

/// Uploads a partition's segments side by side and commits them in order; stops at the first failure.
pub async fn offload(core: &Core, facts: &PartitionFacts, uploads: Vec<Upload>) -> (Offloaded, Result<()>) {
    let mut done = Offloaded::default();
    let width = core.config.uploads_in_flight.max(1);
    let puts: Vec<BoxFuture<'_, _>> =
        uploads.into_iter().map(|upload| put(core, facts, upload).boxed()).collect();
    let mut puts = futures::stream::iter(puts).buffered(width);
    while let Some(outcome) = puts.next().await {
        let committed = match outcome {
            Ok(segment) => commit(core, segment).await,
            Err(error) => Err(error),
        };
        match committed {
            Ok(bytes) => {
                done.segments += 1;
                done.bytes += bytes;
            }
            Err(error) => return (done, Err(error)),
        }
    }
    (done, Ok(()))
}

async fn commit(core: &Core, segment: SegmentObject) -> Result<u64> {
    let bytes = segment.data_bytes;
    core.journal.append(TierRecord::Committed(segment)).await?;
    metrics::counter!("sunseo_tier_offloaded_segments_total").increment(1);
    metrics::counter!("sunseo_tier_offloaded_bytes_total").increment(bytes);
    Ok(bytes)
}

async fn put(core: &Core, facts: &PartitionFacts, upload: Upload) -> Result<SegmentObject> {
    let _permit = core.uploads.acquire().await.map_err(|_| Error::internal("the tier is shutting down"))?;
    let segment = upload.segment;
    let data = core.host.segment_data(facts.id, segment.base_offset).await?;
    let (footer, data) = described(data, segment).await?;
    let tail = footer.encode();
    let key = match upload.announced {
        Some(announced) => announced,
        None => announce(core, facts, &upload.segment).await?,
    };
    if core.objects.put_exactly(&key.object, &[data, tail.clone()]).await? == Put::Different {
        let at_ms = core.clock.now_ms();
        let message = format!(
            "object {} holds other bytes than the segment: it is written again under a new name",
            key.object
        );
        core.journal.append(TierRecord::Abandoned { key, at_ms }).await?;
        return Err(Error::new(ErrorCode::ObjectStore, message));
    }
    let object_bytes = footer.data_bytes + tail.len() as u64;
    let read_back = core.objects.get_range(&key.object, footer.data_bytes, object_bytes).await?;
    if read_back != tail {
        let message =
            format!("object {} does not end as it was written: the store is not to be trusted", key.object);
        return Err(Error::new(ErrorCode::ObjectStore, message));
    }
    Ok(SegmentObject {
        key,
        data_bytes: footer.data_bytes,
        tail_bytes: tail.len() as u64,
        max_timestamp_ms: footer.max_timestamp_ms,
        first_epoch: footer.first_epoch,
        last_epoch: footer.last_epoch,
    })
}

/// Reading a segment's batches keeps a core busy, so it is done beside the runtime.
async fn described(data: Bytes, segment: crate::host::SealedSegment) -> Result<(SegmentFooter, Bytes)> {
    let work = move || SegmentFooter::describe(&data, &segment).map(|footer| (footer, data));
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(Error::internal(format!("reading a segment stopped: {e}"))))
}

async fn announce(
    core: &Core,
    facts: &PartitionFacts,
    segment: &crate::host::SealedSegment,
) -> Result<SegmentKey> {
    let key = SegmentKey {
        partition: facts.id.into(),
        topic: facts.topic.clone(),
        base_offset: segment.base_offset,
        end_offset: segment.end_offset,
        object: segment_object_name(
            &core.config.cluster,
            facts.id,
            segment,
            facts.leader_epoch,
            core.draw_unique(),
        ),
        at_ms: core.clock.now_ms(),
    };
    core.journal.append(TierRecord::Intent(key.clone())).await?;
    Ok(key)
}
