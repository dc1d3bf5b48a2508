//! Topics in memory.

use std::collections::BTreeMap;

use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, Record, partitioner};

use crate::plan::SubTopology;
use crate::task::OutputRecord;

/// Every topic's partitions.
#[derive(Debug, Default)]
pub(super) struct Topics {
    topics: BTreeMap<String, Vec<Vec<Record>>>,
    /// Records of each partition that a reader of the test has taken.
    taken: BTreeMap<String, Vec<usize>>,
}

impl Topics {
    pub fn create(&mut self, topic: &str, partitions: i32) {
        let partitions = usize::try_from(partitions).unwrap_or_default();
        self.topics.insert(topic.to_owned(), vec![Vec::new(); partitions]);
        self.taken.insert(topic.to_owned(), vec![0; partitions]);
    }

    pub fn append(&mut self, topic: &str, partition: Option<i32>, mut record: Record) -> Result<i64> {
        let partitions = self.topics.get_mut(topic).ok_or_else(|| unknown(topic))?;
        let partition = partition.unwrap_or_else(|| match &record.key {
            Some(key) => partitioner::partition_of(key, partitions.len() as i32),
            None => 0,
        });
        let log = usize::try_from(partition).ok().and_then(|index| partitions.get_mut(index));
        let log = log.ok_or_else(|| {
            let message = format!("topic {topic:?} has no partition {partition}");
            Error::new(ErrorCode::UnknownPartition, message)
        })?;
        record.offset = log.len() as i64;
        let offset = record.offset;
        log.push(record);
        Ok(offset)
    }

    pub fn append_outputs(&mut self, sub_topology: &SubTopology, outputs: Vec<OutputRecord>) -> Result<()> {
        for output in outputs {
            let topic = &sub_topology.sinks[output.sink.0 as usize].topic;
            self.append(topic, Some(output.partition), output.record)?;
        }
        Ok(())
    }

    /// Records of a partition from an offset on.
    pub fn from(&self, topic: &str, partition: i32, offset: i64) -> &[Record] {
        let log = usize::try_from(partition).ok().and_then(|index| self.topics.get(topic)?.get(index));
        let from = usize::try_from(offset).unwrap_or_default();
        log.and_then(|log| log.get(from..)).unwrap_or_default()
    }

    /// What was written since the last call, partition after partition.
    pub fn take(&mut self, topic: &str) -> Result<Vec<(i32, Record)>> {
        let partitions = self.topics.get(topic).ok_or_else(|| unknown(topic))?;
        let taken = self.taken.entry(topic.to_owned()).or_default();
        let mut records = Vec::new();
        for ((partition, log), taken) in partitions.iter().enumerate().zip(taken) {
            records.extend(log[*taken..].iter().map(|record| (partition as i32, record.clone())));
            *taken = log.len();
        }
        Ok(records)
    }
}

fn unknown(topic: &str) -> Error {
    Error::new(
        ErrorCode::UnknownTopic,
        format!("the driver has no topic {topic:?}: the topology names none such"),
    )
}
