//! Commands of the metadata as they are stored in `__metadata`: protocol buffers inside an envelope. A command holds everything that
//! [`super::State::apply`] needs: identities and times are in it, never made while it is applied.

use bytes::Bytes;
use prost::Message as _;
use sunseo_proto::envelope::{self, EnvelopeError, kind};
use sunseo_proto::v1;

const COMMAND_VERSION: u8 = 1;

/// One command.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Command {
    #[prost(oneof = "Change", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9")]
    pub(crate) change: Option<Change>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Change {
    #[prost(message, tag = "1")]
    RegisterNode(RegisterNode),
    #[prost(message, tag = "2")]
    CreateTopic(StoredTopic),
    #[prost(message, tag = "3")]
    AlterTopic(AlterTopic),
    #[prost(message, tag = "4")]
    DeleteTopic(DeleteTopic),
    #[prost(message, tag = "5")]
    PutDefinition(PutDefinition),
    #[prost(message, tag = "6")]
    DeleteDefinition(DeleteDefinition),
    /// Name of a producer that gets its identity, or a higher epoch.
    #[prost(string, tag = "7")]
    AllotProducer(String),
    /// Number of identities for producers without a name.
    #[prost(int64, tag = "8")]
    AllotProducerBlock(i64),
    #[prost(message, tag = "9")]
    Snapshot(Snapshot),
}

/// A node starts: its number of starts is the leader epoch of everything it leads.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RegisterNode {
    #[prost(int32, tag = "1")]
    pub(crate) node_id: i32,
    /// Name of the cluster if it has none yet.
    #[prost(string, tag = "2")]
    pub(crate) cluster_id: String,
    #[prost(int64, tag = "3")]
    pub(crate) at_ms: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StoredTopic {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) topic_id: Vec<u8>,
    #[prost(int32, tag = "3")]
    pub(crate) partitions: i32,
    #[prost(message, optional, tag = "4")]
    pub(crate) config: Option<v1::TopicConfig>,
    #[prost(bool, tag = "5")]
    pub(crate) internal: bool,
    /// Nodes that hold it; the first one leads.
    #[prost(int32, repeated, tag = "6")]
    pub(crate) replicas: Vec<i32>,
    #[prost(int64, tag = "7")]
    pub(crate) created_ms: i64,
    /// Counts the changes, from 1.
    #[prost(int64, tag = "8")]
    pub(crate) version: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AlterTopic {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) topic_id: Vec<u8>,
    /// The version the change was made from.
    #[prost(int64, tag = "2")]
    pub(crate) from_version: i64,
    #[prost(int32, tag = "3")]
    pub(crate) partitions: i32,
    #[prost(message, optional, tag = "4")]
    pub(crate) config: Option<v1::TopicConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DeleteTopic {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) topic_id: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PutDefinition {
    #[prost(string, tag = "1")]
    pub(crate) kind: String,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) body: Bytes,
    #[prost(int64, tag = "4")]
    pub(crate) expected_version: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DeleteDefinition {
    #[prost(string, tag = "1")]
    pub(crate) kind: String,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    /// A later definition of the name goes on counting. Commands of earlier versions do not say so, and fold as they did.
    #[prost(bool, tag = "3")]
    pub(crate) keeps_counting: bool,
}

/// The whole state: what lies before it is not needed any more.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Snapshot {
    #[prost(string, tag = "1")]
    pub(crate) cluster_id: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) topics: Vec<StoredTopic>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) definitions: Vec<v1::Definition>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) producers: Vec<StoredProducer>,
    #[prost(int64, tag = "5")]
    pub(crate) next_producer_id: i64,
    #[prost(message, repeated, tag = "6")]
    pub(crate) nodes: Vec<StoredNode>,
    /// Nodes that hold the system topics.
    #[prost(int32, repeated, tag = "7")]
    pub(crate) system_replicas: Vec<i32>,
    /// Index of the last command it contains; one that does not follow that command directly is void.
    #[prost(int64, tag = "8")]
    pub(crate) through: i64,
    /// Identities of topics that were deleted, oldest first.
    #[prost(bytes = "vec", repeated, tag = "20")]
    pub(crate) deleted_topics: Vec<Vec<u8>>,
    /// Highest version of any definition that was deleted.
    #[prost(int64, tag = "21")]
    pub(crate) definition_version_floor: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StoredProducer {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(int64, tag = "2")]
    pub(crate) id: i64,
    #[prost(int32, tag = "3")]
    pub(crate) epoch: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StoredNode {
    #[prost(int32, tag = "1")]
    pub(crate) node_id: i32,
    #[prost(int32, tag = "2")]
    pub(crate) epoch: i32,
    #[prost(int64, tag = "3")]
    pub(crate) started_ms: i64,
}

impl Command {
    /// The stored form.
    pub(crate) fn encode(&self) -> Bytes {
        envelope::seal(kind::METADATA_COMMAND, COMMAND_VERSION, &self.encode_to_vec())
    }

    /// Reads the stored form. A command this binary does not know is refused: a fold must not go on without it.
    pub(crate) fn decode(bytes: &Bytes) -> Result<Self, EnvelopeError> {
        let (_, payload) = envelope::open_as(bytes, kind::METADATA_COMMAND, COMMAND_VERSION)?;
        let command = <Self as prost::Message>::decode(payload);
        let command = command.map_err(|e| EnvelopeError::Payload(e.to_string()))?;
        match command.change {
            Some(_) => Ok(command),
            None => Err(EnvelopeError::Payload("the command is not known: use a newer binary".to_owned())),
        }
    }
}

impl From<Change> for Command {
    fn from(change: Change) -> Self {
        Self { change: Some(change) }
    }
}
