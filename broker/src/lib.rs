//! The node: produce, log, high watermark, consume; topics, consumer groups, definitions.
//!
//! - [`Broker`]: starts a node on a directory and stops it. [`BrokerHandle`]: its requests, one method for each RPC of
//!   `sunseo.v1`'s Broker, Groups and Admin services, callable in process. [`grpc`]: the same over the network.
//!
//! Not here: sockets, TLS, HTTP and the command line (the root package), clients (`sunseo-client`).

mod broker;
pub mod config;
#[allow(dead_code)] // the node that calls it is landing
mod coordinator;
mod group;
pub mod grpc;
mod handle;
#[allow(dead_code)] // the folds and the partitions that meet here are landing
mod internal;
#[allow(dead_code)] // the node that calls it is landing
mod metadata;

pub use broker::Broker;
pub use config::{BrokerConfig, GroupConfig, Limits};
pub use handle::BrokerHandle;
