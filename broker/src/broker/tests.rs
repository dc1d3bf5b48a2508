//! A whole node, in process and over a socket, on a disk that obeys the scenario.

mod bounds;
mod compaction;
mod faults;
mod folds;
mod lifecycle;
mod owed;
mod produce_fetch;
mod support;
mod tiering;
mod topic_life;
mod transactions;
mod wire;
