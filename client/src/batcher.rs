//! Records in, batches out: by size, by age, or when told to flush. Pure: time is an argument.
//!
//! Invariants: records of a partition leave in the order in which they came; the bytes of all records that were accepted and
//! are not yet settled stay under the limit; a partition has one slot for ever, so that its numbers are given by one lane only.
//! Records without a key go to one partition until its batch leaves, then to the next one that has nothing on its way (KIP-480),
//! and to the least loaded when all have (KIP-794): a partition that cannot be written to does not collect them.
//! Not here: sequences, sending, retries.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sunseo_proto::Record;
use sunseo_proto::batch::{BatchBuilder, Compression};
use sunseo_proto::partitioner::partition_of;
use tokio::time::Instant;

use crate::producer::ack::{Ack, Settle};
use crate::producer::record_bytes;

/// When a batch is closed and how much may be held.
#[derive(Clone, Copy, Debug)]
pub struct BatcherConfig {
    pub compression: Compression,
    pub batch_bytes: usize,
    pub linger: Duration,
    pub buffer_bytes: usize,
}

/// A batch that takes no more records.
#[derive(Debug)]
pub struct ReadyBatch {
    /// Number of the partition in this batcher, from 0 in order of first use.
    pub slot: usize,
    /// Rises with the order of opening.
    pub id: u64,
    pub opened: Instant,
    /// Bytes to give back with [`Batcher::settled`].
    pub bytes: usize,
    pub builder: BatchBuilder,
    pub(crate) settle: Settle,
}

/// What became of a record.
#[derive(Debug)]
pub enum Pushed {
    /// It is in a batch; `wake` when whoever sends has something new to look at.
    Queued { ack: Ack, wake: bool },
    /// The limit on bytes is reached: try again after a batch has settled.
    Full,
    /// The number of partitions is not known: [`Batcher::learn`] it.
    UnknownTopic,
    /// The topic has only this many partitions.
    UnknownPartition(i32),
}

#[derive(Debug)]
struct Topic {
    name: Arc<str>,
    /// Slot of each partition that was ever known.
    slots: Vec<usize>,
    /// Partitions that the topic has now; 0 when it is not known, or gone.
    partitions: usize,
    /// The partition that records without a key go to now.
    sticky: usize,
}

#[derive(Debug)]
struct Slot {
    topic: Arc<str>,
    partition: i32,
    open: Option<ReadyBatch>,
    /// The open batch is old enough, only its partition has no room.
    due: bool,
    /// Bytes of batches that are closed and have no outcome yet.
    backlog_bytes: usize,
    /// Bytes of the batch before: the next one is about as large.
    expect_bytes: usize,
}

impl Slot {
    fn load(&self) -> usize {
        self.backlog_bytes + self.open.as_ref().map_or(0, |batch| batch.bytes)
    }
}

/// The open batches of every partition.
#[derive(Debug)]
pub struct Batcher {
    config: BatcherConfig,
    topics: Vec<Topic>,
    /// Place of each topic among them.
    places: HashMap<Arc<str>, usize>,
    /// The topic of the record before: most are followed by one of the same.
    recent: usize,
    slots: Vec<Slot>,
    /// Batches by time of opening, with their slot and id.
    opened: VecDeque<(Instant, usize, u64)>,
    ready: Vec<ReadyBatch>,
    /// Slots whose open batch is due, by its time of opening.
    due: BTreeSet<(Instant, usize)>,
    /// The slot of every batch without an outcome.
    outstanding: BTreeMap<u64, usize>,
    next_id: u64,
    buffered_bytes: usize,
}

impl Batcher {
    #[must_use]
    pub fn new(config: BatcherConfig) -> Self {
        Self {
            config,
            topics: Vec::new(),
            places: HashMap::new(),
            recent: 0,
            slots: Vec::new(),
            opened: VecDeque::new(),
            ready: Vec::new(),
            due: BTreeSet::new(),
            outstanding: BTreeMap::new(),
            next_id: 0,
            buffered_bytes: 0,
        }
    }

