//! Every kind of error has a history that has it, and one beside it that looks like it and has not.

use super::*;
use crate::history::{Act, Fate, Isolation, Op, Outcome, Owning, Place, Read, Rules, Sent};

const P: Place = Place { topic: 0, partition: 0 };
const Q: Place = Place { topic: 0, partition: 1 };

/// A history in the making; operations follow each other.
#[derive(Default)]
struct Tale(History);

impl Tale {
    fn new() -> Self {
        Self::default()
    }

    fn rules(mut self, rules: Rules) -> Self {
        self.0.rules.insert(0, rules);
        self
    }

    fn clock(mut self, max_ms: i64, end_ms: i64) -> Self {
        (self.0.clock_max_ms, self.0.clock_end_ms) = (max_ms, end_ms);
        self
    }

    fn op(mut self, process: u32, act: Act) -> Self {
        let start = self.0.ops.len() as u64 * 10;
        self.0.ops.push(Op { process, start, end: Some(start + 5), act });
        self
    }

    /// The last operation began before the one before it ended, and never came to an end.
    fn meanwhile(mut self) -> Self {
        let before = self.0.ops[self.0.ops.len() - 2].start;
        let last = self.0.ops.last_mut().expect("two operations");
        (last.start, last.end) = (before + 1, None);
        self
    }

    fn send(self, process: u32, values: &[(u64, Fate)]) -> Self {
        self.send_in(process, None, values)
    }

    fn send_in(self, process: u32, txn: Option<u64>, values: &[(u64, Fate)]) -> Self {
        let records = values.iter().map(|(value, fate)| sent(P, *value, *fate)).collect();
        self.op(process, Act::Send { txn, records })
    }

    /// A key is the value's hundreds.
    fn put(self, value: u64, offset: i64) -> Self {
        let record = Sent { key: Some(value / 100), ..sent(P, value, at(offset)) };
        self.op(1, Act::Send { txn: None, records: vec![record] })
    }

    fn poll(self, process: u32, reads: &[(i64, u64)]) -> Self {
        self.op(process, Act::Poll { isolation: Isolation::Committed, group: None, records: records(reads) })
    }

    fn assign(self, process: u32, offset: i64) -> Self {
        self.op(process, Act::Assign { from: vec![(P, offset)] })
    }

    fn end_txn(self, txn: u64, commit: bool, outcome: Outcome) -> Self {
        self.op(1, Act::EndTxn { txn, commit, outcome })
    }

    fn last(self, log_start: i64, end: i64, reads: &[(i64, u64)]) -> Self {
        self.op(99, Act::FinalPoll { place: P, log_start, end, records: records(reads) })
    }

    fn acquire(self, process: u32, period: u64, offset: i64) -> Self {
        self.op(process, Act::Acquire { owning: owning(period), offset })
    }

    fn commit(self, process: u32, period: u64, offset: i64) -> Self {
        self.commit_as(process, period, offset, Outcome::Done)
    }

    fn commit_as(self, process: u32, period: u64, offset: i64, outcome: Outcome) -> Self {
        self.op(process, Act::Commit { owning: owning(period), offset, outcome })
    }

    fn given(self, process: u32, reads: &[(i64, u64)]) -> Self {
        let act = Act::Poll { isolation: Isolation::Committed, group: Some(7), records: records(reads) };
        self.op(process, act)
    }

    fn committed(self, offset: i64) -> Self {
        self.op(99, Act::FinalCommitted { group: 7, place: P, offset: Some(offset) })
    }

    #[track_caller]
    fn has(self, kind: Kind) {
        let found = check(&self.0);
        assert_eq!(found.iter().map(|one| one.kind).collect::<Vec<_>>(), [kind], "{found:?}");
    }

    #[track_caller]
    fn fits(self) {
        assert_eq!(check(&self.0), []);
    }
}

fn sent(place: Place, value: u64, fate: Fate) -> Sent {
    Sent { place, value, key: None, tombstone: false, source: None, timestamp_ms: 1000, fate }
}

