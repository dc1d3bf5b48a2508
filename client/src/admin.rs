//! Typed calls for topics, groups, definitions and the tier. Each is one request; nothing is retried here.

use std::collections::HashMap;

use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, v1};

use crate::transport::SharedTransport;

/// A topic to be made.
#[derive(Clone, Debug, Default)]
pub struct NewTopic {
    pub name: String,
    /// 0 takes the node's default.
    pub partitions: i32,
    /// Names are the fields of `TopicConfig`; what is absent takes the node's default.
    pub config: HashMap<String, String>,
    /// An existing topic with the same number of partitions is success.
    pub if_not_exists: bool,
    /// Hidden from a plain list, kept for ever.
    pub internal: bool,
}

impl NewTopic {
    /// A topic with the node's default configuration.
    pub fn new(name: impl Into<String>, partitions: i32) -> Self {
        Self { name: name.into(), partitions, ..Self::default() }
    }

    /// The same topic with one field of its configuration set.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl ToString) -> Self {
        self.config.insert(key.into(), value.to_string());
        self
    }

    /// Finding it there already is success.
    #[must_use]
    pub fn if_not_exists(mut self) -> Self {
        self.if_not_exists = true;
        self
    }

    /// Made by a component of the server.
    #[must_use]
    pub fn internal(mut self) -> Self {
        self.internal = true;
        self
    }
}

/// Where a partition's offset is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetQuery {
    /// The log start offset.
    Start,
    /// The high watermark.
    End,
    /// The first offset at or after this time, milliseconds since the Unix epoch.
    Timestamp(i64),
}

impl OffsetQuery {
    /// The wire form.
    #[must_use]
    pub fn timestamp_ms(self) -> i64 {
        match self {
            Self::Start => -2,
            Self::End => -1,
            Self::Timestamp(ms) => ms.max(0),
        }
    }
}

/// Typed administrative calls. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Admin {
    transport: SharedTransport,
}

fn missing(what: &str) -> Error {
    Error::internal(format!(
        "the server's answer has no {what}: client and server versions may differ, update both"
    ))
}

/// Every method fails with what the broker says, or `UNAVAILABLE`/`TIMED_OUT` when there is no answer.
#[allow(clippy::missing_errors_doc)] // said once, above
impl Admin {
    pub(crate) fn new(transport: SharedTransport) -> Self {
        Self { transport }
    }

    pub async fn create_topic(&self, topic: NewTopic) -> Result<v1::TopicMetadata> {
        let NewTopic { name, partitions, config, if_not_exists, internal } = topic;
        let request = v1::CreateTopicRequest { name, partitions, config, if_not_exists, internal };
        self.transport.create_topic(request).await?.topic.ok_or_else(|| missing("topic"))
    }

    pub async fn topics(&self, include_internal: bool) -> Result<Vec<v1::TopicMetadata>> {
        Ok(self.transport.list_topics(v1::ListTopicsRequest { include_internal }).await?.topics)
    }

    pub async fn describe_topic(&self, name: &str) -> Result<v1::DescribeTopicResponse> {
        self.transport.describe_topic(v1::DescribeTopicRequest { name: name.to_owned() }).await
    }

