//! Each state and each request, with what becomes of it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use sunseo_proto::batch::Ending;
use sunseo_proto::envelope::{self, kind};
use sunseo_proto::error::{ErrorCode, Result};
use sunseo_proto::{PartitionId, TopicId};

use crate::TransactionConfig;
use crate::folded::Fold as _;
use crate::txn::book::Book;
use crate::txn::record::TransactionRecord;
use crate::txn::state::{
    By, Change, Decided, EPOCH_LAST, Ended, Identity, Marker, Now, State, Step, Transaction,
};

const SPARE: i64 = 99;
const NOW: Now = Now { elapsed_ms: 1_000, wall_ms: 5_000 };

fn partition(n: i32) -> PartitionId {
    PartitionId { topic_id: TopicId(uuid::Uuid::from_u128(7)), partition: n }
}

fn identity(epoch: i16) -> Identity {
    Identity { producer_id: 7, epoch }
}

/// A transaction whose producer began at epoch 3, in each state.
fn in_state(state: State) -> Transaction {
    let mut found = Transaction::new(7, 60_000, NOW);
    found.identity.epoch = 3;
    if state == State::Empty {
        return found;
    }
    found.join(identity(3), &[partition(0)], &["g".to_owned()], NOW).expect("its own");
    if let State::Prepare(ending) | State::Complete(ending) = state {
        found.end(identity(3), ending, SPARE, NOW).expect("its own");
    }
    if let State::Complete(_) = state {
        assert!(found.complete(identity(4), &BTreeSet::new(), NOW));
    }
    assert_eq!(found.state, state);
    found
}

