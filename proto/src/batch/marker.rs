//! The control batch that ends a transaction in a partition, as Kafka writes it: one record whose key says commit or abort.
//!
//! It carries the producer's epoch after the transaction, one above that of its records (KIP-890). Attribute bit 9 says "abort", as the
//! record's key does, so that a fold over headers needs no records.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::Compression;
use super::build::BatchBuilder;
use super::header::{ABORT, CONTROL, TRANSACTIONAL};
use crate::record::Record;

/// Version of the record's key and value.
const VERSION: i16 = 0;
/// The key's type of an abort and of a commit.
const ABORT_TYPE: i16 = 0;
const COMMIT_TYPE: i16 = 1;

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ending {
    Commit,
    Abort,
}

/// The batch that ends the transaction of a producer, base offset 0. `epoch` is the one after the transaction.
#[must_use]
pub fn end_marker(
    producer_id: i64,
    epoch: i16,
    ending: Ending,
    coordinator_epoch: i32,
    timestamp_ms: i64,
) -> Bytes {
    let (kind, abort) = match ending {
        Ending::Commit => (COMMIT_TYPE, 0),
        Ending::Abort => (ABORT_TYPE, ABORT),
    };
    let (mut key, mut value) = (BytesMut::with_capacity(4), BytesMut::with_capacity(6));
    key.put_i16(VERSION);
    key.put_i16(kind);
    value.put_i16(VERSION);
    value.put_i32(coordinator_epoch);
    let mut builder = BatchBuilder::new(Compression::None).producer(producer_id, epoch, -1);
    builder = builder.with_attributes(TRANSACTIONAL | CONTROL | abort);
    builder.push(&Record::new(key, value, timestamp_ms));
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::super::{inspect, records, validate};
    use super::*;

    #[test]
    fn a_marker_says_the_same_in_its_header_and_its_record() {
        for (ending, kind) in [(Ending::Commit, 1), (Ending::Abort, 0)] {
            let bytes = end_marker(7, 3, ending, 9, 1_000);
            let header = validate(&bytes).expect("valid");
            assert!(header.is_control() && header.is_transactional() && !header.is_positioned());
            assert_eq!(header.is_abort(), ending == Ending::Abort);
            assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (7, 3, -1));
            let record = records(&bytes).expect("decodes").remove(0);
            assert_eq!(record.key.as_deref(), Some([0, 0, 0, kind].as_slice()));
            assert_eq!(record.value.as_deref(), Some([0, 0, 0, 0, 0, 9].as_slice()));
            assert_eq!(inspect(&bytes).expect("decodes").reserved_header, None);
        }
    }
}