fn at(offset: i64) -> Fate {
    Fate::Acked(Some(offset))
}

fn records(reads: &[(i64, u64)]) -> Vec<Read> {
    reads.iter().map(|(offset, value)| Read { place: P, offset: *offset, value: *value }).collect()
}

fn owning(period: u64) -> Owning {
    Owning { group: 7, place: P, period }
}

/// Three records of one producer.
fn three() -> Tale {
    Tale::new().send(1, &[(10, at(0)), (11, at(1)), (12, at(2))])
}

#[test]
fn lost_write() {
    three().last(0, 3, &[(0, 10), (2, 12)]).has(Kind::LostWrite);
    three().last(0, 3, &[(0, 10), (1, 11), (2, 12)]).fits();
    // without an answer it may be there or not
    Tale::new().send(1, &[(10, Fate::Unknown)]).last(0, 0, &[]).fits();
    Tale::new().send(1, &[(10, Fate::Unknown)]).last(0, 1, &[(0, 10)]).fits();
    // but who has read it finds it again
    Tale::new().send(1, &[(10, Fate::Unknown)]).poll(2, &[(0, 10)]).last(0, 1, &[]).has(Kind::LostWrite);
    // an acknowledgement whose offset is forgotten
    Tale::new().send(1, &[(10, Fate::Acked(None))]).last(0, 1, &[]).has(Kind::LostWrite);
}

#[test]
fn unseen() {
    three().last(0, 2, &[(0, 10), (1, 11)]).has(Kind::Unseen);
    three().send(1, &[(13, Fate::Unknown)]).last(0, 3, &[(0, 10), (1, 11), (2, 12)]).fits();
}

#[test]
fn duplicate() {
    let all = [(0, 10), (1, 11), (2, 12)];
    three().last(0, 4, &[all[0], all[1], all[2], (3, 11)]).has(Kind::Duplicate);
    // read twice is not there twice
    three().poll(2, &all).poll(3, &all).last(0, 3, &all).fits();
}

#[test]
fn inconsistent_offsets() {
    let two = || Tale::new().send(1, &[(10, Fate::Unknown)]).send(2, &[(11, Fate::Unknown)]);
    two().poll(3, &[(0, 10)]).poll(4, &[(0, 11)]).has(Kind::InconsistentOffsets);
    two().poll(3, &[(0, 10)]).poll(4, &[(1, 11)]).fits();
}

#[test]
fn foreign_value() {
    Tale::new().poll(1, &[(0, 10)]).has(Kind::ForeignValue);
    // sent to another partition
    let elsewhere = Act::Send { txn: None, records: vec![sent(Q, 10, Fate::Unknown)] };
    Tale::new().op(1, elsewhere).poll(2, &[(0, 10)]).has(Kind::ForeignValue);
    Tale::new().send(1, &[(10, Fate::Unknown)]).poll(2, &[(0, 10)]).fits();
}

#[test]
fn refused_read() {
    Tale::new().send(1, &[(10, Fate::Refused)]).poll(2, &[(0, 10)]).has(Kind::RefusedRead);
    Tale::new().send(1, &[(10, Fate::Refused)]).last(0, 0, &[]).fits();
}

#[test]
fn nonmonotonic_send() {
    Tale::new().send(1, &[(10, at(5))]).send(1, &[(11, at(3))]).has(Kind::NonmonotonicSend);
    Tale::new().send(1, &[(10, at(5))]).send(2, &[(11, at(3))]).fits();
}

#[test]
fn nonmonotonic_send_inside() {
    Tale::new().send(1, &[(10, at(5)), (11, at(3))]).has(Kind::IntNonmonotonicSend);
    let other = Sent { place: Q, ..sent(Q, 11, at(3)) };
    let records = vec![sent(P, 10, at(5)), other];
    Tale::new().op(1, Act::Send { txn: None, records }).fits();
}

