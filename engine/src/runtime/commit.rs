//! The commit of a task as bytes. Pure.
//!
//! A commit says everything that follows from a micro-batch: how far the inputs are read, what changed in the stores, what
//! is to be appended elsewhere. The task log holds commits and nothing else decides: a store is the fold of its deltas, the
//! input offsets are those of the last commit, and outputs are numbered densely over the life of the task, so that each
//! has one number for ever, whoever forwards it.
//!
//! Body, all numbers varints: head ([`CommitHead`]), stores with their changes, table of topics, outputs. How a body becomes
//! records of the task log is the business of [`super::entry`].

use std::sync::Arc;

use bytes::Bytes;
use sunseo_proto::{Error, Header, Record};

use super::wire::{Fields, put_bytes, put_int, put_optional};

/// The next offset to read of an input partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InputOffset {
    pub topic: String,
    pub partition: i32,
    pub next_offset: i64,
}

/// What a commit says about its task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommitHead {
    /// Dense over the life of the task, from 0.
    pub number: i64,
    pub inputs: Vec<InputOffset>,
    /// What the task's core wants back after a restart: stream time and the like.
    pub meta: Bytes,
    pub stream_time_ms: i64,
    /// Records taken from the inputs, over the life of the task.
    pub processed: u64,
    /// Records that went to the dead-letter topic, over the life of the task.
    pub dead_letters: u64,
    /// Number of the first output of this commit.
    pub first_output: i64,
    /// Every output with a lower number is known to be in its topic.
    pub forwarded: i64,
}

/// A record that goes to another topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    pub topic: Arc<str>,
    pub partition: i32,
    pub record: Record,
}

/// What changed in one store: each key once, `None` deletes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoreDelta {
    pub store: String,
    pub changes: Vec<(Bytes, Option<Bytes>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    pub head: CommitHead,
    pub deltas: Vec<StoreDelta>,
    pub outputs: Vec<Output>,
}

impl Commit {
    /// Number of the output after the last one. Never overflows: a body whose outputs have no numbers is not read.
    pub(crate) fn next_output(&self) -> i64 {
        self.head.first_output + self.outputs.len() as i64
    }
}

/// Writes a body front to back: head, stores, outputs.
#[derive(Debug)]
pub(crate) struct CommitWriter {
    out: Vec<u8>,
}

impl CommitWriter {
    /// `stores` is how many calls of [`store`](Self::store) follow.
    pub(crate) fn new(head: &CommitHead, stores: usize) -> Self {
        let mut out = Vec::with_capacity(256);
        put_head(&mut out, head);
        put_int(&mut out, stores as i64);
        Self { out }
    }

    /// The changes of a store; `changes` must yield as many as its length says.
    pub(crate) fn store<'a>(
        &mut self,
        store: &str,
        changes: impl ExactSizeIterator<Item = (&'a Bytes, &'a Option<Bytes>)>,
    ) {
        put_bytes(&mut self.out, store.as_bytes());
        put_int(&mut self.out, changes.len() as i64);
        for (key, value) in changes {
            put_bytes(&mut self.out, key);
            put_optional(&mut self.out, value.as_deref());
        }
    }

    /// The outputs, and the finished body.
    pub(crate) fn outputs(mut self, outputs: &[Output]) -> Vec<u8> {
        let mut topics: Vec<&Arc<str>> = Vec::new();
        let indexes: Vec<usize> =
            outputs.iter().map(|output| topic_index(&mut topics, &output.topic)).collect();
        put_int(&mut self.out, topics.len() as i64);
        for topic in topics {
            put_bytes(&mut self.out, topic.as_bytes());
        }
        put_int(&mut self.out, outputs.len() as i64);
        for (output, topic) in outputs.iter().zip(indexes) {
            put_int(&mut self.out, topic as i64);
            put_int(&mut self.out, i64::from(output.partition));
            put_record(&mut self.out, &output.record);
        }
        self.out
    }
}

fn topic_index<'a>(topics: &mut Vec<&'a Arc<str>>, topic: &'a Arc<str>) -> usize {
    // a task has a handful of sinks, nearly always the same allocation
    let found = topics.iter().position(|known| Arc::ptr_eq(known, topic) || *known == topic);
    found.unwrap_or_else(|| {
        topics.push(topic);
        topics.len() - 1
    })
}

