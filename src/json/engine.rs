//! Pipelines and their stores.

use serde_json::{Value, json};
use sunseo_proto::v1;

use super::{error, hex};

pub fn pipeline(p: &v1::PipelineSummary) -> Value {
    json!({
        "name": p.name,
        "state": p.state,
        "error": error(p.error.as_ref()),
        "task_count": p.tasks,
        "lag": p.lag,
        "records_processed": p.records_processed,
        "dead_letters": p.dead_letters,
    })
}

pub fn pipeline_description(description: &v1::DescribePipelineResponse) -> Value {
    let mut value = pipeline(&description.pipeline.clone().unwrap_or_default());
    let operator = |o: &v1::Operator| {
        json!({
            "id": o.id,
            "kind": o.kind,
            "inputs": o.inputs,
            "target": o.target,
            "sub_topology": o.sub_topology,
        })
    };
    let task = |t: &v1::TaskStatus| {
        json!({
            "sub_topology": t.sub_topology,
            "partition": t.partition,
            "state": t.state,
            "commit_position": t.commit_position,
            "stream_time_ms": t.stream_time_ms,
            "lag": t.lag,
            "records_processed": t.records_processed,
            "worker": t.worker,
        })
    };
    value["operators"] = description.operators.iter().map(operator).collect();
    value["tasks"] = description.tasks.iter().map(task).collect();
    value["stores"] = description.stores.iter().map(store).collect();
    value
}

pub fn store(s: &v1::StoreDescription) -> Value {
    json!({
        "store": s.store,
        "operator": s.operator,
        "key_type": s.key_type,
        "value_type": s.value_type,
        "entries_estimate": s.entries_estimate,
    })
}

pub fn pipeline_changes(changes: &[v1::PipelineChange]) -> Value {
    let change = |c: &v1::PipelineChange| {
        json!({
            "id": c.id,
            "change": c.change,
            "state_survives": c.state_survives,
            "detail": c.detail,
        })
    };
    changes.iter().map(change).collect()
}

/// The rendered form; bytes that no type renders show as hexadecimal.
fn rendered(json: &str, bytes: &[u8]) -> Value {
    match serde_json::from_str(json) {
        Ok(value) => value,
        Err(_) if json.is_empty() => json!({"hex": hex(bytes)}),
        Err(_) => json.into(),
    }
}

pub fn query_entry(entry: &v1::QueryEntry) -> Value {
    json!({
        "key": rendered(&entry.key_json, &entry.key),
        "value": rendered(&entry.value_json, &entry.value),
    })
}

fn position(p: &v1::StorePosition) -> Value {
    json!({
        "task_partition": p.task_partition,
        "commit_position": p.commit_position,
        "stream_time_ms": p.stream_time_ms,
    })
}

pub fn query_found(answer: &v1::QueryGetResponse) -> Value {
    json!({
        "found": answer.found,
        "entry": answer.entry.as_ref().filter(|_| answer.found).map(query_entry),
        "position": answer.position.as_ref().map(position),
    })
}

pub fn query_scan(answer: &v1::QueryScanResponse) -> Value {
    json!({
        "entries": answer.entries.iter().map(query_entry).collect::<Value>(),
        "positions": answer.positions.iter().map(position).collect::<Value>(),
        "truncated": answer.truncated,
    })
}
