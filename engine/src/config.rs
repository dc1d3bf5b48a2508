//! What the engine can be told, and what each value bounds.

use std::path::PathBuf;
use std::time::Duration;

use sunseo_proto::Error;

/// Most threads for tasks.
pub const THREADS_MAX: usize = 256;
/// Most records of one micro-batch.
pub const BATCH_RECORDS_MAX: usize = 65_536;
/// Least memory for either of the two budgets of the state store.
pub const STATE_BYTES_MIN: usize = 1 << 20;

/// Settings of one node's engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Folder of the state store. Losing it costs a replay of the task logs, nothing else.
    pub data_dir: PathBuf,
    /// Threads that run tasks.
    pub threads: usize,
    /// Longest time that a processed record waits for the commit of its micro-batch.
    pub commit_interval: Duration,
    /// Records at which a micro-batch is committed.
    pub batch_records_max: usize,
    /// Memory for blocks of state read from disk, over all stores.
    pub block_cache_bytes: usize,
    /// Memory for state not yet written to disk, over all stores.
    pub write_buffer_bytes: usize,
    /// Memory for recently used values, over all tasks of a pipeline.
    pub recent_state_bytes: usize,
    /// Age at which state in memory is written to disk, so that a restart replays no more than this.
    pub flush_interval: Duration,
    /// Fetched and not yet processed bytes, per task.
    pub input_buffer_bytes: usize,
    /// How often timers are looked at when no record comes.
    pub tick_interval: Duration,
    /// Longest wait for one answer of the broker before the same request is sent again.
    pub request_timeout: Duration,
}

impl EngineConfig {
    /// The defaults, with state in `data_dir` and a thread for each core.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(THREADS_MAX),
            commit_interval: Duration::from_millis(20),
            batch_records_max: 4096,
            block_cache_bytes: 128 << 20,
            write_buffer_bytes: 64 << 20,
            recent_state_bytes: 64 << 20,
            flush_interval: Duration::from_secs(30),
            input_buffer_bytes: 1 << 20,
            tick_interval: Duration::from_millis(500),
            request_timeout: Duration::from_secs(30),
        }
    }

    /// # Errors
    /// `INVALID_ARGUMENT` at the first value out of its range.
    pub fn validate(&self) -> Result<(), Error> {
        let ranges = [
            ("threads", self.threads, 1, THREADS_MAX),
            ("batch_records_max", self.batch_records_max, 1, BATCH_RECORDS_MAX),
            ("block_cache_bytes", self.block_cache_bytes, STATE_BYTES_MIN, usize::MAX),
            ("write_buffer_bytes", self.write_buffer_bytes, STATE_BYTES_MIN, usize::MAX),
            ("recent_state_bytes", self.recent_state_bytes, STATE_BYTES_MIN, usize::MAX),
            ("input_buffer_bytes", self.input_buffer_bytes, 64 << 10, 1 << 30),
        ];
        for (field, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                let message = format!("engine.{field} is {value}: use a value from {least} to {most}");
                return Err(Error::invalid(field, message));
            }
        }
        let durations = [
            ("flush_interval", self.flush_interval),
            ("tick_interval", self.tick_interval),
            ("request_timeout", self.request_timeout),
        ];
        for (field, value) in durations {
            if value.is_zero() {
                return Err(Error::invalid(field, format!("engine.{field} is 0: use at least 1 ms")));
            }
        }
        Ok(())
    }
}

/// How a pipeline is deployed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeployOptions {
    /// Drop the state and read the inputs again when the topology changed in a way that state does not survive; without it
    /// such a deployment is refused.
    pub reset_if_incompatible: bool,
}
