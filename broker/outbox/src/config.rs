//! What the outbox can be told, and the limit of each value.

use std::time::Duration;

use sunseo_proto::Error;
use sunseo_proto::error::Result;

/// Shards that may be pushed; each keeps a few kilobytes in memory.
pub const INGEST_SHARDS_MAX: usize = 10_000;
/// Events of one push.
pub const INGEST_EVENTS_MAX: usize = 10_000;
/// Bytes of one push.
pub const INGEST_BYTES_MAX: usize = 16 << 20;
/// Pushes of one gRPC stream that are handled at a time.
pub const INGEST_IN_FLIGHT_MAX: usize = 32;

/// How sources are read and pushes are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxConfig {
    /// Wait between two looks at a database that is in use.
    pub poll_min: Duration,
    /// Wait between two looks at a database in which nothing happens.
    pub poll_max: Duration,
    /// Rows of one table that are read at a time.
    pub batch_rows: usize,
    /// Bytes of rows that are read at a time; a larger row travels alone.
    pub batch_bytes: usize,
    /// Time after which progress is written down. What follows the note is read, sent and dropped again after a crash.
    pub checkpoint_interval: Duration,
    /// How long a database that is locked is waited for.
    pub busy_timeout: Duration,
    /// Partitions of a topic made on the way when its source does not say; 0 takes the broker's default.
    pub default_partitions: i32,
    /// Bytes of pushed events that are taken and not yet answered; beyond it pushes are refused for now.
    pub ingest_bytes: usize,
    /// How long one push tries before it is refused for now.
    pub ingest_deadline: Duration,
}

impl Default for OutboxConfig {
    fn default() -> Self {
        Self {
            poll_min: Duration::from_millis(2),
            poll_max: Duration::from_millis(20),
            batch_rows: 2_000,
            batch_bytes: 8 << 20,
            checkpoint_interval: Duration::from_secs(1),
            busy_timeout: Duration::from_secs(5),
            default_partitions: 0,
            ingest_bytes: 64 << 20,
            ingest_deadline: Duration::from_secs(20),
        }
    }
}

impl OutboxConfig {
    /// # Errors
    /// `INVALID_ARGUMENT` that names the field, its value and its range.
    pub fn validate(&self) -> Result<()> {
        let range = |field: &str, value: u128, min: u128, max: u128| match value {
            value if (min..=max).contains(&value) => Ok(()),
            value => {
                Err(Error::invalid(field, format!("{field} is {value}: use a value from {min} to {max}")))
            }
        };
        range("poll_min_ms", self.poll_min.as_millis(), 1, 60_000)?;
        range("poll_max_ms", self.poll_max.as_millis(), self.poll_min.as_millis(), 60_000)?;
        range("batch_rows", self.batch_rows as u128, 1, 100_000)?;
        range("batch_bytes", self.batch_bytes as u128, 1, 64 << 20)?;
        range("checkpoint_interval_ms", self.checkpoint_interval.as_millis(), 1, 3_600_000)?;
        range("busy_timeout_ms", self.busy_timeout.as_millis(), 0, 600_000)?;
        range("default_partitions", self.default_partitions.max(0) as u128, 0, 100_000)?;
        range("ingest_bytes", self.ingest_bytes as u128, INGEST_BYTES_MAX as u128, 1 << 32)?;
        range("ingest_deadline_ms", self.ingest_deadline.as_millis(), 1, 600_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_a_bad_value_names_itself() {
        OutboxConfig::default().validate().unwrap();
        let bad = OutboxConfig { batch_rows: 0, ..OutboxConfig::default() };
        let error = bad.validate().unwrap_err();
        assert_eq!(error.field.as_deref(), Some("batch_rows"));
        assert!(error.message.contains("1 to 100000"), "{error}");
    }
}
