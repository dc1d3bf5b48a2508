//! An hour and a bit of it for every change, and what the comparison sees.

use super::load::Progress;
use super::sample::{NAMES, Sample};
use super::{Soak, growth, run};

fn samples(values: &[u64]) -> Vec<Sample> {
    let sample = |(hour, value): (u32, &u64)| Sample {
        hour,
        values: [*value; NAMES.len()],
        progress: Progress::default(),
    };
    (1..).zip(values).map(sample).collect()
}

fn grows(values: &[u64]) -> bool {
    let found = growth(&samples(values));
    assert_eq!(found.len(), NAMES.len());
    // the first has the most slack
    found[0].grows
}

#[test]
fn what_grows_all_the_time_is_seen() {
    let steady: Vec<u64> = (0..24).map(|hour| 20_000 + hour * 3_000).collect();
    assert!(grows(&steady));
    // a leak of one descriptor or file in a minute
    let slow = growth(&samples(&(0..24).map(|hour| 50 + hour * 60).collect::<Vec<_>>()));
    assert!(slow.iter().find(|found| found.what == "descriptors").is_some_and(|found| found.grows));
}

#[test]
fn warm_up_and_breath_are_no_growth() {
    let warm: Vec<u64> = (0..24).map(|hour| 100_000 - 50_000 / (hour + 1) + (hour % 4) * 3_000).collect();
    assert!(!grows(&warm));
    assert_eq!(growth(&samples(&[1, 2])), []);
}

#[test]
fn a_node_lives_an_hour_with_everything_coming_and_going() {
    let soak = Soak { hours: 1, seed: 1, under: None };
    let mut told = 0;
    let samples = run(&soak, |_| told += 1).unwrap_or_else(|error| panic!("seed {}: {error}", soak.seed));
    assert_eq!((samples.len(), told), (1, 1));
    // each of them is there
    assert!(samples[0].values.iter().all(|value| *value > 0), "{:?}", samples[0]);
}