pub(crate) fn put_head(out: &mut Vec<u8>, head: &CommitHead) {
    put_int(out, head.number);
    put_int(out, head.inputs.len() as i64);
    for input in &head.inputs {
        put_bytes(out, input.topic.as_bytes());
        put_int(out, i64::from(input.partition));
        put_int(out, input.next_offset);
    }
    put_bytes(out, &head.meta);
    put_int(out, head.stream_time_ms);
    put_int(out, head.processed as i64);
    put_int(out, head.dead_letters as i64);
    put_int(out, head.first_output);
    put_int(out, head.forwarded);
}

pub(crate) fn take_head(fields: &mut Fields) -> Result<CommitHead, Error> {
    let number = fields.int()?;
    if number == i64::MAX {
        return Err(fields.broken("no commit can follow it"));
    }
    let mut inputs = Vec::new();
    for _ in 0..fields.count(3)? {
        let (topic, partition) = (fields.text()?, fields.int32()?);
        inputs.push(InputOffset { topic, partition, next_offset: fields.int()? });
    }
    Ok(CommitHead {
        number,
        inputs,
        meta: fields.bytes()?,
        stream_time_ms: fields.int()?,
        processed: fields.int()? as u64,
        dead_letters: fields.int()? as u64,
        first_output: fields.int()?,
        forwarded: fields.int()?,
    })
}

fn put_record(out: &mut Vec<u8>, record: &Record) {
    put_int(out, record.timestamp_ms);
    put_optional(out, record.key.as_deref());
    put_optional(out, record.value.as_deref());
    put_int(out, record.headers.len() as i64);
    for header in &record.headers {
        put_bytes(out, header.key.as_bytes());
        put_optional(out, header.value.as_deref());
    }
}

fn take_record(fields: &mut Fields) -> Result<Record, Error> {
    let (timestamp_ms, key, value) = (fields.int()?, fields.optional()?, fields.optional()?);
    let mut headers = Vec::new();
    for _ in 0..fields.count(2)? {
        headers.push(Header { key: fields.text()?, value: fields.optional()? });
    }
    Ok(Record { offset: 0, timestamp_ms, key, value, headers })
}

impl Commit {
    /// Reads a body.
    ///
    /// # Errors
    /// `CORRUPT_LOG` with what does not decode.
    pub(crate) fn decode(body: Bytes) -> Result<Self, Error> {
        let mut fields = Fields::new(body, "task commit");
        let head = take_head(&mut fields)?;
        let mut deltas = Vec::new();
        for _ in 0..fields.count(2)? {
            let store = fields.text()?;
            let count = fields.count(2)?;
            let mut changes = Vec::with_capacity(count);
            for _ in 0..count {
                changes.push((fields.bytes()?, fields.optional()?));
            }
            deltas.push(StoreDelta { store, changes });
        }
        let mut topics: Vec<Arc<str>> = Vec::new();
        for _ in 0..fields.count(1)? {
            topics.push(fields.text()?.into());
        }
        let count = fields.count(6)?;
        let mut outputs = Vec::with_capacity(count);
        for _ in 0..count {
            let topic = usize::try_from(fields.int()?).ok().and_then(|index| topics.get(index)).cloned();
            let topic = topic.ok_or_else(|| fields.broken("an output names no topic of the commit"))?;
            outputs.push(Output { topic, partition: fields.int32()?, record: take_record(&mut fields)? });
        }
        if !fields.is_empty() {
            return Err(fields.broken("bytes follow the last output"));
        }
        if head.first_output.checked_add(count as i64).is_none() {
            return Err(fields.broken("there are no numbers for its outputs"));
        }
        Ok(Self { head, deltas, outputs })
    }

    /// The body of a commit that is all in memory.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = CommitWriter::new(&self.head, self.deltas.len());
        for delta in &self.deltas {
            writer.store(&delta.store, delta.changes.iter().map(|(key, value)| (key, value)));
        }
        writer.outputs(&self.outputs)
    }
}
