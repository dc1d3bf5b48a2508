//! The log's appends, fsynced, beside what the disk itself gives. On the directory of `SUNSEO_BENCH_DIR`, or the current one.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sunseo_log::{Append, PartitionConfig, RealDisk, Store, StoreConfig};
use sunseo_proto::batch::{self, BatchBuilder, Compression};
use sunseo_proto::{PartitionId, Record, TopicId};

use crate::measure::{Variant, compare};

const PARTITIONS: i32 = 16;
/// Group commits per call.
const SYNCS: usize = 20;
const MIDDLE_BYTES: usize = 256 << 10;
/// Less than goes straight to a segment whatever is set.
const LARGE_BYTES: usize = 3 << 20;
const SMALL_BYTES: usize = 1 << 10;

pub fn run() {
    let Some(dir) = scratch() else {
        println!("append: no directory to write to; set SUNSEO_BENCH_DIR");
        return;
    };
    small(&dir);
    middle(&dir);
    large(&dir);
    if let Err(error) = std::fs::remove_dir_all(&dir) {
        println!("append: {} stays: {error}", dir.display());
    }
}

fn scratch() -> Option<PathBuf> {
    let parent = std::env::var_os("SUNSEO_BENCH_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from);
    let dir = parent.join(format!("sunseo-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).ok().map(|()| dir)
}

fn append_of(bytes: usize) -> Append {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(&Record::new("key", vec![b'x'; bytes], 1));
    let bytes = builder.build();
    // just built
    let header = batch::validate(&bytes).unwrap_or_else(|error| unreachable!("{error}"));
    Append { header, position: None, bytes }
}

fn store(dir: &Path, config: StoreConfig) -> (Store, Vec<PartitionId>) {
    let topic_id = TopicId::random();
    let ids: Vec<PartitionId> =
        (0..PARTITIONS).map(|partition| PartitionId { topic_id, partition }).collect();
    let disk = RealDisk::new(dir.join(topic_id.to_string())).unwrap_or_else(|error| panic!("{error}"));
    let (mut store, _) = Store::open(Arc::new(disk), config, 1).unwrap_or_else(|error| panic!("{error}"));
    for id in &ids {
        let config = PartitionConfig { retention_bytes: Some(64 << 20), ..PartitionConfig::default() };
        store.create(*id, config).unwrap_or_else(|error| panic!("{error}"));
    }
    store.sync();
    (store, ids)
}

/// `per_sync` appends for each partition in each group commit.
fn appends(store: &mut Store, ids: &[PartitionId], append: &Append, per_sync: usize) -> usize {
    for _ in 0..SYNCS {
        for id in ids {
            for _ in 0..per_sync {
                if let Err(refusal) = store.append(*id, append.clone(), 1, 1) {
                    panic!("{refusal}");
                }
            }
        }
        let outcome = store.sync();
        assert!(outcome.failed.is_empty() && outcome.durable.len() == ids.len());
    }
    store.maintain(2);
    SYNCS
}

/// The same number of writes and syncs to the end of a file that is empty at first.
fn raw(file: &File, bytes: &[u8], writes: usize) -> usize {
    file.set_len(0).unwrap_or_else(|error| panic!("{error}"));
    for n in 0..writes {
        let at = (n * bytes.len()) as u64;
        file.write_all_at(bytes, at)
            .and_then(|()| file.sync_data())
            .unwrap_or_else(|error| panic!("{error}"));
    }
    writes
}

fn raw_file(dir: &Path) -> File {
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(dir.join("raw"));
    file.unwrap_or_else(|error| panic!("{error}"))
}

fn small(dir: &Path) {
    let append = append_of(SMALL_BYTES);
    let (mut one, ids) = store(dir, StoreConfig::default());
    let (mut many, many_ids) = store(dir, StoreConfig::default());
    let partitions = PARTITIONS as usize;
    let group = vec![1_u8; SMALL_BYTES * partitions];
    let file = raw_file(dir);
    let size = append.bytes.len() * partitions * SYNCS;
    let mut variants = [
        Variant {
            name: "raw append, one sync for all".into(),
            bytes: group.len() * SYNCS,
            records: partitions * SYNCS,
            call: Box::new(|| raw(&file, &group, SYNCS)),
        },
        Variant {
            name: "1 batch a partition and sync".into(),
            bytes: size,
            records: partitions * SYNCS,
            call: Box::new(|| appends(&mut one, &ids, &append, 1)),
        },
        Variant {
            name: "64 batches a partition".into(),
            bytes: size * 64,
            records: partitions * SYNCS * 64,
            call: Box::new(|| appends(&mut many, &many_ids, &append, 64)),
        },
    ];
    compare("append 1 KiB batches to 16 partitions, fsynced", &mut variants);
}

/// A store that never writes straight to a segment, as far as a journal frame allows.
fn through_the_journal(dir: &Path) -> (Store, Vec<PartitionId>) {
    let config = StoreConfig { direct_append_bytes: usize::MAX, ..StoreConfig::default() };
    store(dir, StoreConfig { journal_file_bytes: 64 << 20, ..config })
}

fn middle(dir: &Path) {
    let append = append_of(MIDDLE_BYTES);
    let straight = StoreConfig { direct_append_bytes: MIDDLE_BYTES, ..StoreConfig::default() };
    let (mut direct, ids) = store(dir, straight);
    let (mut journaled, journaled_ids) = through_the_journal(dir);
    let group = vec![1_u8; MIDDLE_BYTES * PARTITIONS as usize];
    let file = raw_file(dir);
    let size = append.bytes.len() * PARTITIONS as usize * SYNCS;
    let records = PARTITIONS as usize * SYNCS;
    let mut variants = [
        Variant {
            name: "raw append, one sync for all".into(),
            bytes: group.len() * SYNCS,
            records,
            call: Box::new(|| raw(&file, &group, SYNCS)),
        },
        Variant {
            name: "straight to the segments".into(),
            bytes: size,
            records,
            call: Box::new(|| appends(&mut direct, &ids, &append, 1)),
        },
        Variant {
            name: "through the journal".into(),
            bytes: size,
            records,
            call: Box::new(|| appends(&mut journaled, &journaled_ids, &append, 1)),
        },
    ];
    compare("append 256 KiB batches to 16 partitions, fsynced", &mut variants);
}

fn large(dir: &Path) {
    let append = append_of(LARGE_BYTES);
    let straight = StoreConfig { direct_append_bytes: LARGE_BYTES, ..StoreConfig::default() };
    let (mut direct, ids) = store(dir, straight);
    let (mut journaled, journaled_ids) = through_the_journal(dir);
    let bytes = vec![1_u8; LARGE_BYTES];
    let file = raw_file(dir);
    let size = append.bytes.len() * SYNCS;
    let mut variants = [
        Variant {
            name: "raw append and sync".into(),
            bytes: size,
            records: SYNCS,
            call: Box::new(|| raw(&file, &bytes, SYNCS)),
        },
        Variant {
            name: "straight to the segment".into(),
            bytes: size,
            records: SYNCS,
            call: Box::new(|| appends(&mut direct, &ids[..1], &append, 1)),
        },
        Variant {
            name: "through the journal".into(),
            bytes: size,
            records: SYNCS,
            call: Box::new(|| appends(&mut journaled, &journaled_ids[..1], &append, 1)),
        },
    ];
    compare("append 3 MiB batches to one partition, fsynced", &mut variants);
}
