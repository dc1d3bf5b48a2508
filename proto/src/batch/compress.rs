//! The five codecs of a batch. A decoder stops at [`MAX_RECORDS_BYTES`], so that a small block cannot fill the memory.

use std::io::{Read, Write as _};
use std::str::FromStr;

use bytes::Bytes;

use super::{BatchError, MAX_RECORDS_BYTES};

/// zstd's level: Kafka's default too, the best ratio per time.
const ZSTD_LEVEL: i32 = 3;

/// Frame that Kafka's Java client (xerial snappy-java) puts around blocks of snappy.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEAD_BYTES: usize = 16;
const XERIAL_BLOCK_BYTES: usize = 32 << 10;

/// How a batch's records are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    /// Every codec.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    pub(super) fn of_attributes(attributes: i16) -> Result<Self, BatchError> {
        let codec = attributes & 0x07;
        Self::ALL.get(codec as usize).copied().ok_or(BatchError::Codec(codec))
    }

    pub(super) fn attribute(self) -> i16 {
        self as i16
    }

    /// The name in commands and configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    pub(super) fn compress(self, plain: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(plain.to_vec()),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(plain)?;
                encoder.finish()
            }
            Self::Snappy => compress_snappy(plain),
            Self::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(plain)?;
                encoder.finish().map_err(std::io::Error::other)
            }
            Self::Zstd => zstd::bulk::compress(plain, ZSTD_LEVEL),
        }
    }

    pub(super) fn decompress(self, block: &Bytes) -> Result<Bytes, BatchError> {
        let result = match self {
            Self::None => return Ok(block.clone()),
            Self::Gzip => read_bounded(flate2::read::GzDecoder::new(block.as_ref()), block.len()),
            Self::Snappy => return decompress_snappy(block).map(Bytes::from),
            Self::Lz4 => read_bounded(lz4_flex::frame::FrameDecoder::new(block.as_ref()), block.len()),
            Self::Zstd => zstd_decoder(block).and_then(|decoder| read_bounded(decoder, block.len())),
        };
        let plain = result.map_err(|e| self.broken(e.to_string()))?;
        if plain.len() > MAX_RECORDS_BYTES {
            return Err(BatchError::TooLarge { limit: MAX_RECORDS_BYTES });
        }
        Ok(Bytes::from(plain))
    }

    fn broken(self, what: impl Into<String>) -> BatchError {
        BatchError::Decompress { codec: self.as_str(), what: what.into() }
    }
}

impl FromStr for Compression {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|c| c.as_str() == text).ok_or_else(|| {
            let message = format!("compression '{text}' is unknown: use none, gzip, snappy, lz4 or zstd");
            crate::Error::invalid("compression", message)
        })
    }
}

/// A frame may ask for a window of 128 MiB before its first byte is read, which is more than it may hold.
fn zstd_decoder(block: &[u8]) -> std::io::Result<impl Read> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(block)?;
    decoder.window_log_max(MAX_RECORDS_BYTES.ilog2())?;
    Ok(decoder)
}

/// One byte more than the limit, which is how the caller sees that it was passed.
const ROOM_BYTES: usize = MAX_RECORDS_BYTES + 1;

/// Reads at most [`ROOM_BYTES`]. `packed_bytes` is what they are packed into.
fn read_bounded(mut decoder: impl Read, packed_bytes: usize) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    while plain.len() < ROOM_BYTES {
        let more = plain.len().max(2 * packed_bytes).max(FIRST_BYTES).min(ROOM_BYTES - plain.len());
        plain.reserve_exact(more);
        if decoder.by_ref().take(more as u64).read_to_end(&mut plain)? < more {
            break;
        }
    }
    Ok(plain)
}

/// Room for the first bytes of a small block.
const FIRST_BYTES: usize = 512;

/// Room for so many bytes more, that are within the limit. A vector that doubles by itself would take twice the limit.
fn make_room(plain: &mut Vec<u8>, more: usize) {
    if plain.capacity() - plain.len() < more {
        plain.reserve_exact(plain.len().max(more).min(ROOM_BYTES - plain.len()));
    }
}

fn compress_snappy(plain: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::from(XERIAL_MAGIC);
    out.extend_from_slice(&1_i32.to_be_bytes());
    out.extend_from_slice(&1_i32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in plain.chunks(XERIAL_BLOCK_BYTES) {
        let packed = encoder.compress_vec(block).map_err(std::io::Error::other)?;
        // a block is at most 32 KiB, its snappy form a little more
        out.extend_from_slice(&(packed.len() as u32).to_be_bytes());
        out.extend_from_slice(&packed);
    }
    Ok(out)
}

fn decompress_snappy(block: &[u8]) -> Result<Vec<u8>, BatchError> {
    if !block.starts_with(&XERIAL_MAGIC) {
        let mut plain = Vec::new();
        append_snappy_block(&mut plain, block)?;
        return Ok(plain);
    }
    let cut_off = || Compression::Snappy.broken("cut off");
    let mut rest = block.get(XERIAL_HEAD_BYTES..).ok_or_else(cut_off)?;
    let mut plain = Vec::new();
    while !rest.is_empty() {
        let (length, tail) = rest.split_first_chunk::<4>().ok_or_else(cut_off)?;
        let length = u32::from_be_bytes(*length) as usize;
        let packed = tail.get(..length).ok_or_else(cut_off)?;
        append_snappy_block(&mut plain, packed)?;
        rest = &tail[length..];
    }
    Ok(plain)
}

fn append_snappy_block(plain: &mut Vec<u8>, packed: &[u8]) -> Result<(), BatchError> {
    let broken = |e: snap::Error| Compression::Snappy.broken(e.to_string());
    let length = snap::raw::decompress_len(packed).map_err(broken)?;
    let start = plain.len();
    if start + length > MAX_RECORDS_BYTES {
        return Err(BatchError::TooLarge { limit: MAX_RECORDS_BYTES });
    }
    make_room(plain, length);
    plain.resize(start + length, 0);
    snap::raw::Decoder::new().decompress(packed, &mut plain[start..]).map_err(broken)?;
    Ok(())
}