/// What a request came to, and the state and epoch afterwards.
type Outcome = (std::result::Result<Option<i16>, ErrorCode>, &'static str, i16);

fn outcome(before: State, request: impl FnOnce(&mut Transaction) -> Result<Decided>) -> Outcome {
    let mut found = in_state(before);
    let untouched = found.clone();
    let result = request(&mut found);
    match &result {
        Err(_) => assert_eq!(found, untouched, "a refusal changes nothing"),
        Ok(decided) => assert_eq!(decided.changed, found != untouched, "{before:?}"),
    }
    let step = result.map(|decided| match decided.step {
        Step::Done(identity) => Some(identity.epoch),
        Step::Wait => None,
    });
    (step.map_err(|error| error.code), found.state.as_str(), found.identity.epoch)
}

type Request = fn(&mut Transaction) -> Result<Decided>;

fn check(before: State, expect: [Outcome; 6]) {
    let requests: [(&str, Request); 6] = [
        ("init", |t| Ok(t.init(60_000, SPARE, NOW))),
        ("commit of its epoch", |t| t.end(t.identity, Ending::Commit, SPARE, NOW)),
        ("abort of its epoch", |t| t.end(t.identity, Ending::Abort, SPARE, NOW)),
        ("commit of the epoch it began in", |t| t.end(identity(3), Ending::Commit, SPARE, NOW)),
        ("abort of an epoch long gone", |t| t.end(identity(1), Ending::Abort, SPARE, NOW)),
        ("abort by an operator", |t| t.abort(NOW)),
    ];
    for ((name, request), expect) in requests.into_iter().zip(expect) {
        assert_eq!(outcome(before, request), expect, "{before:?}: {name}");
    }
}

#[test]
fn every_state_answers_every_request_about_its_end() {
    use ErrorCode::{ConcurrentTransactions, ProducerFenced, TransactionState};
    let fenced = Err(ProducerFenced);
    check(
        State::Empty,
        [
            (Ok(Some(4)), "empty", 4),
            (Err(TransactionState), "empty", 3),
            (Ok(Some(4)), "complete_abort", 4),
            (Err(TransactionState), "empty", 3),
            (fenced, "empty", 3),
            (Err(TransactionState), "empty", 3),
        ],
    );
    check(
        State::Ongoing,
        [
            (Ok(None), "prepare_abort", 4),
            (Ok(None), "prepare_commit", 4),
            (Ok(None), "prepare_abort", 4),
            (Ok(None), "prepare_commit", 4),
            (fenced, "ongoing", 3),
            (Ok(None), "prepare_abort", 4),
        ],
    );
    check(
        State::Prepare(Ending::Commit),
        [
            (Ok(None), "prepare_commit", 4),
            (Err(ConcurrentTransactions), "prepare_commit", 4),
            (Err(ConcurrentTransactions), "prepare_commit", 4),
            (Ok(None), "prepare_commit", 4),
            (fenced, "prepare_commit", 4),
            (Err(TransactionState), "prepare_commit", 4),
        ],
    );
    check(
        State::Prepare(Ending::Abort),
        [
            (Ok(None), "prepare_abort", 4),
            (Err(ConcurrentTransactions), "prepare_abort", 4),
            (Err(ConcurrentTransactions), "prepare_abort", 4),
            (Err(TransactionState), "prepare_abort", 4),
            (fenced, "prepare_abort", 4),
            (Ok(None), "prepare_abort", 4),
        ],
    );
    check(
        State::Complete(Ending::Commit),
        [
            (Ok(Some(5)), "empty", 5),
            (Err(TransactionState), "complete_commit", 4),
            (Ok(Some(5)), "complete_abort", 5),
            (Ok(Some(4)), "complete_commit", 4),
            (fenced, "complete_commit", 4),
            (Err(TransactionState), "complete_commit", 4),
        ],
    );
    check(
        State::Complete(Ending::Abort),
        [
            (Ok(Some(5)), "empty", 5),
            (Err(TransactionState), "complete_abort", 4),
            (Ok(Some(5)), "complete_abort", 5),
            (Err(TransactionState), "complete_abort", 4),
            (fenced, "complete_abort", 4),
            (Ok(Some(4)), "complete_abort", 4),
        ],
    );
}

#[test]
fn every_state_answers_who_joins() {
    let join = |before: State, asked: Identity| {
        let mut found = in_state(before);
        let result = found.join(asked, &[partition(1)], &[], NOW);
        (result.map(|change| change.is_some()).map_err(|error| error.code), found.state.as_str())
    };
    let current = |state| in_state(state).identity;
    for state in State::ALL {
        let expect = match state {
            State::Prepare(_) => (Err(ErrorCode::ConcurrentTransactions), state.as_str()),
            _ => (Ok(true), "ongoing"),
        };
        assert_eq!(join(state, current(state)), expect);
        let old = join(state, identity(1));
        assert_eq!(old, (Err(ErrorCode::ProducerFenced), state.as_str()));
        let ahead = join(state, identity(30));
        assert_eq!(ahead, (Err(ErrorCode::InvalidArgument), state.as_str()));
    }
    let late = join(State::Complete(Ending::Commit), identity(3));
    assert_eq!(late.0, Err(ErrorCode::TransactionState), "what was sent in the ended one");
    let mut found = in_state(State::Ongoing);
    assert_eq!(found.join(identity(3), &[partition(0)], &[], NOW), Ok(None), "it is part of it already");
}

#[test]
fn a_time_out_tells_its_producer_and_lets_it_go_on() {
    let mut found = in_state(State::Ongoing);
    assert!(!found.expire(Now { elapsed_ms: 60_999, ..NOW }));
    assert!(found.expire(Now { elapsed_ms: 61_000, ..NOW }));
    assert_eq!((found.state, found.identity), (State::Prepare(Ending::Abort), identity(4)));
    let commit = found.end(identity(3), Ending::Commit, SPARE, NOW);
    assert_eq!(commit.map_err(|error| error.code), Err(ErrorCode::TransactionAborted));
    let abort = Decided { step: Step::Wait, changed: false };
    assert_eq!(found.end(identity(3), Ending::Abort, SPARE, NOW), Ok(abort));
    assert!(!found.complete(identity(3), &BTreeSet::new(), NOW), "of another transaction");
    assert!(found.complete(identity(4), &BTreeSet::new(), NOW));
    let told = found.end(identity(3), Ending::Abort, SPARE, NOW).expect("its own");
    assert_eq!(told.step, Step::Done(identity(4)));
}

#[test]
fn what_a_successor_ended_is_never_told_to_the_former_instance() {
    let mut found = in_state(State::Ongoing);
    found.init(60_000, SPARE, NOW);
    for ending in [Ending::Commit, Ending::Abort] {
        let zombie = found.end(identity(3), ending, SPARE, NOW);
        assert_eq!(zombie.map_err(|error| error.code), Err(ErrorCode::ProducerFenced));
    }
    assert!(found.complete(identity(4), &BTreeSet::new(), NOW));
    let told = found.init(60_000, SPARE, NOW);
    assert_eq!(told.step, Step::Done(identity(5)));
    let zombie = found.end(identity(3), Ending::Abort, SPARE, NOW);
    assert_eq!(zombie.map_err(|error| error.code), Err(ErrorCode::ProducerFenced));
}

#[test]
fn epochs_that_are_used_up_give_a_new_producer_id() {
    let mut found = Transaction::new(7, 60_000, NOW);
    found.identity.epoch = EPOCH_LAST;
    found.join(identity(EPOCH_LAST), &[partition(0)], &[], NOW).expect("its own");
    found.end(identity(EPOCH_LAST), Ending::Commit, SPARE, NOW).expect("its own");
    assert!(found.complete(identity(EPOCH_LAST + 1), &BTreeSet::new(), NOW) && !found.is_usable());
    assert!(found.join(identity(EPOCH_LAST + 1), &[partition(0)], &[], NOW).is_err());
    let fresh = Identity { producer_id: SPARE, epoch: 0 };
    let told = found.end(identity(EPOCH_LAST), Ending::Commit, SPARE, NOW).expect("a repeat");
    assert_eq!((told.step, told.changed), (Step::Done(fresh), true));
    let again = found.end(identity(EPOCH_LAST), Ending::Commit, SPARE + 1, NOW).expect("a repeat");
    assert_eq!((again.step, again.changed), (Step::Done(fresh), false));
    let mut fenced = Transaction::new(7, 60_000, NOW);
    fenced.identity.epoch = EPOCH_LAST;
    fenced.join(identity(EPOCH_LAST), &[partition(0)], &[], NOW).expect("its own");
    fenced.init(60_000, SPARE, NOW);
    assert!(fenced.complete(identity(EPOCH_LAST + 1), &BTreeSet::new(), NOW));
    assert_eq!(fenced.init(60_000, SPARE, NOW).step, Step::Done(fresh));
}

#[test]
fn what_is_stored_is_folded_back() {
    let mut folded = BTreeMap::new();
    for state in State::ALL {
        let mut found = in_state(state);
        found.ended = found.ended.map(|ended| Ended { by: By::Operator, ..ended });
        for (n, ending) in [(7, Ending::Commit), (8, Ending::Abort)] {
            found.owed.insert(partition(n), Marker { identity: identity(2), ending });
        }
        let record = TransactionRecord::of("bills", &found).to_stored();
        TransactionRecord::from_stored(&record).and_then(|record| record.fold(&mut folded)).expect("whole");
        // time-outs begin anew
        let stored = Transaction { deadline_ms: 0, ..found };
        assert_eq!(folded["bills"], stored);
    }
    let gone = TransactionRecord::forgotten("bills").to_stored();
    TransactionRecord::from_stored(&gone).and_then(|record| record.fold(&mut folded)).expect("whole");
    assert!(folded.is_empty());
}

#[test]
fn a_partition_that_joins_again_is_not_counted_twice() {
    let config = TransactionConfig { partitions_max: 2, ..TransactionConfig::default() };
    let mut book = Book::default();
    let Ok(Step::Done(identity)) = book.init("bills", 60_000, SPARE, NOW, &config) else { panic!("its own") };
    let mut join = |partitions: &[PartitionId]| book.join("bills", identity, (partitions, &[]), NOW, &config);
    join(&[partition(0), partition(1)]).expect("as many as allowed");
    join(&[partition(1), partition(0)]).expect("the same ones");
    assert_eq!(join(&[partition(2)]).expect_err("one too many").code, ErrorCode::TransactionState);
}

#[test]
fn what_joined_an_open_transaction_is_stored_alone() {
    let count = 400;
    let config = TransactionConfig::default();
    let mut book = Book::default();
    let mut folded = BTreeMap::new();
    // the bytes of what a turn stores
    let store = |book: &mut Book, folded: &mut BTreeMap<_, _>| {
        let records: Vec<_> = book.records().iter().map(TransactionRecord::to_stored).collect();
        book.stored();
        for record in &records {
            let record = TransactionRecord::from_stored(record).expect("decodes");
            record.fold(folded).expect("fits");
        }
        records.iter().map(Bytes::len).sum::<usize>()
    };
    let Ok(Step::Done(identity)) = book.init("bills", 60_000, SPARE, NOW, &config) else { panic!("its own") };
    let mut largest = 0;
    for n in 0..count {
        let later = Now { wall_ms: NOW.wall_ms + i64::from(n), ..NOW };
        book.join("bills", identity, (&[partition(n)], &[]), later, &config).expect("its own");
        // two in one turn
        book.join("bills", identity, (&[], &[format!("g{}", n / 2)]), later, &config).expect("its own");
        largest = store(&mut book, &mut folded).max(largest);
    }
    assert!(largest < 200, "{largest} bytes for one partition and one group");
    let deadline_ms = 0;
    assert_eq!(folded["bills"], Transaction { deadline_ms, ..book.get("bills").expect("there").clone() });
    book.join("bills", identity, (&[partition(count)], &[]), NOW, &config).expect("its own");
    book.end("bills", identity, Ending::Commit, SPARE, NOW).expect("its own");
    store(&mut book, &mut folded);
    assert_eq!(folded["bills"], Transaction { deadline_ms, ..book.get("bills").expect("there").clone() });
    assert_eq!(
        folded["bills"].partitions.len(),
        count as usize + 1,
        "what joined in the turn of the end is marked too"
    );
}

#[test]
fn a_join_that_comes_after_the_end_changes_nothing() {
    let open = in_state(State::Ongoing);
    let mut later = open.clone();
    let Ok(Some(Change::Joined(members))) = later.join(identity(3), &[partition(1)], &[], NOW) else {
        panic!("it is open")
    };
    let late = TransactionRecord::joined("bills", &later, &members);
    for state in [State::Prepare(Ending::Commit), State::Complete(Ending::Abort), State::Empty] {
        let mut folded = BTreeMap::from([("bills".into(), in_state(state))]);
        late.clone().fold(&mut folded).expect("late");
        assert_eq!(folded["bills"], in_state(state));
    }
    let mut folded = BTreeMap::new();
    late.fold(&mut folded).expect("forgotten meanwhile");
    assert!(folded.is_empty());
}

#[test]
fn records_of_the_first_version_are_read() {
    let found = in_state(State::Ongoing);
    let newest = TransactionRecord::of("bills", &found).to_stored();
    let (_, payload) = envelope::open_as(&newest, kind::TRANSACTION_RECORD, u8::MAX).expect("whole");
    let first = envelope::seal(kind::TRANSACTION_RECORD, 1, &payload);
    let mut folded = BTreeMap::new();
    TransactionRecord::from_stored(&first).and_then(|record| record.fold(&mut folded)).expect("whole");
    assert_eq!(folded["bills"], Transaction { deadline_ms: 0, ..found });
}

#[test]
fn an_epoch_in_which_nothing_can_be_is_not_read() {
    let read = |state, epoch| {
        let mut found = in_state(state);
        found.identity.epoch = epoch;
        TransactionRecord::of("bills", &found).fold(&mut BTreeMap::new())
    };
    assert_eq!(read(State::Ongoing, EPOCH_LAST), Ok(()));
    assert_eq!(read(State::Complete(Ending::Commit), EPOCH_LAST + 1), Ok(()));
    for (state, epoch) in [(State::Ongoing, EPOCH_LAST + 1), (State::Empty, EPOCH_LAST + 2)] {
        assert!(read(state, epoch).is_err(), "{state:?} in epoch {epoch}");
    }
}

#[test]
fn a_partition_that_failed_is_owed_the_end_and_holds_up_nobody_else() {
    let failed = BTreeSet::from([partition(1)]);
    let mut found = in_state(State::Ongoing);
    found.join(identity(3), &[partition(1)], &[], NOW).expect("its own");
    found.end(identity(3), Ending::Commit, SPARE, NOW).expect("its own");
    assert!(found.complete(identity(4), &failed, NOW));
    assert_eq!(found.state, State::Complete(Ending::Commit));
    let told =
        |found: &mut Transaction| found.end(identity(3), Ending::Commit, SPARE, NOW).map_err(|e| e.code);
    assert_eq!(told(&mut found), Err(ErrorCode::PartitionFailed), "not all of it can be read");
    let code = |found: &mut Transaction, id| found.join(identity(4), &[id], &[], NOW).map_err(|e| e.code);
    assert_eq!(code(&mut found, partition(1)), Err(ErrorCode::ConcurrentTransactions));
    let mut next = found.clone();
    assert!(code(&mut next, partition(0)).is_ok(), "the next transaction begins elsewhere");
    next.end(identity(4), Ending::Abort, SPARE, NOW).expect("its own");
    assert!(next.complete(identity(5), &BTreeSet::new(), NOW));
    assert_eq!(next.owed, found.owed, "the end of another transaction pays nothing");
    assert!(!found.complete(identity(4), &failed, NOW), "it is not back");
    assert!(found.complete(identity(4), &BTreeSet::new(), NOW) && found.owed.is_empty());
    let step = Step::Done(identity(4));
    assert_eq!(told(&mut found), Ok(Decided { step, changed: false }), "now it can");
}
