//! The operators and how they are connected.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sunseo_engine::dsl::{CollectOptions, Stream, Table, Topology, TopologyBuilder};
use sunseo_engine::{Plan, json_serde};

use super::rider::RiderState;
use super::summary::summarise;
use crate::error::{DemoError, Result};
use crate::event::{Counted, DeliveryEvent, DistrictStatus, GpsPoint, RiderDistrict, RiderSnapshot, Summary};
use crate::regions::Regions;
use crate::topics::{
    COUNTS_STORE, DEAD_LETTER, DELIVERY, DELIVERY_SUMMARY, EVENTS_STORE, PIPELINE, RIDER_DISTRICT, RIDER_GPS,
    RIDER_SNAPSHOT,
};

/// A delivery that has not ended two days after its first event goes to the dead-letter topic.
const UNFINISHED_MS: i64 = 48 * 3_600_000;

/// The district a rider is in, as it was entered.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Place {
    record: Option<RiderDistrict>,
    /// By the last position.
    entered_now: bool,
}

/// What changes a rider.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RiderInput {
    Entered(RiderDistrict),
    Event { event: DeliveryEvent, shop_district: String },
}

json_serde!(
    Counted,
    DeliveryEvent,
    DistrictStatus,
    GpsPoint,
    Place,
    RiderDistrict,
    RiderInput,
    RiderSnapshot,
    RiderState,
    Summary
);

/// The pipeline over these districts. Its topics are those of [`crate::topics::topics`].
///
/// # Errors
/// When the engine refuses it, which is a defect.
pub fn topology(regions: Arc<Regions>) -> Result<Topology> {
    let builder = TopologyBuilder::new(PIPELINE).dead_letter(DEAD_LETTER);
    let positions = builder.stream::<String, GpsPoint>("rider-gps", RIDER_GPS);
    let events = builder.stream::<String, DeliveryEvent>("delivery", DELIVERY);

    let entered = districts_entered(&positions, &regions);
    entered.to("rider-district", RIDER_DISTRICT);

    let [with_rider, without_rider] =
        events.branch("has-rider", |_, event| Ok(usize::from(event.rider.is_none())));
    let snapshots = rider_snapshots(&entered, &with_rider, &regions);
    snapshots.to("rider-snapshot", RIDER_SNAPSHOT);

    count_by_district(&snapshots, &without_rider, &regions);
    summaries(&events, regions).to("delivery-summary", DELIVERY_SUMMARY);
    builder.build().map_err(DemoError::request("building the pipeline"))
}

/// [`topology`], planned for topics of so many partitions.
///
/// # Errors
/// When the engine refuses it, which is a defect.
pub fn plan(partitions: i32, regions: Arc<Regions>) -> Result<Arc<Plan>> {
    Plan::new(&topology(regions)?, &|_| Some(partitions)).map_err(DemoError::request("planning the pipeline"))
}

/// A record when a rider is in another district than before, or seen for the first time.
fn districts_entered(
    positions: &Stream<String, GpsPoint>,
    regions: &Arc<Regions>,
) -> Stream<String, RiderDistrict> {
    let regions = Arc::clone(regions);
    let locate = move |point: &GpsPoint| {
        let district = regions.label_at(point.at).to_owned();
        Ok(RiderDistrict { rider: point.rider, district, at_ms: point.at_ms })
    };
    let places = positions.map_values("locate", locate).group_by_key().aggregate(
        "rider-places",
        |_| Ok(Place::default()),
        |_, record, place| match &place.record {
            Some(known) if known.district == record.district => {
                Ok(Place { record: Some(known.clone()), entered_now: false })
            }
            _ => Ok(Place { record: Some(record.clone()), entered_now: true }),
        },
    );
    places.to_stream("rider-place-changes").flat_map_values("entered", |place: Option<&Place>| {
        let entered = place.filter(|place| place.entered_now).and_then(|place| place.record.clone());
        Ok(entered.into_iter().collect())
    })
}

/// Both streams meet, keyed by rider.
fn rider_snapshots(
    entered: &Stream<String, RiderDistrict>,
    with_rider: &Stream<String, DeliveryEvent>,
    regions: &Arc<Regions>,
) -> Stream<String, RiderSnapshot> {
    let regions = Arc::clone(regions);
    let input = move |event: &DeliveryEvent| {
        let shop_district = regions.label_at(event.shop_at).to_owned();
        Ok(RiderInput::Event { event: event.clone(), shop_district })
    };
    let events = with_rider
        .select_key("by-rider", |_, event| {
            Ok(event.rider.map(|rider| rider.to_string()).ok_or("an event without a rider")?)
        })
        .map_values("rider-event", input)
        .repartition("events-by-rider");
    entered
        .map_values("rider-entered", |record| Ok(RiderInput::Entered(record.clone())))
        .merge("rider-inputs", &events)
        .group_by_key()
        .aggregate(
            "riders",
            |_| Ok(RiderState::default()),
            |_, input, rider| {
                Ok(match input {
                    RiderInput::Entered(record) => rider.clone().enter(record),
                    RiderInput::Event { event, shop_district } => rider.clone().event(event, shop_district),
                })
            },
        )
        .to_stream("rider-changes")
        .flat_map("snapshot", |key, state: Option<&RiderState>| {
            let Some(state) = state else { return Ok(Vec::new()) };
            Ok(vec![(key.clone(), state.snapshot(key.parse()?))])
        })
}

fn count_by_district(
    snapshots: &Stream<String, RiderSnapshot>,
    without_rider: &Stream<String, DeliveryEvent>,
    regions: &Arc<Regions>,
) -> Table<DistrictStatus, i64> {
    let regions = Arc::clone(regions);
    let at_shop = move |event: &DeliveryEvent| {
        let district = regions.label_at(event.shop_at).to_owned();
        let DeliveryEvent { delivery, status, seq, .. } = *event;
        Ok(Counted { delivery, status, district, seq, entered_ms: 0 })
    };
    let moved = snapshots
        .flat_map("moved", |_, snapshot| {
            let by_delivery = |counted: &Counted| (counted.delivery.to_string(), counted.clone());
            Ok(snapshot.moved.iter().map(by_delivery).collect())
        })
        .repartition("moved-by-delivery");
    without_rider
        .map_values("at-shop", at_shop)
        .merge("counted", &moved)
        .group_by_key()
        .reduce("delivery-places", |known, new| {
            let rank = |counted: &Counted| (counted.seq, counted.entered_ms);
            Ok(if rank(new) >= rank(known) { new.clone() } else { known.clone() })
        })
        .group_by("by-district", |_, counted| {
            Ok((DistrictStatus { district: counted.district.clone(), status: counted.status }, 1_i64))
        })
        .count(COUNTS_STORE)
}

fn summaries(events: &Stream<String, DeliveryEvent>, regions: Arc<Regions>) -> Stream<String, Summary> {
    events
        .collect_until(EVENTS_STORE, CollectOptions::timeout_ms(UNFINISHED_MS), |_, events| {
            Ok(events.last().is_some_and(|event| event.status.is_end()))
        })
        .map_values("summary", move |collected| Ok(summarise(&collected.events, &regions)?))
}
