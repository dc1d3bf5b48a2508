//! What a topic that is compacted asks of a batch: a key in each record. Pure.

use sunseo_proto::batch;
use sunseo_proto::error::{Error, ErrorCode, Result};

use crate::api::check::CheckedBatch;

/// # Errors
/// `KEY_REQUIRED` with the first record that has none.
pub(crate) fn require_keys(topic: &str, batch: &CheckedBatch) -> Result<()> {
    let Some(index) = batch::inspect(&batch.bytes)?.without_key else { return Ok(()) };
    let message = format!(
        "record {index} has no key, and topic \"{topic}\" keeps the newest record of each key: send a key, or set the topic's cleanup to \"delete\""
    );
    Err(Error::new(ErrorCode::KeyRequired, message))
}
