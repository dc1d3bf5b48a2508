//! Answers of the server as JSON, with names that stay. Command line and HTTP share them.
//!
//! Each function is one object. Names are those of the protocol; counts end in `_count` where the list itself has the plain name.

mod engine;
mod key;
mod outbox;
pub mod record;

pub use engine::{
    pipeline, pipeline_changes, pipeline_description, query_entry, query_found, query_scan, store,
};
pub use key::first_accepted;
pub use outbox::verification;
use serde_json::{Value, json};
pub use sunseo_outbox::http::source_json as source;
use sunseo_proto::{ErrorCode, v1};

/// An error, `null` when there is none.
pub fn error(error: Option<&v1::Error>) -> Value {
    error.map_or(
        Value::Null,
        |e| json!({"code": e.code, "message": e.message, "retryable": e.retryable, "field": field(&e.field)}),
    )
}

fn field(field: &str) -> Value {
    if field.is_empty() { Value::Null } else { field.into() }
}

/// A refusal.
pub fn refusal(error: &sunseo_proto::Error) -> Value {
    let field = error.field.as_deref().unwrap_or_default();
    json!({
        "code": error.code.as_str(),
        "message": error.message,
        "retryable": error.retryable(),
        "field": self::field(field),
    })
}

/// The HTTP status of a refusal.
pub fn http_status(code: ErrorCode) -> u16 {
    match code {
        ErrorCode::InvalidArgument | ErrorCode::CorruptBatch | ErrorCode::KeyRequired => 400,
        ErrorCode::Unauthorized | ErrorCode::ProducerFenced => 403,
        ErrorCode::UnknownTopic
        | ErrorCode::UnknownPartition
        | ErrorCode::UnknownGroup
        | ErrorCode::UnknownPipeline
        | ErrorCode::UnknownStore
        | ErrorCode::UnknownTransactionalId
        | ErrorCode::UnknownSource => 404,
        ErrorCode::AlreadyExists
        | ErrorCode::SequenceGap
        | ErrorCode::PartialDuplicate
        | ErrorCode::ProducerRetired
        | ErrorCode::FencedMember
        | ErrorCode::FencedInstance
        | ErrorCode::UnknownMember
        | ErrorCode::GroupNotEmpty
        | ErrorCode::VersionMismatch
        | ErrorCode::TopicReplaced
        | ErrorCode::TransactionState
        | ErrorCode::TransactionAborted
        | ErrorCode::SourceDiverged
        | ErrorCode::SourceUnreadable => 409,
        ErrorCode::BatchTooLarge => 413,
        ErrorCode::OffsetOutOfRange => 416,
        ErrorCode::SequenceConflict => 422,
        ErrorCode::Overloaded | ErrorCode::TooManyProducers => 429,
        ErrorCode::Unsupported => 501,
        ErrorCode::NotLeader
        | ErrorCode::FencedLeaderEpoch
        | ErrorCode::PartitionFailed
        | ErrorCode::ObjectStore
        | ErrorCode::ConcurrentTransactions
        | ErrorCode::UnstableOffsets
        | ErrorCode::Unavailable => 503,
        ErrorCode::TimedOut => 504,
        ErrorCode::DiskFull => 507,
        ErrorCode::CorruptLog | ErrorCode::Internal => 500,
    }
}

