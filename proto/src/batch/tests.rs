//! The codec against itself, against random bytes, and against an independent implementation of the same layout.

use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{
    Compression as TheirCompression, Record as TheirRecord, RecordBatchDecoder, RecordBatchEncoder,
    RecordEncodeOptions, TimestampType,
};
use proptest::prelude::*;

use super::*;
use crate::position::PositionRange;
use crate::record::{Header, Record};

fn bytes_strategy() -> impl Strategy<Value = Option<Bytes>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..64).prop_map(Bytes::from))
}

fn record_strategy() -> impl Strategy<Value = Record> {
    let header = ("[a-z]{0,6}", bytes_strategy()).prop_map(|(key, value)| Header { key, value });
    (bytes_strategy(), bytes_strategy(), prop::collection::vec(header, 0..4), -1_000_000..1_000_000_i64)
        .prop_map(|(key, value, headers, timestamp_ms)| Record {
            offset: 0,
            timestamp_ms,
            key,
            value,
            headers,
        })
}

fn codec_strategy() -> impl Strategy<Value = Compression> {
    prop::sample::select(Compression::ALL.to_vec())
}

fn build(records: &[Record], compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(compression).producer(9, 3, 17);
    records.iter().for_each(|record| builder.push(record));
    builder.build()
}

fn with_offsets(records: &[Record], base: i64) -> Vec<Record> {
    let numbered = records.iter().cloned().zip(base..);
    numbered.map(|(record, offset)| Record { offset, ..record }).collect()
}

proptest! {
    #[test]
    fn records_survive_every_codec(records in prop::collection::vec(record_strategy(), 1..20), codec in codec_strategy()) {
        let mut batch = BytesMut::from(build(&records, codec).as_ref());
        stamp(&mut batch, 1000, 5);
        let batch = batch.freeze();
        let header = validate(&batch).expect("stamping leaves the checksum right");
        prop_assert_eq!((header.base_offset, header.leader_epoch), (1000, 5));
        prop_assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (9, 3, 17));
        prop_assert_eq!(header.compression(), codec);
        prop_assert_eq!(super::records(&batch).expect("decodes"), with_offsets(&records, 1000));
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from(bytes);
        let _ = validate(&bytes);
        let _ = super::records(&bytes);
        let _ = position_of(&bytes);
    }

    /// Damage behind the checksum: the decoder meets it when a client lies.
    #[test]
    fn a_damaged_batch_is_refused_or_decodes_but_never_panics(
        records in prop::collection::vec(record_strategy(), 1..8), codec in codec_strategy(),
        at in any::<prop::sample::Index>(), bit in 0..8_u8,
    ) {
        let mut broken = build(&records, codec).to_vec();
        let at = at.index(broken.len());
        broken[at] ^= 1 << bit;
        let broken = Bytes::from(broken);
        let in_checksum = at >= 17;
        prop_assert!(!in_checksum || validate(&broken).is_err());
        let (decoded, position) = (super::records(&broken), position_of(&broken));
        // a cleaned batch may have gaps, one that is sent may not
        let header = BatchHeader::parse(&broken).ok().filter(BatchHeader::is_dense);
        let is_dense = header.zip(decoded.as_ref().ok()).is_some_and(|(header, records)| {
            records.iter().zip(header.base_offset..).all(|(record, offset)| record.offset == offset)
        });
        let expected = is_dense && position.is_ok();
        prop_assert_eq!(inspect(&broken).is_ok(), expected, "a walk accepts what decodes: {:?}", decoded);
    }

    #[test]
    fn a_cut_batch_is_torn(records in prop::collection::vec(record_strategy(), 1..4), cut in any::<prop::sample::Index>()) {
        let batch = build(&records, Compression::None);
        let torn = batch.slice(..cut.index(batch.len()));
        let is_torn = matches!(validate(&torn), Err(BatchError::Torn { .. }));
        prop_assert!(is_torn);
    }

    #[test]
    fn another_implementation_reads_what_we_write(records in prop::collection::vec(record_strategy(), 1..10), codec in codec_strategy()) {
        let batch = build(&records, codec);
        let decoded = RecordBatchDecoder::decode(&mut batch.clone()).expect("the other implementation decodes");
        prop_assert_eq!(decoded.records.len(), records.len());
        for (theirs, ours) in decoded.records.iter().zip(with_offsets(&records, 0)) {
            prop_assert_eq!((theirs.offset, theirs.timestamp), (ours.offset, ours.timestamp_ms));
            prop_assert_eq!((&theirs.key, &theirs.value), (&ours.key, &ours.value));
            prop_assert_eq!((theirs.producer_id, theirs.producer_epoch), (9, 3));
        }
    }

    #[test]
    fn we_read_what_another_implementation_writes(records in prop::collection::vec(record_strategy(), 1..10), codec in codec_strategy()) {
        let theirs: Vec<TheirRecord> = with_offsets(&records, 0).iter().map(their_record).collect();
        let compression = match codec {
            Compression::None => TheirCompression::None,
            Compression::Gzip => TheirCompression::Gzip,
            Compression::Snappy => TheirCompression::Snappy,
            Compression::Lz4 => TheirCompression::Lz4,
            Compression::Zstd => TheirCompression::Zstd,
        };
        let mut out = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression };
        RecordBatchEncoder::encode(&mut out, &theirs, &options).expect("the other implementation encodes");
        let mut read = Vec::new();
        for batch in batches(out.freeze()) {
            let (_, batch) = batch.expect("valid");
            read.extend(super::records(&batch).expect("decodes"));
        }
        for (read, record) in read.iter().zip(&records) {
            prop_assert_eq!((&read.key, &read.value, read.timestamp_ms), (&record.key, &record.value, record.timestamp_ms));
        }
        prop_assert_eq!(read.len(), records.len());
    }
}

