//! Fuzz targets of what lies in a data directory. For tests only (feature `testing`).

use bytes::{BufMut as _, Bytes};
use sunseo_proto::batch::{BatchBuilder, Compression, Ending, end_marker, stamp, validate};
use sunseo_proto::envelope::{self, kind};
use sunseo_proto::fuzz::{SMALL, Seal, Target};
use sunseo_proto::position::PositionRange;
use sunseo_proto::{PartitionId, Record, TopicId};

use crate::clean::Cleaned;
use crate::entry::{Entry, FrameBuilder, read_frame};
use crate::index::{GrowingIndex, SparseIndex};
use crate::state::PartitionState;
use crate::transactions::{decode_run, select};
use crate::{Compaction, PartitionConfig, SealedFacts, checkpoint, journal};

/// Nonce and sequence of the journal file that the examples are from.
const NONCE: u64 = 11;
const SEQUENCE: u64 = 3;
/// Bytes of the segment that the indexes are of.
const SEGMENT_BYTES: u64 = 1 << 20;

/// The targets of this crate.
pub const TARGETS: &[Target] = &[
    sealed("journal_frame", frame, frame_samples),
    sealed("journal_file", journal_file, journal_file_samples),
    sealed("checkpoint", checkpoint_file, checkpoint_samples),
    sealed("partition_state", partition_state, partition_state_samples),
    sealed("segment_index", segment_index, segment_index_samples),
    sealed("aborted_run", aborted_run, aborted_run_samples),
];

const fn sealed(name: &'static str, run: fn(&[u8]), samples: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, run, samples, seal: Seal::Envelopes, memory_bytes_max: SMALL }
}

const fn id() -> PartitionId {
    PartitionId { topic_id: TopicId(uuid::Uuid::from_u128(7)), partition: 3 }
}

fn frame(bytes: &[u8]) {
    let Ok(frame) = read_frame(&Bytes::copy_from_slice(bytes), NONCE) else { return };
    assert!(frame.bytes <= bytes.len());
    let mut builder = FrameBuilder::default();
    builder.clear();
    frame.entries.iter().for_each(|(id, entry)| builder.add(*id, entry));
    builder.finish(NONCE, frame.number, frame.now_ms);
    let again = read_frame(&Bytes::copy_from_slice(builder.pages()), NONCE).expect("just written");
    assert_eq!((again.number, again.now_ms), (frame.number, frame.now_ms));
    assert_eq!(again.entries, frame.entries);
}

fn frame_samples() -> Vec<Vec<u8>> {
    let facts = SealedFacts { base_offset: 1, end_offset: 2, bytes: 3, max_timestamp_ms: 4, generation: 5 };
    let all = [
        Entry::Create(PartitionConfig::default()),
        Entry::Configure(compacted()),
        Entry::Epoch { epoch: 4, start: 9 },
        Entry::Frontier { base: 0, bytes: 100, end: 12 },
        Entry::Seal,
        Entry::LogStart(5),
        Entry::Evict { before: 6 },
        Entry::Restore(facts),
        Entry::Replace { from: 1, to: 9, by: facts },
        Entry::Cleaned(cleaned()),
        Entry::Delete,
    ];
    let data = [Entry::Data { base: 0, at: 7, batches: Bytes::from_static(b"batches") }, Entry::Seal];
    [&all[..], &data[..]].map(sealed_frame).into()
}

fn sealed_frame(entries: &[Entry]) -> Vec<u8> {
    let mut builder = FrameBuilder::default();
    builder.clear();
    entries.iter().for_each(|entry| builder.add(id(), entry));
    let bytes = builder.bytes();
    builder.finish(NONCE, 22, 33);
    builder.pages()[..bytes].to_vec()
}

fn compacted() -> PartitionConfig {
    PartitionConfig {
        retention_ms: Some(5),
        retention_bytes: Some(6),
        fsync: false,
        compaction: Some(Compaction { delete_retention_ms: 7, min_lag_ms: 8, min_dirty_permille: 9 }),
        ..PartitionConfig::default()
    }
}

fn cleaned() -> Cleaned {
    Cleaned { through: 1, at_ms: 2, horizon_ms: Some(3), runs: 4, removed_bytes: 5 }
}

fn journal_file(bytes: &[u8]) {
    let scanned = journal::scan(&Bytes::copy_from_slice(bytes), SEQUENCE);
    assert!(scanned.damaged.is_none() || scanned.frames.is_empty());
}

