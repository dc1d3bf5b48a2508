//! What happens during the day, as values: the words that simulator, application, pipeline and truth share.
//!
//! The JSON of [`DeliveryEvent`] and [`GpsPoint`] is what travels; [`Summary`] is what is kept for ever. Ids are numbers
//! in memory and text outside. Not here: any rule about them; pipeline and truth each have their own.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::regions::Position;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal, $digits:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{:0", $digits, "}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let number = text.strip_prefix($prefix).and_then(|digits| digits.parse().ok());
                match number.map(Self) {
                    Some(id) if id.to_string() == text => Ok(id),
                    _ => Err(format!(concat!("{:?} is not ", $prefix, " and ", $digits, " digits"), text)),
                }
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }
    )*};
}

ids! {
    /// An order and its delivery.
    DeliveryId = "D", "7";
    RiderId = "R", "5";
    ShopId = "S", "4";
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Created,
    Assigned,
    PickedUp,
    Delivered,
    Cancelled,
}

impl Status {
    pub const ALL: [Self; 5] =
        [Self::Created, Self::Assigned, Self::PickedUp, Self::Delivered, Self::Cancelled];

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Assigned => "assigned",
            Self::PickedUp => "picked_up",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
        }
    }

    /// Nothing follows.
    #[must_use]
    pub fn is_end(self) -> bool {
        matches!(self, Self::Delivered | Self::Cancelled)
    }
}

/// Why a delivery was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    Customer,
    Shop,
    Accident,
    NoRider,
    /// The operator's own order, which shows whether the system is alive.
    Canary,
}

impl Reason {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Shop => "shop",
            Self::Accident => "accident",
            Self::NoRider => "no_rider",
            Self::Canary => "canary",
        }
    }
}

/// What an order is about; travels with its first event only.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderFacts {
    pub customer_at: Position,
    pub price_krw: i64,
    pub fee_krw: i64,
    /// Straight from shop to customer, one decimal.
    pub distance_m: f64,
}

/// One event of a delivery: the payload of an outbox row, keyed by `delivery`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeliveryEvent {
    pub delivery: DeliveryId,
    /// 1, 2, 3 .. for each delivery: what order and completeness are checked by.
    pub seq: u32,
    pub status: Status,
    pub at_ms: i64,
    pub shop: ShopId,
    pub shop_at: Position,
    /// From `assigned` on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rider: Option<RiderId>,
    /// With `created`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<OrderFacts>,
    /// With `cancelled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

impl DeliveryEvent {
    /// The payload's bytes.
    #[must_use]
    pub fn to_json(&self) -> String {
        // fails only for maps with keys that are no text, and for writers that fail: there is neither
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// One position of a rider, keyed by `rider`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpsPoint {
    pub rider: RiderId,
    pub at_ms: i64,
    pub at: Position,
}

impl GpsPoint {
    /// The record's bytes.
    #[must_use]
    pub fn to_json(&self) -> String {
        // as for deliveries
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What the application does with the transaction of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transaction {
    Commit,
    /// Commits, after a part of the transaction was undone by a savepoint.
    CommitAfterSavepoint,
    /// Never becomes visible.
    RollBack,
}

/// One transaction of the application.
#[derive(Clone, Debug, PartialEq)]
pub struct OrderStep {
    pub event: DeliveryEvent,
    pub transaction: Transaction,
}

/// One step of the day.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Order(OrderStep),
    Gps(GpsPoint),
}

impl Step {
    /// Simulated time.
    #[must_use]
    pub fn at_ms(&self) -> i64 {
        match self {
            Self::Order(step) => step.event.at_ms,
            Self::Gps(point) => point.at_ms,
        }
    }
}

/// A rider entered another district, keyed by `rider`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RiderDistrict {
    pub rider: RiderId,
    pub district: String,
    pub at_ms: i64,
}

/// Where a delivery counts, as of one event of the delivery and one of its rider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    pub delivery: DeliveryId,
    pub status: Status,
    pub district: String,
    /// The delivery's event that says so.
    pub seq: u32,
    /// When the rider entered the district; 0 when no rider decides.
    pub entered_ms: i64,
}

/// Key of the counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DistrictStatus {
    pub district: String,
    pub status: Status,
}

/// Where a rider is and what they carry, after every change, keyed by `rider`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RiderSnapshot {
    pub rider: RiderId,
    /// `None` until the first position.
    pub district: Option<String>,
    pub since_ms: i64,
    /// Assigned and not ended.
    pub carrying: BTreeSet<DeliveryId>,
    pub delivered: u64,
    pub cancelled: u64,
    /// Deliveries that this change moved to another status or district.
    pub moved: Vec<Counted>,
}

/// All that is kept of a delivery that ended, keyed by `delivery_id`; a row of the archive table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    pub delivery_id: DeliveryId,
    /// `delivered` or `cancelled`.
    pub outcome: Status,
    pub reason: Option<Reason>,
    pub shop_id: ShopId,
    pub shop_district: String,
    pub customer_district: String,
    /// The last one who had it.
    pub rider_id: Option<RiderId>,
    pub created_at_ms: i64,
    pub assigned_at_ms: Option<i64>,
    pub picked_up_at_ms: Option<i64>,
    pub ended_at_ms: i64,
    pub price_krw: i64,
    pub fee_krw: i64,
    pub distance_m: f64,
    /// Events it was made of.
    pub events: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_text_outside_and_only_their_own_text_is_read() {
        let id = DeliveryId(42);
        assert_eq!(serde_json::to_string(&id).unwrap(), r#""D0000042""#);
        assert_eq!("D0000042".parse(), Ok(id));
        for bad in ["D42", "R0000042", "", "D+000042", "D00000042"] {
            assert!(bad.parse::<DeliveryId>().is_err(), "{bad}");
        }
        assert_eq!(RiderId(90_000).to_string(), "R90000");
    }

    #[test]
    fn an_event_survives_its_json() {
        let at = Position { lon_e7: 1_269_000_001, lat_e7: 375_000_002 };
        let order = OrderFacts { customer_at: at, price_krw: 18_000, fee_krw: 3_000, distance_m: 1234.5 };
        let event = DeliveryEvent {
            delivery: DeliveryId(1),
            seq: 1,
            status: Status::Created,
            at_ms: 5,
            shop: ShopId(2),
            shop_at: at,
            rider: None,
            order: Some(order),
            reason: None,
        };
        assert_eq!(serde_json::from_str::<DeliveryEvent>(&event.to_json()).unwrap(), event);
        assert!(!event.to_json().contains("rider"), "{}", event.to_json());
    }
}