#[test]
fn nonmonotonic_poll() {
    three().assign(2, 0).poll(2, &[(0, 10), (1, 11)]).poll(2, &[(1, 11)]).has(Kind::NonmonotonicPoll);
    let again = three().assign(2, 0).poll(2, &[(0, 10), (1, 11)]);
    again.op(2, Act::Seek { place: P, offset: 1 }).poll(2, &[(1, 11)]).fits();
    three().assign(2, 0).poll(2, &[(0, 10)]).op(2, Act::Crash).poll(2, &[(0, 10)]).fits();
}

#[test]
fn nonmonotonic_poll_inside() {
    three().assign(2, 0).poll(2, &[(0, 10), (1, 11), (1, 11)]).has(Kind::IntNonmonotonicPoll);
    three().assign(2, 0).poll(2, &[(0, 10), (1, 11)]).assign(2, 1).poll(2, &[(1, 11)]).fits();
}

#[test]
fn poll_skip() {
    three().assign(2, 0).poll(2, &[(0, 10)]).poll(2, &[(2, 12)]).has(Kind::PollSkip);
    three().assign(2, 0).poll(2, &[(1, 11)]).has(Kind::PollSkip);
    three().assign(2, 0).poll(2, &[(0, 10)]).assign(2, 2).poll(2, &[(2, 12)]).fits();
    // a seek goes on with the first record from there
    let seek = || three().assign(2, 0).op(2, Act::Seek { place: P, offset: 1 });
    seek().poll(2, &[(2, 12)]).has(Kind::PollSkip);
    seek().poll(2, &[(0, 10)]).has(Kind::NonmonotonicPoll);
    seek().poll(2, &[(1, 11)]).fits();
    // an offset that holds nothing, as the end of a transaction has
    let gap = Tale::new().send(1, &[(10, at(0))]).send(1, &[(11, at(2))]);
    gap.assign(2, 0).poll(2, &[(0, 10)]).poll(2, &[(2, 11)]).fits();
}

#[test]
fn poll_skip_inside() {
    three().assign(2, 0).poll(2, &[(0, 10), (2, 12)]).has(Kind::IntPollSkip);
    // retention may have passed the reader
    let kept = Rules { retention_ms: Some(10), ..Rules::default() };
    let tale = three().rules(kept).clock(5000, 5000).assign(2, 0).poll(2, &[(0, 10), (2, 12)]);
    tale.last(2, 3, &[(2, 12)]).fits();
}

/// A transaction of two records with an end.
fn transaction(commit: bool, outcome: Outcome) -> Tale {
    Tale::new().send_in(1, Some(1), &[(10, at(0)), (11, at(1))]).end_txn(1, commit, outcome)
}

#[test]
fn aborted_read() {
    transaction(false, Outcome::Done).poll(2, &[(0, 10)]).has(Kind::AbortedRead);
    transaction(true, Outcome::Refused).last(0, 1, &[(0, 10)]).has(Kind::AbortedRead);
    transaction(true, Outcome::Done).poll(2, &[(0, 10)]).fits();
    transaction(false, Outcome::Done).last(0, 3, &[]).fits();
    let uncommitted =
        Act::Poll { isolation: Isolation::Uncommitted, group: None, records: records(&[(0, 10)]) };
    transaction(false, Outcome::Done).op(2, uncommitted).fits();
}

#[test]
fn precommitted_read() {
    let open = || Tale::new().send_in(1, Some(1), &[(10, at(0))]);
    open().poll(2, &[(0, 10)]).end_txn(1, true, Outcome::Done).has(Kind::PrecommittedRead);
    // the end was asked for before the poll was over
    open().poll(2, &[(0, 10)]).end_txn(1, true, Outcome::Done).meanwhile().fits();
}

#[test]
fn fractured_transaction() {
    transaction(true, Outcome::Unknown).last(0, 3, &[(0, 10)]).has(Kind::FracturedTransaction);
    transaction(true, Outcome::Unknown).last(0, 3, &[(0, 10), (1, 11)]).fits();
    transaction(true, Outcome::Unknown).last(0, 3, &[]).fits();
    let found = check(&transaction(true, Outcome::Done).last(0, 3, &[(0, 10)]).0);
    assert_eq!(counts(&found).keys().collect::<Vec<_>>(), [&Kind::LostWrite, &Kind::FracturedTransaction]);
}

