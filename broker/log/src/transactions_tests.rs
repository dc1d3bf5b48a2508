//! The fold, batch by batch.

use sunseo_proto::Record;
use sunseo_proto::batch::{self, BatchBuilder, BatchHeader, Compression, Ending};

use super::*;

fn data(producer: i64, epoch: i16, sequence: i32, base_offset: i64) -> BatchHeader {
    let mut builder =
        BatchBuilder::new(Compression::None).producer(producer, epoch, sequence).transactional();
    builder.push(&Record::new("k", "v", 1));
    builder.push(&Record::new("k", "v", 1));
    BatchHeader { base_offset, ..batch::validate(&builder.build()).expect("valid") }
}

fn marker(producer: i64, epoch: i16, ending: Ending, base_offset: i64) -> BatchHeader {
    let bytes = batch::end_marker(producer, epoch, ending, 1, 1);
    BatchHeader { base_offset, ..batch::validate(&bytes).expect("valid") }
}

fn fold(headers: &[BatchHeader]) -> Transactions {
    let mut transactions = Transactions::default();
    headers.iter().for_each(|header| transactions.record(header));
    transactions
}

#[test]
fn the_oldest_open_transaction_holds_the_last_stable_offset() {
    let mut found = fold(&[data(1, 0, 0, 10), data(2, 5, 0, 12), data(1, 0, 2, 14)]);
    assert_eq!(found.first_undecided(), Some(10));
    found.record(&marker(1, 1, Ending::Commit, 16));
    assert_eq!(found.first_undecided(), Some(12));
    found.record(&marker(2, 6, Ending::Abort, 17));
    assert_eq!(found.first_undecided(), None);
    let range = AbortedRange { producer_id: 2, first_offset: 12, last_offset: 17 };
    assert_eq!(found.recent(0, 100), [range]);
    assert_eq!(found.recent(17, 18), [range], "the marker belongs to it");
    assert_eq!((found.recent(18, 100), found.recent(0, 12)), (vec![], vec![]));
}

#[test]
fn a_marker_that_is_late_or_comes_twice_ends_nothing() {
    let mut found = fold(&[data(1, 3, 0, 0), marker(1, 4, Ending::Abort, 2), data(1, 4, 0, 3)]);
    let late = marker(1, 4, Ending::Commit, 5);
    assert_eq!(found.check(&late), Ok(Standing::Ended));
    found.record(&late);
    assert_eq!(found.first_undecided(), Some(3), "the next transaction goes on");
    assert_eq!(found.check(&marker(1, 5, Ending::Commit, 5)), Ok(Standing::News));
    assert_eq!(found.check(&marker(7, 1, Ending::Commit, 5)), Ok(Standing::Ended), "never wrote here");
}

#[test]
fn a_transaction_begins_with_sequence_0_and_has_one_epoch() {
    let mut found = Transactions::default();
    let gap = found.check(&data(1, 0, 2, 0));
    assert_eq!(gap, Err(Refusal::SequenceGap { producer_id: 1, found: 2, expected: 0 }));
    found.record(&data(1, 0, 0, 0));
    assert_eq!(found.check(&data(1, 0, 2, 2)), Ok(Standing::News));
    let other = found.check(&data(1, 1, 0, 2));
    assert_eq!(other, Err(Refusal::TransactionOpen { producer_id: 1, found: 1, open: 0 }));
}

#[test]
fn what_is_stored_is_what_was_folded_and_the_log_start_lets_go() {
    let mut found = Transactions::default();
    for n in 0..6 {
        found.record(&data(n, 0, 0, n * 10));
    }
    for n in 0..5 {
        found.record(&marker(n, 1, Ending::Abort, 60 + n));
    }
    assert_eq!(found.overflow(5), None);
    let (run, payload) = found.overflow(4).expect("more than four");
    assert_eq!(run, Run { first_marker: 60, last_marker: 64, lowest: 0, count: 5 });
    let all = found.recent(0, 1_000);
    assert_eq!(decode_run(payload.into()).expect("whole"), all);
    found.written(run);
    assert_eq!((found.recent_len(), found.runs(0, 1), found.runs(65, 100)), (0, vec![run], vec![]));
    found.record(&marker(5, 1, Ending::Abort, 65));
    let mut stored = Vec::new();
    found.encode(&mut stored);
    assert_eq!(Transactions::decode(&mut Decoder::new(stored.into())), Ok(found.clone()));
    found.trim_below(64);
    assert_eq!(found.all_runs(), [run], "its last marker is in the log");
    found.trim_below(65);
    assert_eq!((found.all_runs().len(), found.recent_len()), (0, 1));
    assert_eq!(found.take_passed(), [60]);
}
