//! What a journal frame says. Pure.
//!
//! A frame is an envelope of kind `JOURNAL_FRAME`: nonce of the file, number of the frame, time, then entries. Numbers rise by one
//! over all files. An entry is in the journal before its effect is shown to anyone.

use bytes::{BufMut as _, Bytes};
use sunseo_proto::PartitionId;
use sunseo_proto::batch::{BatchHeader, Ending};
use sunseo_proto::envelope::{self, ENVELOPE_BYTES, EnvelopeError, kind};

use crate::clean::Cleaned;
use crate::codec::{Decoder, put_partition};
use crate::pages::PageBuffer;
use crate::state::{decode_config, decode_segment, encode_config, encode_segment};
use crate::{PartitionConfig, SealedFacts};

/// Version of frames; that of the partition's state, which some entries hold parts of.
const VERSION: u8 = crate::state::VERSION;

/// One change of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Create(PartitionConfig),
    Configure(PartitionConfig),
    Delete,
    Epoch {
        epoch: i32,
        start: i64,
    },
    /// Batches, stamped and back to back, that belong at byte `at` of the segment `base`.
    Data {
        base: i64,
        at: u64,
        batches: Bytes,
    },
    /// The segment `base` is durable up to byte `bytes`, which is offset `end`.
    Frontier {
        base: i64,
        bytes: u64,
        end: i64,
    },
    /// The active segment was closed.
    Seal,
    LogStart(i64),
    Evict {
        before: i64,
    },
    Restore(SealedFacts),
    /// A cleaned segment takes the place of those from `from` to `to`.
    Replace {
        from: i64,
        to: i64,
        by: SealedFacts,
    },
    /// The cleaner has come so far.
    Cleaned(Cleaned),
    /// A transaction has ended here. Of a partition without fsync, whose segment may lose the marker that says so.
    Ended(Ended),
}

/// What a transaction's marker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) producer_id: i64,
    /// Of the marker: above that of the transaction.
    pub(crate) epoch: i16,
    pub(crate) ending: Ending,
}

impl Ended {
    /// What a batch says if it is a marker.
    pub(crate) fn of(header: &BatchHeader) -> Option<Self> {
        let ending = if header.is_abort() { Ending::Abort } else { Ending::Commit };
        let (producer_id, epoch) = (header.producer_id, header.producer_epoch);
        (header.is_control() && header.is_transactional()).then_some(Self { producer_id, epoch, ending })
    }
}

const CREATE: u8 = 1;
const CONFIGURE: u8 = 2;
const DELETE: u8 = 3;
const EPOCH: u8 = 4;
const DATA: u8 = 5;
const FRONTIER: u8 = 6;
const SEAL: u8 = 7;
const LOG_START: u8 = 8;
const EVICT: u8 = 9;
const RESTORE: u8 = 10;
const REPLACE: u8 = 11;
const CLEANED: u8 = 12;
const ENDED: u8 = 13;

/// A frame under construction, in the place from which it is written: its batches are copied once, into it.
#[derive(Debug, Default)]
pub(crate) struct FrameBuilder {
    pages: PageBuffer,
    /// The entry that is being encoded.
    small: Vec<u8>,
    /// Where the length of the open data entry stands.
    open: Option<usize>,
}

/// Bytes before the first entry: the envelope's head, nonce, number, time.
const HEAD_BYTES: usize = ENVELOPE_BYTES + 24;

impl FrameBuilder {
    pub(crate) fn clear(&mut self) {
        self.pages.clear();
        self.pages.extend_from_slice(&[0; HEAD_BYTES]);
        self.open = None;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pages.len() <= HEAD_BYTES
    }

    /// Bytes of the frame so far, its envelope included.
    pub(crate) fn bytes(&self) -> usize {
        self.pages.len()
    }

