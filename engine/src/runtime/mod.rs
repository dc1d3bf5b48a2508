//! The running half: tasks, their logs, what they forward, and how they come back after a crash.

pub(crate) mod commit;
pub(crate) mod entry;
pub(crate) mod wire;
