//! Where a shard stands: the note that is written behind its appends, and the fold over those notes. Pure.
//!
//! Why each row or event is in the log exactly once, whatever crashes when:
//!
//! 1. Positions rise in commit order: the rowid of an AUTOINCREMENT table, the dense sequence of a pushed shard.
//! 2. A shard's records go through one positioned producer. A partition appends a batch only if its first position is above
//!    the last one it has of that producer, and at most one batch per partition is in flight. So a repeat is dropped.
//! 3. A note that says "everything up to P is durable" is written only after the appends up to P were acknowledged. A restart
//!    begins after the last note. What follows it is sent again to the same partitions, and rule 2 drops what is there. One
//!    transaction may touch several partitions: the note is the minimum, the partitions tell the rest.
//! 4. "The same partitions" holds because the number of a topic's partitions is *pinned* in the note before it is first
//!    used: rows after P are spread over the pinned number also after a restart, even if the topic has grown meanwhile.
//! 5. Two readers of one source cannot both write: opening the producer raises its epoch, which fences the other.
//!
//! A pushed shard also notes the checksums of the events it is about to append, before it appends them, so that a sequence
//! that comes again with other bytes is told apart from a repeat even if its first answer was lost.
//!
//! The limit of rule 2: a producer's identity lasts for 32,768 openings, one for each start of its source. If a server crashes
//! during the last of them, what follows its last note is sent again under a new identity, and lands twice.
//!
//! Not here: writing and reading the notes ([`crate::checkpoint`]).

use std::collections::BTreeMap;

use bytes::Bytes;
use sunseo_proto::envelope::{EnvelopeError, kind, open_as, seal};

use crate::ingest::core::SEQUENCE_MAX;
use crate::ingest::window::Window;
use crate::names::{parse_shard_key, shard_key};

const VERSION: u8 = 1;

/// Topics of one shard; each of its notes names them all.
pub const SHARD_TOPICS_MAX: usize = 1_000;

/// What a note says about its shard.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Checkpoint {
    /// Of the shard's positioned producer.
    #[prost(int64, tag = "1")]
    pub producer_id: i64,
    #[prost(int32, tag = "2")]
    pub epoch: i32,
    /// Everything up to here is durable.
    #[prost(int64, tag = "3")]
    pub position: i64,
    /// Partitions by topic, for everything after `position`.
    #[prost(btree_map = "string, int32", tag = "4")]
    pub partitions: BTreeMap<String, i32>,
    /// Set for tables.
    #[prost(message, optional, tag = "5")]
    pub rows: Option<Rows>,
    /// Set for pushed shards.
    #[prost(message, optional, tag = "6")]
    pub events: Option<Events>,
}

/// What a note says about a table.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Rows {
    #[prost(int64, tag = "1")]
    pub published: i64,
    #[prost(int64, tag = "2")]
    pub quarantined: i64,
    #[prost(int64, tag = "3")]
    pub dropped: i64,
    #[prost(int64, tag = "4")]
    pub last_timestamp_ms: i64,
    /// CRC-32 of the id of the row at `position`: another id there means another database.
    #[prost(fixed32, tag = "5")]
    pub id_checksum: u32,
}

/// What a note says about a pushed shard.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Events {
    /// Sequence of the first checksum.
    #[prost(int64, tag = "1")]
    pub first: i64,
    /// CRC-32 of events that are appended next, in sequence.
    #[prost(fixed32, repeated, tag = "2")]
    pub checksums: Vec<u32>,
}

impl Checkpoint {
    /// The stored form.
    #[must_use]
    pub fn seal(&self) -> Bytes {
        seal(kind::OUTBOX_CHECKPOINT, VERSION, &prost::Message::encode_to_vec(self))
    }

    /// Reads the stored form.
    pub fn open(bytes: &Bytes) -> Result<Self, EnvelopeError> {
        let (_, payload) = open_as(bytes, kind::OUTBOX_CHECKPOINT, VERSION)?;
        let note: Self =
            prost::Message::decode(payload).map_err(|error| EnvelopeError::Payload(error.to_string()))?;
        note.check()?;
        Ok(note)
    }

    /// Sequences of a pushed shard begin at 1, and nothing comes behind the last one there is.
    fn check(&self) -> Result<(), EnvelopeError> {
        let Some(events) = &self.events else { return Ok(()) };
        let positions = 0..=SEQUENCE_MAX;
        let behind = i64::try_from(events.checksums.len()).ok().and_then(|n| events.first.checked_add(n));
        if positions.contains(&self.position) && events.first >= 0 && behind.is_some() {
            return Ok(());
        }
        let (first, count) = (events.first, events.checksums.len());
        let what = format!(
            "a note at {} with {count} sequences from {first} on goes beyond {SEQUENCE_MAX}, the last one",
            self.position
        );
        Err(EnvelopeError::Payload(what))
    }

    /// Its part about a table.
    pub fn rows_mut(&mut self) -> &mut Rows {
        self.rows.get_or_insert_default()
    }
}

/// What the notes of one shard add up to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    pub checkpoint: Checkpoint,
    /// Checksums of a pushed shard's last events.
    pub window: Window,
}

/// Every shard's notes, added up. Keys are source and shard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    pub shards: BTreeMap<(String, String), Stored>,
}

