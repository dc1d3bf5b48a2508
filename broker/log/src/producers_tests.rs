use super::*;

fn plain(epoch: i16, base_sequence: i32, records: i32, base_offset: i64) -> BatchHeader {
    BatchHeader {
        base_offset,
        total_bytes: 61,
        leader_epoch: 0,
        crc: 0,
        attributes: 0,
        last_offset_delta: records - 1,
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id: 7,
        producer_epoch: epoch,
        base_sequence,
        record_count: records,
    }
}

fn range(first: i64, last: i64) -> PositionRange {
    PositionRange::new(first, last).expect("rising")
}

#[test]
fn dense_sequences_are_news_once() {
    let mut producers = Producers::default();
    producers.record(&plain(0, 10, 3, 100), None, 1);
    assert_eq!(producers.check(&plain(0, 13, 2, 0), None), Ok(None));
    let repeated = Outcome::Duplicate { base_offset: 100, last_offset: 102 };
    assert_eq!(producers.check(&plain(0, 10, 3, 0), None), Ok(Some(repeated)));
    let gap = Refusal::SequenceGap { producer_id: 7, found: 14, expected: 13 };
    assert_eq!(producers.check(&plain(0, 14, 1, 0), None), Err(gap));
    let partly = Refusal::SequenceGap { producer_id: 7, found: 10, expected: 13 };
    assert_eq!(producers.check(&plain(0, 10, 2, 0), None), Err(partly));
}

#[test]
fn the_sixth_batch_back_is_no_longer_known() {
    let mut producers = Producers::default();
    for n in 0..6 {
        producers.record(&plain(0, n, 1, i64::from(n)), None, 1);
    }
    assert!(matches!(producers.check(&plain(0, 1, 1, 0), None), Ok(Some(Outcome::Duplicate { .. }))));
    assert!(matches!(producers.check(&plain(0, 0, 1, 0), None), Err(Refusal::SequenceGap { .. })));
}

#[test]
fn sequences_go_from_the_largest_to_zero() {
    let mut producers = Producers::default();
    producers.record(&plain(0, i32::MAX - 1, 3, 0), None, 1);
    assert_eq!(producers.check(&plain(0, 1, 1, 0), None), Ok(None));
    assert!(producers.check(&plain(0, 2, 1, 0), None).is_err());
    assert!(matches!(producers.check(&plain(0, i32::MAX - 1, 3, 0), None), Ok(Some(_))));
}

#[test]
fn a_lower_epoch_is_fenced_and_a_higher_one_starts_anywhere() {
    let mut producers = Producers::default();
    producers.record(&plain(3, 10, 1, 0), None, 1);
    let fenced = Refusal::ProducerFenced { producer_id: 7, found: 2, current: 3 };
    assert_eq!(producers.check(&plain(2, 11, 1, 0), None), Err(fenced));
    assert_eq!(producers.check(&plain(4, 500, 1, 0), None), Ok(None));
    producers.record(&plain(4, 500, 1, 1), None, 2);
    assert!(producers.check(&plain(3, 11, 1, 0), None).is_err());
    assert!(producers.check(&plain(4, 10, 1, 0), None).is_err(), "the former epoch's batches do not count");
}

#[test]
fn positions_rise_and_need_not_be_dense() {
    let mut producers = Producers::default();
    let header = plain(1, -1, 2, 40);
    assert_eq!(producers.check(&header, Some(range(5, 9))), Ok(None));
    producers.record(&header, Some(range(5, 9)), 1);
    assert_eq!(producers.last_position(7), Some(9));
    let repeated = Outcome::Duplicate { base_offset: -1, last_offset: 41 };
    assert_eq!(producers.check(&header, Some(range(5, 9))), Ok(Some(repeated)));
    assert_eq!(producers.check(&header, Some(range(1, 2))), Ok(Some(repeated)));
    let partly = Refusal::PartialDuplicate { producer_id: 7, accepted_through: 9 };
    assert_eq!(producers.check(&header, Some(range(9, 10))), Err(partly));
    assert_eq!(producers.check(&header, Some(range(1000, 1000))), Ok(None));
    assert!(matches!(
        producers.check(&plain(0, -1, 1, 0), Some(range(20, 20))),
        Err(Refusal::ProducerFenced { .. })
    ));
}

