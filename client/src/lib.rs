//! The client library: producer, consumer, admin and outbox push, over any [`Transport`].
//!
//! - [`transport`]: the one door to the log; in process or over gRPC ([`grpc_transport`]), the rest of the crate cannot
//!   tell which.
//! - [`producer`]: idempotent, batching; [`positioned`]: appends that carry their place in a source.
//! - [`transaction`]: records of many partitions and consumed offsets, together or not at all.
//! - [`consumer`]: reads partitions by hand or as a member of a group.
//! - [`admin`], [`outbox`], [`query`], [`pipelines`]: thin typed calls.
//! - [`batcher`], [`retry`], [`metadata`]: the pure cores under them.
//! - `testing` (a feature, for tests): a broker in memory that loses, delays and refuses.
//!
//! Not here: anything that touches a disk, and anything the broker decides.
//!
//! ```no_run
//! # async fn example() -> sunseo_client::Result<()> {
//! use sunseo_client::{Client, ConsumerConfig, ProducerConfig, Record};
//!
//! let client = Client::connect("127.0.0.1:7411").await?;
//!
//! let producer = client.producer(ProducerConfig::default())?; // idempotent, several requests in flight
//! let ack = producer.send("orders", Record::new("o-1", "created", 0)).await?; // queued, in order
//! let place = ack.await?; // on disk
//! println!("partition {}, offset {}", place.partition, place.offset);
//!
//! let mut consumer = client.consumer(ConsumerConfig::group("kitchen", ["orders"])).await?;
//! for consumed in consumer.poll(std::time::Duration::from_secs(1)).await? {
//!     println!("{:?}", consumed.record.value); // at least once, in order per key
//! }
//! consumer.close().await
//! # }
//! ```

pub mod admin;
pub mod batcher;
pub mod client;
pub mod consumer;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod fuzz {
    //! The fuzz target of this crate.
    pub use crate::consumer::fuzz::TARGETS;
}
#[cfg(test)]
mod grpc_tests;
pub mod grpc_transport;
pub mod metadata;
mod mux;
pub mod outbox;
pub mod pipelines;
pub mod positioned;
pub mod producer;
pub mod query;
pub mod retry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod transaction;
pub mod transport;

pub use admin::{Admin, NewTopic};
pub use client::Client;
pub use consumer::{
    AssignedPartition, CommitHandle, Committed, ConsumedBatch, ConsumedRecord, Consumer, ConsumerConfig,
    Isolation, OffsetToCommit, OutOfRangePolicy, RebalanceListener, StartFrom, Subscription,
};
pub use grpc_transport::{GrpcConfig, GrpcTransport};
pub use outbox::{OutboxClient, OutboxPusher, PushConfig};
pub use pipelines::PipelinesClient;
pub use positioned::{Appended, PartitionAppend, PositionedConfig, PositionedProducer};
pub use producer::{Ack, Producer, ProducerConfig, RecordPlace, Undelivered, UndeliveredPartition};
pub use query::QueryClient;
pub use sunseo_proto::batch::Compression;
pub use sunseo_proto::{Error, ErrorCode, Header, Record, error::Result};
pub use transaction::{GroupMetadata, Remedy, TransactionalConfig, TransactionalProducer};
pub use transport::{SharedTransport, Transport};
