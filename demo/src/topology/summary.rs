//! A delivery's events to its one summary, pure.

use crate::event::{DeliveryEvent, Status, Summary};
use crate::regions::Regions;

/// The summary of all events of a delivery, in their order.
///
/// # Errors
/// When they do not begin with `created` or do not end; the message goes into the dead letter.
pub fn summarise(events: &[DeliveryEvent], regions: &Regions) -> Result<Summary, String> {
    let (Some(first), Some(last)) = (events.first(), events.last()) else {
        return Err("no events".to_owned());
    };
    let Some(order) = first.order else {
        return Err(format!("{} begins with {}, not with created", first.delivery, first.status.as_str()));
    };
    if !last.status.is_end() {
        return Err(format!("{} has not ended: its last event is {}", first.delivery, last.status.as_str()));
    }
    let time_of =
        |status: Status| events.iter().find(|event| event.status == status).map(|event| event.at_ms);
    Ok(Summary {
        delivery_id: first.delivery,
        outcome: last.status,
        reason: last.reason,
        shop_id: first.shop,
        shop_district: regions.label_at(first.shop_at).to_owned(),
        customer_district: regions.label_at(order.customer_at).to_owned(),
        rider_id: events.iter().rev().find_map(|event| event.rider),
        created_at_ms: first.at_ms,
        assigned_at_ms: time_of(Status::Assigned),
        picked_up_at_ms: time_of(Status::PickedUp),
        ended_at_ms: last.at_ms,
        price_krw: order.price_krw,
        fee_krw: order.fee_krw,
        distance_m: order.distance_m,
        events: events.len() as i64,
    })
}
