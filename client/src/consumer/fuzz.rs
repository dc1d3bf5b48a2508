//! Fuzz target of what a node answers to a fetch. For tests only (feature `testing`).

use std::sync::Arc;

use prost::Message as _;
use sunseo_proto::batch::{BatchBuilder, Compression, Ending, end_marker, stamp};
use sunseo_proto::fuzz::{Seal, Target};
use sunseo_proto::{Record, v1};

use super::book;
use super::config::Isolation;

/// The targets of this crate.
pub const TARGETS: &[Target] = &[Target {
    name: "fetch_result",
    run: fetch_result,
    samples,
    seal: Seal::None,
    // what a changed block of a few hundred bytes can unpack to, and the buffers of its codec
    memory_bytes_max: 16 << 20,
}];

fn fetch_result(bytes: &[u8]) {
    let Ok(result) = v1::FetchResult::decode(bytes) else { return };
    for isolation in [Isolation::ReadCommitted, Isolation::ReadUncommitted] {
        let key = (Arc::from("orders"), 3);
        std::hint::black_box(book::decode(&key, 2, result.clone(), isolation));
    }
}

fn samples() -> Vec<Vec<u8>> {
    let batch = |offset: i64, codec, producer: i64| {
        let mut builder = BatchBuilder::new(codec).producer(producer, 0, 0).transactional();
        (0..3).for_each(|n| builder.push(&Record::new("k", format!("value {n}"), 1_700_000_000_000)));
        stamped(&builder.build(), offset)
    };
    let batches = [
        batch(0, Compression::None, 1),
        batch(3, Compression::Lz4, 2),
        stamped(&end_marker(2, 1, Ending::Abort, 0, 1_700_000_000_000), 6),
    ];
    let aborted = v1::AbortedTransaction { producer_id: 2, first_offset: 3, last_offset: 6 };
    let result = v1::FetchResult {
        topic: "orders".into(),
        partition: 3,
        batches: batches.concat().into(),
        high_watermark: 7,
        last_stable_offset: 7,
        aborted: vec![aborted],
        ..v1::FetchResult::default()
    };
    vec![result.encode_to_vec()]
}

fn stamped(batch: &[u8], offset: i64) -> Vec<u8> {
    let mut batch = batch.to_vec();
    stamp(&mut batch, offset, 0);
    batch
}
