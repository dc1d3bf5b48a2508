//! What a batch must be to be appended. Pure: bytes in, a checked batch or one clear refusal out.
//!
//! A checked batch decodes as a whole, so no reader ever meets one that does not.

use bytes::Bytes;
use sunseo_proto::batch::{self, BatchBuilder, BatchHeader, Compression};
use sunseo_proto::error::{Error, ErrorCode, Result};
use sunseo_proto::position::PositionRange;
use sunseo_proto::record::RESERVED_HEADER_PREFIX;
use sunseo_proto::{Header, Record, v1};

/// Records given in the plain form are compressed from this size on.
const COMPRESS_FROM_BYTES: usize = 1024;

/// A batch that may be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CheckedBatch {
    pub(crate) bytes: Bytes,
    pub(crate) header: BatchHeader,
    pub(crate) position: Option<PositionRange>,
}

/// Takes the batch out of one partition's part of a request.
///
/// # Errors
/// What is wrong with it, with the field at fault.
pub(crate) fn check(part: v1::ProducePartition, max_batch_bytes: usize, now_ms: i64) -> Result<CheckedBatch> {
    match (part.batch, part.records) {
        (Some(bytes), None) => check_batch(bytes, max_batch_bytes).map_err(|e| e.at("batch")),
        (None, Some(list)) => encode(list.records, max_batch_bytes, now_ms),
        (Some(_), Some(_)) => {
            Err(Error::invalid("batch", "both batch and records are set: send exactly one of them"))
        }
        (None, None) => {
            Err(Error::invalid("batch", "neither batch nor records are set: send exactly one of them"))
        }
    }
}

fn check_batch(bytes: Bytes, max_batch_bytes: usize) -> Result<CheckedBatch> {
    check_size(bytes.len(), max_batch_bytes)?;
    let header = batch::validate(&bytes)?;
    if header.base_offset != 0 {
        let message = format!(
            "the batch has base offset {}: offsets are given by the broker, send 0",
            header.base_offset
        );
        return Err(Error::new(ErrorCode::InvalidArgument, message));
    }
    if header.is_control() {
        let message = "the batch is a control batch, which only the broker writes: clear attribute bit 5";
        return Err(Error::new(ErrorCode::InvalidArgument, message));
    }
    if header.delete_horizon_ms().is_some() {
        let message =
            "the batch has a delete horizon, which only the broker's cleaner sets: clear attribute bit 6";
        return Err(Error::new(ErrorCode::InvalidArgument, message));
    }
    if header.is_transactional() && !header.is_sequenced() {
        let message = "the batch is transactional and has no producer id, or carries a position: send a producer id, epoch and sequence";
        return Err(Error::new(ErrorCode::InvalidArgument, message));
    }
    if header.is_sequenced() && (header.producer_epoch < 0 || header.base_sequence < 0) {
        let message = format!(
            "producer {} sends epoch {} and sequence {}, both must be 0 or more",
            header.producer_id, header.producer_epoch, header.base_sequence
        );
        return Err(Error::new(ErrorCode::InvalidArgument, message));
    }
    let found = batch::inspect(&bytes)?;
    // lookups by time and retention go by the header
    if !header.has_log_append_time() && found.max_timestamp != header.max_timestamp {
        let message = format!(
            "the batch has max timestamp {}, its newest record has {}: send the newest record's",
            header.max_timestamp, found.max_timestamp
        );
        return Err(Error::new(ErrorCode::InvalidArgument, message));
    }
    match found.reserved_header {
        Some(key) => Err(reserved(&key)),
        None => Ok(CheckedBatch { bytes, header, position: found.position }),
    }
}

fn check_size(bytes: usize, max_batch_bytes: usize) -> Result<()> {
    if bytes <= max_batch_bytes {
        return Ok(());
    }
    let message = format!(
        "the batch has {bytes} bytes, the topic takes {max_batch_bytes}: send smaller batches or raise max_batch_bytes"
    );
    Err(Error::new(ErrorCode::BatchTooLarge, message))
}

fn reserved(key: &str) -> Error {
    let message =
        format!("header {key:?} begins with {RESERVED_HEADER_PREFIX:?}, which is the server's: rename it");
    Error::new(ErrorCode::InvalidArgument, message)
}

