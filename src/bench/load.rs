//! Records that are made without a clock or a random device in the way.

use bytes::{Bytes, BytesMut};
use sunseo_proto::Record;

/// A stream of records whose bytes do not compress to nothing.
#[derive(Debug)]
pub struct Load {
    random: Random,
    filler: Bytes,
    record_bytes: usize,
    key_bytes: usize,
}

/// Bytes of noise that values are cut from.
const FILLER_BYTES: usize = 1 << 20;

impl Load {
    /// Different numbers give different records. Keys have at most 8 bytes, none with 0.
    pub fn new(number: u64, record_bytes: usize, key_bytes: usize) -> Self {
        let mut random = Random::new(number);
        let mut filler = BytesMut::with_capacity(FILLER_BYTES + record_bytes);
        while filler.len() < FILLER_BYTES + record_bytes {
            filler.extend_from_slice(&random.next().to_le_bytes());
        }
        Self { random, filler: filler.freeze(), record_bytes, key_bytes: key_bytes.min(8) }
    }

    /// The next one, with a random key.
    pub fn next(&mut self, now_ms: i64) -> Record {
        let random = self.random.next();
        let start = random as usize % FILLER_BYTES;
        let value = self.filler.slice(start..start + self.record_bytes);
        let mut record = Record::new(Bytes::new(), value, now_ms);
        let key = random.to_be_bytes();
        record.key = (self.key_bytes > 0).then(|| Bytes::copy_from_slice(&key[..self.key_bytes]));
        record
    }

    /// The next one, which carries a number in its first 8 bytes.
    pub fn stamped(&mut self, stamp: u64, now_ms: i64) -> Record {
        let mut record = self.next(now_ms);
        let noise = record.value.take().unwrap_or_default();
        let mut value = BytesMut::with_capacity(self.record_bytes);
        value.extend_from_slice(&stamp.to_be_bytes());
        value.extend_from_slice(&noise[8.min(noise.len())..]);
        record.value = Some(value.freeze());
        record
    }
}

/// The number that [`Load::stamped`] put in.
pub fn stamp_of(record: &Record) -> Option<u64> {
    let (stamp, _) = record.value.as_ref()?.split_first_chunk::<8>()?;
    Some(u64::from_be_bytes(*stamp))
}

/// xorshift64*: cheap, and the same for the same number.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(number: u64) -> Self {
        Self(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_their_size_and_carry_their_stamp() {
        let mut load = Load::new(1, 100, 6);
        let plain = load.next(5);
        assert_eq!((plain.value.unwrap().len(), plain.key.unwrap().len()), (100, 6));
        let stamped = load.stamped(77, 5);
        assert_eq!((stamp_of(&stamped), stamped.value.unwrap().len()), (Some(77), 100));
        assert_eq!(Load::new(1, 100, 0).next(5).key, None);
    }

    #[test]
    fn two_loads_differ_and_one_repeats_itself() {
        let keys = |number| {
            let mut load = Load::new(number, 16, 8);
            (0..10).map(|_| load.next(0).key.unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(keys(3), keys(3));
        assert_ne!(keys(3), keys(4));
    }
}
