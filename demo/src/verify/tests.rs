//! A faithful node passes; each fault is seen by the check that is named after it.

use std::collections::BTreeMap;
use std::sync::Arc;

use sunseo_proto::partitioner::partition_of;

use super::cold::{Bytes, Cold};
use super::events::EventLedger;
use super::riders::RiderLedger;
use super::summaries::SummaryLedger;
use super::{counts, events};
use crate::event::{DeliveryEvent, OrderStep, RiderSnapshot, Step, Summary, Transaction};
use crate::regions::{RegionSource, Regions};
use crate::report::{Check, Report};
use crate::simulator::{Day, Simulator};
use crate::truth::Truth;

const PARTITIONS: i32 = 4;

struct Played {
    truth: Truth,
    /// In commit order.
    committed: Vec<DeliveryEvent>,
    rolled_back: Vec<DeliveryEvent>,
}

fn play() -> Played {
    let regions = Arc::new(Regions::open(&RegionSource::Generated { seed: 21 }).unwrap());
    let day = Day { deliveries: 300, riders: 30, gps_points_per_rider: 20, seed: 21 };
    let mut played =
        Played { truth: Truth::new(Arc::clone(&regions)), committed: Vec::new(), rolled_back: Vec::new() };
    for step in Simulator::new(day, regions) {
        played.truth.apply(&step);
        match step {
            Step::Order(OrderStep { event, transaction: Transaction::RollBack }) => {
                played.rolled_back.push(event);
            }
            Step::Order(OrderStep { event, .. }) => played.committed.push(event),
            Step::Gps(_) => {}
        }
    }
    played
}

fn is_ok(checks: &[Check]) -> bool {
    Report::new(0, checks.to_vec(), BTreeMap::new()).ok
}

/// Exactly the named checks fail; the names are parts of theirs.
fn fails(what: &str, checks: &[Check], expected: &[&str]) {
    let failed: Vec<&str> =
        checks.iter().filter(|check| !check.ok).map(|check| check.name.as_str()).collect();
    assert_eq!(failed.len(), expected.len(), "{what}: {failed:?}");
    for (failed, expected) in failed.iter().zip(expected) {
        assert!(failed.contains(expected), "{what}: {failed} is not {expected}");
    }
    assert!(!is_ok(checks), "{what}: the report is ok");
}

fn judge_events(truth: &Truth, log: &[DeliveryEvent]) -> Vec<Check> {
    let mut ledger = EventLedger::default();
    for event in log {
        let key = event.delivery.to_string();
        ledger.record(partition_of(key.as_bytes(), PARTITIONS), key.as_bytes(), event.to_json().as_bytes());
    }
    events::checks("read by hand", ledger.finish(truth), truth)
}

#[test]
fn events_are_judged_one_by_one() {
    let Played { truth, committed, rolled_back } = play();
    assert!(is_ok(&judge_events(&truth, &committed)));
    let judge = |change: &dyn Fn(&mut Vec<DeliveryEvent>)| {
        let mut log = committed.clone();
        change(&mut log);
        judge_events(&truth, &log)
    };
    let middle = committed.iter().position(|event| event.seq == 2).unwrap();
    let next = committed.iter().position(|e| e.delivery == committed[middle].delivery && e.seq == 3);

    let lost = judge(&|log| {
        log.remove(middle);
    });
    // the number that is missing makes the numbers behind it no disorder
    fails("a lost event", &lost, &["published", "lost"]);
    let last = judge(&|log| log.truncate(log.len() - 1));
    fails("a lost last event", &last, &["published", "lost"]);
    let twice = judge(&|log| log.push(log[middle].clone()));
    fails("a duplicate", &twice, &["published", "duplicated"]);
    let swapped = judge(&|log| log.swap(middle, next.unwrap()));
    fails("swapped order", &swapped, &["out of order"]);
    let altered = judge(&|log| log[middle].at_ms += 1);
    fails("another content", &altered, &["lost", "unexplained"]);

    let order = rolled_back.iter().find(|event| event.seq == 1).unwrap();
    let leaked = judge(&|log| log.push(order.clone()));
    fails("a rolled-back order", &leaked, &["published", "rolled back"]);
    let retried = rolled_back.iter().find(|event| event.seq > 1).unwrap();
    let before = committed.iter().position(|e| e.delivery == retried.delivery && e.seq == retried.seq);
    let leaked = judge(&|log| log.insert(before.unwrap(), retried.clone()));
    fails("a rolled-back change", &leaked, &["published", "duplicated", "rolled back"]);

    let mut ledger = EventLedger::default();
    for (number, event) in committed.iter().enumerate() {
        let partition = i32::from(number == middle);
        ledger.record(partition, event.delivery.to_string().as_bytes(), event.to_json().as_bytes());
    }
    let astray = events::checks("read by hand", ledger.finish(&truth), &truth);
    fails("a key in two partitions", &astray, &["unexplained"]);
    let mut ledger = EventLedger::default();
    let all = || committed.iter().map(|event| (event.delivery.to_string(), event.to_json()));
    all().for_each(|(key, payload)| ledger.record(0, key.as_bytes(), payload.as_bytes()));
    ledger.record(0, b"D0000001", b"not json");
    let strange = events::checks("read by hand", ledger.finish(&truth), &truth);
    fails("a strange record", &strange, &["published", "unexplained"]);
}

