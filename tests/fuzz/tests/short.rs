//! The short run: every target over its corpus and a few thousand changed examples.

use std::path::Path;

use sunseo_fuzz::run::Watch;
use sunseo_fuzz::targets::{self, CORPUS};
use sunseo_fuzz::{Corpus, Target, memory};
use sunseo_proto::batch::{self, BatchError, Compression};
use sunseo_proto::fuzz::{self, SMALL, Seal};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// Inputs of each target.
const INPUTS: u64 = 3_000;

/// Every run has other inputs; `SUNSEO_FUZZ_SEED` repeats one.
fn seed() -> u64 {
    let given = std::env::var("SUNSEO_FUZZ_SEED").ok();
    given.map_or_else(rand::random, |text| text.parse().expect("SUNSEO_FUZZ_SEED is a whole number"))
}

#[test]
fn no_input_breaks_a_decoder() {
    let seed = seed();
    println!("seed {seed}");
    for target in targets::all() {
        let corpus = Corpus::load(Path::new(CORPUS), &target).expect("readable");
        let watch = Watch::begin(format!("{} (seed {seed})", target.name));
        let mut outcome = corpus.replay(&target);
        for number in 0..INPUTS {
            watch.step(number);
            outcome = outcome.and_then(|()| corpus.step(&target, seed, number));
        }
        outcome.unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[test]
fn every_target_has_its_examples_in_the_corpus() {
    for target in targets::all() {
        for (n, sample) in (target.samples)().iter().enumerate() {
            let path = Path::new(CORPUS).join(target.name).join(format!("{n:02}"));
            let kept = std::fs::read(&path).unwrap_or_default();
            assert!(
                kept == *sample,
                "{} is not what the encoder writes: `make fuzz CORPUS=1`",
                path.display()
            );
        }
    }
}

/// A small block that unpacks to too much is refused before it has taken more than a batch may hold.
#[test]
fn a_bomb_takes_no_more_than_a_batch() {
    for codec in Compression::ALL.into_iter().filter(|codec| *codec != Compression::None) {
        let bomb = fuzz::bomb(codec);
        let (read, bytes) = memory::most_of(|| batch::iterate(&bomb).map(|_| ()));
        assert!(matches!(read, Err(BatchError::TooLarge { .. })), "{codec:?}: {read:?}");
        assert!(bytes <= fuzz::BATCH_BYTES_MAX, "{codec:?} held {bytes} bytes");
    }
}

fn trusts_a_length(bytes: &[u8]) {
    if let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let mut copy = Vec::with_capacity(length & 0x00FF_FFFF);
        copy.extend_from_slice(rest);
    }
}

fn slices_unchecked(bytes: &[u8]) {
    if let Some((length, rest)) = bytes.split_first() {
        assert!(rest[..usize::from(*length)].len() < 256);
    }
}

/// Its name, the decoder, and a part of what the finding says.
type Defect = (&'static str, fn(&[u8]), &'static str);

/// A defect of either kind is found within the short run.
#[test]
fn planted_defects_are_found() {
    let planted = |name, run| Target {
        name,
        run,
        samples: || vec![b"\x00\x00\x00\x04four".to_vec()],
        seal: Seal::None,
        memory_bytes_max: SMALL,
    };
    let defects: [Defect; 2] =
        [("length", trusts_a_length, "are allowed"), ("slice", slices_unchecked, "out of range")];
    for (name, run, what) in defects {
        let target = planted(name, run);
        let corpus = Corpus::load(Path::new(CORPUS), &target).expect("readable");
        corpus.replay(&target).expect("the example itself is harmless");
        let found = (0..INPUTS).find_map(|number| corpus.step(&target, 1, number).err());
        assert!(found.expect("found").what.contains(what));
    }
}
