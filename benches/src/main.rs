//! Micro benches: one part at a time, without a server, to see where time goes before and after a change.
//!
//! `cargo run --release -p sunseo-benches` prints medians; `-- append` runs one part. Variants that are compared run in turn (A B A B), because the
//! machine's speed drifts. The figures of the README come from `sunseo bench`, which measures the whole server.

mod append;
mod codec;
mod measure;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let parts: [(&str, fn()); 2] = [("codec", codec::run), ("append", append::run)];
    for (name, run) in parts {
        if wanted.is_empty() || wanted.iter().any(|part| part == name) {
            run();
        }
    }
}
