//! Requests about groups, checked for form before they reach a group.

use std::collections::BTreeSet;
use std::sync::Arc;

use sunseo_proto::error::{Error, Result};
use sunseo_proto::v1;

use crate::group::TopicPartition;
use crate::group::membership::{Heartbeat, LEAVE_EPOCH};
use crate::metadata::names::{check_free_name, check_name};

pub(super) fn group_name(name: &str) -> Result<()> {
    check_free_name("group", "group name", name)
}

pub(super) fn few(field: &str, count: usize, max: usize) -> Result<()> {
    if count <= max {
        return Ok(());
    }
    Err(Error::invalid(
        field,
        format!("{count} partitions in one request, at most {max} are allowed: split it"),
    ))
}

/// A heartbeat with a member id, and the name of its group.
pub(crate) fn heartbeat(
    request: v1::GroupHeartbeatRequest,
    partitions_max: usize,
) -> Result<(String, Heartbeat)> {
    group_name(&request.group)?;
    check_free_name("member_id", "member id", &request.member_id)?;
    if !request.instance_id.is_empty() {
        check_free_name("instance_id", "instance id", &request.instance_id)?;
    }
    if request.member_epoch < LEAVE_EPOCH {
        let message = format!(
            "member epoch {} does not exist: 0 joins, -1 leaves, otherwise send the one of the last answer",
            request.member_epoch
        );
        return Err(Error::invalid("member_epoch", message));
    }
    few("owned", request.owned.len(), partitions_max)?;
    for topic in &request.topics {
        check_name("topics", "topic name", topic)?;
    }
    let beat = Heartbeat {
        member_id: request.member_id,
        member_epoch: request.member_epoch,
        instance_id: request.instance_id,
        topics: request.topics.into_iter().map(Arc::from).collect(),
        owned: partitions(request.owned),
        session_timeout_ms: request.session_timeout_ms,
        assignor: request.assignor,
    };
    Ok((request.group, beat))
}

fn partitions(listed: Vec<v1::TopicPartition>) -> BTreeSet<TopicPartition> {
    listed.into_iter().map(|listed| TopicPartition::new(listed.topic, listed.partition)).collect()
}
