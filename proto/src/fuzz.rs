//! What a fuzz target is, and the targets of this crate. For tests only (feature `testing`).
//!
//! A crate lists its decoders as [`Target`]s from within, so that none of them becomes public for a test. `sunseo-fuzz` changes real
//! examples at random and runs them.

use bytes::Bytes;

use crate::batch::Compression;
use crate::batch::fuzz as batch;
use crate::envelope;
use crate::stream_codec::fuzz as streams;
use crate::varint::{len_i64, put_i64, take_i32, take_i64};

/// A decoder, and what must hold of it for any bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub name: &'static str,
    /// Decodes, and panics when that shows a defect: what was read and written again must be read as the same.
    pub run: fn(&[u8]),
    /// Real examples, from the encoders.
    pub samples: fn() -> Vec<Vec<u8>>,
    /// What a change has to mend before the decoder looks at it.
    pub seal: Seal,
    /// Bytes it may have allocated at a time, beside [`PER_BYTE_MAX`] for each byte of the input.
    pub memory_bytes_max: usize,
}

/// Memory for each byte of the input: two bytes on the wire can be a whole record with its empty fields.
pub const PER_BYTE_MAX: usize = 512;

/// Memory of a decoder that has no reason to take more than its input asks for.
pub const SMALL: usize = 256 << 10;

/// Lengths and checksums of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seal {
    /// It has none.
    None,
    /// [`envelope`]s, back to back.
    Envelopes,
    /// Record batches, back to back.
    Batches,
    /// An envelope, its length and this magic number, as at the end of a segment object.
    Footer { magic: u32 },
}

/// The targets of this crate.
pub const TARGETS: &[Target] = &[
    Target {
        name: "batch",
        run: batch::batch,
        samples: batch::samples,
        seal: Seal::Batches,
        memory_bytes_max: batch::MEMORY_BYTES_MAX,
    },
    Target {
        name: "batch_codecs",
        run: batch::codecs,
        samples: batch::plain_samples,
        seal: Seal::Batches,
        memory_bytes_max: batch::MEMORY_BYTES_MAX,
    },
    Target {
        name: "batches",
        run: batch::batches,
        samples: batch::several_samples,
        seal: Seal::Batches,
        memory_bytes_max: SMALL,
    },
    Target {
        name: "envelope",
        run: open_envelope,
        samples: envelope_samples,
        seal: Seal::Envelopes,
        memory_bytes_max: SMALL,
    },
    Target {
        name: "varint",
        run: varint,
        samples: varint_samples,
        seal: Seal::None,
        memory_bytes_max: SMALL,
    },
    Target {
        name: "stream",
        run: streams::incoming,
        samples: streams::samples,
        seal: Seal::None,
        memory_bytes_max: SMALL,
    },
];

/// A batch whose records are larger than a decoder accepts, from a block of at most a few hundred kilobytes.
#[must_use]
pub fn bomb(codec: Compression) -> Bytes {
    batch::bomb(codec)
}

/// What decoding any batch may hold.
pub const BATCH_BYTES_MAX: usize = batch::MEMORY_BYTES_MAX;

fn open_envelope(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(opened) = envelope::open(&bytes) {
        let again = envelope::seal(opened.kind, opened.version, &opened.payload);
        assert_eq!(again, bytes.slice(..opened.frame_bytes), "one payload has one envelope");
    }
}

fn envelope_samples() -> Vec<Vec<u8>> {
    let mut two = envelope::seal(envelope::kind::GROUP_RECORD, 1, b"payload").to_vec();
    envelope::seal_into(&mut two, envelope::kind::TIER_RECORD, 2, b"");
    vec![two]
}

fn varint(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok(value) = take_i64(&mut rest) {
        let mut again = Vec::new();
        put_i64(&mut again, value);
        assert_eq!(again.len(), len_i64(value), "{value}");
        assert_eq!(take_i64(&mut &again[..]), Ok(value));
        assert_eq!(take_i32(&mut &again[..]).ok(), i32::try_from(value).ok());
    }
}

fn varint_samples() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for value in [0, -1, 63, 64, -65, 1 << 20, i64::from(i32::MAX) + 1, i64::MAX, i64::MIN] {
        put_i64(&mut out, value);
    }
    vec![out]
}
