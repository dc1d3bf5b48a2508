use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::host::TierHost as _;
use crate::testing::records::{any_record, committed, fold as plain_fold, key};
use crate::testing::{Fault, Faults, MemHost, partition};

const RULE: SummaryRule = SummaryRule { records_min: 6, part_bytes: 400 };

fn host() -> (Arc<MemHost>, Faults) {
    let host = Arc::new(MemHost::default());
    let faults = host.faults.clone();
    (host, faults)
}

async fn open(host: &Arc<MemHost>) -> Journal {
    Journal::open(Arc::clone(host) as SharedTierHost, RULE).await.unwrap()
}

/// The life of segment n: it comes, and the one five before it goes.
fn life(n: i64) -> Vec<TierRecord> {
    let of = |n: i64| key(n * 10, n * 10 + 10, &format!("object {n}"));
    let through = (n - 4) * 10;
    vec![
        TierRecord::Intent(of(n)),
        committed(of(n)),
        TierRecord::Removed { partition: partition(1, 0).into(), through, at_ms: n },
        TierRecord::Deleted { objects: vec![of(n - 6).object] },
    ]
}

fn facts(journal: &Journal) -> usize {
    journal.with(|manifest| manifest.facts().len())
}

#[tokio::test]
async fn the_topic_follows_the_objects_and_not_the_time() {
    let (host, _) = host();
    let (mut journal, mut records, mut begins) = (open(&host).await, Vec::new(), BTreeSet::new());
    for n in 0..100 {
        for record in life(n) {
            records.push(record.clone());
            journal.append(record).await.unwrap();
            let facts = facts(&journal);
            assert!(facts < 12);
            let stored = host.state().records.len();
            assert!(stored <= 2 * facts + 12, "{stored} records for {facts} facts");
        }
        if n % 7 == 0 {
            journal = open(&host).await;
        }
        begins.insert(host.state().records_start);
        assert!(journal.with(|manifest| *manifest == plain_fold(&records)), "life {n}");
    }
    assert!(begins.len() > 20, "the topic began in many places: {begins:?}");
}

#[tokio::test]
async fn a_topic_from_before_there_were_summaries_is_summed_up_at_a_start() {
    let (host, _) = host();
    let records: Vec<TierRecord> = (0..50).flat_map(life).collect();
    host.state().records = records.iter().map(TierRecord::encode).collect();
    let journal = open(&host).await;
    assert!(journal.with(|manifest| *manifest == plain_fold(&records)));
    assert_eq!(host.state().records_start, 200);
    assert!(host.state().records.len() < 15);
    assert!(open(&host).await.with(|manifest| *manifest == plain_fold(&records)));
    assert_eq!(host.state().records_start, 200, "one is enough");
}

#[tokio::test]
async fn a_topic_without_its_beginning_keeps_the_tier_closed() {
    let (host, _) = host();
    let journal = open(&host).await;
    for record in life(0) {
        journal.append(record).await.unwrap();
    }
    host.trim_records(1).await.unwrap();
    let error = Journal::open(host, RULE).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::CorruptLog, "{error}");
}

#[tokio::test]
async fn a_damaged_record_keeps_the_tier_closed() {
    let (host, _) = host();
    let mut broken = TierRecord::Deleted { objects: Vec::new() }.encode().to_vec();
    broken[14] ^= 1;
    host.state().records.push(broken.into());
    let error = Journal::open(host, RULE).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::CorruptLog, "{error}");
}

#[tokio::test]
async fn a_summary_that_always_fails_does_not_fill_the_topic() {
    let (host, faults) = host();
    let journal = open(&host).await;
    let mut records = Vec::new();
    for record in (0..50).flat_map(life) {
        // whatever comes behind the record and one part of a summary is lost
        faults.after(2, Fault::Lost);
        records.push(record.clone());
        journal.append(record).await.unwrap();
        faults.heal();
    }
    let parts = host.state().records.len() - records.len();
    assert!((5..=200 / 6).contains(&parts), "{parts} beginnings of summaries beside 200 records");
    for record in life(50) {
        records.push(record.clone());
        journal.append(record).await.unwrap();
    }
    assert!(journal.with(|manifest| *manifest == plain_fold(&records)));
}

/// The world ends at every `every`-th step and then goes on, in the same life or a new one.
async fn live(records: &[TierRecord], every: i64, kind: Fault, restarts: bool) -> (Arc<MemHost>, Journal) {
    let (host, faults) = host();
    let mut journal = open(&host).await;
    faults.after(every, kind);
    for record in records {
        let mut outcome = journal.append(record.clone()).await;
        let mut grace = 0;
        while faults.struck() {
            // a little later each time: a world that ends in every start at the same step gets nowhere
            grace += 1;
            faults.after(every + grace, kind);
            if restarts {
                // what is still on its way never arrives
                host.state().late.clear();
                journal = open(&host).await;
            }
            if outcome.is_err() {
                outcome = match restarts {
                    true => journal.append(record.clone()).await,
                    false => journal.settle_earlier().await,
                };
            }
        }
        outcome.unwrap();
    }
    faults.heal();
    journal.settle_earlier().await.unwrap();
    (host, journal)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Ends with and without the step's work done, and with work that is done only later: the manifest is that of the records, in
    /// memory and after a start.
    #[test]
    fn ends_of_the_world_change_nothing(
        records in prop::collection::vec(any_record(), 20..100),
        every in 1_i64..24,
        kind in prop::sample::select(vec![Fault::Lost, Fault::Unanswered, Fault::Late]),
        restarts in any::<bool>(),
    ) {
        block_on(async {
            let expected = plain_fold(&records);
            let (host, journal) = live(&records, every, kind, restarts).await;
            assert!(journal.with(|manifest| *manifest == expected), "in memory");
            let again = open(&host).await;
            assert!(again.with(|manifest| *manifest == expected), "read again");
        });
    }
}

#[tokio::test]
async fn the_topic_stays_bounded_whatever_happens() {
    let records: Vec<TierRecord> = (0..60).flat_map(life).collect();
    for kind in [Fault::Lost, Fault::Unanswered, Fault::Late] {
        for (every, restarts) in (4..40).flat_map(|every| [(every, false), (every, true)]) {
            let (host, journal) = live(&records, every, kind, restarts).await;
            assert!(journal.with(|manifest| *manifest == plain_fold(&records)));
            let case = format!("every {every} steps {kind:?}, restarts: {restarts}");
            // ends that come right behind each other meet every attempt: its parts need so many steps in peace
            let stored = host.state().records.len();
            let stored_max = if every > 12 { 40 } else { 2 * records.len() };
            assert!(stored < stored_max, "{case}: {stored} records");
            for record in (60..64).flat_map(life) {
                journal.append(record).await.unwrap();
            }
            let stored = host.state().records.len();
            assert!(stored < 40, "{case}: {stored} records after four quiet lives");
        }
    }
}
