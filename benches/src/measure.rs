//! Rounds, medians and their output.

use std::hint::black_box;
use std::time::Instant;

/// Rounds per variant; the median of them is shown.
const ROUNDS: usize = 9;

/// One thing to measure: its name, the bytes and records one call handles, and the call.
pub struct Variant<'a> {
    pub name: String,
    pub bytes: usize,
    pub records: usize,
    pub call: Box<dyn FnMut() -> usize + 'a>,
}

/// Runs the variants in turn and prints the median of each.
pub fn compare(title: &str, variants: &mut [Variant<'_>]) {
    println!("{title}");
    let mut seconds = vec![Vec::with_capacity(ROUNDS); variants.len()];
    for _ in 0..ROUNDS {
        for (variant, seconds) in variants.iter_mut().zip(&mut seconds) {
            let start = Instant::now();
            black_box((variant.call)());
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    for (variant, seconds) in variants.iter().zip(&mut seconds) {
        seconds.sort_by(f64::total_cmp);
        let median = seconds[ROUNDS / 2];
        let megabytes = variant.bytes as f64 / median / 1e6;
        let records = variant.records as f64 / median / 1e6;
        println!("  {:<28} {megabytes:>9.0} MB/s {records:>8.2} M records/s", variant.name);
    }
}