/// The plain form, for clients without the batch codec: no producer, so a repeat is appended again.
fn encode(records: Vec<v1::Record>, max_batch_bytes: usize, now_ms: i64) -> Result<CheckedBatch> {
    if records.is_empty() {
        return Err(Error::invalid("records", "there is no record: send at least one"));
    }
    let plain_bytes: usize = records.iter().map(record_bytes).sum();
    if plain_bytes > batch::MAX_RECORDS_BYTES {
        let message = format!(
            "the records have {plain_bytes} bytes, a batch holds {}: send fewer at a time",
            batch::MAX_RECORDS_BYTES
        );
        return Err(Error::new(ErrorCode::BatchTooLarge, message).at("records"));
    }
    let codec = if plain_bytes < COMPRESS_FROM_BYTES { Compression::None } else { Compression::Lz4 };
    let mut builder = BatchBuilder::new(codec);
    for (index, record) in records.into_iter().enumerate() {
        let record = plain_record(record, now_ms).map_err(|e| e.at(format!("records[{index}]")))?;
        builder.push(&record);
    }
    let bytes = builder.build();
    check_size(bytes.len(), max_batch_bytes).map_err(|e| e.at("records"))?;
    let header = batch::validate(&bytes)?;
    Ok(CheckedBatch { bytes, header, position: None })
}

fn record_bytes(record: &v1::Record) -> usize {
    let field = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers: usize = record.headers.iter().map(|h| h.key.len() + field(&h.value) + 10).sum();
    field(&record.key) + field(&record.value) + headers + 32
}

/// A timestamp of 0, proto3's "not set", becomes the time of arrival.
fn plain_record(record: v1::Record, now_ms: i64) -> Result<Record> {
    if record.timestamp_ms < 0 {
        let message = format!(
            "timestamp {} is before 1970: send milliseconds since then, or 0 for now",
            record.timestamp_ms
        );
        return Err(Error::new(ErrorCode::InvalidArgument, message));
    }
    if let Some(header) = record.headers.iter().find(|h| h.key.starts_with(RESERVED_HEADER_PREFIX)) {
        return Err(reserved(&header.key));
    }
    let headers = record.headers.into_iter();
    Ok(Record {
        offset: 0,
        timestamp_ms: if record.timestamp_ms == 0 { now_ms } else { record.timestamp_ms },
        key: record.key,
        value: record.value,
        headers: headers.map(|h| Header { key: h.key, value: h.value }).collect(),
    })
}