fn journal_file_samples() -> Vec<Vec<u8>> {
    let mut page = envelope_of_header();
    for sample in frame_samples() {
        page.resize(page.len().next_multiple_of(crate::pages::PAGE_BYTES), 0);
        page.extend_from_slice(&sample);
    }
    vec![page]
}

fn envelope_of_header() -> Vec<u8> {
    let mut payload = Vec::new();
    payload.put_u64(SEQUENCE);
    payload.put_u64(NONCE);
    envelope::seal(kind::JOURNAL_HEADER, 1, &payload).to_vec()
}

fn checkpoint_file(bytes: &[u8]) {
    if let Ok(checkpoint) = checkpoint::decode(&Bytes::copy_from_slice(bytes)) {
        for (id, state) in checkpoint.partitions {
            let _ = (id, state.map(|state| (state.end(), state.local_start())));
        }
    }
}

fn checkpoint_samples() -> Vec<Vec<u8>> {
    vec![checkpoint::sample(9, 2, &[state(), PartitionState::new(id(), compacted(), 4)])]
}

fn partition_state(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let Ok(state) = checkpoint::open_section(&bytes) else { return };
    let again = checkpoint::open_section(&checkpoint::seal_section(&state));
    assert_eq!(again.as_ref(), Ok(&state));
    let end = state.end();
    let _ = (state.local_start(), state.transactions.recent(0, end), state.transactions.runs(0, end));
}

/// After a plain producer, a positioned one, and a transaction that was aborted beside one that is open.
fn state() -> PartitionState {
    let mut state = PartitionState::new(id(), compacted(), 4);
    let builder = || BatchBuilder::new(Compression::None);
    let range = PositionRange::new(5, 9).expect("rising");
    let batches = [
        (builder().producer(1, 0, 0), None),
        (builder().producer(2, 1, -1).position(range), Some(range)),
        (builder().producer(3, 0, 0).transactional(), None),
        (builder().producer(4, 0, 0).transactional(), None),
    ];
    for (mut builder, position) in batches {
        builder.push(&Record::new("k", "v", 1_700_000_000_000));
        push(&mut state, &builder.build(), position);
    }
    push(&mut state, &end_marker(3, 1, Ending::Abort, 0, 1_700_000_000_000), None);
    state.epochs.begin(1, 0);
    state.cleaned = cleaned();
    state
}

fn push(state: &mut PartitionState, batch: &Bytes, position: Option<PositionRange>) {
    let mut batch = batch.to_vec();
    stamp(&mut batch, state.end(), 0);
    let header = validate(&batch).expect("just built");
    state.push(&header, position, 1_700_000_000_000);
}

fn partition_state_samples() -> Vec<Vec<u8>> {
    let mut stopped = PartitionState::new(id(), PartitionConfig::default(), 0);
    stopped.quarantined = Some("bad bytes".into());
    [state(), stopped].iter().map(|state| checkpoint::seal_section(state).to_vec()).collect()
}

fn segment_index(bytes: &[u8]) {
    let Some(index) = SparseIndex::open(&Bytes::copy_from_slice(bytes), SEGMENT_BYTES) else { return };
    for value in [i64::MIN, -1, 0, 1, 50, i64::MAX] {
        for at in [index.find_offset(value), index.find_time(value)] {
            assert!(at < SEGMENT_BYTES, "a place beyond the segment");
        }
    }
    if let Some((growing, from)) = GrowingIndex::resume(&index, SEGMENT_BYTES / 2) {
        let again = SparseIndex::open(&growing.seal(), SEGMENT_BYTES).expect("a part of what was right");
        assert!(again.len() < index.len() && from.at <= SEGMENT_BYTES / 2);
    }
}

fn segment_index_samples() -> Vec<Vec<u8>> {
    let mut index = GrowingIndex::default();
    (0..20).for_each(|n| index.note(n * 3, n.unsigned_abs() * 500, 1_700_000_000_000 + n, 400));
    vec![index.seal().to_vec(), GrowingIndex::default().seal().to_vec()]
}

fn aborted_run(bytes: &[u8]) {
    let opened = envelope::open_as(&Bytes::copy_from_slice(bytes), kind::ABORTED_RUN, 1);
    if let Ok(ranges) = opened.and_then(|(_, payload)| decode_run(payload)) {
        let selected = select(&ranges, 0, 10);
        assert!(selected.iter().all(|range| range.last_offset >= 0 && range.first_offset < 10));
    }
}

fn aborted_run_samples() -> Vec<Vec<u8>> {
    let state = state();
    let (_, payload) = state.transactions.overflow(0).expect("one range");
    vec![envelope::seal(kind::ABORTED_RUN, 1, &payload).to_vec()]
}