fn their_record(record: &Record) -> TheirRecord {
    TheirRecord {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: 9,
        producer_epoch: 3,
        timestamp_type: TimestampType::Creation,
        offset: record.offset,
        sequence: record.offset as i32,
        timestamp: record.timestamp_ms,
        key: record.key.clone(),
        value: record.value.clone(),
        headers: Default::default(),
    }
}

#[test]
fn a_position_survives_and_a_lying_flag_is_refused() {
    let range = PositionRange::new(4, 6).expect("rising");
    for codec in Compression::ALL {
        let mut builder = BatchBuilder::new(codec).producer(1, 0, -1).position(range);
        builder.push(&Record::new("k", "v", 1));
        builder.push(&Record::new("k", "w", 2));
        let batch = builder.build();
        assert_eq!(position_of(&batch), Ok(Some(range)));
        let second = &super::records(&batch).expect("decodes")[1];
        assert!(second.headers.is_empty(), "only the first record carries it");
    }
    let mut lying = build(&[Record::new("k", "v", 1)], Compression::None).to_vec();
    lying[21] |= 1;
    assert_eq!(position_of(&Bytes::from(lying)), Err(BatchError::Position));
}

#[test]
fn a_walk_finds_the_position_and_the_servers_headers() {
    let range = PositionRange::new(4, 6).expect("rising");
    let mut reserved = Record::new("k", "w", 2);
    reserved.headers.push(Header::new("sunseo.position", "x"));
    for codec in Compression::ALL {
        let mut builder = BatchBuilder::new(codec).producer(1, 0, -1).position(range);
        builder.push(&Record::new("k", "v", 1));
        let found = inspect(&builder.build()).expect("decodes");
        assert_eq!(
            found,
            Inspection { max_timestamp: 1, position: Some(range), without_key: None, reserved_header: None }
        );
        let found = inspect(&build(std::slice::from_ref(&reserved), codec)).expect("decodes");
        let reserved_header = Some("sunseo.position".to_owned());
        assert_eq!(
            found,
            Inspection { max_timestamp: 2, position: None, without_key: None, reserved_header }
        );
    }
}

#[test]
fn a_zstd_frame_that_asks_for_more_memory_than_a_batch_is_refused() {
    // magic, no content size, window of 2 to the power of `log`, one empty block that is the last
    let frame = |log: u8| Bytes::from(vec![0x28, 0xB5, 0x2F, 0xFD, 0, (log - 10) << 3, 1, 0, 0]);
    assert_eq!(Compression::Zstd.decompress(&frame(26)), Ok(Bytes::new()));
    let refused = Compression::Zstd.decompress(&frame(27));
    assert!(matches!(refused, Err(BatchError::Decompress { codec: "zstd", .. })), "{refused:?}");
}