/// Two members: the second owns the partition after the first.
fn two_members() -> Tale {
    Tale::new().acquire(1, 1, 0).commit(1, 1, 5).acquire(2, 2, 5).commit(2, 2, 8)
}

#[test]
fn two_owners() {
    two_members().commit(1, 1, 9).has(Kind::TwoOwners);
    two_members().commit_as(1, 1, 9, Outcome::Refused).fits();
    two_members().acquire(1, 3, 8).commit(1, 3, 9).fits();
}

#[test]
fn fenced_commit() {
    let silent = || Tale::new().acquire(1, 1, 0).acquire(2, 2, 0).commit(2, 2, 8);
    silent().commit(1, 1, 9).has(Kind::FencedCommit);
    // which of two at one time was first, nobody knows
    silent().commit(1, 1, 9).meanwhile().fits();
}

#[test]
fn commit_backwards() {
    two_members().acquire(3, 3, 5).has(Kind::CommitBackwards);
    two_members().acquire(3, 3, 8).fits();
    two_members().committed(5).has(Kind::CommitBackwards);
    two_members().committed(8).fits();
    // a commit of a member that is fenced must not land, however late its request comes
    two_members().commit_as(1, 1, 6, Outcome::Unknown).committed(6).has(Kind::CommitBackwards);
    // one of the owner itself may
    two_members().commit_as(2, 2, 7, Outcome::Unknown).committed(7).fits();
}

#[test]
fn group_skip() {
    three().given(2, &[(0, 10)]).given(3, &[(2, 12)]).committed(3).has(Kind::GroupSkip);
    three().given(2, &[(0, 10)]).given(3, &[(1, 11), (2, 12)]).committed(3).fits();
    three().given(2, &[(0, 10)]).committed(1).fits();
}

fn compacted() -> Tale {
    let rules = Rules { compacted: true, ..Rules::default() };
    Tale::new().rules(rules).put(100, 0).put(200, 1).put(101, 2)
}

#[test]
fn latest_lost() {
    compacted().last(0, 3, &[(1, 200)]).has(Kind::LatestLost);
    compacted().last(0, 3, &[(1, 200), (2, 101)]).fits();
    // a newer one that may be there excuses it
    let newer = Sent { key: Some(1), ..sent(P, 102, Fate::Unknown) };
    let newer = Act::Send { txn: None, records: vec![newer] };
    compacted().op(1, newer).last(0, 3, &[(1, 200)]).fits();
    // an earlier one without an answer may have come late, and gone: only a tombstone goes
    let late = |tombstone| {
        let earlier = Sent { key: Some(1), tombstone, ..sent(P, 100, Fate::Unknown) };
        let tale = Tale::new().rules(Rules { compacted: true, ..Rules::default() });
        let tale = tale.op(1, Act::Send { txn: None, records: vec![earlier] });
        tale.put(101, 0).put(200, 1).last(0, 3, &[(1, 200)])
    };
    late(true).fits();
    late(false).has(Kind::LatestLost);
}

#[test]
fn older_after_newer() {
    let both = |fate| {
        let first = Sent { key: Some(1), ..sent(P, 100, fate) };
        let tale = Tale::new().rules(Rules { compacted: true, ..Rules::default() });
        tale.op(1, Act::Send { txn: None, records: vec![first] }).put(101, 1)
    };
    both(Fate::Acked(None)).last(0, 3, &[(1, 101), (2, 100)]).has(Kind::OlderAfterNewer);
    // who went on without an answer must bear that it came late, and that it is the newest now
    both(Fate::Unknown).last(0, 3, &[(1, 101), (2, 100)]).fits();
    both(Fate::Unknown).last(0, 3, &[(2, 100)]).fits();
    compacted().last(0, 3, &[(0, 100), (1, 200), (2, 101)]).fits();
}

