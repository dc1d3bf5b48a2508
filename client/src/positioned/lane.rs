//! The appends of one call to one partition: batches out, answers in. Pure.
//!
//! Invariant: at most one batch of a partition is in flight. The partition accepts gaps between positions, so a batch that
//! overtook a refused one would make the refused one look like a repeat, and its records would be lost.

use std::collections::VecDeque;

use bytes::Bytes;
use sunseo_proto::batch::{BatchBuilder, Compression};
use sunseo_proto::error::Result;
use sunseo_proto::position::{POSITION_HEADER, PositionRange};
use sunseo_proto::{Error, ErrorCode, Record, v1};

use super::Appended;
use crate::producer::config::MAX_RECORD_BYTES;
use crate::producer::record_bytes;

/// Id and epoch that every batch carries, and how batches are cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub producer_id: i64,
    pub epoch: i16,
    pub compression: Compression,
    pub batch_bytes: usize,
}

/// What follows an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// More batches are to be sent.
    Next,
    /// Every entry has its result.
    Done,
    /// The batch was refused for now: the same records again, later.
    Again(Error),
}

/// One entry of a call.
#[derive(Debug)]
struct Entry {
    /// Its place among the call's entries.
    index: usize,
    records: Vec<(i64, Record)>,
    /// Records before this one are in the log.
    done: usize,
    outcome: Appended,
}

/// The entries of one call that go to the same partition.
#[derive(Debug)]
pub(super) struct Lane {
    pub topic: String,
    pub partition: i32,
    entries: VecDeque<Entry>,
    /// Records of the batch in flight.
    in_flight: usize,
    /// Most records of a batch; halved when the broker finds a batch too large.
    most_records: usize,
}

impl Lane {
    pub(super) fn new(topic: String, partition: i32) -> Self {
        Self { topic, partition, entries: VecDeque::new(), in_flight: 0, most_records: usize::MAX }
    }

    /// Adds an entry whose records [`check`] accepted.
    pub(super) fn add(&mut self, index: usize, records: Vec<(i64, Record)>) {
        let outcome = Appended { appended: 0, dropped: 0, base_offset: -1 };
        self.entries.push_back(Entry { index, records, done: 0, outcome });
    }

    /// The next batch, also after [`Step::Again`]. `None` when everything is in the log.
    pub(super) fn batch(&mut self, cut: &Cut) -> Option<Bytes> {
        let entry = self.entries.iter().find(|entry| entry.done < entry.records.len())?;
        let left = &entry.records[entry.done..];
        let mut bytes = 0;
        let fits = |(_, record): &&(i64, Record)| {
            bytes += record_bytes(record);
            bytes <= cut.batch_bytes
        };
        let count = left.iter().take(self.most_records).take_while(fits).count().max(1);
        // `check` accepted rising positions from 0
        let range = PositionRange::new(left[0].0, left[count - 1].0)?;
        let mut builder =
            BatchBuilder::new(cut.compression).producer(cut.producer_id, cut.epoch, -1).position(range);
        for (_, record) in &left[..count] {
            builder.push(record);
        }
        self.in_flight = count;
        Some(builder.build())
    }

    /// Takes the answer to the last [`batch`](Self::batch); finished entries go to `results`.
    pub(super) fn answered(
        &mut self,
        answer: Result<v1::ProduceResult>,
        results: &mut [Option<Result<Appended>>],
    ) -> Step {
        let count = std::mem::take(&mut self.in_flight);
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.done < entry.records.len()) else {
            return Step::Done;
        };
        match answer {
            Ok(result) => match result.error.clone().map(Error::from) {
                None => entry.landed(count, &result),
                Some(error) if error.code == ErrorCode::PartialDuplicate => {
                    if !entry.drop_through(result.accepted_through) {
                        let message =
                            format!("{error}, but no record is at or below {}", result.accepted_through);
                        return self.fail(&Error::internal(message), results);
                    }
                }
                Some(error) if error.code == ErrorCode::BatchTooLarge && count > 1 => {
                    self.most_records = count / 2
                }
                Some(error) => return self.refused(error, results),
            },
            Err(error) => return self.refused(error, results),
        }
        self.collect(results);
        if self.entries.is_empty() { Step::Done } else { Step::Next }
    }

    fn refused(&mut self, error: Error, results: &mut [Option<Result<Appended>>]) -> Step {
        if error.retryable() { Step::Again(error) } else { self.fail(&error, results) }
    }

    /// Ends with an error. Later entries of the partition end too: appended over a gap, the earlier records could never follow.
    pub(super) fn fail(&mut self, error: &Error, results: &mut [Option<Result<Appended>>]) -> Step {
        self.collect(results);
        for entry in self.entries.drain(..) {
            results[entry.index] = Some(Err(error.clone()));
        }
        Step::Done
    }

    /// Hands over the entries that are complete.
    pub(super) fn collect(&mut self, results: &mut [Option<Result<Appended>>]) {
        while let Some(entry) = self.entries.pop_front_if(|entry| entry.done == entry.records.len()) {
            results[entry.index] = Some(Ok(entry.outcome));
        }
    }
}

