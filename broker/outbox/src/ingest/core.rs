//! What a push may do to its shard. Pure.
//!
//! | event | verdict |
//! |---|---|
//! | epoch below the shard's | `PRODUCER_FENCED` |
//! | sequence at or below the last, same bytes | duplicate: success |
//! | sequence that was seen, other bytes | `SEQUENCE_CONFLICT` |
//! | the next sequence | taken, unless it is beyond the last there is: `INVALID_ARGUMENT` |
//! | a later one | `SEQUENCE_GAP`, with the one that is expected |
//!
//! The longest valid prefix of a push is taken. Events that were planned but not appended keep their checksum: their
//! repeat must have the same bytes, since some partitions may hold them.

use sunseo_proto::{Error, ErrorCode, v1};

use super::window::Window;
use crate::position::{Events, Stored};

/// The last sequence of a shard; what comes behind it is still a number.
pub const SEQUENCE_MAX: i64 = i64::MAX - 1;

/// CRC-32 of what an event says. A repeat may carry another trace.
#[must_use]
pub fn checksum(event: &v1::OutboxEvent) -> u32 {
    let trace = |header: &v1::Header| matches!(header.key.as_str(), "traceparent" | "tracestate");
    if !event.headers.iter().any(trace) {
        return crc32fast::hash(&prost::Message::encode_to_vec(event));
    }
    let mut event = event.clone();
    event.headers.retain(|header| !trace(header));
    crc32fast::hash(&prost::Message::encode_to_vec(&event))
}

/// A shard between pushes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Core {
    pub epoch: i32,
    /// Everything up to here is durable.
    pub accepted_through: i64,
    /// Everything up to here is taken or on its way.
    planned_through: i64,
    window: Window,
    /// Checksums planned since the last note.
    fresh: Vec<u32>,
}

/// What one event is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Duplicate,
    /// It is the next; [`Core::take`] makes it so.
    Next,
    Refused(Error),
}

impl Core {
    /// As the notes left it.
    #[must_use]
    pub fn restore(stored: &Stored) -> Self {
        let position = stored.checkpoint.position;
        Self {
            epoch: stored.checkpoint.epoch,
            accepted_through: position,
            planned_through: position,
            window: stored.window.clone(),
            fresh: Vec::new(),
        }
    }

    /// The sequence that is expected next.
    #[must_use]
    pub fn expected(&self) -> i64 {
        self.planned_through + 1
    }

    /// Only the current epoch may push.
    pub fn check_epoch(&self, epoch: Option<i32>) -> Result<(), Error> {
        match epoch {
            None => Ok(()),
            Some(epoch) if epoch == self.epoch => Ok(()),
            Some(epoch) if epoch < self.epoch => {
                let message = format!(
                    "epoch {epoch} was replaced by {}: another pusher opened this shard, only the newest may push",
                    self.epoch
                );
                Err(Error::new(ErrorCode::ProducerFenced, message).at("epoch"))
            }
            Some(epoch) => {
                let message =
                    format!("epoch {epoch} was never given, the newest is {}: open the shard", self.epoch);
                Err(Error::invalid("epoch", message))
            }
        }
    }

    /// Judges one event by its sequence and the CRC-32 of its bytes.
    #[must_use]
    pub fn judge(&self, sequence: i64, checksum: u32) -> Verdict {
        let expected = self.expected();
        if sequence < 1 {
            let message = format!("sequence {sequence}: sequences start at 1, expected is {expected}");
            return Verdict::Refused(Error::invalid("events.sequence", message));
        }
        if sequence > expected {
            let message = format!("sequence {sequence} leaves a gap: expected is {expected}");
            return Verdict::Refused(Error::new(ErrorCode::SequenceGap, message).at("events.sequence"));
        }
        if sequence > SEQUENCE_MAX {
            let message =
                format!("sequence {sequence}: the last one is {SEQUENCE_MAX}: go on in another shard");
            return Verdict::Refused(Error::invalid("events.sequence", message));
        }
        if self.window.get(sequence).is_some_and(|known| known != checksum) {
            let message = format!(
                "sequence {sequence} came before with other content: a sequence names one event for ever"
            );
            return Verdict::Refused(Error::new(ErrorCode::SequenceConflict, message).at("events.sequence"));
        }
        if sequence == expected { Verdict::Next } else { Verdict::Duplicate }
    }

