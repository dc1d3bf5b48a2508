//! What a transactional producer can be told.

use std::time::Duration;

use sunseo_proto::Error;
use sunseo_proto::error::Result;

use crate::producer::ProducerConfig;
use crate::retry::RetryPolicy;

/// How a transactional producer batches, and how long its transactions may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionalConfig {
    pub producer: ProducerConfig,
    /// Time from the first record or offset after which the broker aborts the transaction.
    pub transaction_timeout: Duration,
    /// Spacing and end of repeated attempts to begin, to send offsets, to commit and to abort.
    pub retry: RetryPolicy,
}

impl Default for TransactionalConfig {
    fn default() -> Self {
        Self {
            producer: ProducerConfig::default(),
            transaction_timeout: Duration::from_secs(60),
            retry: RetryPolicy::default().until(Duration::from_secs(120)),
        }
    }
}

impl TransactionalConfig {
    /// # Errors
    /// `INVALID_ARGUMENT` that names the field, its value and its range.
    pub fn validate(&self) -> Result<()> {
        let ms = self.transaction_timeout.as_millis();
        if ms == 0 || u32::try_from(ms).is_err() {
            let message = format!("transaction_timeout is {ms} ms: use a value from 1 to {} ms", u32::MAX);
            return Err(Error::invalid("transaction_timeout", message));
        }
        self.producer.validate()
    }

    pub(super) fn timeout_ms(&self) -> u32 {
        // validated
        u32::try_from(self.transaction_timeout.as_millis()).unwrap_or(u32::MAX)
    }
}
