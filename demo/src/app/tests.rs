use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::event::{DeliveryId, Step};
use crate::regions::{RegionSource, Regions};
use crate::simulator::{Day, Simulator};
use crate::truth::{Truth, fingerprint};

const SHARDS: u32 = 3;

#[test]
fn the_tables_hold_the_committed_events_in_order_and_nothing_that_was_rolled_back() {
    let seed = 11;
    let regions = Arc::new(Regions::open(&RegionSource::Generated { seed }).unwrap());
    let day = Day { deliveries: 400, riders: 40, gps_points_per_rider: 5, seed };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    let mut application = Application::create(&path, SHARDS).unwrap();
    let mut truth = Truth::new(Arc::clone(&regions));
    for step in Simulator::new(day, regions) {
        truth.apply(&step);
        if let Step::Order(step) = &step {
            application.perform(step).unwrap_or_else(|e| panic!("seed {seed}: {e}: {step:?}"));
        }
    }
    assert!(truth.orders_rolled_back() > 0);
    assert_eq!(application.orders_rolled_back(), truth.orders_rolled_back());
    assert_eq!(application.rows().unwrap(), Rows { orders: truth.orders(), outbox: truth.events() });

    // by another connection, as the outbox reader sees it
    let reader = Connection::open(&path).unwrap();
    let mut found: BTreeMap<DeliveryId, Vec<u64>> = BTreeMap::new();
    for shard in 0..SHARDS {
        let select = format!(
            "SELECT position, id, aggregatetype, aggregateid, type, payload, timestamp \
             FROM {OUTBOX_TABLE_PREFIX}{shard} ORDER BY position"
        );
        let mut statement = reader.prepare(&select).unwrap();
        let mut rows = statement.query(()).unwrap();
        let mut count = 0;
        while let Some(row) = rows.next().unwrap() {
            count += 1;
            let (position, id): (i64, String) = (row.get(0).unwrap(), row.get(1).unwrap());
            assert_eq!(position, count, "a rolled-back row took a position");
            let (topic, key): (String, String) = (row.get(2).unwrap(), row.get(3).unwrap());
            let (kind, payload): (String, String) = (row.get(4).unwrap(), row.get(5).unwrap());
            let event: DeliveryEvent = serde_json::from_str(&payload).unwrap();
            assert_eq!((topic.as_str(), kind.as_str()), (DELIVERY, event.status.as_str()));
            assert_eq!((id, &key), (format!("{key}-{}", event.seq), &event.delivery.to_string()));
            assert_eq!(row.get::<_, i64>(6).unwrap(), event.at_ms);
            assert_eq!(partition_of(key.as_bytes(), SHARDS as i32), shard as i32, "{key}");
            let events = found.entry(event.delivery).or_default();
            events.push(fingerprint(payload.as_bytes()));
            assert_eq!(event.seq as usize, events.len(), "{key} is out of order");
        }
        assert!(count > 0, "shard {shard} is empty");
    }
    assert_eq!(found, truth.fingerprints().collect::<BTreeMap<_, _>>());
}

#[test]
fn an_event_that_does_not_follow_is_refused_whole() {
    let seed = 12;
    let regions = Arc::new(Regions::open(&RegionSource::Generated { seed }).unwrap());
    let day = Day { deliveries: 1, riders: 1, gps_points_per_rider: 1, seed };
    let folder = tempfile::tempdir().unwrap();
    let mut application = Application::create(&folder.path().join("orders.db"), 1).unwrap();
    let first = Simulator::new(day, regions).find_map(|step| match step {
        Step::Order(step) if step.transaction != Transaction::RollBack => Some(step),
        _ => None,
    });
    let mut step = first.unwrap();
    application.perform(&step).unwrap();
    let before = application.rows().unwrap();
    (step.event.seq, step.event.order) = (3, None);
    let message = application.perform(&step).unwrap_err().to_string();
    assert!(message.contains("D000"), "{message}");
    assert_eq!(application.rows().unwrap(), before);
}
