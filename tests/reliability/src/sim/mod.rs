//! A whole node and its clients in one process, on a clock, a disk and a network that a seed rules.
//!
//! What is drawn from the seed: the load, every fault, the bytes that a power cut takes, the moments of all of it. What is not: the jitter of the
//! client's retries, member ids, and which of two requests at the same instant rides on which sync. So a seed shows its error again
//! nearly always, not always.

pub mod clock;
pub mod disk;
pub mod door;
mod nemesis;
pub mod node;
pub mod pace;
mod run;
#[cfg(test)]
mod tests;

pub use run::run;