/// A value with a key and without an answer.
fn keyed(value: u64) -> Act {
    let record = Sent { key: Some(value / 100), ..sent(P, value, Fate::Unknown) };
    Act::Send { txn: None, records: vec![record] }
}

#[test]
fn removed_early() {
    let rules = Rules { retention_ms: Some(500), ..Rules::default() };
    let gone = |clock| three().rules(rules).clock(clock, clock).last(1, 3, &[(1, 11), (2, 12)]);
    gone(1500).has(Kind::RemovedEarly);
    gone(1501).fits();
    three().clock(9000, 9000).last(1, 3, &[(1, 11), (2, 12)]).has(Kind::RemovedEarly);
    let trimmed = Rules { trimmed: true, ..Rules::default() };
    three().rules(trimmed).last(1, 3, &[(1, 11), (2, 12)]).fits();
}

#[test]
fn kept_too_long() {
    let rules = Rules { retention_ms: Some(500), gone_after_ms: Some(800), ..Rules::default() };
    let there = |clock| {
        let tale = Tale::new().rules(rules).clock(clock, clock).send(1, &[(10, at(0))]);
        tale.last(0, 1, &[(0, 10)])
    };
    there(1801).has(Kind::KeptTooLong);
    there(1800).fits();
}

/// Registers a name; its process is the instance.
fn register(tale: Tale, process: u32) -> Tale {
    tale.op(process, Act::Register { name: 1 })
}

fn committed_by(tale: Tale, process: u32, outcome: Outcome) -> Tale {
    tale.op(process, Act::EndTxn { txn: 1, commit: true, outcome })
}

#[test]
fn zombie_commit() {
    let both = || register(register(Tale::new(), 1), 2);
    committed_by(both(), 1, Outcome::Done).has(Kind::ZombieCommit);
    committed_by(both(), 1, Outcome::Unknown).fits();
    committed_by(both(), 2, Outcome::Done).fits();
    // the other took the name while the commit was under way
    register(committed_by(register(Tale::new(), 1), 1, Outcome::Done), 2).meanwhile().fits();
    // a third one has another name
    committed_by(both().op(3, Act::Register { name: 2 }), 3, Outcome::Done).fits();
}

/// Two records, and what a group made of the first one in a transaction that committed the offset behind it.
fn work(outcome: Outcome) -> Tale {
    let made = Sent { source: Some(10), ..sent(Q, 20, at(0)) };
    let offsets = Act::SendOffsets { txn: 1, group: 7, offsets: vec![(P, 1)] };
    let tale = Tale::new().send(1, &[(10, at(0)), (11, at(1))]).given(2, &[(0, 10)]);
    tale.op(2, Act::Send { txn: Some(1), records: vec![made] }).op(2, offsets).end_txn(1, true, outcome)
}

/// What is in the partition of the outputs at the end.
fn outputs(tale: Tale, values: &[u64]) -> Tale {
    let read = |(offset, value): (i64, &u64)| Read { place: Q, offset, value: *value };
    let records: Vec<Read> = (0..).zip(values).map(read).collect();
    let end = records.len() as i64;
    tale.op(99, Act::FinalPoll { place: Q, log_start: 0, end, records })
}

#[test]
fn done_twice() {
    let again = |tale: Tale| {
        let records = vec![Sent { source: Some(10), ..sent(Q, 21, at(1)) }];
        tale.op(3, Act::Send { txn: None, records })
    };
    outputs(again(work(Outcome::Done)), &[20, 21]).committed(1).has(Kind::DoneTwice);
    outputs(work(Outcome::Done), &[20]).committed(1).fits();
    // the first work was taken back
    let taken_back = Tale::new().send(1, &[(10, at(0))]);
    let first = vec![Sent { source: Some(10), ..sent(Q, 20, at(0)) }];
    let taken_back =
        taken_back.op(2, Act::Send { txn: Some(1), records: first }).end_txn(1, false, Outcome::Done);
    let read = Read { place: Q, offset: 1, value: 21 };
    let last = Act::FinalPoll { place: Q, log_start: 0, end: 2, records: vec![read] };
    again(taken_back).op(99, last).fits();
}

