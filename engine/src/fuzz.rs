//! Fuzz targets of what tasks store, and of keys and values. For tests only (feature `testing`).

use bytes::Bytes;
use serde_json::Value;
use sunseo_proto::envelope;
use sunseo_proto::fuzz::{SMALL, Seal, Target};
use sunseo_proto::{Header, Record};

use crate::ops::collect::codec::{
    CollectEnd, Collected, Entry as Collection, Open, decode_entry, encode_entry,
};
use crate::ops::group_table::{decode_change, encode_change};
use crate::plan::store::split_timestamped;
use crate::runtime::commit::{Commit, CommitHead, InputOffset, Output, StoreDelta};
use crate::runtime::definition::Definition;
use crate::runtime::entry::{Assembler, Entry, entries};
use crate::serde::datum::datum;
use crate::serde::{Json, Serde, ordered_i64, take_ordered_i64};
use crate::store::position::StorePosition;
use crate::task::TaskMeta;
use crate::topology::Description;

/// The targets of this crate.
pub const TARGETS: &[Target] = &[
    target("task_log", Seal::Envelopes, task_log, task_log_samples),
    target("task_commit", Seal::None, commit, commit_samples),
    target("task_meta", Seal::None, meta, meta_samples),
    target("store_position", Seal::Envelopes, position, position_samples),
    target("stored_collection", Seal::None, collection, collection_samples),
    target("table_change", Seal::None, change, change_samples),
    target("serdes", Seal::None, serdes, serde_samples),
    target("pipeline_definition", Seal::None, definition, definition_samples),
];

const fn target(name: &'static str, seal: Seal, run: fn(&[u8]), samples: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, run, samples, seal, memory_bytes_max: SMALL }
}

/// The records of a task log, in their order.
fn task_log(bytes: &[u8]) {
    let mut rest = Bytes::copy_from_slice(bytes);
    let mut assembler = Assembler::default();
    let mut offset = 0;
    while let Ok(opened) = envelope::open(&rest) {
        if let Ok(entry) = Entry::decode(&rest) {
            assert_eq!(Entry::decode(&entry.encode()).as_ref(), Ok(&entry));
            if let Ok(Some(found)) = assembler.take(offset, entry) {
                assert!(found.first_offset < found.next_offset && found.next_offset == offset + 1);
            }
            offset += 1;
        }
        rest = rest.slice(opened.frame_bytes..);
    }
}

fn task_log_samples() -> Vec<Vec<u8>> {
    let body = Bytes::from(a_commit().encode());
    let mut all = vec![Entry::Begin { epoch: 3 }];
    all.extend(entries(3, 1, body.clone(), usize::MAX).expect("small"));
    all.extend(entries(3, 2, body.clone(), body.len() / 3).expect("small"));
    vec![all.iter().flat_map(Entry::encode).collect()]
}

fn commit(bytes: &[u8]) {
    let Ok(commit) = Commit::decode(Bytes::copy_from_slice(bytes)) else { return };
    let again = Commit::decode(commit.encode().into()).expect("just written");
    assert_eq!((&again.head, &again.deltas), (&commit.head, &commit.deltas));
    assert_eq!(again.outputs, commit.outputs);
    assert!(commit.next_output() >= commit.head.first_output);
}

fn head() -> CommitHead {
    CommitHead {
        number: 1,
        inputs: vec![InputOffset { topic: "orders".into(), partition: 3, next_offset: 12 }],
        meta: TaskMeta { stream_time_ms: Some(5) }.encode(),
        stream_time_ms: 5,
        processed: 7,
        dead_letters: 1,
        first_output: 4,
        forwarded: 3,
    }
}

fn a_commit() -> Commit {
    let changes = vec![("k".into(), Some("v".into())), ("gone".into(), None)];
    let mut record = Record::new("k", "v", 5);
    record.headers.push(Header::new("h", "x"));
    let output = |record| Output { topic: "out".into(), partition: 1, record };
    let tombstone = Record { key: Some("k".into()), timestamp_ms: 6, ..Record::default() };
    let deltas = vec![StoreDelta { store: "counts".into(), changes }];
    Commit { head: head(), deltas, outputs: vec![output(record), output(tombstone)] }
}

fn commit_samples() -> Vec<Vec<u8>> {
    vec![a_commit().encode()]
}