    /// Takes the number of a topic's partitions, which is smaller than before when another topic has the name now; `sticky` is any
    /// number, the start of the rotation for records without a key.
    pub fn learn(&mut self, topic: &str, partitions: i32, sticky: usize) {
        let place = self.place_of(topic).unwrap_or_else(|| {
            let name: Arc<str> = topic.into();
            self.places.insert(Arc::clone(&name), self.topics.len());
            self.topics.push(Topic { name, slots: Vec::new(), partitions: 0, sticky });
            self.topics.len() - 1
        });
        let entry = &mut self.topics[place];
        entry.partitions = usize::try_from(partitions).unwrap_or(0);
        for partition in entry.slots.len()..entry.partitions {
            entry.slots.push(self.slots.len());
            let (topic, partition) = (Arc::clone(&entry.name), partition as i32);
            let (open, due, backlog_bytes, expect_bytes) = (None, false, 0, 0);
            self.slots.push(Slot { topic, partition, open, due, backlog_bytes, expect_bytes });
        }
    }

    /// Forgets how many partitions a topic has, because it is gone; its batches stay.
    pub fn forget(&mut self, topic: &str) {
        if let Some(place) = self.place_of(topic) {
            self.topics[place].partitions = 0;
        }
    }

    fn place_of(&self, topic: &str) -> Option<usize> {
        match self.topics.get(self.recent) {
            Some(recent) if &*recent.name == topic => Some(self.recent),
            _ => self.places.get(topic).copied(),
        }
    }

    /// Topics whose partitions are known.
    #[must_use]
    pub fn topics(&self) -> Vec<Arc<str>> {
        let known = self.topics.iter().filter(|topic| topic.partitions > 0);
        known.map(|topic| Arc::clone(&topic.name)).collect()
    }

    /// Topic and partition of the slots from number `from` on.
    pub fn slots(&self, from: usize) -> impl Iterator<Item = (Arc<str>, i32)> {
        self.slots[from..].iter().map(|slot| (Arc::clone(&slot.topic), slot.partition))
    }

    /// Adds a record to the open batch of its partition. `now` is asked only when a batch opens.
    pub fn push(
        &mut self,
        topic: &str,
        partition: Option<i32>,
        record: &Record,
        now: impl FnOnce() -> Instant,
    ) -> Pushed {
        let sticky = partition.is_none() && record.key.is_none();
        let mut slot = match self.place(topic, partition, record.key.as_deref()) {
            Ok(slot) => slot,
            Err(refused) => return refused,
        };
        let bytes = record_bytes(record);
        if self.buffered_bytes > 0 && self.buffered_bytes + bytes > self.config.buffer_bytes {
            return Pushed::Full;
        }
        self.buffered_bytes += bytes;
        // with one that is older the sender wakes soon enough
        let first = self.opened.is_empty();
        let closed = self.make_room(slot, bytes);
        if closed && sticky {
            self.rotate(slot);
            slot = self.place(topic, None, None).unwrap_or(slot);
            self.make_room(slot, bytes);
        }
        let batch = self.open_batch(slot, now);
        let ack = batch.settle.ack(batch.builder.len());
        batch.builder.push(record);
        batch.bytes += bytes;
        let full = batch.bytes >= self.config.batch_bytes;
        if full {
            self.close(slot);
        }
        if full && sticky {
            self.rotate(slot);
        }
        Pushed::Queued { ack, wake: first || full || closed }
    }

    /// The slot of a record.
    fn place(&mut self, topic: &str, partition: Option<i32>, key: Option<&[u8]>) -> Result<usize, Pushed> {
        self.recent = self.place_of(topic).ok_or(Pushed::UnknownTopic)?;
        let known = Some(&self.topics[self.recent]).filter(|topic| topic.partitions > 0);
        let known = known.ok_or(Pushed::UnknownTopic)?;
        let partitions = known.partitions;
        let partition = match (partition, key) {
            (Some(partition), _) => usize::try_from(partition).unwrap_or(usize::MAX),
            (None, Some(key)) => partition_of(key, partitions as i32) as usize,
            (None, None) => known.sticky % partitions,
        };
        known.slots[..partitions].get(partition).copied().ok_or(Pushed::UnknownPartition(partitions as i32))
    }

