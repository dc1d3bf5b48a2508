//! The whole pipeline in memory, with crashes, against the truth.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sunseo_engine::driver::{CrashPlan, Driver};
use sunseo_proto::Record;

use super::topology;
use crate::event::{DistrictStatus, RiderDistrict, RiderSnapshot, Step, Summary, Transaction};
use crate::regions::{RegionSource, Regions};
use crate::report::{Check, Report};
use crate::simulator::{Day, Simulator};
use crate::topics::{
    COUNTS_STORE, DEAD_LETTER, DELIVERY, DELIVERY_SUMMARY, EVENTS_STORE, RIDER_DISTRICT, RIDER_GPS,
    RIDER_SNAPSHOT,
};
use crate::truth::{Counts, Truth};
use crate::verify::counts;
use crate::verify::riders::RiderLedger;
use crate::verify::summaries::SummaryLedger;

const PARTITIONS: i32 = 3;

/// How the two streams come in.
#[derive(Clone, Copy, Debug)]
enum Order {
    ByTime,
    PositionsFirst,
    DeliveriesFirst,
    /// Chunks of either, at random.
    Random,
}

struct Inputs {
    truth: Truth,
    steps: Vec<Step>,
}

fn play(seed: u64, part: f64) -> (Arc<Regions>, Inputs) {
    let regions = Arc::new(Regions::open(&RegionSource::Generated { seed }).unwrap());
    let day = Day { deliveries: 150, riders: 15, gps_points_per_rider: 40, seed };
    let mut steps: Vec<Step> = Simulator::new(day, Arc::clone(&regions)).collect();
    steps.truncate((steps.len() as f64 * part) as usize);
    let mut truth = Truth::new(Arc::clone(&regions));
    steps.iter().for_each(|step| truth.apply(step));
    steps.retain(|step| !matches!(step, Step::Order(step) if step.transaction == Transaction::RollBack));
    (regions, Inputs { truth, steps })
}

fn record(step: &Step) -> (&'static str, Record) {
    match step {
        Step::Gps(point) => (RIDER_GPS, Record::new(point.rider.to_string(), point.to_json(), point.at_ms)),
        Step::Order(step) => {
            let event = &step.event;
            (DELIVERY, Record::new(event.delivery.to_string(), event.to_json(), event.at_ms))
        }
    }
}

/// In the given order of streams; the order inside each is that of time.
fn arrange(steps: &[Step], order: Order, rng: &mut StdRng) -> Vec<(&'static str, Record)> {
    let records: Vec<_> = steps.iter().map(record).collect();
    let of = |topic: &str| records.iter().filter(|(t, _)| *t == topic).cloned().collect::<VecDeque<_>>();
    let (mut positions, mut deliveries) = (of(RIDER_GPS), of(DELIVERY));
    match order {
        Order::ByTime => records,
        Order::PositionsFirst => positions.into_iter().chain(deliveries).collect(),
        Order::DeliveriesFirst => deliveries.into_iter().chain(positions).collect(),
        Order::Random => {
            let mut arranged = Vec::new();
            while !positions.is_empty() || !deliveries.is_empty() {
                let from = if rng.random_bool(0.5) { &mut positions } else { &mut deliveries };
                let chunk = rng.random_range(0..=from.len().min(200));
                arranged.extend(from.drain(..chunk));
            }
            arranged
        }
    }
}