#[test]
fn silent_plain_producers_are_forgotten_and_positioned_ones_never() {
    let mut producers = Producers::default();
    for id in 0..10 {
        let header = BatchHeader { producer_id: id, ..plain(0, 0, 1, id) };
        producers.record(&header, None, id);
    }
    producers.record(&plain(0, -1, 1, 11), Some(range(1, 1)), 0);
    producers.forget(3, 100, |_| false);
    assert_eq!(producers.plain_len(), 7);
    producers.forget(3, 3, |_| false);
    assert_eq!(producers.plain.keys().copied().collect::<Vec<_>>(), [7, 8, 9]);
    producers.forget(i64::MAX, 0, |_| false);
    assert_eq!((producers.plain_len(), producers.last_position(7)), (0, Some(1)));
}

#[test]
fn producers_survive_their_encoding() {
    let mut producers = Producers::default();
    for n in 0..7 {
        producers.record(&plain(2, n * 3, 3, i64::from(n) * 3), None, 5);
    }
    producers.record(&plain(1, -1, 1, 21), Some(range(4, 8)), 6);
    let mut out = Vec::new();
    producers.encode(&mut out);
    assert_eq!(Producers::decode(&mut Decoder::new(out.into()), 2), Ok(producers));
}

fn of(producer_id: i64) -> BatchHeader {
    BatchHeader { producer_id, base_sequence: -1, ..plain(0, 0, 1, 0) }
}

#[test]
fn a_positioned_producer_goes_only_for_another_one_after_a_long_silence_and_is_refused_then() {
    let mut producers = Producers::default();
    for (id, seen_ms) in [(1, 100), (2, 50), (3, 300)] {
        producers.record(&of(id), Some(range(5, 5)), seen_ms);
    }
    assert_eq!(producers.admit(3, 3, 0), Ok(0), "who is known needs no room");
    assert_eq!(producers.admit(9, 3, 50), Err(Refusal::TooManyProducers { limit: 3 }));
    assert_eq!(producers.admit(9, 3, 200), Ok(1), "one at a time, the longest silent first");
    producers.record(&of(9), Some(range(1, 1)), 400);
    let retired = Err(Refusal::ProducerRetired { producer_id: 2 });
    assert_eq!(producers.check(&of(2), Some(range(5, 5))), retired, "its repeat is not taken for news");
    assert_eq!(producers.check(&of(2), Some(range(6, 6))), retired);
    assert_eq!(producers.last_position(1), Some(5));
    assert_eq!(producers.check(&of(10), Some(range(1, 1))), Ok(None), "a later identity was never here");
    let mut out = Vec::new();
    producers.encode(&mut out);
    let stored = Producers::decode(&mut Decoder::new(out.into()), 2).expect("decodes");
    assert_eq!(stored.check(&of(2), Some(range(5, 5))), retired);
}

#[test]
fn what_version_1_stored_counts_as_seen_at_the_start() {
    let mut producers = Producers::default();
    producers.record(&of(1), Some(range(5, 5)), 100);
    let mut out = Vec::new();
    producers.encode(&mut out);
    // without the time and the number behind it
    out.truncate(out.len() - 16);
    let mut old = Producers::decode(&mut Decoder::new(out.into()), 1).expect("decodes");
    old.date_unknown(700);
    assert_eq!(old.admit(2, 1, 700), Err(Refusal::TooManyProducers { limit: 1 }));
    assert_eq!(old.admit(2, 1, 701), Ok(1));
}