#[test]
fn not_done() {
    // neither came through
    outputs(work(Outcome::Unknown), &[]).committed(0).fits();
    outputs(work(Outcome::Unknown), &[]).committed(1).has(Kind::NotDone);
    outputs(work(Outcome::Unknown), &[20]).committed(1).fits();
    // who commits otherwise owes nothing
    three().given(2, &[(0, 10)]).committed(1).fits();
}

#[test]
fn offsets_of_a_transaction_do_not_go_back() {
    outputs(work(Outcome::Done), &[20]).committed(0).has(Kind::CommitBackwards);
}

/// A key with a value and a tombstone after it.
fn deleted() -> Tale {
    let tombstone = Sent { key: Some(1), tombstone: true, ..sent(P, 101, at(1)) };
    let tale = Tale::new().rules(Rules { compacted: true, ..Rules::default() }).put(100, 0);
    tale.op(1, Act::Send { txn: None, records: vec![tombstone] })
}

fn scan(tale: Tale, reads: &[(i64, u64)]) -> Tale {
    tale.op(98, Act::Scan { place: P, records: records(reads) })
}

#[test]
fn resurrected() {
    deleted().last(0, 2, &[(0, 100)]).has(Kind::Resurrected);
    deleted().last(0, 2, &[(0, 100), (1, 101)]).fits();
    deleted().last(0, 2, &[(1, 101)]).fits();
    deleted().last(0, 2, &[]).fits();
    // a later one may have replaced the tombstone, and is not visible yet
    deleted().op(1, keyed(102)).last(0, 3, &[(0, 100)]).fits();
}

#[test]
fn resurrected_while_others_write() {
    let both = || Tale::new().rules(Rules { compacted: true, ..Rules::default() }).put(100, 0).put(101, 1);
    scan(both(), &[(0, 100)]).has(Kind::Resurrected);
    scan(both(), &[(0, 100), (1, 101)]).fits();
    // the newer one may have gone for one that lies behind the end of the reading
    scan(both(), &[(0, 100)]).op(1, keyed(102)).meanwhile().fits();
    // a tombstone may go between the reading of what it deletes and its own
    scan(deleted(), &[(0, 100)]).fits();
    // one that was not decided yet
    let open = Sent { key: Some(1), ..sent(P, 101, at(1)) };
    let tale = Tale::new().rules(Rules { compacted: true, ..Rules::default() }).put(100, 0);
    let tale = tale.op(1, Act::Send { txn: Some(1), records: vec![open] });
    scan(tale, &[(0, 100)]).end_txn(1, true, Outcome::Done).fits();
}

#[test]
fn wrong_time() {
    let timed = |value, offset, timestamp_ms| Act::Send {
        txn: None,
        records: vec![Sent { timestamp_ms, ..sent(P, value, at(offset)) }],
    };
    let look_up = |timestamp_ms, offset| Act::LookUp { place: P, timestamp_ms, offset };
    // times need not rise
    let log = || Tale::new().op(1, timed(10, 0, 500)).op(1, timed(11, 1, 400)).op(1, timed(12, 2, 600));
    log().op(2, look_up(550, Some(1))).has(Kind::WrongTime);
    log().op(2, look_up(450, Some(2))).has(Kind::WrongTime);
    log().op(2, look_up(600, None)).has(Kind::WrongTime);
    log().op(2, look_up(501, Some(2))).fits();
    log().op(2, look_up(400, Some(0))).fits();
    log().op(2, look_up(601, None)).fits();
    // not yet there when it was asked for
    Tale::new().op(2, look_up(500, None)).op(1, timed(10, 0, 500)).fits();
    log().op(1, timed(13, 3, 700)).op(2, look_up(700, None)).meanwhile().fits();
    // retention may have been first
    let kept = Rules { retention_ms: Some(10), ..Rules::default() };
    let gone = log().rules(kept).clock(5000, 5000).op(2, look_up(450, Some(2)));
    gone.last(1, 3, &[(1, 11), (2, 12)]).fits();
}
