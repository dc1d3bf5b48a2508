//! Zigzag variable-length integers, as in protobuf's `sint32`/`sint64` and Kafka's records.

/// A value did not end within the bytes, or is longer than its type allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("variable-length integer is cut off or too long")]
pub struct VarintError;

/// Appends `value`.
#[inline]
pub fn put_i64(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends `value`.
pub fn put_i32(out: &mut Vec<u8>, value: i32) {
    put_i64(out, i64::from(value));
}

/// Takes an integer from the front of `bytes`.
///
/// # Errors
/// When it is cut off or longer than ten bytes.
#[inline]
pub fn take_i64(bytes: &mut &[u8]) -> Result<i64, VarintError> {
    // most of a record's numbers have one byte or two
    let zigzag = match **bytes {
        [first, ref rest @ ..] if first < 0x80 => {
            *bytes = rest;
            u64::from(first)
        }
        [first, second, ref rest @ ..] if second < 0x80 => {
            *bytes = rest;
            u64::from(first & 0x7f) | u64::from(second) << 7
        }
        _ => return take_long(bytes),
    };
    Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
}

fn take_long(bytes: &mut &[u8]) -> Result<i64, VarintError> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        if index == 9 && *byte > 1 {
            return Err(VarintError);
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *bytes = &bytes[index + 1..];
            return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    Err(VarintError)
}

/// Takes an integer that must fit 32 bits.
///
/// # Errors
/// As [`take_i64`], and when it does not fit.
#[inline]
pub fn take_i32(bytes: &mut &[u8]) -> Result<i32, VarintError> {
    i32::try_from(take_i64(bytes)?).map_err(|_| VarintError)
}

/// Bytes that [`put_i64`] would append.
#[must_use]
pub fn len_i64(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    let bits = 64 - (zigzag | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_integer_survives(value: i64) {
            let mut out = Vec::new();
            put_i64(&mut out, value);
            prop_assert_eq!(out.len(), len_i64(value));
            let mut rest = out.as_slice();
            prop_assert_eq!(take_i64(&mut rest), Ok(value));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let mut rest = bytes.as_slice();
            let _ = take_i64(&mut rest);
            let _ = take_i32(&mut bytes.as_slice());
        }
    }

    #[test]
    fn a_cut_off_integer_is_refused() {
        assert_eq!(take_i64(&mut [0x80, 0x80].as_slice()), Err(VarintError));
        assert_eq!(take_i64(&mut [0xff; 11].as_slice()), Err(VarintError));
        assert_eq!(take_i64(&mut [].as_slice()), Err(VarintError));
    }
}
