//! The record that goes to the dead-letter topic: key and value as they came, and why in the headers.

use bytes::Bytes;
use sunseo_proto::record::RESERVED_HEADER_PREFIX;
use sunseo_proto::{Header, Record};

use super::InputRecord;
use crate::ops::Timer;

/// What the headers set here begin with. Not the server's prefix: whoever reads the topic is to see them.
const PREFIX: &str = "dead-letter.";
/// The error's text.
pub const ERROR: &str = "dead-letter.error";
/// Id of the operator that failed.
pub const STAGE: &str = "dead-letter.stage";
/// Topic, partition and offset of the record; `timer` and the deadline when it was no record but a time-out.
pub const ORIGIN_TOPIC: &str = "dead-letter.topic";
pub const ORIGIN_PARTITION: &str = "dead-letter.partition";
pub const ORIGIN_OFFSET: &str = "dead-letter.offset";
pub const ORIGIN_TIMER: &str = "dead-letter.timer_deadline_ms";

/// Longest error text that is kept, in bytes.
pub const ERROR_BYTES_MAX: usize = 4096;

fn text(key: &str, value: impl ToString) -> Header {
    Header::new(key, value.to_string())
}

fn error_text(error: &str) -> String {
    let end = error.floor_char_boundary(ERROR_BYTES_MAX);
    error[..end].to_owned()
}

/// Of a record that could not be handled.
pub(super) fn of_record(input: &InputRecord, topic: &str, stage: &str, error: &str) -> Record {
    let mut headers = user_headers(&input.headers);
    headers.extend([
        text(ERROR, error_text(error)),
        text(STAGE, stage),
        text(ORIGIN_TOPIC, topic),
        text(ORIGIN_PARTITION, input.partition),
        text(ORIGIN_OFFSET, input.offset),
    ]);
    let (key, value) = (input.key.clone(), input.value.clone());
    Record { offset: 0, timestamp_ms: input.timestamp_ms, key, value, headers }
}

/// Of a time-out whose result could not be handled; the value is what the operator had stored for the key.
pub(super) fn of_timer(
    timer: &Timer,
    stored: Option<Bytes>,
    timestamp_ms: i64,
    stage: &str,
    error: &str,
) -> Record {
    let headers =
        vec![text(ERROR, error_text(error)), text(STAGE, stage), text(ORIGIN_TIMER, timer.deadline_ms)];
    Record { offset: 0, timestamp_ms, key: Some(timer.key.clone()), value: stored, headers }
}

/// Headers that travel on; the server's own, and those of a dead letter that is tried again, belong to the record they came with.
pub(super) fn user_headers(headers: &[Header]) -> Vec<Header> {
    let own =
        |header: &&Header| !header.key.starts_with(RESERVED_HEADER_PREFIX) && !header.key.starts_with(PREFIX);
    headers.iter().filter(own).cloned().collect()
}
