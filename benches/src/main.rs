//! Micro benches: one part at a time, without a server, to see where time goes before and after a change.
//!
//! `cargo run --release -p sunseo-benches` prints medians; `-- append` runs one part; `-- limit` and `-- disk` are what the side-by-side run (`peers/`) compares with. Variants that are compared run in turn (A B A B), because the
//! machine's speed drifts. The figures of the README come from `sunseo bench`, which measures the whole server.

mod append;
mod codec;
mod limit;
mod measure;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let parts: [(&str, fn()); 4] =
        [("codec", codec::run), ("append", append::run), ("limit", limit::limit), ("disk", limit::disk)];
    for (name, run) in parts {
        // what follows the part's name is for the part
        if wanted.first().is_none_or(|part| part == name) {
            run();
        }
    }
}
