//! Micro benches: one part at a time, without a server, to see where time goes before and after a change.
//!
//! `cargo run --release -p sunseo-benches` prints medians. Variants that are compared run in turn (A B A B), because the
//! machine's speed drifts. The figures of the README come from `sunseo bench`, which measures the whole server.

mod append;
mod codec;
mod measure;

fn main() {
    codec::run();
    append::run();
}