    /// Adds an entry other than data.
    pub(crate) fn add(&mut self, id: PartitionId, entry: &Entry) {
        if let Entry::Data { base, at, batches } = entry {
            self.begin_data(id, *base, *at);
            self.extend_data(batches);
            return;
        }
        self.open = None;
        self.small.clear();
        let out = &mut self.small;
        let mut head = |code: u8| {
            out.put_u8(code);
            put_partition(out, id);
        };
        match entry {
            Entry::Create(config) => {
                head(CREATE);
                encode_config(config, out);
            }
            Entry::Configure(config) => {
                head(CONFIGURE);
                encode_config(config, out);
            }
            Entry::Delete => head(DELETE),
            Entry::Epoch { epoch, start } => {
                head(EPOCH);
                out.put_i32(*epoch);
                out.put_i64(*start);
            }
            // above
            Entry::Data { .. } => {}
            Entry::Frontier { base, bytes, end } => {
                head(FRONTIER);
                out.put_i64(*base);
                out.put_u64(*bytes);
                out.put_i64(*end);
            }
            Entry::Seal => head(SEAL),
            Entry::LogStart(offset) => {
                head(LOG_START);
                out.put_i64(*offset);
            }
            Entry::Evict { before } => {
                head(EVICT);
                out.put_i64(*before);
            }
            Entry::Restore(facts) => {
                head(RESTORE);
                encode_segment(facts, out);
            }
            Entry::Replace { from, to, by } => {
                head(REPLACE);
                out.put_i64(*from);
                out.put_i64(*to);
                encode_segment(by, out);
            }
            Entry::Cleaned(cleaned) => {
                head(CLEANED);
                cleaned.encode(out);
            }
            Entry::Ended(ended) => {
                head(ENDED);
                out.put_i64(ended.producer_id);
                out.put_i16(ended.epoch);
                out.put_u8(u8::from(ended.ending == Ending::Commit));
            }
        }
        self.pages.extend_from_slice(&self.small);
    }

    /// Opens a data entry; batches follow with [`FrameBuilder::extend_data`].
    pub(crate) fn begin_data(&mut self, id: PartitionId, base: i64, at: u64) {
        self.small.clear();
        let out = &mut self.small;
        out.put_u8(DATA);
        put_partition(out, id);
        out.put_i64(base);
        out.put_u64(at);
        out.put_u32(0);
        self.pages.extend_from_slice(&self.small);
        self.open = Some(self.pages.len() - 4);
    }

    /// Adds bytes to the open data entry and returns where they are in the frame.
    pub(crate) fn extend_data(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let start = self.pages.len();
        self.pages.extend_from_slice(bytes);
        let end = self.pages.len();
        if let Some(at) = self.open {
            let length = (end - at - 4) as u32;
            self.pages.as_mut_slice()[at..at + 4].copy_from_slice(&length.to_be_bytes());
        }
        start..end
    }

    /// The bytes at a place that [`FrameBuilder::extend_data`] returned.
    pub(crate) fn data_mut(&mut self, range: std::ops::Range<usize>) -> &mut [u8] {
        &mut self.pages.as_mut_slice()[range]
    }

    pub(crate) fn data(&self, range: std::ops::Range<usize>) -> &[u8] {
        &self.pages.as_slice()[range]
    }

    /// Numbers and seals the frame, and fills its last page with zeros; [`FrameBuilder::data`] stays where it is.
    pub(crate) fn finish(&mut self, nonce: u64, number: u64, now_ms: i64) {
        self.open = None;
        let frame = self.pages.as_mut_slice();
        let head = &mut frame[ENVELOPE_BYTES..HEAD_BYTES];
        head[..8].copy_from_slice(&nonce.to_be_bytes());
        head[8..16].copy_from_slice(&number.to_be_bytes());
        head[16..].copy_from_slice(&now_ms.to_be_bytes());
        envelope::seal_in_place(frame, kind::JOURNAL_FRAME, VERSION);
        self.pages.fill_page();
    }

    /// The pages of a finished frame.
    pub(crate) fn pages(&self) -> &[u8] {
        self.pages.as_slice()
    }
}

/// A frame that was read.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) number: u64,
    pub(crate) now_ms: i64,
    pub(crate) entries: Vec<(PartitionId, Entry)>,
    /// Bytes of its envelope.
    pub(crate) bytes: usize,
}

/// Reads the frame at the start of `bytes` if it belongs to the file with `nonce`.
pub(crate) fn read_frame(bytes: &Bytes, nonce: u64) -> Result<Frame, EnvelopeError> {
    let opened = envelope::open(bytes)?;
    if opened.kind != kind::JOURNAL_FRAME {
        return Err(EnvelopeError::Kind { found: opened.kind, expected: kind::JOURNAL_FRAME });
    }
    if opened.version > VERSION {
        return Err(EnvelopeError::Version { found: opened.version, newest: VERSION });
    }
    let from = &mut Decoder::new(opened.payload);
    let found = from.u64()?;
    if found != nonce {
        return Err(EnvelopeError::Payload("frame of an earlier use of the file".into()));
    }
    let (number, now_ms) = (from.u64()?, from.i64()?);
    let mut entries = Vec::new();
    while !from.is_empty() {
        entries.push(read_entry(from, opened.version)?);
    }
    Ok(Frame { number, now_ms, entries, bytes: opened.frame_bytes })
}

