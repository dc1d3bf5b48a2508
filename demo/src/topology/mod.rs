//! The pipeline that runs inside the node.
//!
//! ```text
//! rider-gps ─ locate ─ rider-places: entered another district? ─┬─► rider-district
//!                                                               ▼
//! delivery ─┬─ with a rider ─ by rider ──────────────────► riders ─┬─► rider-snapshot
//!           │                                                      ▼ moved, by delivery
//!           ├─ without a rider: in its shop's district ──► delivery-places ─► deliveries-by-district
//!           └─ delivery-events: until it ended ─ summary ─► delivery-summary
//! ```
//!
//! Where a delivery counts is written in [`crate::truth`]; why that does not depend on the order in which the two streams are
//! read, in [`rider`]: `delivery-places` keeps the last [`Counted`](crate::event::Counted) of a delivery by (`seq`, `entered_ms`), whichever way it
//! came, and the counts follow that table with retraction.
//!
//! Invariant: ids of operators stay when this file changes; stores and internal topics are named after them.

mod pipeline;
pub mod rider;
pub mod summary;

pub use pipeline::{plan, topology};

#[cfg(test)]
mod tests;
