//! Sources of outbox events.

use serde_json::{Value, json};
use sunseo_proto::v1;

use super::error;

pub fn source(status: &v1::SourceStatus) -> Value {
    let definition = status.definition.clone().unwrap_or_default();
    let shard = |s: &v1::ShardStatus| {
        json!({
            "shard": s.shard,
            "position": s.position,
            "rows_published": s.rows_published,
            "rows_quarantined": s.rows_quarantined,
            "duplicates_dropped": s.duplicates_dropped,
            "last_row_timestamp_ms": s.last_row_timestamp_ms,
        })
    };
    json!({
        "name": definition.name,
        "kind": definition.kind,
        "url": definition.url,
        "tables": definition.tables,
        "topic_template": definition.topic_template,
        "partitions": definition.partitions,
        "on_bad_row": definition.on_bad_row,
        "columns": definition.columns,
        "state": status.state,
        "error": error(status.error.as_ref()),
        "shards": status.shards.iter().map(shard).collect::<Value>(),
    })
}

pub fn verification(answer: &v1::VerifySourceResponse) -> Value {
    json!({
        "rows": answer.rows,
        "published": answer.published,
        "missing": answer.missing,
        "duplicated": answer.duplicated,
        "out_of_order": answer.out_of_order,
        "problems": answer.problems.iter().map(|e| error(Some(e))).collect::<Value>(),
    })
}
