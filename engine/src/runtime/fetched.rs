//! Bytes of a fetch to records. Pure.

use bytes::Bytes;
use sunseo_proto::error::Result;
use sunseo_proto::record::RESERVED_HEADER_PREFIX;
use sunseo_proto::{Record, batch, v1};

/// The records at or after `from`, and the offset after the last one. Control batches and aborted transactions are left out, headers of
/// the server too.
///
/// # Errors
/// `CORRUPT_BATCH` with what does not decode.
pub(crate) fn records_from(
    batches: Bytes,
    aborted: &[v1::AbortedTransaction],
    from: i64,
) -> Result<(Vec<Record>, i64)> {
    let (mut found, mut next) = (Vec::new(), from);
    for item in batch::batches(batches) {
        let (header, bytes) = item?;
        if header.next_offset() <= from {
            continue;
        }
        next = next.max(header.next_offset());
        let is_void = |range: &v1::AbortedTransaction| {
            range.producer_id == header.producer_id
                && (range.first_offset..=range.last_offset).contains(&header.base_offset)
        };
        if header.is_control() || (header.is_transactional() && aborted.iter().any(is_void)) {
            continue;
        }
        let records = batch::records(&bytes)?;
        found.extend(records.into_iter().filter(|record| record.offset >= from).map(|mut record| {
            record.headers.retain(|header| !header.key.starts_with(RESERVED_HEADER_PREFIX));
            record
        }));
    }
    Ok((found, next))
}
