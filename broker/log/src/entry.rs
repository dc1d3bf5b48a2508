//! What a journal frame says. Pure.
//!
//! A frame is an envelope of kind `JOURNAL_FRAME`: nonce of the file, number of the frame, time, then entries. Numbers rise by one
//! over all files. An entry is in the journal before its effect is shown to anyone.

use bytes::{BufMut as _, Bytes};
use sunseo_proto::PartitionId;
use sunseo_proto::envelope::{self, EnvelopeError, kind};

use crate::codec::{Decoder, put_partition};
use crate::state::{decode_config, decode_segment, encode_config, encode_segment};
use crate::{PartitionConfig, SealedFacts};

/// Version of frames.
const VERSION: u8 = 1;

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

/// A frame's payload under construction.
#[derive(Debug, Default)]
pub(crate) struct FrameBuilder {
    payload: Vec<u8>,
    /// Where the length of the open data entry stands.
    open: Option<usize>,
}

/// Bytes before the first entry: nonce, number, time.
const HEAD_BYTES: usize = 24;

impl FrameBuilder {
    pub(crate) fn clear(&mut self) {
        self.payload.clear();
        self.payload.resize(HEAD_BYTES, 0);
        self.open = None;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.payload.len() <= HEAD_BYTES
    }

    pub(crate) fn bytes(&self) -> usize {
        self.payload.len()
    }

    /// Adds an entry other than data.
    pub(crate) fn add(&mut self, id: PartitionId, entry: &Entry) {
        self.open = None;
        let out = &mut self.payload;
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
            Entry::Data { base, at, batches } => {
                self.begin_data(id, *base, *at);
                self.extend_data(batches);
            }
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
        }
    }

    /// Opens a data entry; batches follow with [`FrameBuilder::extend_data`].
    pub(crate) fn begin_data(&mut self, id: PartitionId, base: i64, at: u64) {
        let out = &mut self.payload;
        out.put_u8(DATA);
        put_partition(out, id);
        out.put_i64(base);
        out.put_u64(at);
        self.open = Some(out.len());
        out.put_u32(0);
    }

    /// Adds bytes to the open data entry and returns where they are in the payload.
    pub(crate) fn extend_data(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let start = self.payload.len();
        self.payload.extend_from_slice(bytes);
        if let Some(at) = self.open {
            let length = (self.payload.len() - at - 4) as u32;
            self.payload[at..at + 4].copy_from_slice(&length.to_be_bytes());
        }
        start..self.payload.len()
    }

    /// The bytes at a place that [`FrameBuilder::extend_data`] returned.
    pub(crate) fn data_mut(&mut self, range: std::ops::Range<usize>) -> &mut [u8] {
        &mut self.payload[range]
    }

    pub(crate) fn data(&self, range: std::ops::Range<usize>) -> &[u8] {
        &self.payload[range]
    }

    /// Writes the frame's envelope to `out`, which is cleared before.
    pub(crate) fn finish(&mut self, nonce: u64, number: u64, now_ms: i64, out: &mut Vec<u8>) {
        self.payload[..8].copy_from_slice(&nonce.to_be_bytes());
        self.payload[8..16].copy_from_slice(&number.to_be_bytes());
        self.payload[16..HEAD_BYTES].copy_from_slice(&now_ms.to_be_bytes());
        out.clear();
        envelope::seal_into(out, kind::JOURNAL_FRAME, VERSION, &self.payload);
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
        entries.push(read_entry(from)?);
    }
    Ok(Frame { number, now_ms, entries, bytes: opened.frame_bytes })
}

fn read_entry(from: &mut Decoder) -> Result<(PartitionId, Entry), EnvelopeError> {
    let code = from.u8()?;
    let id = from.partition()?;
    let entry = match code {
        CREATE => Entry::Create(decode_config(from)?),
        CONFIGURE => Entry::Configure(decode_config(from)?),
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
        RESTORE => Entry::Restore(decode_segment(from)?),
        other => return Err(EnvelopeError::Payload(format!("journal entry {other} is unknown"))),
    };
    Ok((id, entry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sunseo_proto::TopicId;

    #[test]
    fn every_entry_survives_a_frame() {
        let id = PartitionId { topic_id: TopicId::random(), partition: 3 };
        let facts = SealedFacts { base_offset: 1, end_offset: 2, bytes: 3, max_timestamp_ms: 4 };
        let limits = PartitionConfig {
            retention_ms: Some(5),
            retention_bytes: Some(6),
            fsync: false,
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
            Entry::Delete,
        ];
        let mut builder = FrameBuilder::default();
        builder.clear();
        entries.iter().for_each(|entry| builder.add(id, entry));
        let mut bytes = Vec::new();
        builder.finish(11, 22, 33, &mut bytes);
        let bytes = Bytes::from(bytes);
        let frame = read_frame(&bytes, 11).expect("whole");
        assert_eq!((frame.number, frame.now_ms, frame.bytes), (22, 33, bytes.len()));
        assert_eq!(frame.entries, entries.map(|entry| (id, entry)));
        assert!(read_frame(&bytes, 12).is_err(), "of another use of the file");
    }
}
