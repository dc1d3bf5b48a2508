//! What the node holds, compared with the truth.
//!
//! The ledgers ([`events`], [`summaries`], [`riders`], [`counts`]) are pure: records in, checks out. [`node`] reads them
//! from a node, [`parquet`] has the archive read by an independent reader, [`cold`] reads offloaded segments again.
//! A comparison that cannot be made is a failed check with the remedy, never left out.

pub mod cold;
pub mod counts;
pub mod events;
pub mod node;
pub mod parquet;
pub mod riders;
pub mod summaries;

#[cfg(test)]
mod tests;
