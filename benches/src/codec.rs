//! Building, checking and decoding record batches.

use bytes::Bytes;
use sunseo_proto::batch::{self, BatchBuilder, Compression};
use sunseo_proto::{Record, partitioner};

use crate::measure::{Variant, compare};

const RECORD_SIZES: [usize; 2] = [100, 1024];
const BATCH_BYTES: usize = 256 << 10;
/// Batches per call, so that a call takes milliseconds.
const BATCHES: usize = 20;

pub fn run() {
    for size in RECORD_SIZES {
        let records = records(size);
        compare(&format!("build batches of {size} B records"), &mut building(&records, size));
        compare(&format!("check and decode batches of {size} B records"), &mut reading(&records, size));
    }
    let keys: Vec<String> = (0..100_000).map(|n| format!("delivery-{n}")).collect();
    let bytes = keys.iter().map(String::len).sum();
    let hash = || keys.iter().map(|key| partitioner::partition_of(key.as_bytes(), 16) as usize).sum();
    let variant = Variant { name: "murmur2".into(), bytes, records: keys.len(), call: Box::new(hash) };
    compare("partition of a key", &mut [variant]);
}

/// Half of each value is one repeated letter and half is drawn from a fixed sequence, so that codecs have something to do and
/// something they cannot do.
fn records(size: usize) -> Vec<Record> {
    let mut state = 0x9E37_79B9_u32;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..BATCH_BYTES / size)
        .map(|n| {
            let value: Vec<u8> = (0..size).map(|i| if i % 2 == 0 { b'x' } else { noise() }).collect();
            Record::new(format!("key-{n}"), value, n as i64)
        })
        .collect()
}

fn build(records: &[Record], compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(compression);
    records.iter().for_each(|record| builder.push(record));
    builder.build()
}

fn building<'a>(records: &'a [Record], size: usize) -> Vec<Variant<'a>> {
    let variant = |compression: Compression| Variant {
        name: compression.as_str().into(),
        bytes: BATCHES * records.len() * size,
        records: BATCHES * records.len(),
        call: Box::new(move || (0..BATCHES).map(|_| build(records, compression).len()).sum()),
    };
    Compression::ALL.into_iter().map(variant).collect()
}

fn reading(records: &[Record], size: usize) -> Vec<Variant<'static>> {
    let variant = |compression: Compression| {
        let bytes = build(records, compression);
        let read = move || {
            batch::validate(&bytes).map_or(0, |header| header.total_bytes)
                + batch::records(&bytes).map_or(0, |records| records.len())
        };
        Variant {
            name: compression.as_str().into(),
            bytes: BATCHES * records.len() * size,
            records: BATCHES * records.len(),
            call: Box::new(move || (0..BATCHES).map(|_| read()).sum()) as Box<dyn FnMut() -> usize>,
        }
    };
    Compression::ALL.into_iter().map(variant).collect()
}
