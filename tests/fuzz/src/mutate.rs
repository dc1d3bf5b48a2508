//! Changes of bytes. Pure: the same seed makes the same change.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sunseo_proto::fuzz::Seal;
use sunseo_proto::varint::put_i64;

use crate::seal;

/// Bytes of an input; longer ones are no other case, and take long.
const INPUT_BYTES_MAX: usize = 64 << 10;
/// Changes of one input.
const CHANGES_MAX: u32 = 4;
/// Of so many inputs one keeps the checksum that its change broke.
const UNMENDED: u32 = 8;

/// Numbers at which decoders go wrong.
const NUMBERS: [i64; 16] = [
    0,
    1,
    -1,
    2,
    7,
    127,
    128,
    255,
    256,
    32_767,
    65_535,
    1 << 31,
    i32::MAX as i64,
    i64::MAX,
    i64::MIN,
    i64::MAX - 1,
];

/// The same for text.
const TOKENS: [&str; 24] = [
    "null",
    "true",
    "\"\"",
    "[]",
    "{}",
    "[[[[[[[[",
    "{\"a\":",
    "-1",
    "0",
    "1e999",
    "-0.0",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "\\u0000",
    "\\ud800",
    "\"",
    ",",
    ":",
    "\n",
    "\t",
    "=",
    "/",
    "*",
];

/// Input number `number` of a run over these examples.
///
/// # Panics
/// When there are no examples.
#[must_use]
pub fn input(examples: &[Vec<u8>], kind: Seal, seed: u64, number: u64) -> Vec<u8> {
    let mut rng = StdRng::seed_from_u64(seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut bytes = examples[rng.random_range(0..examples.len())].clone();
    for _ in 0..rng.random_range(1..=CHANGES_MAX) {
        change(&mut bytes, examples, &mut rng);
    }
    bytes.truncate(INPUT_BYTES_MAX);
    if rng.random_range(0..UNMENDED) > 0 {
        seal::mend(&mut bytes, kind);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, examples: &[Vec<u8>], rng: &mut StdRng) {
    if bytes.is_empty() {
        bytes.push(rng.random());
        return;
    }
    let at = rng.random_range(0..bytes.len());
    let until = (at + 1 + rng.random_range(0..=32)).min(bytes.len());
    match rng.random_range(0..12) {
        0 | 1 => bytes[at] ^= 1 << rng.random_range(0..8),
        2 => bytes[at] = rng.random(),
        3 => {
            let value = number(bytes.len(), rng);
            overwrite(bytes, at, value, rng);
        }
        4 => nudge(bytes, at, rng),
        5 => bytes.truncate(at),
        6 => drop(bytes.drain(at..until)),
        7 => {
            let copy = bytes[at..until].to_vec();
            let to = rng.random_range(0..=bytes.len());
            drop(bytes.splice(to..to, copy));
        }
        8 => {
            // a number of variable length, zigzag as in records or plain as in protocol buffers
            let mut long = Vec::new();
            put_i64(&mut long, number(bytes.len(), rng));
            let gone = rng.random_range(0..2);
            drop(bytes.splice(at..(at + gone).min(bytes.len()), long));
        }
        9 => {
            let other = &examples[rng.random_range(0..examples.len())];
            let from = rng.random_range(0..=other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        10 => token(bytes, at, rng),
        _ => {
            let more: Vec<u8> = (0..rng.random_range(1..=16)).map(|_| rng.random()).collect();
            drop(bytes.splice(at..at, more));
        }
    }
}

fn number(length: usize, rng: &mut StdRng) -> i64 {
    match rng.random_range(0..4) {
        0 => length as i64 + rng.random_range(-2..=2),
        1 => rng.random_range(0..=64),
        _ => NUMBERS[rng.random_range(0..NUMBERS.len())],
    }
}

/// A whole number of 1, 2, 4 or 8 bytes, as lengths, counts and offsets are.
fn overwrite(bytes: &mut [u8], at: usize, value: i64, rng: &mut StdRng) {
    let width = (1 << rng.random_range(0..4)).min(bytes.len() - at);
    bytes[at..at + width].copy_from_slice(&value.to_be_bytes()[8 - width..]);
}

/// A number that is a little more or less than it was.
fn nudge(bytes: &mut [u8], at: usize, rng: &mut StdRng) {
    let by = rng.random_range(-16..=16_i64);
    let width = (1 << rng.random_range(0..4)).min(bytes.len() - at);
    let mut field = [0; 8];
    field[8 - width..].copy_from_slice(&bytes[at..at + width]);
    let value = i64::from_be_bytes(field).wrapping_add(by);
    bytes[at..at + width].copy_from_slice(&value.to_be_bytes()[8 - width..]);
}

/// Text in the place of the number, or of the byte, that stands there.
fn token(bytes: &mut Vec<u8>, at: usize, rng: &mut StdRng) {
    let is_number = |byte: &&u8| byte.is_ascii_digit() || **byte == b'-';
    let start = at - bytes[..at].iter().rev().take_while(is_number).count();
    let end = at + bytes[at..].iter().take_while(is_number).count().max(rng.random_range(0..2));
    let text = TOKENS[rng.random_range(0..TOKENS.len())];
    drop(bytes.splice(start..end.min(bytes.len()), text.bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_names_its_inputs_and_no_two_runs_are_alike() {
        let examples = [b"one example".to_vec(), Vec::new(), b"{\"number\":12}".to_vec()];
        let run = |seed| (0..500).map(|n| input(&examples, Seal::None, seed, n)).collect::<Vec<_>>();
        assert_eq!(run(1), run(1));
        let (one, two) = (run(1), run(2));
        let same = one.iter().zip(&two).filter(|(a, b)| a == b).count();
        assert!(same < 50, "{same} of 500");
    }
}
