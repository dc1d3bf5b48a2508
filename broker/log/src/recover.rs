//! Recovery's decisions: the checkpoint's states and the journal's entries folded into what every partition must be. Pure: the shell
//! (`open.rs`) brings frames and the batches it finds in segments, and does the actions.
//!
//! An entry is folded in when its frame is later than what the partition's state has seen. What does not fit is damage: the partition
//! keeps what it had, and nothing of it is cut.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use sunseo_proto::PartitionId;
use sunseo_proto::batch::{self, BatchHeader};
use sunseo_proto::position::PositionRange;

use crate::PartitionConfig;
use crate::checkpoint::Checkpoint;
use crate::entry::{Ended, Entry};
use crate::state::PartitionState;

/// A partition so far.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) state: PartitionState,
    pub(crate) damage: Option<String>,
    /// Segments that were written, or noted as durable, since the checkpoint.
    pub(crate) touched: BTreeSet<i64>,
    /// Transactions whose markers were written since the checkpoint and may be lost, in their order.
    pub(crate) ended: Vec<Ended>,
}

impl Replayed {
    fn new(state: PartitionState, damage: Option<String>) -> Self {
        Self { state, damage, touched: BTreeSet::new(), ended: Vec::new() }
    }
}

/// What the shell is to do for an entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Write batches to a segment.
    Write { base: i64, at: u64, batches: Bytes },
    /// Fold the batches of a segment between two places in, with [`Replay::scanned`]; they must end at offset `end`.
    Scan { base: i64, from: u64, to: u64, end: i64 },
}

#[derive(Debug)]
pub(crate) struct Replay {
    checkpoint_frame: u64,
    last_frame: Option<u64>,
    /// Why frames are missing in the middle of the journal.
    pub(crate) journal_damage: Option<String>,
    pub(crate) partitions: BTreeMap<PartitionId, Replayed>,
}

impl Replay {
    pub(crate) fn new(checkpoint: Checkpoint) -> Self {
        let Checkpoint { frame, partitions, .. } = checkpoint;
        let states = partitions.into_iter().map(|(id, section)| {
            let (state, damage) = match section {
                Ok(state) => (state, None),
                Err(error) => {
                    let state = PartitionState::new(id, PartitionConfig::default(), frame);
                    (state, Some(format!("its section of the checkpoint is damaged: {error}")))
                }
            };
            (id, Replayed::new(state, damage))
        });
        Self { checkpoint_frame: frame, last_frame: None, journal_damage: None, partitions: states.collect() }
    }

    /// The number of the last frame there was.
    pub(crate) fn last_frame(&self) -> u64 {
        self.last_frame.unwrap_or(0).max(self.checkpoint_frame)
    }

    /// Notes the number of a frame that was found; frames are found in the order of the journal.
    pub(crate) fn frame(&mut self, number: u64) {
        let expected = match self.last_frame {
            Some(last) => last + 1,
            None => number.min(self.checkpoint_frame + 1),
        };
        if number != expected {
            self.damage_journal(format!("frame {expected} is damaged, and frame {number} follows it"));
        }
        self.last_frame = Some(number);
    }

    pub(crate) fn damage_journal(&mut self, what: String) {
        self.journal_damage.get_or_insert(what);
    }

    /// Folds one entry in.
    pub(crate) fn apply(&mut self, frame: u64, now_ms: i64, id: PartitionId, entry: Entry) -> Option<Action> {
        let Some(known) = self.partitions.get_mut(&id) else {
            if let Entry::Create(config) = entry
                && frame > self.checkpoint_frame
            {
                // what follows in the same frame is news too
                let state = PartitionState::new(id, config, frame - 1);
                self.partitions.insert(id, Replayed::new(state, None));
            }
            return None;
        };
        if frame <= known.state.frame {
            return None;
        }
        if entry == Entry::Delete {
            self.partitions.remove(&id);
            return None;
        }
        if known.damage.is_some() || known.state.quarantined.is_some() {
            return None;
        }
        known.apply(now_ms, entry)
    }

    /// Folds a batch in that was found where [`Action::Scan`] sent the shell.
    pub(crate) fn scanned(
        &mut self,
        id: PartitionId,
        header: &BatchHeader,
        position: Option<PositionRange>,
        now_ms: i64,
    ) {
        if let Some(known) = self.partitions.get_mut(&id) {
            known.state.push(header, position, now_ms);
        }
    }

    pub(crate) fn damage(&mut self, id: PartitionId, what: String) {
        if let Some(known) = self.partitions.get_mut(&id) {
            known.damage.get_or_insert(what);
        }
    }
}

impl Replayed {
    fn apply(&mut self, now_ms: i64, entry: Entry) -> Option<Action> {
        let state = &mut self.state;
        match entry {
            Entry::Create(config) | Entry::Configure(config) => state.config = config,
            Entry::Epoch { epoch, start } => {
                state.epochs.begin(epoch, start);
            }
            Entry::LogStart(offset) => {
                state.set_log_start(offset);
            }
            Entry::Evict { before } => {
                state.evict(before);
            }
            Entry::Restore(facts) if facts.end_offset == state.local_start() => state.restore(facts),
            Entry::Replace { from, to, by } => {
                if state.replace(from, to, &[by]).is_none() {
                    let what = format!("segments {from} to {to} were cleaned, but they are not there");
                    self.damage = Some(what);
                }
            }
            Entry::Cleaned(cleaned) => state.cleaned = cleaned,
            Entry::Ended(ended) => self.ended.push(ended),
            // it was there already
            Entry::Restore(_) | Entry::Delete => {}
            Entry::Seal => {
                self.touched.insert(state.active.base);
                state.seal();
            }
            Entry::Data { base, at, batches } => return self.data(now_ms, base, at, batches),
            Entry::Frontier { base, bytes, end } => return self.frontier(base, bytes, end),
        }
        None
    }

    fn data(&mut self, now_ms: i64, base: i64, at: u64, batches: Bytes) -> Option<Action> {
        if !self.is_at(base, at) {
            return None;
        }
        for step in batch::batches(batches.clone()) {
            let batch = match step {
                Ok((header, _)) if header.base_offset != self.state.end() => {
                    Err(format!("offset {} is journaled after {}", header.base_offset, self.state.end()))
                }
                Ok((header, bytes)) => {
                    batch::position_of(&bytes).map(|p| (header, p)).map_err(|e| e.to_string())
                }
                Err(error) => Err(error.to_string()),
            };
            match batch {
                Ok((header, position)) => self.state.push(&header, position, now_ms),
                Err(what) => {
                    self.damage = Some(format!("a journaled batch does not fit: {what}"));
                    return None;
                }
            }
        }
        self.touched.insert(base);
        Some(Action::Write { base, at, batches })
    }

    fn frontier(&mut self, base: i64, bytes: u64, end: i64) -> Option<Action> {
        let from = self.state.active.bytes;
        if !self.is_at(base, from.min(bytes)) {
            return None;
        }
        self.touched.insert(base);
        (bytes > from).then_some(Action::Scan { base, from, to: bytes, end })
    }

    /// Whether the active segment begins at `base` and stands at byte `at`; anything else is damage.
    fn is_at(&mut self, base: i64, at: u64) -> bool {
        let active = &self.state.active;
        let fits = (active.base, active.bytes) == (base, at);
        if !fits {
            let what = format!(
                "the journal goes on at byte {at} of segment {base}, but byte {} of segment {} is what is there",
                active.bytes, active.base
            );
            self.damage = Some(what);
        }
        fits
    }
}
