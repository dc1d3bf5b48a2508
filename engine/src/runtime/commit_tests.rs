//! Commits as bytes and as records of a task log.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use sunseo_proto::envelope::{kind, seal};
use sunseo_proto::{Header, Record};

use super::commit::{Commit, CommitHead, InputOffset, Output, StoreDelta};
use super::entry::{Assembler, Chunk, Entry, Found, entries, position};

fn bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..12).prop_map(Bytes::from)
}

prop_compose! {
    fn heads()(
        number in 0..i64::MAX, inputs in prop::collection::vec(("[a-z]{0,8}", 0..100_i32, 0..i64::MAX), 0..4),
        meta in bytes(), stream_time_ms in any::<i64>(), processed in any::<u64>(), dead_letters in any::<u64>(),
        first_output in 0..i64::MAX / 2, forwarded in 0..i64::MAX,
    ) -> CommitHead {
        let input = |(topic, partition, next_offset)| InputOffset { topic, partition, next_offset };
        let inputs = inputs.into_iter().map(input).collect();
        CommitHead { number, inputs, meta, stream_time_ms, processed, dead_letters, first_output, forwarded }
    }
}

prop_compose! {
    fn outputs()(
        topic in "[ab]{1,2}", partition in 0..9_i32, timestamp_ms in any::<i64>(),
        key in prop::option::of(bytes()), value in prop::option::of(bytes()),
        headers in prop::collection::vec(("[a-z]{0,4}", prop::option::of(bytes())), 0..3),
    ) -> Output {
        let headers = headers.into_iter().map(|(key, value)| Header { key, value }).collect();
        let record = Record { offset: 0, timestamp_ms, key, value, headers };
        Output { topic: Arc::from(topic), partition, record }
    }
}

fn commits() -> impl Strategy<Value = Commit> {
    let delta = ("[a-z]{1,4}", prop::collection::vec((bytes(), prop::option::of(bytes())), 0..8))
        .prop_map(|(store, changes)| StoreDelta { store, changes });
    let parts = (heads(), prop::collection::vec(delta, 0..3), prop::collection::vec(outputs(), 0..8));
    parts.prop_map(|(head, deltas, outputs)| Commit { head, deltas, outputs })
}

fn feed(assembler: &mut Assembler, log: &[Entry], from: i64) -> Vec<Found> {
    let take = |(offset, entry): (i64, &Entry)| {
        let stored = Entry::decode(&entry.encode()).expect("what was encoded");
        assembler.take(offset, stored).expect("a log of whole commits and leftovers")
    };
    (from..).zip(log).filter_map(take).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_commit_survives_its_log_whatever_the_size_of_chunks(commit in commits(), piece_bytes in 1_usize..64) {
        let log = entries(3, commit.head.number, commit.encode().into(), piece_bytes).expect("small");
        let found = feed(&mut Assembler::default(), &log, 40);
        prop_assert_eq!(found.len(), 1);
        prop_assert_eq!(&found[0].commit, &commit);
        prop_assert_eq!((found[0].first_offset, found[0].next_offset), (40, 40 + log.len() as i64));
    }

    #[test]
    fn chunks_left_by_a_crash_mean_nothing(commit in commits(), left in 0_usize..8, piece_bytes in 1_usize..32) {
        let whole = entries(1, commit.head.number, commit.encode().into(), piece_bytes).expect("small");
        let mut log: Vec<Entry> = whole[..left.min(whole.len() - 1)].to_vec();
        log.push(Entry::Begin { epoch: 2 });
        log.extend(entries(2, commit.head.number, commit.encode().into(), piece_bytes).expect("small"));
        let found = feed(&mut Assembler::default(), &log, 0);
        prop_assert_eq!(found.len(), 1);
        prop_assert_eq!(&found[0].commit, &commit);
    }

    #[test]
    fn a_damaged_commit_is_refused_and_never_panics(commit in commits(), cut in any::<prop::sample::Index>(), flip in any::<u8>()) {
        let body = commit.encode();
        let at = cut.index(body.len());
        prop_assert!(Commit::decode(Bytes::from(body[..at].to_vec())).is_err());
        let mut flipped = body.clone();
        flipped[at] ^= flip;
        // may be another valid commit; the envelope's checksum is what tells
        let _ = Commit::decode(Bytes::from(flipped));
        let mut stored = Entry::Commit { epoch: 1, body: body.into() }.encode().to_vec();
        let at = cut.index(stored.len());
        stored[at] ^= flip;
        prop_assert_eq!(Entry::decode(&Bytes::from(stored)).is_ok(), flip == 0);
    }

    #[test]
    fn arbitrary_bytes_are_refused_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Commit::decode(Bytes::from(bytes.clone()));
        let _ = Entry::decode(&Bytes::from(bytes.clone()));
        let _ = Entry::decode(&seal(kind::TASK_COMMIT, 1, &bytes));
        let _ = crate::store::position::StorePosition::decode(&seal(kind::STORE_POSITION, 1, &bytes));
    }
}

#[test]
fn a_commit_that_leaves_no_number_for_what_follows_is_refused() {
    let head = |number, first_output| CommitHead {
        number,
        inputs: Vec::new(),
        meta: Bytes::new(),
        stream_time_ms: 0,
        processed: 0,
        dead_letters: 0,
        first_output,
        forwarded: 0,
    };
    let output = Output { topic: "out".into(), partition: 0, record: Record::default() };
    let read =
        |head| Commit::decode(Commit { head, deltas: vec![], outputs: vec![output.clone()] }.encode().into());
    assert_eq!(read(head(0, i64::MAX - 1)).expect("the last number").next_output(), i64::MAX);
    assert!(read(head(0, i64::MAX)).is_err());
    assert!(read(head(i64::MAX, 0)).is_err());
}

#[test]
fn a_chunk_that_does_not_follow_is_corruption() {
    let chunk = |number, index| {
        Entry::Chunk(Chunk { epoch: 1, number, index, last: false, piece: Bytes::from_static(b"x") })
    };
    for log in [vec![chunk(5, 1)], vec![chunk(5, 0), chunk(5, 2)], vec![chunk(5, 0), chunk(6, 1)]] {
        let mut assembler = Assembler::default();
        let results: Vec<_> = (0..).zip(log).map(|(offset, entry)| assembler.take(offset, entry)).collect();
        assert!(results.last().expect("one").is_err(), "{results:?}");
    }
}

#[test]
fn a_later_incarnation_is_above_every_position_of_an_earlier_one() {
    assert!(position(1, 0) > position(0, (1 << 48) - 1));
    assert!(position(0, 1) > position(0, 0));
    assert!(position(i32::from(i16::MAX), (1 << 48) - 1) > 0);
}
