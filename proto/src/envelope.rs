//! The frame around every small structure that is stored: checkpoints, metadata commands, group state, manifests.
//!
//! Layout, big endian: magic `u16`, kind `u8`, version `u8`, length `u32`, CRC-32 `u32` over kind, version, length and
//! payload, then the payload. A reader refuses what it does not know instead of guessing.

use bytes::{Buf as _, Bytes};

const MAGIC: u16 = 0x5E05;

/// Bytes before the payload.
pub const ENVELOPE_BYTES: usize = 12;

/// Why stored bytes were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    #[error("stored structure is cut off: {have} bytes, {need} needed")]
    Torn { have: usize, need: usize },
    #[error("stored structure begins with {found:#06x}, not with {MAGIC:#06x}: not written by sunseo")]
    Magic { found: u16 },
    #[error(
        "stored structure has checksum {stored:#010x} but its bytes give {computed:#010x}: it was damaged"
    )]
    Checksum { stored: u32, computed: u32 },
    #[error("stored structure is kind {found}, kind {expected} was expected")]
    Kind { found: u8, expected: u8 },
    #[error("stored structure has version {found}, this binary reads up to {newest}: use a newer binary")]
    Version { found: u8, newest: u8 },
    #[error("stored structure does not decode: {0}")]
    Payload(String),
}

/// A frame that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    pub kind: u8,
    pub version: u8,
    pub payload: Bytes,
    /// Bytes of the whole frame, to find the next one.
    pub frame_bytes: usize,
}

/// Appends a frame around `payload` to `out`. The payload must be under 4 GiB.
pub fn seal_into(out: &mut Vec<u8>, kind: u8, version: u8, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    assert_eq!(length as usize, payload.len(), "an envelope holds less than 4 GiB");
    out.reserve(ENVELOPE_BYTES + payload.len());
    out.extend_from_slice(&MAGIC.to_be_bytes());
    out.extend_from_slice(&[kind, version]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&checksum(kind, version, length, payload).to_be_bytes());
    out.extend_from_slice(payload);
}

/// A frame around `payload`.
#[must_use]
pub fn seal(kind: u8, version: u8, payload: &[u8]) -> Bytes {
    let mut out = Vec::new();
    seal_into(&mut out, kind, version, payload);
    Bytes::from(out)
}

/// Fills in the head of a frame whose payload stands in its place already: the first [`ENVELOPE_BYTES`] of `frame` are overwritten, the
/// rest is the payload. Saves the copy that [`seal_into`] makes.
///
/// # Panics
/// When `frame` is shorter than a head.
pub fn seal_in_place(frame: &mut [u8], kind: u8, version: u8) {
    let (head, payload) = frame.split_at_mut(ENVELOPE_BYTES);
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    assert_eq!(length as usize, payload.len(), "an envelope holds less than 4 GiB");
    head[..2].copy_from_slice(&MAGIC.to_be_bytes());
    (head[2], head[3]) = (kind, version);
    head[4..8].copy_from_slice(&length.to_be_bytes());
    head[8..].copy_from_slice(&checksum(kind, version, length, payload).to_be_bytes());
}

/// Reads the frame at the start of `bytes`; what follows it is left alone.
///
/// # Errors
/// [`EnvelopeError::Torn`] when the frame goes on beyond the bytes, otherwise what does not fit.
pub fn open(bytes: &Bytes) -> Result<Opened, EnvelopeError> {
    if bytes.len() < ENVELOPE_BYTES {
        return Err(EnvelopeError::Torn { have: bytes.len(), need: ENVELOPE_BYTES });
    }
    let mut head = bytes.clone();
    let magic = head.get_u16();
    if magic != MAGIC {
        return Err(EnvelopeError::Magic { found: magic });
    }
    let (kind, version, length, stored) = (head.get_u8(), head.get_u8(), head.get_u32(), head.get_u32());
    let frame_bytes = ENVELOPE_BYTES + length as usize;
    if bytes.len() < frame_bytes {
        return Err(EnvelopeError::Torn { have: bytes.len(), need: frame_bytes });
    }
    let payload = bytes.slice(ENVELOPE_BYTES..frame_bytes);
    let computed = checksum(kind, version, length, &payload);
    if computed != stored {
        return Err(EnvelopeError::Checksum { stored, computed });
    }
    Ok(Opened { kind, version, payload, frame_bytes })
}

/// Reads a frame that must be of `kind` and at most version `newest`, and returns its version and payload.
///
/// # Errors
/// As [`open`], and for another kind or a newer version.
pub fn open_as(bytes: &Bytes, kind: u8, newest: u8) -> Result<(u8, Bytes), EnvelopeError> {
    let opened = open(bytes)?;
    if opened.kind != kind {
        return Err(EnvelopeError::Kind { found: opened.kind, expected: kind });
    }
    if opened.version > newest {
        return Err(EnvelopeError::Version { found: opened.version, newest });
    }
    Ok((opened.version, opened.payload))
}

/// The kinds in use, in one place so that none is given twice.
pub mod kind {
    pub const LOG_CHECKPOINT: u8 = 1;
    pub const JOURNAL_HEADER: u8 = 2;
    pub const JOURNAL_FRAME: u8 = 3;
    pub const SEGMENT_INDEX: u8 = 4;
    pub const META_PROPERTIES: u8 = 5;
    pub const METADATA_COMMAND: u8 = 10;
    pub const GROUP_RECORD: u8 = 11;
    pub const TIER_RECORD: u8 = 12;
    pub const ARCHIVE_RECORD: u8 = 13;
    pub const SEGMENT_OBJECT: u8 = 14;
    pub const TRANSACTION_RECORD: u8 = 15;
    pub const ABORTED_RUN: u8 = 16;
    pub const OUTBOX_CHECKPOINT: u8 = 20;
    pub const TASK_COMMIT: u8 = 30;
    pub const STORE_POSITION: u8 = 31;
}

fn checksum(kind: u8, version: u8, length: u32, payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&[kind, version]);
    crc.update(&length.to_be_bytes());
    crc.update(payload);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_opens_and_any_flipped_bit_is_seen() {
        let frame = seal(kind::GROUP_RECORD, 1, b"payload");
        assert_eq!(open_as(&frame, kind::GROUP_RECORD, 1), Ok((1, Bytes::from_static(b"payload"))));
        for bit in 0..frame.len() * 8 {
            let mut broken = frame.to_vec();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&Bytes::from(broken)).is_err(), "bit {bit}");
        }
        for cut in 0..frame.len() {
            assert!(matches!(open(&frame.slice(..cut)), Err(EnvelopeError::Torn { .. })), "cut at {cut}");
        }
    }

    #[test]
    fn another_kind_and_a_newer_version_are_refused() {
        let frame = seal(kind::GROUP_RECORD, 2, b"");
        assert!(matches!(open_as(&frame, kind::TIER_RECORD, 2), Err(EnvelopeError::Kind { .. })));
        assert!(matches!(open_as(&frame, kind::GROUP_RECORD, 1), Err(EnvelopeError::Version { .. })));
    }
}