/// A record on its way out in the plain form, without the server's headers.
pub(crate) fn plain(record: Record) -> v1::Record {
    let headers = record.headers.into_iter().filter(|h| !h.key.starts_with(RESERVED_HEADER_PREFIX));
    v1::Record {
        key: record.key,
        value: record.value,
        headers: headers.map(|h| v1::Header { key: h.key, value: h.value }).collect(),
        timestamp_ms: record.timestamp_ms,
        offset: record.offset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;
    const BATCH_BYTES_MAX: usize = 1 << 20;

    fn batch_of(records: &[Record]) -> Bytes {
        let mut builder = BatchBuilder::new(Compression::None);
        records.iter().for_each(|record| builder.push(record));
        builder.build()
    }

    fn good() -> Bytes {
        batch_of(&[Record::new("k", "v", NOW_MS)])
    }

    /// A batch whose attributes are changed, under a right checksum.
    fn with_attribute(attribute: u8) -> Bytes {
        let mut bytes = good().to_vec();
        bytes[22] |= attribute;
        let crc = crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes.into()
    }

    /// A batch whose header says another newest timestamp than its record has, under a right checksum.
    fn with_max_timestamp(max_timestamp: i64) -> Bytes {
        let mut bytes = good().to_vec();
        bytes[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
        let crc = crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes.into()
    }

    fn crc32c(bytes: &[u8]) -> u32 {
        let mut crc = u32::MAX;
        for byte in bytes {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 };
            }
        }
        !crc
    }

    fn as_batch(bytes: Bytes) -> v1::ProducePartition {
        v1::ProducePartition { batch: Some(bytes), ..Default::default() }
    }

    fn as_records(records: Vec<v1::Record>) -> v1::ProducePartition {
        v1::ProducePartition { records: Some(v1::RecordList { records }), ..Default::default() }
    }

    fn refusal(part: v1::ProducePartition) -> (ErrorCode, String) {
        let error = check(part, BATCH_BYTES_MAX, NOW_MS).map(|batch| batch.header).expect_err("refused");
        (error.code, error.field.unwrap_or_default())
    }

    #[test]
    fn each_bad_batch_has_one_clear_refusal() {
        use ErrorCode::{BatchTooLarge, CorruptBatch, InvalidArgument};
        let mut damaged = good().to_vec();
        *damaged.last_mut().expect("not empty") ^= 1;
        let mut moved = good().to_vec();
        batch::stamp(&mut moved, 5, -1);
        let mut reserved = Record::new("k", "v", NOW_MS);
        reserved.headers.push(Header::new("sunseo.mine", "x"));
        let big = batch_of(&[Record::new("k", vec![0; BATCH_BYTES_MAX], NOW_MS)]);
        let cases = [
            ("wrong checksum", damaged.into(), CorruptBatch),
            ("cut off", good().slice(..good().len() - 1), CorruptBatch),
            ("empty", Bytes::new(), CorruptBatch),
            ("two batches", [good(), good()].concat().into(), CorruptBatch),
            ("base offset", moved.into(), InvalidArgument),
            ("control", with_attribute(1 << 5), InvalidArgument),
            ("transactional without a producer", with_attribute(1 << 4), InvalidArgument),
            ("codec without its block", with_attribute(4), CorruptBatch),
            ("reserved header", batch_of(&[reserved]), InvalidArgument),
            ("newest record later than said", with_max_timestamp(NOW_MS - 1), InvalidArgument),
            ("newest record earlier than said", with_max_timestamp(i64::MAX), InvalidArgument),
            ("too large", big, BatchTooLarge),
        ];
        for (name, bytes, code) in cases {
            assert_eq!(refusal(as_batch(bytes)), (code, "batch".to_owned()), "{name}");
        }
    }

    #[test]
    fn each_bad_list_of_records_has_one_clear_refusal() {
        use ErrorCode::{BatchTooLarge, InvalidArgument};
        let header = v1::Header { key: "sunseo.x".into(), value: None };
        let reserved = v1::Record { headers: vec![header], ..Default::default() };
        let early = v1::Record { timestamp_ms: -1, ..Default::default() };
        // does not compress below the limit
        let noise = std::iter::successors(Some(1_u64), |x| {
            Some(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
        });
        let noise: Vec<u8> = noise.map(|x| (x >> 56) as u8).take(2 * BATCH_BYTES_MAX).collect();
        let big = v1::Record { value: Some(noise.into()), ..Default::default() };
        let cases = [
            ("none", vec![], InvalidArgument, "records"),
            ("reserved header", vec![v1::Record::default(), reserved], InvalidArgument, "records[1]"),
            ("before 1970", vec![early], InvalidArgument, "records[0]"),
            ("too large", vec![big], BatchTooLarge, "records"),
        ];
        for (name, records, code, field) in cases {
            assert_eq!(refusal(as_records(records)), (code, field.to_owned()), "{name}");
        }
        assert_eq!(refusal(v1::ProducePartition::default()).0, InvalidArgument);
        let both = v1::ProducePartition { batch: Some(good()), ..as_records(vec![v1::Record::default()]) };
        assert_eq!(refusal(both).0, InvalidArgument);
    }

    #[test]
    fn plain_records_survive_and_get_a_time() {
        let sent =
            v1::Record { key: Some("k".into()), value: Some(vec![7; 4096].into()), ..Default::default() };
        let checked = check(as_records(vec![sent.clone()]), BATCH_BYTES_MAX, NOW_MS).expect("good");
        assert_eq!(checked.header.compression(), Compression::Lz4);
        let read: Vec<v1::Record> =
            batch::records(&checked.bytes).expect("decodes").into_iter().map(plain).collect();
        assert_eq!(read, [v1::Record { timestamp_ms: NOW_MS, ..sent }]);
    }

    #[test]
    fn a_positioned_batch_keeps_its_position_and_shows_it_to_nobody() {
        let range = PositionRange::new(3, 9).expect("rising");
        let mut builder = BatchBuilder::new(Compression::Zstd).producer(1, 0, -1).position(range);
        builder.push(&Record::new("k", "v", NOW_MS));
        let checked = check(as_batch(builder.build()), BATCH_BYTES_MAX, NOW_MS).expect("good");
        assert_eq!(checked.position, Some(range));
        let record = batch::records(&checked.bytes).expect("decodes").remove(0);
        assert_eq!(plain(record).headers, []);
    }
}
