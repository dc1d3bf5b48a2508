//! What an append does to a partition: sequences, positions, fencing.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use sunseo_proto::batch;
use sunseo_proto::position::PositionRange;
use sunseo_proto::{Error, ErrorCode, Record, v1};

/// Batches of a producer that are known again.
const KNOWN_BATCHES: usize = 5;

#[derive(Debug, Default)]
struct Sequenced {
    epoch: i16,
    /// Base sequence, last sequence, base offset of the last batches.
    last: VecDeque<(i32, i32, i64)>,
}

#[derive(Debug, Default)]
pub struct Partition {
    pub batches: Vec<Bytes>,
    pub end: i64,
    pub start: i64,
    sequenced: HashMap<i64, Sequenced>,
    /// Producer id to epoch and last position.
    positioned: HashMap<i64, (i16, i64)>,
}

impl Partition {
    pub fn records(&self) -> Vec<Record> {
        self.batches.iter().flat_map(|batch| batch::records(batch).expect("valid")).collect()
    }

    /// Forgets every producer that numbers its batches, as the broker does after a long silence.
    pub fn forget_producers(&mut self) {
        self.sequenced.clear();
    }

    /// Raises the start, with -1 to the end, and lets go of batches that lie wholly below it; `None` for an offset beyond the end.
    pub fn delete_before(&mut self, offset: i64) -> Option<i64> {
        let wanted = if offset == -1 { self.end } else { offset };
        if !(0..=self.end).contains(&wanted) {
            return None;
        }
        self.start = self.start.max(wanted);
        let start = self.start;
        self.batches.retain(|bytes| {
            batch::BatchHeader::parse(bytes).expect("appended ones are valid").next_offset() > start
        });
        Some(self.start)
    }

    pub fn append(&mut self, bytes: &Bytes, max_batch_bytes: usize) -> v1::ProduceResult {
        let header = batch::validate(bytes).expect("clients send valid batches");
        if bytes.len() > max_batch_bytes {
            return refused(ErrorCode::BatchTooLarge, 0);
        }
        let found = batch::inspect(bytes).expect("clients send valid batches");
        if found.reserved_header.is_some() {
            return refused(ErrorCode::InvalidArgument, 0);
        }
        match found.position {
            Some(range) => self.append_positioned(bytes, &header, range),
            None if header.is_sequenced() => self.append_sequenced(bytes, &header),
            None => self.push(bytes, &header),
        }
    }

    fn push(&mut self, bytes: &Bytes, header: &batch::BatchHeader) -> v1::ProduceResult {
        let base_offset = self.end;
        let mut stamped = bytes.to_vec();
        batch::stamp(&mut stamped, base_offset, 1);
        self.batches.push(stamped.into());
        self.end += i64::from(header.record_count);
        v1::ProduceResult { base_offset, last_offset: self.end - 1, ..Default::default() }
    }

    fn append_sequenced(&mut self, bytes: &Bytes, header: &batch::BatchHeader) -> v1::ProduceResult {
        let (first, last) = (header.base_sequence, header.base_sequence + header.record_count - 1);
        // an id that is not known starts anywhere, as when retention has removed what it wrote
        let known = self.sequenced.entry(header.producer_id).or_default();
        if header.producer_epoch < known.epoch {
            return refused(ErrorCode::ProducerFenced, 0);
        }
        if let Some(&(.., base_offset)) = known.last.iter().find(|batch| (batch.0, batch.1) == (first, last))
        {
            return v1::ProduceResult { base_offset, duplicate: true, ..Default::default() };
        }
        if known.last.back().is_some_and(|(_, last, _)| first != last + 1) {
            return refused(ErrorCode::SequenceGap, 0);
        }
        let result = self.push(bytes, header);
        let known = self.sequenced.entry(header.producer_id).or_default();
        known.last.push_back((first, last, result.base_offset));
        if known.last.len() > KNOWN_BATCHES {
            known.last.pop_front();
        }
        result
    }

    fn append_positioned(
        &mut self,
        bytes: &Bytes,
        header: &batch::BatchHeader,
        range: PositionRange,
    ) -> v1::ProduceResult {
        let (epoch, last) = *self.positioned.entry(header.producer_id).or_insert((header.producer_epoch, -1));
        if header.producer_epoch < epoch {
            return refused(ErrorCode::ProducerFenced, 0);
        }
        if range.last <= last {
            return v1::ProduceResult { base_offset: -1, duplicate: true, ..Default::default() };
        }
        if range.first <= last {
            return refused(ErrorCode::PartialDuplicate, last);
        }
        self.positioned.insert(header.producer_id, (header.producer_epoch, range.last));
        self.push(bytes, header)
    }
}

pub(super) fn refused(code: ErrorCode, accepted_through: i64) -> v1::ProduceResult {
    let error = Some(Error::new(code, "scripted refusal").into());
    v1::ProduceResult { error, accepted_through, base_offset: -1, ..Default::default() }
}
