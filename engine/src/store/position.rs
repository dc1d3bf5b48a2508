//! Where the stores of a task stand, kept beside their data.

use bytes::Bytes;
use sunseo_proto::envelope::{kind, open_as, seal};
use sunseo_proto::{Error, ErrorCode};

use crate::runtime::commit::{CommitHead, put_head, take_head};
use crate::runtime::wire::{Fields, put_bytes, put_int};

const VERSION: u8 = 1;

/// The last commit that is applied, and from where to read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StorePosition {
    /// Identity of the task log's topic: a store that was built from another log is not used.
    pub log_id: Bytes,
    /// Offset in the task log after the commit.
    pub next_offset: i64,
    /// Offset of the oldest commit whose outputs are not all known to be in their topics; `next_offset` when there is none.
    pub replay_from: i64,
    /// Number of the output after the last one of the commit.
    pub next_output: i64,
    pub head: CommitHead,
}

impl StorePosition {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(256);
        put_bytes(&mut out, &self.log_id);
        put_int(&mut out, self.next_offset);
        put_int(&mut out, self.replay_from);
        put_int(&mut out, self.next_output);
        put_head(&mut out, &self.head);
        seal(kind::STORE_POSITION, VERSION, &out)
    }

    /// # Errors
    /// `CORRUPT_LOG` with what does not decode.
    pub(crate) fn decode(bytes: &Bytes) -> Result<Self, Error> {
        let (_, payload) = open_as(bytes, kind::STORE_POSITION, VERSION)
            .map_err(|error| Error::new(ErrorCode::CorruptLog, format!("store position: {error}")))?;
        let mut fields = Fields::new(payload, "store position");
        let log_id = fields.bytes()?;
        let (next_offset, replay_from, next_output) = (fields.int()?, fields.int()?, fields.int()?);
        let head = take_head(&mut fields)?;
        match fields.is_empty() {
            true => Ok(Self { log_id, next_offset, replay_from, next_output, head }),
            false => Err(fields.broken("bytes follow its end")),
        }
    }
}