fn judge(driver: &mut Driver, truth: &Truth) -> Vec<Check> {
    let queried = driver.entries::<DistrictStatus, i64>(COUNTS_STORE).unwrap();
    let queried: Counts = queried
        .into_iter()
        .map(|(key, count, _)| ((key.district, key.status), u64::try_from(count).unwrap()))
        .collect();
    let mut checks = counts::checks(&truth.counts(), &queried);

    let mut summaries = SummaryLedger::default();
    for output in driver.read::<String, Summary>(DELIVERY_SUMMARY).unwrap() {
        let summary = output.value.unwrap();
        assert_eq!(output.key, Some(summary.delivery_id.to_string()));
        summaries.row(summary);
    }
    checks.extend(summaries.checks("in the topic", truth));

    let mut riders = RiderLedger::default();
    for output in driver.read::<String, RiderDistrict>(RIDER_DISTRICT).unwrap() {
        riders.entered(&serde_json::to_vec(&output.value.unwrap()).unwrap());
    }
    for output in driver.read::<String, RiderSnapshot>(RIDER_SNAPSHOT).unwrap() {
        riders.snapshot(&serde_json::to_vec(&output.value.unwrap()).unwrap());
    }
    checks.extend(riders.checks(truth));

    let open = truth.orders() - truth.ended();
    checks.push(Check::equal("events in state", open, driver.count_entries(EVENTS_STORE).unwrap()));
    checks.push(Check::equal("dead letters", 0, driver.read::<String, String>(DEAD_LETTER).unwrap().len()));
    checks
}

fn run(seed: u64, part: f64, order: Order, crash_percent: u8) {
    let what = format!("seed {seed}, {part} of the day, {order:?}, {crash_percent} % crashes");
    let (regions, inputs) = play(seed, part);
    let mut rng = StdRng::seed_from_u64(seed);
    let mut driver = Driver::new(&topology(regions).unwrap(), PARTITIONS)
        .unwrap()
        .batch_records(rng.random_range(1..64))
        .crashes(CrashPlan::seeded(seed, crash_percent));
    for (number, (topic, record)) in arrange(&inputs.steps, order, &mut rng).into_iter().enumerate() {
        driver.pipe_record(topic, None, record).unwrap();
        if number % 500 == 499 {
            driver.run().unwrap();
            driver.crash();
        }
    }
    driver.run().unwrap();
    let checks = judge(&mut driver, &inputs.truth);
    let failed: Vec<&Check> = checks.iter().filter(|check| !check.ok).collect();
    assert!(failed.is_empty(), "{what}: {failed:#?}");
    assert!(Report::new(seed, checks, BTreeMap::new()).ok);
}

#[test]
fn the_end_is_that_of_the_truth_whichever_stream_comes_first() {
    for order in [Order::ByTime, Order::PositionsFirst, Order::DeliveriesFirst, Order::Random] {
        run(31, 1.0, order, 0);
    }
}

#[test]
fn crashes_change_nothing() {
    for seed in 0..6 {
        run(seed, 1.0, Order::Random, 40);
    }
}

#[test]
fn in_the_middle_of_the_day_deliveries_count_where_their_riders_are() {
    for seed in 10..16 {
        run(seed, 0.55, Order::Random, 20);
    }
}

#[test]
fn what_is_no_event_becomes_a_dead_letter_and_nothing_else() {
    let (regions, inputs) = play(41, 1.0);
    let mut driver = Driver::new(&topology(regions).unwrap(), PARTITIONS).unwrap();
    driver.pipe_record(DELIVERY, None, Record::new("D0000001", "not json", 1)).unwrap();
    driver.pipe_record(RIDER_GPS, None, Record::new("R00001", r#"{"rider":"R00001"}"#, 1)).unwrap();
    for (topic, record) in inputs.steps.iter().map(record) {
        driver.pipe_record(topic, None, record).unwrap();
    }
    driver.run().unwrap();
    let failed: Vec<String> = judge(&mut driver, &inputs.truth)
        .into_iter()
        .filter(|check| !check.ok)
        .map(|check| format!("{}: {}", check.name, check.actual))
        .collect();
    assert_eq!(failed, ["dead letters: 2"]);
}

#[test]
fn ids_and_topics_stay() {
    let (regions, _) = play(1, 0.0);
    let plan = super::plan(8, regions).unwrap();
    let mut stores: Vec<&str> = plan.stores.iter().map(|store| store.id.as_str()).collect();
    stores.sort_unstable();
    let expected = [
        "deliveries-by-district",
        "delivery-events",
        "delivery-events:timers",
        "delivery-places",
        "rider-places",
        "riders",
    ];
    assert_eq!(stores, expected);
    assert!(plan.sub_topologies.iter().all(|sub| sub.partitions == 8));
    assert_eq!(plan.repartition_topics.len(), 3);
}