fn meta(bytes: &[u8]) {
    if let Ok(meta) = TaskMeta::decode(bytes) {
        assert_eq!(meta.encode(), bytes);
    }
}

fn meta_samples() -> Vec<Vec<u8>> {
    [None, Some(5)].map(|stream_time_ms| TaskMeta { stream_time_ms }.encode().to_vec()).into()
}

fn position(bytes: &[u8]) {
    if let Ok(position) = StorePosition::decode(&Bytes::copy_from_slice(bytes)) {
        assert_eq!(StorePosition::decode(&position.encode()).as_ref(), Ok(&position));
    }
}

fn position_samples() -> Vec<Vec<u8>> {
    let log_id = Bytes::from_static(&[7; 16]);
    let position = StorePosition { log_id, next_offset: 9, replay_from: 8, next_output: 4, head: head() };
    vec![position.encode().to_vec()]
}

fn collection(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Some(entry) = decode_entry(&bytes) {
        assert_eq!(encode_entry(&entry), bytes);
    }
    if let Some((timestamp_ms, value)) = split_timestamped(&bytes) {
        assert_eq!([&timestamp_ms.to_be_bytes()[..], &value].concat(), bytes);
    }
}

fn collection_samples() -> Vec<Vec<u8>> {
    let open = Open { deadline_ms: 9, timestamp_ms: 5, events: vec!["one".into(), "".into()] };
    [Collection::Open(open), Collection::Emitted { forget_ms: 9 }].map(|e| encode_entry(&e).to_vec()).into()
}

fn change(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok((new, old)) = decode_change::<String>(&bytes) {
        let again = encode_change::<String>(new.as_ref(), old.as_ref()).expect("small");
        assert_eq!(again, bytes);
    }
}

fn change_samples() -> Vec<Vec<u8>> {
    let (new, old) = (datum("new".to_owned()), datum("old".to_owned()));
    let change = |new, old| encode_change::<String>(new, old).expect("small").to_vec();
    vec![change(Some(&new), Some(&old)), change(Some(&new), None), change(None, Some(&old))]
}

fn serdes(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    survives::<String>(&bytes);
    survives::<i64>(&bytes);
    survives::<Bytes>(&bytes);
    survives::<Collected<String>>(&bytes);
    // a number of JSON may come back as the nearest one, so its text need not
    if let Ok(value) = Json::<Value>::decode(&bytes) {
        let mut out = Vec::new();
        value.encode(&mut out).expect("just read");
        Json::<Value>::decode(&out.into()).expect("just written");
    }
    if let Some((value, rest)) = take_ordered_i64(&bytes) {
        assert_eq!([&ordered_i64(value)[..], rest].concat(), bytes);
    }
}

/// Bytes that decode come back as they were, and through JSON as well.
fn survives<T: Serde>(bytes: &Bytes) {
    let Ok(value) = T::decode(bytes) else { return };
    let written = |value: &T| {
        let mut out = Vec::new();
        value.encode(&mut out).map(|()| Bytes::from(out)).expect("just read")
    };
    assert_eq!(written(&value), bytes, "{}", T::type_name());
    let json = value.to_json().expect("just read");
    assert_eq!(written(&T::from_json(&json).expect("just written")), bytes, "{}", T::type_name());
}

fn serde_samples() -> Vec<Vec<u8>> {
    let mut collected = Vec::new();
    let events = vec!["one".to_owned(), String::new()];
    Collected { events, end: CollectEnd::TimedOut }.encode(&mut collected).expect("small");
    vec![collected, ordered_i64(-5).to_vec(), br#"{"a":[1,2.5,"x",null]}"#.to_vec(), "텍스트".into()]
}

fn definition(body: &[u8]) {
    let Ok(definition) = serde_json::from_slice::<Definition>(body) else { return };
    let written = serde_json::to_vec(&definition).expect("plain data");
    assert_eq!(serde_json::from_slice::<Definition>(&written).expect("just written"), definition);
}

fn definition_samples() -> Vec<Vec<u8>> {
    let definition = Definition {
        generation: 2,
        paused: true,
        tasks: [("count".to_owned(), 4)].into(),
        description: Description { pipeline: "orders".into(), ..Description::default() },
    };
    vec![serde_json::to_vec(&definition).expect("plain data")]
}