    fn open_batch(&mut self, slot: usize, now: impl FnOnce() -> Instant) -> &mut ReadyBatch {
        let Slot { topic, partition, open, expect_bytes, .. } = &mut self.slots[slot];
        open.get_or_insert_with(|| {
            let (id, opened) = (self.next_id, now());
            self.next_id += 1;
            self.opened.push_back((opened, slot, id));
            self.outstanding.insert(id, slot);
            let settle = Settle::new(Arc::clone(topic), *partition);
            let builder = BatchBuilder::new(self.config.compression).expect_bytes(*expect_bytes);
            ReadyBatch { slot, id, opened, bytes: 0, builder, settle }
        })
    }

    /// Closes the open batch when the record would make it larger than it may be.
    fn make_room(&mut self, slot: usize, bytes: usize) -> bool {
        let over = |batch: &ReadyBatch| batch.bytes + bytes > self.config.batch_bytes;
        let close = self.slots[slot].open.as_ref().is_some_and(over);
        if close {
            self.close(slot);
        }
        close
    }

    fn close(&mut self, slot: usize) {
        let Slot { open, due, backlog_bytes, expect_bytes, .. } = &mut self.slots[slot];
        let Some(batch) = open.take() else { return };
        if std::mem::take(due) {
            self.due.remove(&(batch.opened, slot));
        }
        *expect_bytes = batch.builder.bytes();
        *backlog_bytes += batch.bytes;
        self.ready.push(batch);
    }

    /// Records without a key go to another partition once the batch of theirs has left, or has to wait.
    fn rotate(&mut self, slot: usize) {
        let Slot { topic, partition, .. } = &self.slots[slot];
        let partition = *partition as usize;
        let place = self.places.get(topic).map(|place| &mut self.topics[*place]);
        let Some(topic) = place.filter(|topic| topic.partitions > 0) else { return };
        let count = topic.partitions;
        if topic.sticky % count != partition {
            return;
        }
        let load = |partition: usize| self.slots[topic.slots[partition]].load();
        let mut after = (1..=count).map(|step| (partition + step) % count);
        let idle = after.clone().find(|&partition| load(partition) == 0);
        let next = idle.or_else(|| after.by_ref().min_by_key(|&partition| load(partition)));
        topic.sticky = next.unwrap_or(partition);
    }

    /// Batches to send: the full ones, and of the old enough ones those whose partition has room. The others go on filling.
    pub fn take_ready(&mut self, now: Instant, has_room: impl Fn(usize) -> bool) -> Vec<ReadyBatch> {
        let may_go: Vec<usize> =
            self.due.iter().map(|(_, slot)| *slot).filter(|&slot| has_room(slot)).collect();
        for slot in may_go {
            self.close_aged(slot);
        }
        while let Some(&(opened, slot, id)) = self.opened.front() {
            let open = self.slots[slot].open.as_ref().is_some_and(|batch| batch.id == id);
            if open && now < opened + self.config.linger {
                break;
            }
            self.opened.pop_front();
            if open && has_room(slot) {
                self.close_aged(slot);
            } else if open {
                self.slots[slot].due = true;
                self.due.insert((opened, slot));
                self.rotate(slot);
            }
        }
        self.take_full()
    }

    /// Only the full ones.
    pub fn take_full(&mut self) -> Vec<ReadyBatch> {
        std::mem::take(&mut self.ready)
    }

    fn close_aged(&mut self, slot: usize) {
        self.close(slot);
        self.rotate(slot);
    }

    /// Closes every open batch, whatever its age; batches with ids below the answer hold everything that was pushed before.
    pub fn flush(&mut self) -> u64 {
        for (_, slot, _) in std::mem::take(&mut self.opened) {
            self.close(slot);
        }
        for (_, slot) in std::mem::take(&mut self.due) {
            self.close(slot);
        }
        self.next_id
    }

    /// When [`take_ready`](Self::take_ready) has something by age.
    #[must_use]
    pub fn wake_at(&self) -> Option<Instant> {
        self.opened.front().map(|(opened, ..)| *opened + self.config.linger)
    }

    /// Closes the batches that were opened before `at` and still wait for room: whoever takes them can only fail them.
    pub fn close_due_before(&mut self, at: Instant) {
        while let Some(&(opened, slot)) = self.due.first()
            && opened <= at
        {
            self.due.pop_first();
            self.close(slot);
        }
    }

