//! The whole product from outside: the built binary as a child process, on free ports and in temporary folders, killed by its pid.
//!
//! [`harness`] starts and kills; every other module is a story that a user could live through.

#![allow(clippy::unwrap_used)] // tests from the first line to the last: a panic is how they fail

mod bad_input;
mod bench;
mod cli;
mod clients;
mod demo;
mod groups;
mod harness;
mod http;
mod kills;
mod outbox;
mod pipeline;
mod s3;
mod settings;
mod tier;
mod topics;
mod transactions;
