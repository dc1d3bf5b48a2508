//! Lengths and checksums of changed bytes, made right again: what a checksum catches shows nothing about the decoder behind it. Pure.

use sunseo_proto::batch::HEADER_BYTES;
use sunseo_proto::envelope::{ENVELOPE_BYTES, seal_in_place};
use sunseo_proto::fuzz::Seal;

/// Bytes behind the envelope of a footer.
const TRAILER_BYTES: usize = 8;

/// Makes the bytes whole on the outside.
pub fn mend(bytes: &mut [u8], seal: Seal) {
    match seal {
        Seal::None => {}
        Seal::Envelopes => envelopes(bytes),
        Seal::Batches => batches(bytes),
        Seal::Footer { magic } => {
            if let Some(length) = bytes.len().checked_sub(TRAILER_BYTES) {
                let (envelope, trailer) = bytes.split_at_mut(length);
                if envelope.len() >= ENVELOPE_BYTES {
                    let (kind, version) = (envelope[2], envelope[3]);
                    seal_in_place(envelope, kind, version);
                }
                trailer[..4].copy_from_slice(&(length as u32).to_be_bytes());
                trailer[4..].copy_from_slice(&magic.to_be_bytes());
            }
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    bytes[at..].first_chunk().map_or(0, |field| u32::from_be_bytes(*field) as usize)
}

/// A length that goes beyond the bytes becomes what is left; zeros between frames are fill.
fn envelopes(mut rest: &mut [u8]) {
    loop {
        let fill = rest.iter().take_while(|byte| **byte == 0).count();
        rest = &mut rest[fill..];
        if rest.len() < ENVELOPE_BYTES {
            return;
        }
        let whole = Some(ENVELOPE_BYTES + u32_at(rest, 4)).filter(|whole| *whole <= rest.len());
        let (frame, tail) = rest.split_at_mut(whole.unwrap_or(rest.len()));
        let (kind, version) = (frame[2], frame[3]);
        seal_in_place(frame, kind, version);
        rest = tail;
    }
}

fn batches(mut rest: &mut [u8]) {
    while rest.len() >= HEADER_BYTES {
        let whole = Some(12 + u32_at(rest, 8)).filter(|whole| (HEADER_BYTES..=rest.len()).contains(whole));
        let (batch, tail) = rest.split_at_mut(whole.unwrap_or(rest.len()));
        let length = (batch.len() - 12) as u32;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[16] = 2;
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &batch[21..]) as u32;
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        rest = tail;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use sunseo_proto::{batch, envelope, fuzz};

    #[test]
    fn what_was_broken_reads_again() {
        for target in fuzz::TARGETS {
            let (Seal::Batches | Seal::Envelopes) = target.seal else { continue };
            for sample in (target.samples)() {
                let mut changed = sample.clone();
                // a byte of the length and one of the content
                changed[if target.seal == Seal::Batches { 8 } else { 4 }] = 0x7F;
                *changed.last_mut().expect("not empty") ^= 1;
                mend(&mut changed, target.seal);
                let bytes = Bytes::from(changed);
                match target.seal {
                    Seal::Batches => drop(batch::validate(&bytes).expect("a batch")),
                    _ => drop(envelope::open(&bytes).expect("an envelope")),
                }
            }
        }
    }
}
