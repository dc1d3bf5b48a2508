//! Records of many partitions, and the offsets they come from, together or not at all.
//!
//! [`TransactionalProducer`] is a producer with a transactional id and a beginning and an end. Everything between the two becomes
//! visible to readers of committed records at once. With [`send_offsets`](TransactionalProducer::send_offsets) the offsets of the
//! consumed records are part of it, so that a program that consumes, transforms and produces does each record's work exactly once:
//!
//! ```no_run
//! # async fn example() -> sunseo_client::Result<()> {
//! use std::time::Duration;
//! use sunseo_client::{Client, ConsumerConfig, ErrorCode, Record, Remedy, TransactionalConfig};
//!
//! let client = Client::connect("127.0.0.1:7411").await?;
//! // one name for each instance that works at the same time; a restarted instance takes its former name
//! let mut producer = client.transactional("bills-1", TransactionalConfig::default()).await?;
//! // commits go with the transactions
//! let mut consumer = client.consumer(ConsumerConfig::group("bills", ["orders"]).manual_commit()).await?;
//! loop {
//!     let orders = consumer.poll(Duration::from_secs(1)).await?;
//!     if orders.is_empty() {
//!         continue;
//!     }
//!     let Some(member) = consumer.group_metadata() else { continue };
//!     let offsets = consumer.positions();
//!     let work = async {
//!         producer.begin()?;
//!         for order in &orders {
//!             let bill = Record { headers: Vec::new(), ..order.record.clone() };
//!             drop(producer.send("bills", bill).await?); // the commit waits for it
//!         }
//!         producer.send_offsets(&member, &offsets).await?;
//!         producer.commit().await
//!     };
//!     match work.await {
//!         Ok(()) => {}
//!         Err(error) => match Remedy::of(&error) {
//!             Remedy::Retry | Remedy::Abort => {
//!                 match producer.abort().await {
//!                     // committed after all: the group's offsets say so, too
//!                     Err(error) if error.code == ErrorCode::TransactionState => {}
//!                     ended => ended?,
//!                 }
//!                 // read again what was not done: here, by starting the consumer anew
//!                 consumer.close().await?;
//!                 let again = ConsumerConfig::group("bills", ["orders"]).manual_commit();
//!                 consumer = client.consumer(again).await?;
//!             }
//!             Remedy::Stop => return Err(error), // another instance has the name
//!         },
//!     }
//! }
//! # }
//! ```
//!
//! Invariants: a record is sent under the identity of its own transaction and no other; after a failure nothing of the transaction can
//! be committed; every transaction has its own producer epoch, told by the end of the one before (KIP-890), so a request that was
//! late can never touch a later transaction.
//! Not here: what readers leave out (`consumer`); who may end what (the broker).

mod config;
mod producer;
mod remedy;
#[cfg(test)]
mod tests;

use sunseo_proto::batch::BatchHeader;
use sunseo_proto::v1;

pub use config::TransactionalConfig;
pub use producer::TransactionalProducer;
pub use remedy::Remedy;

/// A member of a consumer group as a transaction names it: a member that lost its partitions meanwhile is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadata {
    pub group: String,
    pub member_id: String,
    pub member_epoch: i32,
}

/// Whether a batch is of a transaction that was taken back.
pub(crate) fn is_aborted(header: &BatchHeader, aborted: &[v1::AbortedTransaction]) -> bool {
    let holds = |range: &v1::AbortedTransaction| {
        range.producer_id == header.producer_id
            && (range.first_offset..=range.last_offset).contains(&header.base_offset)
    };
    header.is_transactional() && aborted.iter().any(holds)
}