fn config(config: &v1::TopicConfig) -> Value {
    json!({
        "retention_ms": config.retention_ms,
        "retention_bytes": config.retention_bytes,
        "segment_bytes": config.segment_bytes,
        "segment_ms": config.segment_ms,
        "max_batch_bytes": config.max_batch_bytes,
        "durability": config.durability,
        "tiered": config.tiered,
        "local_retention_bytes": config.local_retention_bytes,
        "local_retention_ms": config.local_retention_ms,
        "cleanup": config.cleanup,
        "delete_retention_ms": config.delete_retention_ms,
        "min_compaction_lag_ms": config.min_compaction_lag_ms,
        "min_dirty_ratio": config.min_dirty_ratio,
    })
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn topic(topic: &v1::TopicMetadata) -> Value {
    json!({
        "name": topic.name,
        "topic_id": hex(&topic.topic_id),
        "partition_count": topic.partitions.len(),
        "internal": topic.internal,
        "config": topic.config.as_ref().map(config),
    })
}

pub fn topic_description(description: &v1::DescribeTopicResponse) -> Value {
    let mut value = topic(&description.topic.clone().unwrap_or_default());
    let partition = |p: &v1::PartitionDescription| {
        json!({
            "partition": p.partition,
            "log_start_offset": p.log_start_offset,
            "local_start_offset": p.local_start_offset,
            "high_watermark": p.high_watermark,
            "log_end_offset": p.log_end_offset,
            "leader_epoch": p.leader_epoch,
            "local_bytes": p.local_bytes,
            "offloaded_bytes": p.offloaded_bytes,
            "segments": p.segments,
            "failed": field(&p.failed),
            "dirty_bytes": p.dirty_bytes,
            "dirty_ratio": f64::from(p.dirty_permille) / 1_000.0,
            "compacted_ms": p.compacted_ms,
            "compacted_through": p.compacted_through,
            "compacted_bytes": p.compacted_bytes,
        })
    };
    value["partitions"] = description.partitions.iter().map(partition).collect();
    value
}

pub fn group(group: &v1::GroupSummary) -> Value {
    json!({
        "group": group.group,
        "state": group.state,
        "group_epoch": group.group_epoch,
        "member_count": group.members,
    })
}

fn topic_partitions(partitions: &[v1::TopicPartition]) -> Value {
    partitions.iter().map(|p| json!({"topic": p.topic, "partition": p.partition})).collect()
}

pub fn group_description(description: &v1::DescribeGroupResponse) -> Value {
    let mut value = group(&description.summary.clone().unwrap_or_default());
    let member = |m: &v1::GroupMember| {
        json!({
            "member_id": m.member_id,
            "instance_id": field(&m.instance_id),
            "member_epoch": m.member_epoch,
            "topics": m.topics,
            "owned": topic_partitions(&m.owned),
            "target": topic_partitions(&m.target),
        })
    };
    let partition = |p: &v1::GroupPartition| {
        json!({
            "topic": p.topic,
            "partition": p.partition,
            "committed_offset": p.committed_offset,
            "high_watermark": p.high_watermark,
            "lag": p.lag,
            "owner": field(&p.owner),
        })
    };
    value["members"] = description.members.iter().map(member).collect();
    value["partitions"] = description.partitions.iter().map(partition).collect();
    value
}

pub fn tier_status(status: &v1::TierStatusResponse) -> Value {
    let partition = |p: &v1::TierPartition| {
        json!({
            "topic": p.topic,
            "partition": p.partition,
            "segments": p.segments,
            "bytes": p.bytes,
            "offloaded_from": p.offloaded_from,
            "offloaded_to": p.offloaded_to,
            "pending_bytes": p.pending_bytes,
        })
    };
    json!({
        "store": status.store,
        "reachable": status.reachable,
        "objects": status.objects,
        "bytes": status.bytes,
        "bytes_read_back": status.bytes_read_back,
        "last_error": field(&status.last_error),
        "partitions": status.partitions.iter().map(partition).collect::<Value>(),
        "archives": status.archives.iter().map(archive).collect::<Value>(),
    })
}

pub fn archive(a: &v1::ArchiveTable) -> Value {
    json!({
        "table": a.table,
        "topic": a.topic,
        "files": a.files,
        "rows": a.rows,
        "bytes": a.bytes,
        "bad_rows": a.bad_rows,
        "lag": a.lag,
    })
}

pub fn tier_verification(answer: &v1::TierVerifyResponse) -> Value {
    json!({
        "objects": answer.objects,
        "bytes": answer.bytes,
        "problems": answer.problems.iter().map(|e| error(Some(e))).collect::<Value>(),
    })
}

pub fn tier_flushed(answer: &v1::TierFlushResponse) -> Value {
    json!({
        "segments_offloaded": answer.segments_offloaded,
        "bytes_offloaded": answer.bytes_offloaded,
        "segments_evicted": answer.segments_evicted,
        "archive_files": answer.archive_files,
        "archive_rows": answer.archive_rows,
    })
}

/// A definition; a body that is not JSON shows as text.
pub fn definition(definition: &v1::Definition) -> Value {
    let body = serde_json::from_slice(&definition.body)
        .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&definition.body)));
    json!({
        "kind": definition.kind,
        "name": definition.name,
        "version": definition.version,
        "body": body,
    })
}
