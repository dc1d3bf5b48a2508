//! A record's value: the number, and padding that follows from it, so that a changed byte is seen.

use bytes::{BufMut as _, Bytes, BytesMut};

/// The bytes of a value with so much padding.
#[must_use]
pub fn encode(value: u64, padding: usize) -> Bytes {
    let mut bytes = BytesMut::with_capacity(8 + padding);
    bytes.put_u64(value);
    bytes.extend((0..padding).map(|at| pad(value, at)));
    bytes.freeze()
}

/// The value; `None` when the bytes are not those of any.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<u64> {
    let (value, padding) = bytes.split_first_chunk::<8>()?;
    let value = u64::from_be_bytes(*value);
    padding.iter().enumerate().all(|(at, byte)| *byte == pad(value, at)).then_some(value)
}

fn pad(value: u64, at: usize) -> u8 {
    (value.wrapping_mul(31).wrapping_add(at as u64) % 251) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_byte_of_a_payload_is_seen() {
        let bytes = encode(77, 100);
        assert_eq!(decode(&bytes), Some(77));
        for at in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1;
            assert_ne!(decode(&changed), Some(77), "byte {at}");
        }
    }
}