impl Entry {
    fn landed(&mut self, count: usize, result: &v1::ProduceResult) {
        self.done += count;
        if result.duplicate {
            self.outcome.dropped += count as u64;
            return;
        }
        self.outcome.appended += count as u64;
        if self.outcome.base_offset < 0 {
            self.outcome.base_offset = result.base_offset;
        }
    }

    fn drop_through(&mut self, accepted_through: i64) -> bool {
        let held = self.records[self.done..]
            .iter()
            .take_while(|(position, _)| *position <= accepted_through)
            .count();
        self.done += held;
        self.outcome.dropped += held as u64;
        held > 0
    }
}

/// Refuses what a positioned batch cannot carry.
pub(super) fn check(records: &[(i64, Record)]) -> Result<()> {
    let mut last = -1;
    for (position, record) in records {
        if *position <= last {
            let message =
                format!("position {position} follows {last}: positions start at 0 and rise strictly");
            return Err(Error::invalid("records.position", message));
        }
        last = *position;
        let bytes = record_bytes(record);
        if bytes > MAX_RECORD_BYTES {
            let message =
                format!("record at position {position} has {bytes} bytes, the limit is {MAX_RECORD_BYTES}");
            return Err(Error::new(ErrorCode::BatchTooLarge, message).at("records"));
        }
        if record.headers.iter().any(|header| header.key == POSITION_HEADER) {
            let message = format!(
                "record at position {position} has a header {POSITION_HEADER}: it is set here, leave it out"
            );
            return Err(Error::invalid("records.headers", message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUT: Cut = Cut { producer_id: 7, epoch: 3, compression: Compression::None, batch_bytes: 1 << 20 };

    fn records(positions: &[i64]) -> Vec<(i64, Record)> {
        positions.iter().map(|&p| (p, Record::new("k", p.to_string(), 0))).collect()
    }

    fn lane(positions: &[i64]) -> Lane {
        let mut lane = Lane::new("orders".to_owned(), 0);
        lane.add(0, records(positions));
        lane
    }

    fn held(batch: &Bytes) -> Vec<String> {
        let records = sunseo_proto::batch::records(batch).expect("decodes");
        records
            .iter()
            .map(|r| String::from_utf8_lossy(r.value.as_ref().expect("value")).into_owned())
            .collect()
    }

    fn ok(base_offset: i64) -> Result<v1::ProduceResult> {
        Ok(v1::ProduceResult { base_offset, ..Default::default() })
    }

    fn error(code: ErrorCode, accepted_through: i64) -> Result<v1::ProduceResult> {
        let error = Some(Error::new(code, "scripted").into());
        Ok(v1::ProduceResult { error, accepted_through, ..Default::default() })
    }

    #[test]
    fn a_partial_duplicate_sends_only_what_is_missing() {
        let (mut lane, mut results) = (lane(&[3, 5, 9]), vec![None]);
        lane.batch(&CUT).expect("first");
        assert_eq!(lane.answered(error(ErrorCode::PartialDuplicate, 5), &mut results), Step::Next);
        let rest = lane.batch(&CUT).expect("rest");
        assert_eq!(held(&rest), ["9"]);
        assert_eq!(sunseo_proto::batch::position_of(&rest).expect("decodes"), PositionRange::new(9, 9));
        assert_eq!(lane.answered(ok(40), &mut results), Step::Done);
        assert_eq!(results, [Some(Ok(Appended { appended: 1, dropped: 2, base_offset: 40 }))]);
    }

    #[test]
    fn a_batch_that_is_too_large_is_halved_until_one_record_is_too_large() {
        let (mut lane, mut results) = (lane(&[1, 2, 3, 4]), vec![None]);
        for size in [4, 2] {
            assert_eq!(held(&lane.batch(&CUT).expect("batch")).len(), size);
            assert_eq!(lane.answered(error(ErrorCode::BatchTooLarge, 0), &mut results), Step::Next);
        }
        assert_eq!(held(&lane.batch(&CUT).expect("batch")), ["1"]);
        assert_eq!(lane.answered(error(ErrorCode::BatchTooLarge, 0), &mut results), Step::Done);
        assert!(matches!(&results[0], Some(Err(error)) if error.code == ErrorCode::BatchTooLarge));
    }

    #[test]
    fn an_error_ends_the_later_entries_of_the_partition_but_not_the_finished_ones() {
        let (mut lane, mut results) = (lane(&[1]), vec![None, None, None]);
        lane.add(1, records(&[2]));
        lane.add(2, records(&[3]));
        lane.batch(&CUT).expect("first");
        assert_eq!(lane.answered(ok(0), &mut results), Step::Next);
        lane.batch(&CUT).expect("second");
        assert_eq!(lane.answered(error(ErrorCode::ProducerFenced, 0), &mut results), Step::Done);
        let fenced: Vec<_> = results.iter().map(|r| r.as_ref().is_some_and(Result::is_err)).collect();
        assert_eq!(fenced, [false, true, true]);
    }

    #[test]
    fn positions_that_do_not_rise_are_refused() {
        assert!(check(&records(&[0, 1, 7])).is_ok());
        for bad in [[1, 1], [2, 1], [-1, 0]] {
            assert_eq!(check(&records(&bad)).map_err(|e| e.code), Err(ErrorCode::InvalidArgument));
        }
    }
}