#[test]
fn counts_are_judged_by_district_and_status() {
    let Played { truth, .. } = play();
    let expected = truth.counts();
    assert!(is_ok(&counts::checks(&expected, &expected)));
    let mut with_zero = expected.clone();
    with_zero.insert(("an empty place".to_owned(), crate::event::Status::Created), 0);
    assert!(is_ok(&counts::checks(&expected, &with_zero)));

    let (key, _) =
        expected.iter().find(|((_, status), _)| *status == crate::event::Status::Delivered).unwrap();
    let mut wrong = expected.clone();
    *wrong.get_mut(key).unwrap() += 1;
    fails("a wrong count", &counts::checks(&expected, &wrong), &["delivered", "agree"]);

    let mut moved = expected.clone();
    *moved.get_mut(key).unwrap() -= 1;
    moved.insert(("elsewhere".to_owned(), key.1), 1);
    let checks = counts::checks(&expected, &moved);
    fails("a delivery counted elsewhere", &checks, &["agree", "should not be there"]);
}

fn judge_summaries(truth: &Truth, summaries: &[Summary]) -> Vec<Check> {
    let mut ledger = SummaryLedger::default();
    summaries.iter().for_each(|summary| ledger.json(serde_json::to_string(summary).unwrap().as_bytes()));
    ledger.checks("in the topic", truth)
}

#[test]
fn summaries_are_judged_field_by_field() {
    let Played { truth, .. } = play();
    let all: Vec<Summary> = truth.summaries().collect();
    assert!(is_ok(&judge_summaries(&truth, &all)));
    let judge = |change: &dyn Fn(&mut Vec<Summary>)| {
        let mut changed = all.clone();
        change(&mut changed);
        judge_summaries(&truth, &changed)
    };
    fails("a changed fee", &judge(&|all| all[3].fee_krw += 1), &["every field"]);
    fails("a changed district", &judge(&|all| all[3].customer_district.push('x')), &["every field"]);
    fails("a changed distance", &judge(&|all| all[3].distance_m += 0.1), &["every field"]);
    fails("a lost one", &judge(&|all| all.truncate(all.len() - 1)), &["in the topic", "every field"]);
    fails("one twice", &judge(&|all| all.push(all[0].clone())), &["in the topic", "twice"]);
    let mut ledger = SummaryLedger::default();
    all.iter().for_each(|summary| ledger.row(summary.clone()));
    ledger.json(br#"{"delivery_id":"D0000001"}"#);
    fails("a strange one", &ledger.checks("in the topic", &truth), &["in the topic", "do not parse"]);
}

#[test]
fn riders_are_judged_by_way_and_end() {
    let Played { truth, .. } = play();
    let ways: Vec<_> = truth.ways().flat_map(|(_, way)| way).collect();
    let ends: Vec<RiderSnapshot> = truth
        .riders()
        .into_iter()
        .map(|(rider, end)| RiderSnapshot {
            rider,
            district: Some(end.district),
            since_ms: end.since_ms,
            carrying: end.carrying,
            delivered: end.delivered,
            cancelled: end.cancelled,
            moved: Vec::new(),
        })
        .collect();
    let judge = |ways: &[crate::event::RiderDistrict], ends: &[RiderSnapshot]| {
        let mut ledger = RiderLedger::default();
        ways.iter().for_each(|record| ledger.entered(serde_json::to_string(record).unwrap().as_bytes()));
        ends.iter().for_each(|end| ledger.snapshot(serde_json::to_string(end).unwrap().as_bytes()));
        ledger.checks(&truth)
    };
    assert!(is_ok(&judge(&ways, &ends)));
    let mut twice = ways.clone();
    twice.insert(1, ways[0].clone());
    fails("a way with a repeated record", &judge(&twice, &ends), &["records", "whose way"]);
    let mut swapped = ways.clone();
    let pair = ways.windows(2).position(|pair| pair[0].rider == pair[1].rider).unwrap();
    swapped.swap(pair, pair + 1);
    fails("a way in another order", &judge(&swapped, &ends), &["whose way"]);
    let mut wrong = ends.clone();
    wrong[0].delivered += 1;
    fails("a wrong last snapshot", &judge(&ways, &wrong), &["last snapshot"]);
    fails("a missing rider", &judge(&ways, &ends[1..]), &["last snapshot", "with a snapshot"]);
}

#[test]
fn bytes_read_back_are_judged_by_partition() {
    let bytes = |hash| Bytes { count: 10, hash };
    let contents =
        |hash| BTreeMap::from([(("t".to_owned(), 0), bytes(1)), (("t".to_owned(), 1), bytes(hash))]);
    let good = Cold { before: contents(2), after: contents(2), segments: 3, evicted: 2, bytes_read_back: 20 };
    assert!(is_ok(&good.checks()));
    fails("other bytes", &Cold { after: contents(3), ..good.clone() }.checks(), &["are equal"]);
    fails("nothing offloaded", &Cold { segments: 0, ..good.clone() }.checks(), &["segments offloaded"]);
    fails("read locally", &Cold { bytes_read_back: 0, ..good }.checks(), &["bytes read back"]);
}
