//! The archive's part of the fold: how far each table has come in each partition, and which cut is unfinished. Pure.
//!
//! Rules: at most one cut of a (table, partition) is open; a cut begins at or after the end of the one before; a repeated record
//! changes nothing. A topic that was deleted and made again starts at offset 0 under a new identity: its files carry the
//! number of that incarnation, so they never overwrite those of the old one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sunseo_proto::{PartitionId, TopicId};

use crate::record::{PartitionRef, TierRecord};

mod facts;

/// A table takes up a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveOpened {
    pub table: String,
    #[serde(flatten)]
    pub partition: PartitionRef,
    /// Name of the topic, for people.
    pub topic: String,
    /// First offset that is archived.
    pub from: i64,
    pub at_ms: i64,
}

/// The range `from..to` will become files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveCut {
    pub table: String,
    #[serde(flatten)]
    pub partition: PartitionRef,
    pub from: i64,
    pub to: i64,
    /// The definition that the bytes are made by, as it was at the cut.
    pub definition: String,
    pub writer_version: u32,
    pub at_ms: i64,
}

/// One object of a finished cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveFile {
    pub object: String,
    pub rows: u64,
    pub bytes: u64,
    /// CRC-32 of the object.
    pub checksum: u32,
}

/// The files of a cut are there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveDone {
    pub table: String,
    #[serde(flatten)]
    pub partition: PartitionRef,
    pub from: i64,
    pub to: i64,
    pub files: Vec<ArchiveFile>,
    /// Records that did not fit the schema.
    pub bad: Option<ArchiveFile>,
    pub at_ms: i64,
}

/// One partition of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableProgress {
    /// Everything below it is in files.
    pub through: i64,
    /// A cut without its files.
    pub open_cut: Option<ArchiveCut>,
    /// When the last cut was made, or the partition was taken up.
    pub last_cut_ms: i64,
    /// Which life of the topic this is, from 1.
    pub incarnation: usize,
}

/// One table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableLedger {
    /// Name of the topic, for people.
    pub topic: String,
    /// Topic ids in the order in which they were taken up.
    incarnations: Vec<TopicId>,
    progress: BTreeMap<PartitionId, TableProgress>,
    files: Vec<ArchiveFile>,
    rows: u64,
    bytes: u64,
    bad_files: Vec<ArchiveFile>,
    bad_rows: u64,
}

impl TableLedger {
    /// How far the table is in a partition.
    #[must_use]
    pub fn progress(&self, id: PartitionId) -> Option<&TableProgress> {
        self.progress.get(&id)
    }

    /// Every partition.
    pub fn partitions(&self) -> impl Iterator<Item = (&PartitionId, &TableProgress)> {
        self.progress.iter()
    }

    /// Parquet files.
    #[must_use]
    pub fn files(&self) -> &[ArchiveFile] {
        &self.files
    }

    /// Files of records that did not fit.
    #[must_use]
    pub fn bad_files(&self) -> &[ArchiveFile] {
        &self.bad_files
    }

    /// Rows in [`files`](Self::files).
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of [`files`](Self::files).
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Records in [`bad_files`](Self::bad_files).
    #[must_use]
    pub fn bad_rows(&self) -> u64 {
        self.bad_rows
    }

    fn open(&mut self, opened: &ArchiveOpened) {
        let id = opened.partition.id();
        self.topic.clone_from(&opened.topic);
        if !self.incarnations.contains(&id.topic_id) {
            self.incarnations.push(id.topic_id);
        }
        let known = self.incarnations.iter().position(|t| *t == id.topic_id);
        let incarnation = known.map_or(1, |at| at + 1);
        self.progress.entry(id).or_insert(TableProgress {
            through: opened.from,
            open_cut: None,
            last_cut_ms: opened.at_ms,
            incarnation,
        });
    }

    fn cut(&mut self, cut: &ArchiveCut) {
        let Some(progress) = self.progress.get_mut(&cut.partition.id()) else { return };
        if progress.open_cut.is_none() && cut.from >= progress.through && cut.to > cut.from {
            progress.last_cut_ms = cut.at_ms;
            progress.open_cut = Some(cut.clone());
        }
    }

    fn done(&mut self, done: &ArchiveDone) {
        let Some(progress) = self.progress.get_mut(&done.partition.id()) else { return };
        let matches =
            progress.open_cut.as_ref().is_some_and(|cut| (cut.from, cut.to) == (done.from, done.to));
        if !matches {
            return;
        }
        progress.open_cut = None;
        progress.through = done.to;
        done.files.iter().cloned().for_each(|file| self.add_file(file));
        done.bad.iter().cloned().for_each(|file| self.add_bad_file(file));
    }

    fn add_file(&mut self, file: ArchiveFile) {
        self.rows = self.rows.saturating_add(file.rows);
        self.bytes = self.bytes.saturating_add(file.bytes);
        self.files.push(file);
    }

    fn add_bad_file(&mut self, file: ArchiveFile) {
        self.bad_rows = self.bad_rows.saturating_add(file.rows);
        self.bad_files.push(file);
    }
}

/// Every table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArchiveLedger {
    tables: BTreeMap<String, TableLedger>,
}

impl ArchiveLedger {
    /// Takes one record in; those of the segments are left alone.
    pub fn apply(&mut self, record: &TierRecord) {
        match record {
            TierRecord::ArchiveOpened(opened) => {
                self.tables.entry(opened.table.clone()).or_default().open(opened);
            }
            TierRecord::ArchiveCut(cut) => {
                if let Some(table) = self.tables.get_mut(&cut.table) {
                    table.cut(cut);
                }
            }
            TierRecord::ArchiveDone(done) => {
                if let Some(table) = self.tables.get_mut(&done.table) {
                    table.done(done);
                }
            }
            _ => {}
        }
    }

    /// Forgets the progress in a deleted topic; its files stay.
    pub fn remove_topic(&mut self, topic_id: TopicId) {
        for table in self.tables.values_mut() {
            table.progress.retain(|id, _| id.topic_id != topic_id);
        }
    }

    /// A table, if anything was ever said about it.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&TableLedger> {
        self.tables.get(name)
    }

    /// Every table.
    pub fn tables(&self) -> impl Iterator<Item = (&String, &TableLedger)> {
        self.tables.iter()
    }
}
