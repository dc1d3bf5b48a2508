//! Names that the application, the pipeline and the comparison share, and the topics behind them.

use sunseo_client::NewTopic;

/// The pipeline.
pub const PIPELINE: &str = "delivery-day";
/// Outbox events of deliveries, keyed by delivery. Also the aggregate type of the outbox rows.
pub const DELIVERY: &str = "delivery";
/// Positions of riders, keyed by rider.
pub const RIDER_GPS: &str = "rider-gps";
/// A rider entered another district, keyed by rider.
pub const RIDER_DISTRICT: &str = "rider-district";
/// Where a rider is and what they carry, after every change, keyed by rider.
pub const RIDER_SNAPSHOT: &str = "rider-snapshot";
/// One record for each delivery that ended, keyed by delivery.
pub const DELIVERY_SUMMARY: &str = "delivery-summary";
/// Records the pipeline could not handle.
pub const DEAD_LETTER: &str = "delivery-day-dead-letter";

/// Store of the counts by district and status, queried live.
pub const COUNTS_STORE: &str = "deliveries-by-district";
/// Store of the events of deliveries that have not ended.
pub const EVENTS_STORE: &str = "delivery-events";

/// The outbox source.
pub const SOURCE: &str = "orders";
/// Outbox tables of the application are this and a number.
pub const OUTBOX_TABLE_PREFIX: &str = "outbox_delivery_";
/// The archive's table.
pub const ARCHIVE_TABLE: &str = "delivery_summary";

/// Bytes of a segment: small, so that a short day offloads several.
const SEGMENT_BYTES: u64 = 1 << 20;

/// Topics that must exist before the pipeline starts. Whoever starts the pipeline creates them; finding them is success.
#[must_use]
pub fn topics(partitions: i32) -> Vec<NewTopic> {
    let plain = |name: &str| NewTopic::new(name, partitions).if_not_exists().with("retention_ms", -1);
    let tiered = |name: &str| plain(name).with("tiered", true).with("segment_bytes", SEGMENT_BYTES);
    vec![
        tiered(DELIVERY),
        tiered(RIDER_GPS),
        tiered(DELIVERY_SUMMARY),
        plain(RIDER_DISTRICT),
        plain(RIDER_SNAPSHOT),
        plain(DEAD_LETTER),
    ]
}