fn read_entry(from: &mut Decoder, version: u8) -> Result<(PartitionId, Entry), EnvelopeError> {
    let code = from.u8()?;
    let id = from.partition()?;
    let entry = match code {
        CREATE => Entry::Create(decode_config(from, version)?),
        CONFIGURE => Entry::Configure(decode_config(from, version)?),
        DELETE => Entry::Delete,
        EPOCH => Entry::Epoch { epoch: from.i32()?, start: from.i64()? },
        DATA => {
            let (base, at, length) = (from.i64()?, from.u64()?, from.u32()?);
            Entry::Data { base, at, batches: from.bytes(length as usize)? }
        }
        FRONTIER => Entry::Frontier { base: from.i64()?, bytes: from.u64()?, end: from.i64()? },
        SEAL => Entry::Seal,
        LOG_START => Entry::LogStart(from.i64()?),
        EVICT => Entry::Evict { before: from.i64()? },
        RESTORE => Entry::Restore(decode_segment(from, version)?),
        REPLACE => {
            let (first, to) = (from.i64()?, from.i64()?);
            Entry::Replace { from: first, to, by: decode_segment(from, version)? }
        }
        CLEANED => Entry::Cleaned(Cleaned::decode(from)?),
        ENDED => {
            let (producer_id, epoch) = (from.i64()?, from.i16()?);
            let ending = if from.bool()? { Ending::Commit } else { Ending::Abort };
            Entry::Ended(Ended { producer_id, epoch, ending })
        }
        other => return Err(EnvelopeError::Payload(format!("journal entry {other} is unknown"))),
    };
    Ok((id, entry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Compaction;
    use crate::pages::PAGE_BYTES;
    use sunseo_proto::TopicId;

    #[test]
    fn every_entry_survives_a_frame() {
        let id = PartitionId { topic_id: TopicId::random(), partition: 3 };
        let facts =
            SealedFacts { base_offset: 1, end_offset: 2, bytes: 3, max_timestamp_ms: 4, generation: 5 };
        let limits = PartitionConfig {
            retention_ms: Some(5),
            retention_bytes: Some(6),
            fsync: false,
            compaction: Some(Compaction { delete_retention_ms: 7, min_lag_ms: 8, min_dirty_permille: 9 }),
            ..PartitionConfig::default()
        };
        let entries = [
            Entry::Create(PartitionConfig::default()),
            Entry::Configure(limits),
            Entry::Epoch { epoch: 4, start: 9 },
            Entry::Data { base: 0, at: 7, batches: Bytes::from_static(b"batches") },
            Entry::Frontier { base: 0, bytes: 100, end: 12 },
            Entry::Seal,
            Entry::LogStart(5),
            Entry::Evict { before: 6 },
            Entry::Restore(facts),
            Entry::Replace { from: 1, to: 9, by: facts },
            Entry::Cleaned(Cleaned { through: 1, at_ms: 2, horizon_ms: Some(3), runs: 4, removed_bytes: 5 }),
            Entry::Ended(Ended { producer_id: 1, epoch: 2, ending: Ending::Commit }),
            Entry::Ended(Ended { producer_id: 3, epoch: 4, ending: Ending::Abort }),
            Entry::Delete,
        ];
        let mut builder = FrameBuilder::default();
        builder.clear();
        entries.iter().for_each(|entry| builder.add(id, entry));
        let length = builder.bytes();
        builder.finish(11, 22, 33);
        let bytes = Bytes::copy_from_slice(builder.pages());
        let frame = read_frame(&bytes, 11).expect("whole");
        assert_eq!((frame.number, frame.now_ms, frame.bytes), (22, 33, length));
        assert_eq!(bytes.len(), length.next_multiple_of(PAGE_BYTES));
        assert_eq!(frame.entries, entries.map(|entry| (id, entry)));
        assert!(read_frame(&bytes, 12).is_err(), "of another use of the file");
    }
}
