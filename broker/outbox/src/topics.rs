//! What is known about topics, and the making of those that are missing.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sunseo_client::{Client, NewTopic};
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, v1};
use tokio::time::Instant;

/// Age from which a topic is asked for again.
const MAX_AGE: Duration = Duration::from_secs(30);
/// Topics that are remembered; beyond it all are forgotten.
const TOPICS_MAX: usize = 10_000;
/// Bytes of a batch when the broker does not say: what a client can send at most.
const BATCH_BYTES_MAX: usize = 32 << 20;

/// What routing needs to know about a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic {
    pub partitions: i32,
    pub batch_bytes_max: usize,
}

/// Topics by name. An old answer is used while the broker does not give a new one.
#[derive(Debug)]
pub struct Topics {
    client: Client,
    known: Mutex<HashMap<String, (Topic, Instant)>>,
}

impl Topics {
    pub fn new(client: Client) -> Self {
        Self { client, known: Mutex::default() }
    }

    /// The topic; one that is missing is made with `partitions`, 0 takes the broker's default.
    pub async fn get(&self, name: &str, partitions: i32) -> Result<Topic> {
        let known = self.lock().get(name).copied();
        if let Some((topic, learned)) = known
            && learned.elapsed() < MAX_AGE
        {
            return Ok(topic);
        }
        match (self.ask(name, partitions).await, known) {
            (Ok(topic), _) => {
                let mut known = self.lock();
                if known.len() >= TOPICS_MAX {
                    known.clear();
                }
                known.insert(name.to_owned(), (topic, Instant::now()));
                Ok(topic)
            }
            (Err(error), Some((topic, _))) if error.retryable() => Ok(topic),
            (Err(error), _) => Err(error),
        }
    }

    /// The next [`get`](Self::get) asks the broker.
    pub fn forget(&self, name: &str) {
        self.lock().remove(name);
    }

    async fn ask(&self, name: &str, partitions: i32) -> Result<Topic> {
        match self.find(name).await {
            Err(error) if error.code == ErrorCode::UnknownTopic => {
                let topic = NewTopic::new(name, partitions).if_not_exists();
                match self.client.admin().create_topic(topic).await {
                    // made by another shard meanwhile, with other partitions
                    Err(error) if error.code != ErrorCode::AlreadyExists => return Err(error),
                    _ => tracing::info!(topic = name, "topic made for an outbox"),
                }
                self.find(name).await
            }
            found => found,
        }
    }

    async fn find(&self, name: &str) -> Result<Topic> {
        let answer = self.client.admin().metadata(vec![name.to_owned()]).await?;
        let unknown = || Error::new(ErrorCode::UnknownTopic, format!("topic {name:?} does not exist"));
        let found = answer.topics.into_iter().find(|topic| topic.name == name).ok_or_else(unknown)?;
        match found {
            v1::TopicMetadata { error: Some(error), .. } => Err(error.into()),
            v1::TopicMetadata { partitions, .. } if partitions.is_empty() => Err(unknown()),
            v1::TopicMetadata { partitions, config, .. } => {
                let limit = config.map_or(0, |config| config.max_batch_bytes);
                let limit = usize::try_from(limit).ok().filter(|&limit| limit > 0);
                let batch_bytes_max = limit.map_or(BATCH_BYTES_MAX, |limit| limit.min(BATCH_BYTES_MAX));
                Ok(Topic { partitions: partitions.len() as i32, batch_bytes_max })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Topic, Instant)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
