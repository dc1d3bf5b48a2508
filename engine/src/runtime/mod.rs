//! The running half: tasks, their logs, what they forward, and how they come back after a crash.
//!
//! - [`commit`], [`entry`]: a commit as bytes, and as records of a task log.
//! - [`log`]: the task log of one task; [`restore`]: what a start does with it.
//! - [`task`]: the loop that turns inputs into commits; [`input`] feeds it, [`forward`] takes its outputs on.
//! - [`pipeline`]: the tasks of one topology and its switches; [`deploy`], [`definition`], [`names`]: how it comes into being.
//! - [`spec`], [`status`], [`threads`]: what a task is given, what it tells, what it runs on.

pub(crate) mod commit;
#[cfg(test)]
mod commit_tests;
pub(crate) mod definition;
pub(crate) mod deploy;
pub(crate) mod entry;
pub(crate) mod fetched;
pub(crate) mod forward;
pub(crate) mod input;
pub(crate) mod log;
pub(crate) mod names;
pub(crate) mod pipeline;
pub(crate) mod restore;
pub(crate) mod retry;
pub(crate) mod spec;
pub(crate) mod status;
pub(crate) mod task;
#[cfg(test)]
mod tests;
pub(crate) mod threads;
pub(crate) mod wire;
