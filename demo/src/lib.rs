//! The food-delivery day: a reference application, and the proof that nothing was lost on the way.
//!
//! - [`regions`]: administrative districts as polygons, from a seed or a GeoJSON file; which district a point lies in.
//! - [`city`], [`simulator`]: shops, riders and orders of one day, as a sequence of steps; pure and seeded.
//! - [`truth`]: what the world must look like after those steps, folded from the steps alone; the rules are written there.
//! - [`app`]: the ordering application: business row and outbox row in one SQLite transaction.
//! - [`topology`]: the pipeline that runs inside the node.
//! - [`run()`]: drives the day against a [`Node`], then compares everything with the truth ([`verify`]) and reports.
//!
//! The simulator never looks at the node and the node never sees the simulator: they meet only in the comparison.
//!
//! Not here: how a node is started (the binary implements [`Node`]) and how a report is drawn.

pub mod app;
pub mod city;
pub mod config;
pub mod error;
pub mod event;
pub mod node;
pub mod regions;
pub mod report;
pub mod run;
pub mod simulator;
pub mod topics;
pub mod topology;
pub mod truth;
pub mod verify;

pub use config::{DemoConfig, Rate};
pub use error::{DemoError, Result};
pub use node::{Node, Progress, Silent};
pub use report::{Check, Report};
pub use run::run;