    /// When the oldest batch that waits for room was opened.
    #[must_use]
    pub fn oldest_due(&self) -> Option<Instant> {
        self.due.first().map(|(opened, _)| *opened)
    }

    /// A batch that was taken has its outcome: its bytes are free.
    pub fn settled(&mut self, id: u64, bytes: usize) {
        if let Some(slot) = self.outstanding.remove(&id) {
            self.slots[slot].backlog_bytes -= bytes;
        }
        self.buffered_bytes -= bytes;
    }

    /// The oldest batch without an outcome.
    #[must_use]
    pub fn oldest(&self) -> Option<u64> {
        self.outstanding.first_key_value().map(|(id, _)| *id)
    }

    /// Whether no batch is open and none waits to be taken.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.ready.is_empty() && self.slots.iter().all(|slot| slot.open.is_none())
    }

    /// Bytes of records without an outcome.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_millis(5);

    fn batcher(batch_bytes: usize, buffer_bytes: usize) -> Batcher {
        let config =
            BatcherConfig { compression: Compression::None, batch_bytes, linger: LINGER, buffer_bytes };
        let mut batcher = Batcher::new(config);
        batcher.learn("orders", 3, 0);
        batcher
    }

    fn keyless(bytes: usize) -> Record {
        Record { value: Some(vec![7; bytes].into()), ..Record::default() }
    }

    fn push(batcher: &mut Batcher, record: &Record, now: Instant) -> i32 {
        match batcher.push("orders", None, record, || now) {
            Pushed::Queued { ack, .. } => ack.partition(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_batch_leaves_when_it_is_full_or_old() {
        let (mut batcher, now) = (batcher(300, 1 << 20), Instant::now());
        push(&mut batcher, &Record::new("a", vec![1; 50], 0), now);
        assert!(batcher.take_ready(now, |_| true).is_empty());
        let old = batcher.take_ready(now + LINGER, |_| true);
        assert_eq!(old.iter().map(|b| b.builder.len()).collect::<Vec<_>>(), [1]);
        for _ in 0..4 {
            push(&mut batcher, &Record::new("a", vec![1; 80], 0), now);
        }
        let full = batcher.take_ready(now, |_| true);
        assert_eq!(full.iter().map(|b| b.builder.len()).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn an_old_batch_without_room_goes_on_filling_and_leaves_when_there_is_room() {
        let (mut batcher, now) = (batcher(10_000, 1 << 20), Instant::now());
        push(&mut batcher, &Record::new("a", "1", 0), now);
        assert!(batcher.take_ready(now + LINGER, |_| false).is_empty());
        push(&mut batcher, &Record::new("a", "2", 0), now);
        assert!(batcher.take_full().is_empty());
        let ready = batcher.take_ready(now, |_| true);
        assert_eq!(ready.iter().map(|b| b.builder.len()).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn records_without_a_key_stick_to_a_partition_until_its_batch_leaves() {
        let (mut batcher, now) = (batcher(300, 1 << 20), Instant::now());
        let chosen: Vec<_> = (0..6).map(|_| push(&mut batcher, &keyless(126), now)).collect();
        assert_eq!(chosen, [0, 0, 1, 1, 2, 2]);
    }

    #[test]
    fn the_buffer_is_bounded_until_batches_settle() {
        let (mut batcher, now) = (batcher(100, 400), Instant::now());
        let record = Record::new("a", vec![1; 150], 0);
        push(&mut batcher, &record, now);
        push(&mut batcher, &record, now);
        assert!(matches!(batcher.push("orders", None, &record, || now), Pushed::Full));
        let first = batcher.take_ready(now, |_| true).remove(0);
        batcher.settled(first.id, first.bytes);
        push(&mut batcher, &record, now);
        assert_eq!(batcher.oldest(), Some(1));
    }

    #[test]
    fn what_cannot_be_placed_is_told_apart() {
        let (mut batcher, now) = (batcher(100, 400), Instant::now());
        let record = Record::new("a", "1", 0);
        assert!(matches!(batcher.push("riders", None, &record, || now), Pushed::UnknownTopic));
        assert!(matches!(batcher.push("orders", Some(3), &record, || now), Pushed::UnknownPartition(3)));
        assert!(matches!(batcher.push("orders", Some(-1), &record, || now), Pushed::UnknownPartition(3)));
    }
}
