//! The state and how far in the log it stands. Pure.

use bytes::Bytes;
use sunseo_proto::error::{Error, ErrorCode, Result};

use super::command::{Change, Command};
use super::internal_topics::METADATA;
use super::{Event, State};

/// Index before the first command.
const NOTHING: i64 = -1;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fold {
    pub(super) state: State,
    /// Index of the last command that was folded.
    pub(super) applied: i64,
    /// Commands after the last snapshot.
    pub(super) since_snapshot: u64,
    /// Index of the last snapshot: what lies before it is not needed.
    pub(super) snapshot: i64,
}

impl Default for Fold {
    fn default() -> Self {
        Self { state: State::default(), applied: NOTHING, since_snapshot: 0, snapshot: NOTHING }
    }
}

impl Fold {
    /// Takes the command at `index`, the next one of the log. Refused commands stay in the log and count as folded.
    pub(super) fn apply(&mut self, index: i64, command: &Command) -> Result<Event> {
        let last = std::mem::replace(&mut self.applied, index);
        self.since_snapshot += 1;
        if let Some(Change::Snapshot(snapshot)) = &command.change {
            // one made without a command that got in between would undo it
            if last != NOTHING && snapshot.through != last {
                return Err(Error::new(ErrorCode::Unavailable, "a snapshot that is not the newest any more"));
            }
            (self.since_snapshot, self.snapshot) = (0, index);
        }
        self.state.apply(command)
    }
}

/// Reads a stored command.
pub(super) fn decode(index: i64, bytes: &Bytes) -> Result<Command> {
    Command::decode(bytes).map_err(|error| {
        let message = format!(
            "the command at offset {index} of {} does not decode: {error}; the node stays down: it must not go on with half of the truth",
            METADATA.name
        );
        Error::new(ErrorCode::CorruptLog, message)
    })
}
