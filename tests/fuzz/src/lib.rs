//! Fuzzing on the stable compiler: real examples, changed at random, through every decoder.
//!
//! - [`mutate`]: bytes to changed bytes, by a seed. [`seal`]: mends lengths and checksums, so that a change gets past them. Pure.
//! - [`memory`]: an allocator that counts. [`run`]: a target over its corpus, and what a failure says.
//!
//! A run is bounded by what a decoder may do with any bytes: no panic, no more memory than its target allows, an end. The targets
//! themselves are listed by the crates whose decoders they are (`fuzz` in each), because most decoders are private.
//!
//! Not here: coverage. The compiler's instrumentation needs a nightly toolchain; instead the corpus holds an example of every form, and
//! changes know about lengths and checksums.

pub mod memory;
pub mod mutate;
pub mod run;
pub mod seal;
pub mod targets;

pub use run::{Corpus, Failure};
pub use sunseo_proto::fuzz::Target;
