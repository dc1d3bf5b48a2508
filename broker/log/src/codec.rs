//! Reading the payload of an envelope field by field. A short payload is an error, never a panic. Writing is `bytes::BufMut`.

use bytes::{Buf as _, BufMut as _, Bytes};
use sunseo_proto::envelope::EnvelopeError;
use sunseo_proto::{PartitionId, TopicId};

type Result<T> = std::result::Result<T, EnvelopeError>;

/// What is left of a payload.
#[derive(Debug)]
pub(crate) struct Decoder(Bytes);

impl Decoder {
    pub(crate) fn new(payload: Bytes) -> Self {
        Self(payload)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn need(&self, bytes: usize) -> Result<()> {
        match self.0.len() >= bytes {
            true => Ok(()),
            false => Err(EnvelopeError::Payload(format!("{bytes} bytes wanted, {} left", self.0.len()))),
        }
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        self.need(1)?;
        Ok(self.0.get_u8())
    }

    pub(crate) fn bool(&mut self) -> Result<bool> {
        Ok(self.u8()? != 0)
    }

    pub(crate) fn i16(&mut self) -> Result<i16> {
        self.need(2)?;
        Ok(self.0.get_i16())
    }

    pub(crate) fn i32(&mut self) -> Result<i32> {
        self.need(4)?;
        Ok(self.0.get_i32())
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        self.need(4)?;
        Ok(self.0.get_u32())
    }

    pub(crate) fn i64(&mut self) -> Result<i64> {
        self.need(8)?;
        Ok(self.0.get_i64())
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        self.need(8)?;
        Ok(self.0.get_u64())
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Result<Bytes> {
        self.need(length)?;
        Ok(self.0.split_to(length))
    }

    /// A length and as many bytes of text.
    pub(crate) fn text(&mut self) -> Result<String> {
        let length = self.u32()? as usize;
        let bytes = self.bytes(length)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| EnvelopeError::Payload("text is not UTF-8".into()))
    }

    pub(crate) fn partition(&mut self) -> Result<PartitionId> {
        let topic = self.bytes(16)?;
        let topic_id =
            TopicId::from_slice(&topic).ok_or_else(|| EnvelopeError::Payload("no topic id".into()))?;
        Ok(PartitionId { topic_id, partition: self.i32()? })
    }
}

pub(crate) fn put_partition(out: &mut Vec<u8>, id: PartitionId) {
    out.put_slice(id.topic_id.as_bytes());
    out.put_i32(id.partition);
}

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    // texts here are reasons of a few hundred bytes
    out.put_u32(text.len() as u32);
    out.put_slice(text.as_bytes());
}