    /// Plans the next event.
    pub fn take(&mut self, checksum: u32) {
        self.planned_through += 1;
        self.window.set(self.planned_through, checksum);
        self.fresh.push(checksum);
    }

    /// What the next note says about checksums.
    #[must_use]
    pub fn note(&self) -> Events {
        let first = self.planned_through - self.fresh.len() as i64 + 1;
        Events { first, checksums: self.fresh.clone() }
    }

    /// A note with [`note`](Self::note) is durable.
    pub fn noted(&mut self) {
        self.fresh.clear();
    }

    /// Everything planned up to `through` is durable; what was planned beyond it is given up for now.
    pub fn settle(&mut self, through: i64) {
        self.accepted_through =
            through.clamp(self.accepted_through, self.planned_through.max(self.accepted_through));
        self.planned_through = self.accepted_through;
        self.fresh.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Checkpoint;

    fn code(verdict: Verdict) -> &'static str {
        match verdict {
            Verdict::Duplicate => "duplicate",
            Verdict::Next => "next",
            Verdict::Refused(error) => error.code.as_str(),
        }
    }

    /// Events 1 and 2 accepted with checksums 11 and 12.
    fn core() -> Core {
        let mut core = Core { epoch: 3, ..Core::default() };
        core.take(11);
        core.take(12);
        core.settle(2);
        core
    }

    #[test]
    fn the_last_sequence_is_the_last() {
        let checkpoint = Checkpoint { position: SEQUENCE_MAX - 1, ..Checkpoint::default() };
        let mut core = Core::restore(&Stored { checkpoint, ..Stored::default() });
        assert_eq!(code(core.judge(SEQUENCE_MAX, 1)), "next");
        core.take(1);
        assert_eq!(core.note(), Events { first: SEQUENCE_MAX, checksums: vec![1] });
        assert_eq!(code(core.judge(SEQUENCE_MAX, 1)), "duplicate");
        assert_eq!(code(core.judge(i64::MAX, 1)), "INVALID_ARGUMENT");
    }

    #[test]
    fn each_sequence_has_its_verdict() {
        let cases = [
            (0, 1, "INVALID_ARGUMENT"),
            (1, 11, "duplicate"),
            (2, 12, "duplicate"),
            (2, 99, "SEQUENCE_CONFLICT"),
            (3, 13, "next"),
            (4, 14, "SEQUENCE_GAP"),
            (i64::MAX, 14, "SEQUENCE_GAP"),
            (i64::MIN, 14, "INVALID_ARGUMENT"),
        ];
        for (sequence, checksum, expected) in cases {
            assert_eq!(code(core().judge(sequence, checksum)), expected, "{sequence}");
        }
    }

    #[test]
    fn only_the_current_epoch_may_push() {
        let code = |epoch| core().check_epoch(epoch).map_err(|error| error.code);
        assert_eq!([code(None), code(Some(3))], [Ok(()), Ok(())]);
        assert_eq!(code(Some(2)), Err(ErrorCode::ProducerFenced));
        assert_eq!(code(Some(4)), Err(ErrorCode::InvalidArgument));
    }

    #[test]
    fn what_was_planned_and_failed_must_come_again_with_the_same_bytes() {
        let mut core = core();
        core.take(13);
        core.take(14);
        assert_eq!(core.note(), Events { first: 3, checksums: vec![13, 14] });
        core.noted();
        core.settle(3);
        assert_eq!((core.accepted_through, core.expected()), (3, 4));
        assert_eq!([code(core.judge(4, 14)), code(core.judge(4, 99))], ["next", "SEQUENCE_CONFLICT"]);
        core.settle(0);
        assert_eq!(core.accepted_through, 3, "what is accepted stays accepted");
    }
}
