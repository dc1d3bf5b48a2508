//! Scenarios of the whole store. The helpers build batches and stores; [`power`] and [`model`] draw their scenarios from seeds.

mod compaction;
mod compaction_model;
mod damage;
mod durability;
mod faults;
mod lazy;
mod model;
mod power;
mod read;
mod real;
mod tier;
mod transactions;

use std::sync::Arc;

use bytes::Bytes;
use sunseo_proto::batch::{self, BatchBuilder, Compression};
use sunseo_proto::position::PositionRange;
use sunseo_proto::{PartitionId, Record, TopicId};
use uuid::Uuid;

use crate::faulty::FaultyDisk;
use crate::{Append, Background, Outcome, PartitionConfig, Reader, Recovered, Refusal, Store, StoreConfig};

pub(crate) fn id(n: i32) -> PartitionId {
    PartitionId { topic_id: TopicId(Uuid::from_u128(7)), partition: n }
}

/// Small everywhere, so that a test meets every turn.
pub(crate) fn small() -> StoreConfig {
    StoreConfig {
        journal_file_bytes: 64 << 10,
        checkpoint_journal_bytes: 72 << 10,
        direct_append_bytes: 8 << 10,
        disk_headroom_bytes: 0,
        index_interval_bytes: 256,
        verify_bytes: 600,
        background: Background::Steps(usize::MAX),
        ..StoreConfig::default()
    }
}

pub(crate) fn open(disk: &FaultyDisk) -> (Store, Vec<Recovered>) {
    Store::open(Arc::new(disk.clone()), small(), 1).expect("the directory opens")
}

/// A store with one empty partition.
pub(crate) fn fresh(disk: &FaultyDisk, config: PartitionConfig) -> Store {
    let (mut store, _) = open(disk);
    store.create(id(0), config).expect("new");
    store.sync();
    store
}

pub(crate) fn append_of(batch: Bytes) -> Append {
    let header = batch::validate(&batch).expect("valid");
    let position = batch::position_of(&batch).expect("valid");
    Append { header, position, bytes: batch }
}

/// A batch of records with these values, one millisecond apart.
pub(crate) fn plain(values: &[&str], timestamp_ms: i64) -> Append {
    let mut builder = BatchBuilder::new(Compression::None);
    for (value, ms) in values.iter().zip(timestamp_ms..) {
        builder.push(&Record::new("k", value.as_bytes().to_vec(), ms));
    }
    append_of(builder.build())
}

/// One record of about `bytes`.
pub(crate) fn large(bytes: usize, value: u8) -> Append {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(&Record::new("k", vec![value; bytes], 5));
    append_of(builder.build())
}

pub(crate) fn numbered(producer: i64, epoch: i16, sequence: i32, values: &[&str]) -> Append {
    let mut builder = BatchBuilder::new(Compression::None).producer(producer, epoch, sequence);
    values.iter().for_each(|value| builder.push(&Record::new("k", value.as_bytes().to_vec(), 1)));
    append_of(builder.build())
}

pub(crate) fn positioned(producer: i64, epoch: i16, first: i64, last: i64) -> Append {
    let range = PositionRange::new(first, last).expect("rising");
    let mut builder = BatchBuilder::new(Compression::Lz4).producer(producer, epoch, -1).position(range);
    builder.push(&Record::new("k", format!("{first}-{last}").into_bytes(), 1));
    append_of(builder.build())
}

/// Appends to the first partition; it must be news.
pub(crate) fn put(store: &mut Store, append: Append) -> i64 {
    match store.append(id(0), append, 1, 10) {
        Ok(Outcome::Appended { base_offset, .. }) => base_offset,
        other => panic!("not appended: {other:?}"),
    }
}

pub(crate) fn try_put(store: &mut Store, append: Append) -> Result<Outcome, Refusal> {
    store.append(id(0), append, 1, 10)
}

/// Every record a reader sees, as (offset, value).
pub(crate) fn read_all(reader: &Reader) -> Vec<(i64, Bytes)> {
    let mut from = reader.local_start().max(reader.log_start());
    let mut records = Vec::new();
    while from < reader.end() {
        let bytes = reader.read(from, 1 << 20, i64::MAX).expect("readable");
        assert!(!bytes.is_empty(), "at least one batch below the end, at {from}");
        for step in batch::batches(bytes) {
            let (header, bytes) = step.expect("valid");
            assert!(header.base_offset <= from, "no gap at {from}");
            let found = batch::records(&bytes).expect("decodes");
            records.extend(
                found.into_iter().filter(|r| r.offset >= from).map(|r| (r.offset, r.value.expect("set"))),
            );
            from = header.next_offset();
        }
    }
    records
}

pub(crate) fn values(store: &Store) -> Vec<String> {
    let records = read_all(&store.reader(id(0)).expect("there"));
    records.into_iter().map(|(_, value)| String::from_utf8_lossy(&value).into_owned()).collect()
}
