//! Leader epochs of a partition: epoch -> offset of its first record. Pure.
//!
//! Invariants: epochs and offsets both rise; an epoch that got no record is replaced by the next one at the same offset.

use bytes::BufMut as _;
use sunseo_proto::envelope::EnvelopeError;

use crate::codec::Decoder;

/// Oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Epochs(Vec<(i32, i64)>);

impl Epochs {
    /// The newest epoch and its first offset.
    pub(crate) fn newest(&self) -> Option<(i32, i64)> {
        self.0.last().copied()
    }

    /// Begins `epoch` at `end` unless it or a newer one has begun. Returns whether it did.
    pub(crate) fn begin(&mut self, epoch: i32, end: i64) -> bool {
        if self.newest().is_some_and(|(newest, _)| epoch <= newest) {
            return false;
        }
        self.0.retain(|&(_, start)| start < end);
        self.0.push((epoch, end));
        true
    }

    /// Drops what lies wholly below the log start: the epoch that holds it stays, beginning there.
    pub(crate) fn trim_below(&mut self, log_start: i64) {
        let holder = self.0.partition_point(|&(_, start)| start <= log_start).saturating_sub(1);
        self.0.drain(..holder);
        if let Some((_, start)) = self.0.first_mut() {
            *start = (*start).max(log_start);
        }
    }

    pub(crate) fn entries(&self) -> &[(i32, i64)] {
        &self.0
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.0.len() as u32);
        for &(epoch, start) in &self.0 {
            out.put_i32(epoch);
            out.put_i64(start);
        }
    }

    pub(crate) fn decode(from: &mut Decoder) -> Result<Self, EnvelopeError> {
        let count = from.u32()?;
        (0..count).map(|_| Ok((from.i32()?, from.i64()?))).collect::<Result<Vec<_>, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_rise_and_an_empty_one_is_replaced() {
        let mut epochs = Epochs::default();
        assert!(epochs.begin(1, 0));
        assert!(!epochs.begin(1, 5) && !epochs.begin(0, 5));
        assert!(epochs.begin(3, 10));
        assert!(epochs.begin(4, 10));
        assert_eq!(epochs.entries(), [(1, 0), (4, 10)]);
    }

    #[test]
    fn the_epoch_that_holds_the_log_start_stays() {
        let mut epochs = Epochs::default();
        for (epoch, start) in [(1, 0), (2, 10), (3, 20)] {
            epochs.begin(epoch, start);
        }
        epochs.trim_below(15);
        assert_eq!(epochs.entries(), [(2, 15), (3, 20)]);
        epochs.trim_below(20);
        assert_eq!(epochs.entries(), [(3, 20)]);
        epochs.trim_below(5);
        assert_eq!(epochs.entries(), [(3, 20)]);
    }

    #[test]
    fn epochs_survive_their_encoding() {
        let epochs = Epochs(vec![(1, 0), (7, 90)]);
        let mut out = Vec::new();
        epochs.encode(&mut out);
        assert_eq!(Epochs::decode(&mut Decoder::new(out.into())), Ok(epochs));
    }
}
