//! Fuzz targets of the record batch.

use bytes::Bytes;

use super::header::{BatchHeader, HEADER_BYTES, checksum};
use super::{
    BatchBuilder, BatchError, Compression, Ending, MAX_RECORDS_BYTES, end_marker, gap, inspect, iterate,
    position_of, rebuild, records, validate,
};
use crate::position::PositionRange;
use crate::record::{Header, Record};

/// What a decoder promises: the plain records once, and the buffers of its codec.
pub(crate) const MEMORY_BYTES_MAX: usize = MAX_RECORDS_BYTES + (16 << 20);

/// Records of a batch that are looked at; more of them are no other case, and take long.
const RECORDS_MAX: usize = 2_000;

/// One batch, in any codec.
pub(crate) fn batch(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    // readers of what a disk gave parse before they validate
    let _ = BatchHeader::parse(&bytes).map(|header| header.next_offset());
    let _ = position_of(&bytes);
    let read = read(&bytes);
    let Ok(header) = validate(&bytes) else { return };
    if let Ok(found) = inspect(&bytes) {
        let records = read.as_ref().expect("what the broker accepts is decoded by every reader");
        let newest = records.iter().map(|record| record.timestamp_ms).max();
        if !header.has_log_append_time() && records.len() < RECORDS_MAX {
            assert_eq!(newest, Some(found.max_timestamp));
        }
        assert_eq!(position_of(&bytes), Ok(found.position));
    }
    let Ok(records) = read else { return };
    if records.len() == RECORDS_MAX || header.is_control() {
        return;
    }
    let Ok(position) = position_of(&bytes) else { return };
    let again = rebuild(&header, &records, header.delete_horizon_ms(), position);
    let rebuilt = validate(&again).expect("a rebuilt batch is valid");
    let numbers = |h: &BatchHeader| (h.base_offset, h.last_offset(), h.producer_id, h.producer_epoch);
    assert_eq!(numbers(&rebuilt), numbers(&header));
    assert_eq!(super::records(&again).as_ref(), Ok(&records), "a rebuilt batch has the same records");
}

fn read(bytes: &Bytes) -> Result<Vec<Record>, BatchError> {
    iterate(bytes)?.take(RECORDS_MAX).collect()
}

/// The records of a batch without compression say the same under every codec.
pub(crate) fn codecs(bytes: &[u8]) {
    let plain = Bytes::copy_from_slice(bytes);
    let Ok(header) = validate(&plain) else { return };
    if header.compression() != Compression::None {
        return;
    }
    let expected = records(&plain);
    for codec in Compression::ALL {
        let packed = recoded(&plain, codec);
        validate(&packed).expect("only the codec changed");
        assert_eq!(records(&packed), expected, "{}", codec.as_str());
    }
}

/// The batch in another codec than none.
fn recoded(plain: &Bytes, codec: Compression) -> Bytes {
    let block = codec.compress(&plain[HEADER_BYTES..]).expect("in memory");
    let mut packed = plain[..HEADER_BYTES].to_vec();
    packed.extend_from_slice(&block);
    packed[22] |= codec.attribute() as u8;
    let length = (packed.len() - 12) as i32;
    packed[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = checksum(&packed);
    packed[17..21].copy_from_slice(&crc.to_be_bytes());
    packed.into()
}

/// Batches, back to back.
pub(crate) fn batches(bytes: &[u8]) {
    let (mut read, mut bad) = (Vec::new(), false);
    for batch in super::batches(Bytes::copy_from_slice(bytes)) {
        assert!(!bad, "nothing is read behind damage");
        match batch {
            Ok((_, batch)) => read.extend_from_slice(&batch),
            Err(_) => bad = true,
        }
    }
    assert!(bytes.starts_with(&read));
    assert_eq!(bad, read.len() < bytes.len());
}

fn some_records(count: usize) -> Vec<Record> {
    let record = |n: usize| {
        let mut record =
            Record::new(format!("key-{n}"), format!("value of {n}"), 1_700_000_000_000 + n as i64);
        match n % 4 {
            0 => record.headers.push(Header::new("traceparent", "00-0af7651916cd43dd8448eb211c80319c-01")),
            1 => record.value = None,
            2 => record.key = None,
            _ => record.headers.push(Header { key: String::new(), value: None }),
        }
        record
    };
    (0..count).map(record).collect()
}

fn built(mut builder: BatchBuilder, count: usize) -> Vec<u8> {
    some_records(count).iter().for_each(|record| builder.push(record));
    builder.build().to_vec()
}

pub(crate) fn samples() -> Vec<Vec<u8>> {
    let mut all: Vec<_> = Compression::ALL.map(|codec| built(BatchBuilder::new(codec), 12)).into();
    let position = PositionRange::new(5, 9).expect("rising");
    all.push(built(BatchBuilder::new(Compression::Zstd).producer(7, 1, -1).position(position), 3));
    // what packs well, so that a small input stands for much
    let mut much = BatchBuilder::new(Compression::Gzip);
    much.push(&Record::new("k", vec![b'x'; 200 << 10], 1));
    all.push(much.build().to_vec());
    all.extend(plain_samples());
    all
}

pub(crate) fn plain_samples() -> Vec<Vec<u8>> {
    let plain = || BatchBuilder::new(Compression::None);
    let position = PositionRange::new(5, 9).expect("rising");
    let dense = Bytes::from(built(plain().producer(3, 0, 4), 6));
    let header = validate(&dense).expect("just built");
    let some: Vec<_> = records(&dense).expect("just built").into_iter().step_by(2).collect();
    vec![
        built(plain(), 1),
        built(plain().producer(3, 0, 4).transactional(), 4),
        built(plain().producer(7, 1, -1).position(position), 3),
        rebuild(&header, &some, Some(1_700_000_000_000), None).to_vec(),
        rebuild(&header, &[], None, None).to_vec(),
        gap(3, 4, 0).to_vec(),
        end_marker(7, 3, Ending::Abort, 9, 1_000).to_vec(),
    ]
}

pub(crate) fn several_samples() -> Vec<Vec<u8>> {
    vec![plain_samples().concat(), samples()[..3].concat()]
}

/// A batch whose block unpacks to more than a decoder accepts.
pub(crate) fn bomb(codec: Compression) -> Bytes {
    let mut plain = BatchBuilder::new(Compression::None);
    plain.push(&Record::new("k", vec![0; MAX_RECORDS_BYTES], 1));
    recoded(&plain.build(), codec)
}
