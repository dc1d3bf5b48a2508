//! How many partitions a topic has, as far as this client knows.
//!
//! [`MetadataCache`] is pure: time goes in, and an entry says whether it is fresh. [`SharedMetadata`] asks the broker for
//! what is missing or old. A topic's number of partitions can only grow, so an old number is never wrong, only small.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, v1};
use tokio::time::Instant;

use crate::transport::SharedTransport;

/// Age from which an entry is asked for again.
pub const METADATA_MAX_AGE: Duration = Duration::from_secs(60);

/// Most topics an entry is kept for; beyond it the oldest entry makes room.
pub const METADATA_MAX_TOPICS: usize = 10_000;

/// What the cache knows about a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    Fresh(i32),
    /// Good to use, but worth asking again.
    Stale(i32),
    Missing,
}

/// Partition counts with their age. Time is given as the duration since some fixed start.
#[derive(Debug, Default)]
pub struct MetadataCache {
    topics: HashMap<Arc<str>, (i32, Duration)>,
    /// The identity of each, as far as the broker says it.
    ids: HashMap<Arc<str>, Bytes>,
}

impl MetadataCache {
    /// What is known at time `now`.
    #[must_use]
    pub fn lookup(&self, topic: &str, now: Duration) -> Lookup {
        match self.topics.get(topic) {
            Some(&(partitions, learned)) if now.saturating_sub(learned) < METADATA_MAX_AGE => {
                Lookup::Fresh(partitions)
            }
            Some(&(partitions, _)) => Lookup::Stale(partitions),
            None => Lookup::Missing,
        }
    }

    /// Remembers an answer.
    pub fn learn(&mut self, topic: &str, partitions: i32, now: Duration) {
        if self.topics.len() >= METADATA_MAX_TOPICS && !self.topics.contains_key(topic) {
            let oldest =
                self.topics.iter().min_by_key(|(_, (_, learned))| *learned).map(|(name, _)| Arc::clone(name));
            oldest.map(|name| (self.topics.remove(&name), self.ids.remove(&name)));
        }
        self.topics.insert(topic.into(), (partitions, now));
    }

    /// Forgets a topic that is gone.
    pub fn forget(&mut self, topic: &str) {
        self.topics.remove(topic);
        self.ids.remove(topic);
    }

    /// Remembers which topic has the name now; a known one.
    pub fn learn_id(&mut self, topic: &str, id: Bytes) {
        if let Some((name, _)) = self.topics.get_key_value(topic) {
            self.ids.insert(Arc::clone(name), id);
        }
    }

    /// Which topic has the name; empty when that is not known.
    #[must_use]
    pub fn id(&self, topic: &str) -> Bytes {
        self.ids.get(topic).cloned().unwrap_or_default()
    }
}

/// The cache of one client, with the door to fill it.
#[derive(Clone, Debug)]
pub struct SharedMetadata {
    transport: SharedTransport,
    cache: Arc<Mutex<MetadataCache>>,
    start: Instant,
}

impl SharedMetadata {
    pub(crate) fn new(transport: SharedTransport) -> Self {
        Self { transport, cache: Arc::default(), start: Instant::now() }
    }

    /// Partitions of a topic, asked for when they are not known or old.
    pub(crate) async fn partitions(&self, topic: &str) -> Result<i32> {
        let known = self.lock().lookup(topic, self.start.elapsed());
        match known {
            Lookup::Fresh(partitions) => Ok(partitions),
            Lookup::Stale(partitions) => match self.refresh(topic).await {
                Err(error) if error.retryable() => Ok(partitions),
                answer => answer,
            },
            Lookup::Missing => self.refresh(topic).await,
        }
    }

    /// The identity of a topic that was asked for before; empty when it is not known.
    pub(crate) fn id(&self, topic: &str) -> Bytes {
        self.lock().id(topic)
    }

    /// Asks the broker, whatever is known.
    pub(crate) async fn refresh(&self, topic: &str) -> Result<i32> {
        let request = v1::MetadataRequest { topics: vec![topic.to_owned()] };
        let answer = self.transport.metadata(request).await?;
        let found = answer.topics.into_iter().find(|entry| entry.name == topic);
        let id = found.as_ref().map(|entry| entry.topic_id.clone()).unwrap_or_default();
        let partitions = match found {
            Some(v1::TopicMetadata { error: Some(error), .. }) => Err(Error::from(error)),
            Some(entry) if !entry.partitions.is_empty() => Ok(entry.partitions.len() as i32),
            _ => Err(unknown_topic(topic)),
        };
        let mut cache = self.lock();
        match &partitions {
            Ok(partitions) => {
                cache.learn(topic, *partitions, self.start.elapsed());
                cache.learn_id(topic, id);
            }
            Err(_) => cache.forget(topic),
        }
        partitions
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, MetadataCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown_topic(topic: &str) -> Error {
    let message = format!("topic {topic:?} does not exist: create it first (sunseo topic create {topic})");
    Error::new(ErrorCode::UnknownTopic, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_ages_and_can_be_forgotten() {
        let mut cache = MetadataCache::default();
        assert_eq!(cache.lookup("orders", Duration::ZERO), Lookup::Missing);
        cache.learn("orders", 16, Duration::from_secs(5));
        assert_eq!(cache.lookup("orders", Duration::from_secs(64)), Lookup::Fresh(16));
        assert_eq!(cache.lookup("orders", Duration::from_secs(65)), Lookup::Stale(16));
        cache.forget("orders");
        assert_eq!(cache.lookup("orders", Duration::from_secs(65)), Lookup::Missing);
    }

    #[test]
    fn the_number_of_topics_is_bounded_and_the_oldest_goes_first() {
        let mut cache = MetadataCache::default();
        for n in 0..=METADATA_MAX_TOPICS {
            cache.learn(&format!("topic-{n}"), 1, Duration::from_millis(n as u64));
        }
        assert_eq!(cache.lookup("topic-0", Duration::ZERO), Lookup::Missing);
        assert_ne!(cache.lookup("topic-1", Duration::ZERO), Lookup::Missing);
    }
}
