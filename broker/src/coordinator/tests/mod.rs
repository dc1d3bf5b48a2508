//! Scenarios of the coordinator over a log in memory.

mod groups;
mod rolling;
mod simulation;
mod storage;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use sunseo_proto::clock::ManualClock;
use sunseo_proto::error::Result;
use sunseo_proto::{ErrorCode, PartitionId, TopicId, v1};

use super::{Coordinator, CoordinatorConfig, HighWatermarks};
use crate::BrokerConfig;
use crate::internal::SharedInternalLog;
use crate::memory_log::MemoryLog;
use crate::metadata::internal_topics::OFFSETS;
use crate::metadata::{LocalMetadataLog, Metadata, MetadataConfig};

/// A node with metadata and groups that can die and start again.
struct Node {
    log: Arc<MemoryLog>,
    config: CoordinatorConfig,
    metadata: Metadata,
    groups: Coordinator,
    high_watermarks: Arc<Mutex<BTreeMap<PartitionId, i64>>>,
    /// Wall-clock time at the next start.
    wall_ms: i64,
}

/// Wall-clock time at the first start.
const WALL_MS: i64 = 1_700_000_000_000;

type Marks = Arc<Mutex<BTreeMap<PartitionId, i64>>>;

async fn open_metadata(log: &Arc<MemoryLog>) -> Metadata {
    let commands = Arc::new(LocalMetadataLog::new(log.clone()));
    let config = MetadataConfig::new(&BrokerConfig::new("unused"));
    let clock = Arc::new(ManualClock::new(1_000));
    Metadata::start(commands, log.clone(), config, clock).await.expect("starts")
}

async fn open_groups(
    log: &Arc<MemoryLog>,
    metadata: &Metadata,
    marks: &Marks,
    config: &CoordinatorConfig,
    wall_ms: i64,
) -> Result<Coordinator> {
    let marks = Arc::clone(marks);
    let look = HighWatermarks::new(move |id| marks.lock().expect("no panics").get(&id).copied());
    let log: SharedInternalLog = log.clone();
    Coordinator::start(log, metadata, look, config.clone(), wall_ms).await
}

impl Node {
    /// With the topic "orders" of so many partitions.
    async fn start(partitions: i32) -> Self {
        Self::start_with(partitions, |_| {}).await
    }

    async fn start_with(partitions: i32, change: impl FnOnce(&mut CoordinatorConfig)) -> Self {
        let mut config = CoordinatorConfig::new(&BrokerConfig::new("unused"));
        change(&mut config);
        let log = Arc::new(MemoryLog::default());
        let metadata = open_metadata(&log).await;
        let high_watermarks = Marks::default();
        let groups = open_groups(&log, &metadata, &high_watermarks, &config, WALL_MS).await.expect("starts");
        let node = Self { log, config, metadata, groups, high_watermarks, wall_ms: WALL_MS };
        node.create("orders", partitions).await;
        node
    }

    async fn restart(&mut self) {
        self.groups.stop().await;
        self.metadata.stop().await;
        self.log.crash();
        self.metadata = open_metadata(&self.log).await;
        self.groups =
            open_groups(&self.log, &self.metadata, &self.high_watermarks, &self.config, self.wall_ms)
                .await
                .expect("starts again");
    }

    async fn create(&self, name: &str, partitions: i32) {
        let request =
            v1::CreateTopicRequest { name: name.to_owned(), partitions, ..v1::CreateTopicRequest::default() };
        self.metadata.create_topic(request).await.expect("made");
    }

    async fn delete(&self, name: &str) {
        let request = v1::DeleteTopicRequest { name: name.to_owned() };
        self.metadata.delete_topic(request).await.expect("deleted");
    }

    fn mark(&self, topic: &str, partition: i32, offset: i64) {
        let topic = self.metadata.described(topic).expect("there");
        let topic_id = TopicId::from_slice(&topic.topic_id).expect("16 bytes");
        self.high_watermarks.lock().expect("no panics").insert(PartitionId { topic_id, partition }, offset);
    }

    async fn send(&self, beat: v1::GroupHeartbeatRequest) -> Result<(i32, Vec<i32>), ErrorCode> {
        let told = self.groups.heartbeat(beat).await.map_err(|e| e.code)?;
        Ok((told.member_epoch, told.assignment.iter().map(|p| p.partition).collect()))
    }

    async fn beat(&self, member: &str, epoch: i32, owned: &[i32]) -> (i32, Vec<i32>) {
        self.send(beat(member, epoch, owned)).await.expect("accepted")
    }

    async fn commit(
        &self,
        member: &str,
        epoch: i32,
        offsets: &[(i32, i64)],
    ) -> Result<Vec<Option<ErrorCode>>, ErrorCode> {
        let offsets = offsets.iter().map(|(partition, offset)| offset_of("orders", *partition, *offset));
        let request = v1::CommitOffsetsRequest {
            group: "g".to_owned(),
            member_id: member.to_owned(),
            member_epoch: epoch,
            offsets: offsets.collect(),
        };
        let answer = self.groups.commit_offsets(request).await.map_err(|e| e.code)?;
        let code = |error: v1::Error| ErrorCode::parse(&error.code).expect("a known code");
        Ok(answer.results.into_iter().map(|result| result.error.map(code)).collect())
    }

    async fn committed(&self, partition: i32) -> i64 {
        let partitions = vec![v1::TopicPartition { topic: "orders".to_owned(), partition }];
        let request = v1::FetchOffsetsRequest { group: "g".to_owned(), partitions, ..Default::default() };
        self.groups.fetch_offsets(request).await.expect("answers").offsets[0].offset
    }

    async fn describe(&self) -> Result<v1::DescribeGroupResponse> {
        self.groups.describe_group(v1::DescribeGroupRequest { group: "g".to_owned() }).await
    }

    async fn state(&self) -> String {
        self.describe().await.expect("there").summary.expect("a summary").state
    }

    /// Records of groups in the log.
    fn records(&self) -> usize {
        (0..OFFSETS.partitions).map(|partition| self.log.records(OFFSETS.partition(partition)).len()).sum()
    }
}

fn beat(member: &str, epoch: i32, owned: &[i32]) -> v1::GroupHeartbeatRequest {
    let owned = owned
        .iter()
        .map(|partition| v1::TopicPartition { topic: "orders".to_owned(), partition: *partition });
    v1::GroupHeartbeatRequest {
        group: "g".to_owned(),
        member_id: member.to_owned(),
        member_epoch: epoch,
        topics: vec!["orders".to_owned()],
        owned: owned.collect(),
        ..v1::GroupHeartbeatRequest::default()
    }
}

fn offset_of(topic: &str, partition: i32, offset: i64) -> v1::OffsetCommit {
    v1::OffsetCommit { topic: topic.to_owned(), partition, offset, ..Default::default() }
}
