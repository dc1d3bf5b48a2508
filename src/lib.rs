//! What the binary `sunseo` is made of: one server, and the commands that talk to it.
//!
//! - `cli`: a file per family of commands. `config`: settings from file, environment and flags, checked.
//! - `assemble`: the only place that knows every part of the server. `door`: the broker as the clients' transport.
//! - `http`: health, metrics and the JSON API, a client of the server like any other. `json`: the JSON they share.
//! - `grpc`: the gRPC server. `pipelines`: the pipelines that come with the binary.
//! - `memory`: what the allocator is told. `node`: the nodes that the demo runs on. `bench`: the measurements.
//!
//! Not here: anything that decides about records; that is the libraries' business.

mod assemble;
mod bench;
mod cli;
mod config;
mod door;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod fuzz;
mod grpc;
mod http;
mod json;
mod memory;
mod node;
mod pipelines;

/// The binary: does what the command line says. To be called before there are other threads.
#[must_use]
pub fn main() -> std::process::ExitCode {
    memory::tune();
    cli::main()
}