#[test]
fn a_small_block_cannot_fill_the_memory() {
    let huge = Record::new("k", vec![0_u8; MAX_RECORDS_BYTES + 1], 1);
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let bomb = build(std::slice::from_ref(&huge), codec);
        assert_eq!(
            super::records(&bomb),
            Err(BatchError::TooLarge { limit: MAX_RECORDS_BYTES }),
            "{codec:?}"
        );
    }
}

#[test]
fn two_batches_in_one_place_are_refused_but_read_one_after_the_other() {
    let one = build(&[Record::new("a", "1", 1)], Compression::None);
    let two = Bytes::from([one.as_ref(), one.as_ref()].concat());
    assert_eq!(validate(&two), Err(BatchError::Trailing { extra: one.len() }));
    assert_eq!(batches(two.clone()).filter_map(Result::ok).count(), 2);
    let torn: Vec<_> = batches(two.slice(..two.len() - 1)).collect();
    assert!(torn[0].is_ok() && torn[1].is_err() && torn.len() == 2);
}

proptest! {
    /// A cleaned batch is what it was without the records that went; the independent implementation reads the same of it.
    #[test]
    fn a_rebuilt_batch_keeps_range_and_order(
        records in prop::collection::vec(record_strategy(), 1..20),
        kept in prop::collection::vec(any::<bool>(), 20),
        codec in codec_strategy(),
        horizon in prop::option::of(0..i64::MAX / 4),
    ) {
        let mut batch = BytesMut::from(build(&records, codec).as_ref());
        stamp(&mut batch, 1000, 5);
        let batch = batch.freeze();
        let before = validate(&batch).expect("valid");
        let expected: Vec<Record> = with_offsets(&records, 1000)
            .into_iter()
            .zip(&kept)
            .filter_map(|(record, keep)| keep.then_some(record))
            .collect();
        let cleaned = rebuild(&before, &expected, horizon, None);
        let after = validate(&cleaned).expect("valid");
        prop_assert_eq!((after.base_offset, after.last_offset(), after.leader_epoch), (1000, before.last_offset(), 5));
        prop_assert_eq!((after.producer_id, after.producer_epoch, after.base_sequence), (9, 3, 17));
        prop_assert_eq!(after.delete_horizon_ms(), horizon.filter(|_| !expected.is_empty()));
        prop_assert_eq!(super::records(&cleaned).expect("decodes"), expected.clone());
        if !expected.is_empty() {
            prop_assert_eq!(after.compression(), codec);
            let newest = expected.iter().map(|record| record.timestamp_ms).max();
            prop_assert_eq!(Some(after.max_timestamp), newest);
            let theirs = RecordBatchDecoder::decode_all(&mut cleaned.clone()).expect("theirs reads it");
            let theirs: Vec<(i64, i64)> = theirs.iter().flat_map(|set| &set.records).map(|r| (r.offset, r.timestamp)).collect();
            let ours: Vec<(i64, i64)> = expected.iter().map(|r| (r.offset, r.timestamp_ms)).collect();
            prop_assert_eq!(theirs, ours);
        }
        prop_assert!(inspect(&cleaned).is_err() == (expected.len() < records.len()), "nobody may send a cleaned batch");
    }
}

#[test]
fn a_gap_stands_for_offsets_and_a_position_survives_its_records() {
    let gap = gap(40, i32::MAX, 3);
    let header = validate(&gap).expect("valid");
    assert_eq!((header.base_offset, header.next_offset(), header.record_count), (40, 40 + (1 << 31), 0));
    assert_eq!((records(&gap), position_of(&gap)), (Ok(Vec::new()), Ok(None)));
    let range = PositionRange::new(7, 9).expect("rising");
    let mut builder = BatchBuilder::new(Compression::Zstd).producer(4, 1, -1).position(range);
    [("a", "1"), ("b", "2")].iter().for_each(|(k, v)| builder.push(&Record::new(*k, *v, 5)));
    let batch = builder.build();
    let header = validate(&batch).expect("valid");
    let second = &records(&batch).expect("decodes")[1..];
    assert_eq!(position_of(&rebuild(&header, second, None, Some(range))), Ok(Some(range)));
    let empty = rebuild(&header, &[], None, Some(range));
    assert_eq!(position_of(&empty), Ok(PositionRange::new(9, 9)));
    assert_eq!(validate(&empty).expect("valid").last_offset(), 1);
}
