//! The ledger as facts and back.

use super::{ArchiveLedger, TableLedger, TableProgress};
use crate::summary::Fact;

impl TableProgress {
    fn fact(&self, table: &str, id: sunseo_proto::PartitionId) -> Fact {
        // every field by name, here and below: one that is added cannot be forgotten
        let Self { through, open_cut, last_cut_ms, incarnation } = self.clone();
        let (table, partition) = (table.to_owned(), id.into());
        Fact::Progress { table, partition, through, last_cut_ms, incarnation, open_cut }
    }
}

impl TableLedger {
    fn facts(&self, name: &str) -> Vec<Fact> {
        // sums come with what they are of
        let Self { topic, incarnations, progress, files, rows: _, bytes: _, bad_files, bad_rows: _ } = self;
        let table = || name.to_owned();
        let mut facts = vec![Fact::Table { table: table(), topic: topic.clone() }];
        facts.extend(incarnations.iter().map(|&topic_id| Fact::Incarnation { table: table(), topic_id }));
        facts.extend(progress.iter().map(|(id, progress)| progress.fact(name, *id)));
        facts.extend(files.iter().cloned().map(|file| Fact::File { table: table(), file }));
        facts.extend(bad_files.iter().cloned().map(|file| Fact::BadFile { table: table(), file }));
        facts
    }
}

impl ArchiveLedger {
    /// Facts that add up to this ledger, in their order.
    pub(crate) fn facts(&self) -> impl Iterator<Item = Fact> {
        let Self { tables } = self;
        tables.iter().flat_map(|(name, table)| table.facts(name))
    }

    /// Takes in one fact of a summary; those that are not of the archive are left alone.
    pub(crate) fn take_in(&mut self, fact: Fact) {
        match fact {
            Fact::Table { table, topic } => self.table_mut(table).topic = topic,
            Fact::Incarnation { table, topic_id } => self.table_mut(table).incarnations.push(topic_id),
            Fact::Progress { table, partition, through, last_cut_ms, incarnation, open_cut } => {
                let progress = TableProgress { through, open_cut, last_cut_ms, incarnation };
                self.table_mut(table).progress.insert(partition.id(), progress);
            }
            Fact::File { table, file } => self.table_mut(table).add_file(file),
            Fact::BadFile { table, file } => self.table_mut(table).add_bad_file(file),
            _ => {}
        }
    }

    fn table_mut(&mut self, name: String) -> &mut TableLedger {
        self.tables.entry(name).or_default()
    }
}
