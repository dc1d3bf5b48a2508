//! What the settings may be. Not here: the tier's own settings.

use std::fmt::Display;

use sunseo_proto::Error;
use sunseo_proto::error::Result;

use super::{GroupConfig, Limits, TransactionConfig};
use crate::metadata::config::BATCH_BYTES_MAX;

/// What a message must hold beside the largest record batch a topic may allow.
const MESSAGE_OVERHEAD_BYTES: usize = 1 << 20;

/// Smallest [`Limits::message_bytes_max`]: a batch that was taken must also fit into an answer.
const MESSAGE_BYTES_MIN: usize = BATCH_BYTES_MAX as usize + MESSAGE_OVERHEAD_BYTES;

/// Largest number of bytes of any limit; counters of room are 32 bits wide.
const BYTES_MAX: usize = u32::MAX as usize >> 1;

const DAY_MS: u32 = 24 * 3_600_000;
/// A thousand years: no sum of it and a date overflows.
const AGE_MS_MAX: i64 = 366_000 * DAY_MS as i64;

/// Name, value, least and most.
type Bound<T> = (&'static str, T, T, T);

fn within<T: PartialOrd + Display>(section: &str, bounds: impl IntoIterator<Item = Bound<T>>) -> Result<()> {
    for (name, value, min, max) in bounds {
        if value < min || value > max {
            let message = format!("{section}.{name} is {value}: use {min} to {max}");
            return Err(Error::invalid(format!("{section}.{name}"), message));
        }
    }
    Ok(())
}

impl Limits {
    /// # Errors
    /// The first limit that cannot work, with what it must be.
    pub(crate) fn check(&self) -> Result<()> {
        let sizes = [
            ("partitions_max", self.partitions_max, 16, usize::MAX),
            ("memory_bytes_max", self.memory_bytes_max, self.message_bytes_max.saturating_mul(2), BYTES_MAX),
            ("batch_records_max", self.batch_records_max, 1_000, i32::MAX as usize),
            ("produce_bytes_in_flight_max", self.produce_bytes_in_flight_max, 1, BYTES_MAX),
            ("internal_produce_bytes_in_flight_max", self.internal_produce_bytes_in_flight_max, 1, BYTES_MAX),
            ("stream_bytes_in_flight_max", self.stream_bytes_in_flight_max, 1, BYTES_MAX),
            ("produce_requests_in_flight_max", self.produce_requests_in_flight_max, 1, 1 << 20),
            ("fetch_requests_in_flight_max", self.fetch_requests_in_flight_max, 1, 1 << 20),
            ("message_bytes_max", self.message_bytes_max, MESSAGE_BYTES_MIN, BYTES_MAX),
            ("fetch_response_bytes_max", self.fetch_response_bytes_max, 1, self.message_bytes_max),
            ("request_partitions_max", self.request_partitions_max, 1, 1 << 20),
            ("commit_group_bytes_max", self.commit_group_bytes_max, 1, BYTES_MAX),
        ];
        within("limits", sizes)?;
        let waits = [
            ("fetch_wait_ms_max", self.fetch_wait_ms_max.into(), 0, DAY_MS.into()),
            ("answer_wait_ms_max", self.answer_wait_ms_max, 100, DAY_MS.into()),
        ];
        within("limits", waits)
    }
}

impl GroupConfig {
    /// # Errors
    /// The first setting that cannot work, with what it must be.
    pub(crate) fn check(&self) -> Result<()> {
        let (least, most) = (self.session_timeout_ms_min, self.session_timeout_ms_max);
        let times = [
            ("session_timeout_ms_max", most, 10, DAY_MS),
            ("session_timeout_ms_min", least, 10, most),
            ("session_timeout_ms", self.session_timeout_ms, least, most),
            // a member that hears nothing for a session is taken for gone
            ("heartbeat_interval_ms", self.heartbeat_interval_ms, 1, most),
            (
                "rebalance_heartbeat_interval_ms",
                self.rebalance_heartbeat_interval_ms,
                1,
                self.heartbeat_interval_ms,
            ),
        ];
        within("groups", times)?;
        let numbers =
            [("groups_max", self.groups_max, 1, 1 << 24), ("members_max", self.members_max, 1, 1 << 20)];
        within("groups", numbers)?;
        within("groups", [("offsets_retention_ms", self.offsets_retention_ms, -1, AGE_MS_MAX)])?;
        within("groups", [("snapshot_records", self.snapshot_records, 1, u64::MAX)])
    }
}

impl TransactionConfig {
    /// # Errors
    /// The first setting that cannot work, with what it must be.
    pub(crate) fn check(&self) -> Result<()> {
        let times = [
            ("timeout_ms_max", self.timeout_ms_max, 1, 7 * DAY_MS),
            ("timeout_ms", self.timeout_ms, 1, self.timeout_ms_max),
        ];
        within("transactions", times)?;
        let numbers =
            [("ids_max", self.ids_max, 1, 1 << 24), ("partitions_max", self.partitions_max, 1, 1 << 20)];
        within("transactions", numbers)?;
        within("transactions", [("id_expiry_ms", self.id_expiry_ms, 1, AGE_MS_MAX)])?;
        within("transactions", [("snapshot_records", self.snapshot_records, 1, u64::MAX)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused_with_its_range() {
        let told = |checked: Result<()>| checked.map_err(|error| error.message);
        assert_eq!(told(Limits::default().check()), Ok(()));
        assert_eq!(told(GroupConfig::default().check()), Ok(()));
        assert_eq!(told(TransactionConfig::default().check()), Ok(()));

        let limits = Limits { answer_wait_ms_max: 5, ..Limits::default() };
        assert_eq!(
            told(limits.check()),
            Err("limits.answer_wait_ms_max is 5: use 100 to 86400000".to_owned())
        );
        let groups = GroupConfig { session_timeout_ms: 500, ..GroupConfig::default() };
        let message = "groups.session_timeout_ms is 500: use 1000 to 1800000";
        assert_eq!(told(groups.check()), Err(message.to_owned()));
        let groups = GroupConfig { offsets_retention_ms: -2, ..GroupConfig::default() };
        assert!(
            told(groups.check()).is_err_and(|message| message.contains("groups.offsets_retention_ms is -2"))
        );
        let transactions = TransactionConfig { timeout_ms_max: 1_000, ..TransactionConfig::default() };
        let message = "transactions.timeout_ms is 60000: use 1 to 1000";
        assert_eq!(told(transactions.check()), Err(message.to_owned()));
        let transactions = TransactionConfig { snapshot_records: 0, ..TransactionConfig::default() };
        assert!(told(transactions.check()).is_err());
    }
}