    /// `partitions` 0 leaves the number as it is; it can only grow.
    pub async fn alter_topic(
        &self,
        name: &str,
        config: HashMap<String, String>,
        partitions: i32,
    ) -> Result<v1::TopicMetadata> {
        let request = v1::AlterTopicRequest { name: name.to_owned(), config, partitions };
        self.transport.alter_topic(request).await?.topic.ok_or_else(|| missing("topic"))
    }

    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        self.transport.delete_topic(v1::DeleteTopicRequest { name: name.to_owned() }).await.map(drop)
    }

    /// Raises the start of partitions; `None` is the end, which deletes everything there is. Each partition has its own result.
    pub async fn delete_records(
        &self,
        topic: &str,
        before: impl IntoIterator<Item = (i32, Option<i64>)>,
    ) -> Result<Vec<v1::DeleteRecordsResult>> {
        let partition = |(partition, before): (i32, Option<i64>)| v1::DeleteRecordsPartition {
            partition,
            before_offset: before.unwrap_or(-1),
        };
        let partitions = before.into_iter().map(partition).collect();
        let request = v1::DeleteRecordsRequest { topic: topic.to_owned(), partitions, ..Default::default() };
        Ok(self.transport.delete_records(request).await?.results)
    }

    /// Replaces a client's quota; an empty client is everybody without one of their own.
    pub async fn set_quota(&self, quota: v1::Quota) -> Result<()> {
        self.transport.set_quota(v1::SetQuotaRequest { quota: Some(quota) }).await.map(drop)
    }

    pub async fn quotas(&self) -> Result<Vec<v1::Quota>> {
        Ok(self.transport.list_quotas(v1::ListQuotasRequest {}).await?.quotas)
    }

    pub async fn delete_quota(&self, client: &str) -> Result<()> {
        self.transport.delete_quota(v1::DeleteQuotaRequest { client: client.to_owned() }).await.map(drop)
    }

    pub async fn metadata(&self, topics: Vec<String>) -> Result<v1::MetadataResponse> {
        self.transport.metadata(v1::MetadataRequest { topics }).await
    }

    /// Offset of one partition; `None` when no record is at or after the timestamp.
    pub async fn offset(&self, topic: &str, partition: i32, at: OffsetQuery) -> Result<Option<i64>> {
        let asked = v1::ListOffsetsPartition {
            topic: topic.to_owned(),
            partition,
            timestamp_ms: at.timestamp_ms(),
            ..Default::default()
        };
        let answer = self
            .transport
            .list_offsets(v1::ListOffsetsRequest { partitions: vec![asked], ..Default::default() })
            .await?;
        let result = answer.results.into_iter().next().ok_or_else(|| missing("offset"))?;
        match result.error {
            Some(error) => Err(error.into()),
            None => Ok(Some(result.offset).filter(|&offset| offset >= 0)),
        }
    }

    pub async fn groups(&self) -> Result<Vec<v1::GroupSummary>> {
        Ok(self.transport.list_groups(v1::ListGroupsRequest {}).await?.groups)
    }

    pub async fn describe_group(&self, group: &str) -> Result<v1::DescribeGroupResponse> {
        self.transport.describe_group(v1::DescribeGroupRequest { group: group.to_owned() }).await
    }

    pub async fn delete_group(&self, group: &str) -> Result<()> {
        self.transport.delete_group(v1::DeleteGroupRequest { group: group.to_owned() }).await.map(drop)
    }

    /// Committed offsets; an empty list of partitions asks for all that are committed.
    pub async fn committed(
        &self,
        group: &str,
        partitions: Vec<v1::TopicPartition>,
    ) -> Result<Vec<v1::OffsetCommit>> {
        let request = v1::FetchOffsetsRequest { group: group.to_owned(), partitions, ..Default::default() };
        Ok(self.transport.fetch_offsets(request).await?.offsets)
    }

    /// Sets a group's offsets while it has no members.
    pub async fn reset_offsets(&self, group: &str, offsets: Vec<v1::OffsetCommit>) -> Result<()> {
        let request = v1::CommitOffsetsRequest {
            group: group.to_owned(),
            member_id: String::new(),
            member_epoch: 0,
            offsets,
        };
        let results = self.transport.commit_offsets(request).await?.results;
        results.into_iter().find_map(|result| result.error).map_or(Ok(()), |error| Err(error.into()))
    }

    /// Stores a definition and returns its version. `expected_version` -1: whatever is there; 0: it must not exist.
    pub async fn put_definition(
        &self,
        kind: &str,
        name: &str,
        body: impl Into<bytes::Bytes>,
        expected_version: i64,
    ) -> Result<i64> {
        let request = v1::PutDefinitionRequest {
            kind: kind.to_owned(),
            name: name.to_owned(),
            body: body.into(),
            expected_version,
        };
        Ok(self.transport.put_definition(request).await?.version)
    }

    /// Definitions of a kind; an empty kind is every kind.
    pub async fn definitions(&self, kind: &str) -> Result<Vec<v1::Definition>> {
        Ok(self
            .transport
            .list_definitions(v1::ListDefinitionsRequest { kind: kind.to_owned() })
            .await?
            .definitions)
    }

    /// One definition, `None` when there is none of that name.
    pub async fn definition(&self, kind: &str, name: &str) -> Result<Option<v1::Definition>> {
        Ok(self.definitions(kind).await?.into_iter().find(|definition| definition.name == name))
    }

    pub async fn delete_definition(&self, kind: &str, name: &str) -> Result<()> {
        let request = v1::DeleteDefinitionRequest { kind: kind.to_owned(), name: name.to_owned() };
        self.transport.delete_definition(request).await.map(drop)
    }

    /// An empty topic is every topic.
    pub async fn tier_status(&self, topic: &str) -> Result<v1::TierStatusResponse> {
        self.transport.tier_status(v1::TierStatusRequest { topic: topic.to_owned() }).await
    }

    /// Reads every offloaded object back; problems are `CORRUPT_LOG` or `OBJECT_STORE` errors inside the answer.
    pub async fn tier_verify(&self, topic: &str) -> Result<v1::TierVerifyResponse> {
        self.transport.tier_verify(v1::TierVerifyRequest { topic: topic.to_owned() }).await
    }

    /// `partition` `None`: every partition.
    pub async fn tier_restore(&self, topic: &str, partition: Option<i32>) -> Result<v1::TierRestoreResponse> {
        let request = v1::TierRestoreRequest { topic: topic.to_owned(), partition: partition.unwrap_or(-1) };
        self.transport.tier_restore(request).await
    }

    pub async fn tier_flush(&self, request: v1::TierFlushRequest) -> Result<v1::TierFlushResponse> {
        self.transport.tier_flush(request).await
    }

    /// `UNKNOWN_TOPIC` becomes `None`.
    pub async fn find_topic(&self, name: &str) -> Result<Option<v1::DescribeTopicResponse>> {
        match self.describe_topic(name).await {
            Ok(topic) => Ok(Some(topic)),
            Err(error) if error.code == ErrorCode::UnknownTopic => Ok(None),
            Err(error) => Err(error),
        }
    }
}
