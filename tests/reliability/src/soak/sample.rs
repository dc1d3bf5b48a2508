//! What is measured each hour: the process, the folder, and the node's tables as it tells them.

use std::io;
use std::path::Path;

use sunseo_client::{Result, Transport as _};
use sunseo_proto::{Error, v1};

use super::load::Progress;
use super::node::SoakNode;

/// What the values are of.
pub const NAMES: [&str; 9] = [
    "memory KiB",
    "descriptors",
    "disk KiB",
    "files",
    "topics",
    "partitions",
    "groups",
    "committed offsets",
    "transactional ids",
];

/// One hour's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    pub hour: u32,
    /// As [`NAMES`].
    pub values: [u64; NAMES.len()],
    /// What the clients got done in the hour.
    pub progress: Progress,
}

impl Sample {
    /// An hour in which nothing moved shows nothing.
    pub(super) fn check(&self) -> Result<()> {
        match self.progress.stalled() {
            None => Ok(()),
            Some(what) => Err(Error::internal(format!(
                "hour {}: no {what}: the load is not what it should be",
                self.hour
            ))),
        }
    }
}

pub(super) async fn take(hour: u32, node: &SoakNode, progress: Progress) -> Result<Sample> {
    let admin = node.client().admin();
    let topics = admin.topics(true).await?;
    let partitions: usize = topics.iter().map(|topic| topic.partitions.len()).sum();
    let groups = admin.groups().await?;
    let mut offsets = 0;
    for group in &groups {
        offsets += admin.committed(&group.group, Vec::new()).await?.len();
    }
    let transactions = node.door().list_transactions(v1::ListTransactionsRequest::default()).await?;
    let (disk_bytes, files) =
        folder(&node.dir()).map_err(|error| Error::internal(format!("the node's folder: {error}")))?;
    let counts = [topics.len(), partitions, groups.len(), offsets, transactions.transactions.len()];
    let [topics, partitions, groups, offsets, ids] = counts.map(|count| count as u64);
    let values =
        [memory_kib(), descriptors(), disk_bytes >> 10, files, topics, partitions, groups, offsets, ids];
    Ok(Sample { hour, values, progress })
}

/// Resident memory of this process; 0 where the system does not say.
fn memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Open descriptors of this process.
fn descriptors() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |found| found.count() as u64)
}

/// Bytes that the files of a folder take, and how many there are.
fn folder(path: &Path) -> io::Result<(u64, u64)> {
    let (mut bytes, mut files) = (0, 0);
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            let inside = folder(&entry.path())?;
            (bytes, files) = (bytes + inside.0, files + inside.1);
        } else {
            (bytes, files) = (bytes + metadata.len(), files + 1);
        }
    }
    Ok((bytes, files))
}