impl Ledger {
    /// Adds a note. Notes come in the order in which they were written; a key that is none of a shard is passed over.
    pub fn apply(&mut self, key: &str, checkpoint: Checkpoint) {
        let Some((source, shard)) = parse_shard_key(key) else { return };
        let stored = self.shards.entry((source.to_owned(), shard.to_owned())).or_default();
        if let Some(events) = &checkpoint.events {
            for (&checksum, sequence) in events.checksums.iter().zip(events.first..) {
                stored.window.set(sequence, checksum);
            }
        }
        stored.checkpoint = checkpoint;
    }

    /// Notes, by key, that add up to the same: one for each shard, with everything its window remembers.
    pub fn snapshot(&self) -> Vec<(String, Checkpoint)> {
        let note = |((source, shard), stored): (&(String, String), &Stored)| {
            let mut checkpoint = stored.checkpoint.clone();
            if let Some(events) = &mut checkpoint.events {
                let (first, checksums) = stored.window.all();
                *events = Events { first, checksums };
            }
            (shard_key(source, shard), checkpoint)
        };
        self.shards.iter().map(note).collect()
    }

    /// The shards of one source.
    pub fn of_source<'a>(&'a self, source: &'a str) -> impl Iterator<Item = (&'a str, &'a Stored)> {
        let from = (source.to_owned(), String::new());
        self.shards
            .range(from..)
            .take_while(move |((name, _), _)| name == source)
            .map(|((_, shard), stored)| (shard.as_str(), stored))
    }

    /// Names of sources that applications push.
    pub fn pushed_sources(&self) -> impl Iterator<Item = &str> {
        let pushed = self.shards.iter().filter(|(_, stored)| stored.checkpoint.events.is_some());
        let mut last = None;
        pushed
            .map(|((source, _), _)| source.as_str())
            .filter(move |source| last.replace(*source) != Some(*source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(position: i64, first: i64, checksums: &[u32]) -> Checkpoint {
        let events = Some(Events { first, checksums: checksums.to_vec() });
        Checkpoint { position, events, ..Checkpoint::default() }
    }

    #[test]
    fn a_note_survives_its_envelope_and_damage_is_seen() {
        let mut note = note(7, 8, &[1, 2]);
        note.partitions.insert("orders".to_owned(), 8);
        note.rows_mut().id_checksum = 5;
        let sealed = note.seal();
        assert_eq!(Checkpoint::open(&sealed), Ok(note));
        let mut broken = sealed.to_vec();
        broken[14] ^= 1;
        assert!(Checkpoint::open(&broken.into()).is_err());
    }

    #[test]
    fn sequences_that_do_not_exist_are_refused() {
        let last = note(SEQUENCE_MAX, SEQUENCE_MAX, &[1]);
        let opened = Checkpoint::open(&last.seal()).expect("the last one there is");
        let mut ledger = Ledger::default();
        ledger.apply("orders/a", opened);
        assert_eq!(ledger.shards.values().next().expect("one").window.last(), SEQUENCE_MAX);
        for bad in [note(i64::MAX, 0, &[]), note(-1, 0, &[]), note(0, -1, &[1]), note(0, i64::MAX, &[1, 2])] {
            let error = Checkpoint::open(&bad.seal()).expect_err("refused").to_string();
            assert!(error.contains("beyond"), "{error}");
        }
    }

    #[test]
    fn a_snapshot_adds_up_to_the_same() {
        let mut ledger = Ledger::default();
        for n in 0..2_000 {
            ledger.apply("orders/a", note(n, n + 1, &[n as u32, 7]));
            ledger.apply("orders/b", Checkpoint { position: n, ..Checkpoint::default() });
        }
        ledger.apply("orders/c", note(3, 4, &[]));
        let mut restored = Ledger::default();
        ledger.snapshot().into_iter().for_each(|(key, note)| restored.apply(&key, note));
        let of = |ledger: &Ledger| -> Vec<_> {
            let shards = ledger.shards.iter();
            shards.map(|(key, s)| (key.clone(), s.checkpoint.position, s.window.clone())).collect()
        };
        assert_eq!(of(&restored), of(&ledger));
        assert_eq!(restored.snapshot(), ledger.snapshot());
    }

    #[test]
    fn notes_add_up_to_the_last_position_and_every_checksum() {
        let mut ledger = Ledger::default();
        ledger.apply("orders/a", note(0, 1, &[11, 12]));
        ledger.apply("orders/a", note(2, 3, &[13]));
        ledger.apply("orders/b", note(9, 10, &[]));
        ledger.apply("orders-2/a", note(1, 2, &[]));
        ledger.apply("no shard", note(1, 2, &[]));
        let shards: Vec<_> = ledger.of_source("orders").map(|(s, st)| (s, st.checkpoint.position)).collect();
        assert_eq!(shards, [("a", 2), ("b", 9)]);
        let window = &ledger.shards[&("orders".to_owned(), "a".to_owned())].window;
        assert_eq!([1, 2, 3, 4].map(|sequence| window.get(sequence)), [Some(11), Some(12), Some(13), None]);
        assert_eq!(ledger.pushed_sources().collect::<Vec<_>>(), ["orders", "orders-2"]);
    }
}
