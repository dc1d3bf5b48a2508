//! The node: produce, log, high watermark, consume; topics, consumer groups, definitions.
//!
//! - [`Broker`]: starts a node on a directory and stops it. [`BrokerHandle`]: its requests, one method for each RPC of
//!   `sunseo.v1`'s Broker, Groups and Admin services, callable in process. [`grpc`]: the same over the network.
//!
//! Not here: sockets, TLS, HTTP and the command line (the root package), clients (`sunseo-client`).

mod api;
mod broker;
mod budget;
mod cleaner;
mod cold;
pub mod config;
mod coordinator;
mod folded;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod fuzz;
mod gate;
mod group;
pub mod grpc;
mod handle;
mod internal;
mod local_log;
mod log_thread;
#[cfg(test)]
mod memory_log;
mod metadata;
mod node;
mod partition;
mod properties;
mod queue;
mod quota;
mod reads;
mod registry;
mod tier_host;
mod txn;
mod waiters;

pub use broker::Broker;
pub use budget::{Budget, Reserved};
pub use config::{BrokerConfig, GroupConfig, Limits, TransactionConfig};
pub use handle::{BrokerHandle, Use};
pub use quota::CLIENT_ID_HEADER;
