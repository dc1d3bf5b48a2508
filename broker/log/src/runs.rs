//! Runs: files of aborted ranges beside the segments of a partition, and reading them.
//!
//! A run is written and synced before the checkpoint that names it, and removed after one that does not: so whatever a recovery
//! finds named is there, and a file that nothing names is a leftover.

use std::io;
use std::path::PathBuf;

use sunseo_proto::PartitionId;
use sunseo_proto::envelope::{self, kind};

use crate::disk::{Context as _, Disk};
use crate::partition::Partition;
use crate::segment::directory_of;
use crate::transactions::{AbortedRange, Run, decode_run, select};
use crate::{LogError, Reader, sealed};

pub(crate) const RUN_SUFFIX: &str = ".aborted";
const VERSION: u8 = 1;

pub(crate) fn run_path(id: PartitionId, first_marker: i64) -> PathBuf {
    directory_of(id).join(format!("{first_marker:020}{RUN_SUFFIX}"))
}

/// The run that a file's name says.
pub(crate) fn run_of(name: &str) -> Option<i64> {
    let digits = name.strip_suffix(RUN_SUFFIX)?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}

/// Writes the aborted ranges in memory out when there are more than `max`. The caller syncs the directory and takes a checkpoint;
/// what readers see is the same as what is planned.
pub(crate) fn write_overflow(partition: &mut Partition, max: usize) -> Result<(), LogError> {
    let Some((run, payload)) = partition.state.transactions.overflow(max) else { return Ok(()) };
    let path = run_path(partition.id(), run.first_marker);
    let bytes = envelope::seal(kind::ABORTED_RUN, VERSION, &payload);
    sealed::write_new(partition.files().disk.as_ref(), &path, &bytes)?;
    (partition.names_dirty, partition.changed) = (true, true);
    partition.state.transactions.written(run);
    partition.shared.change().transactions.written(run);
    Ok(())
}

/// The files of runs that the log start has passed; they may go when a checkpoint does not name them any more.
pub(crate) fn take_passed(partition: &mut Partition) -> Vec<PathBuf> {
    partition.shared.change().transactions.take_passed();
    let id = partition.id();
    let passed = partition.state.transactions.take_passed();
    passed.into_iter().map(|first_marker| run_path(id, first_marker)).collect()
}

/// Removes files that are not needed any more.
pub(crate) fn remove(disk: &dyn Disk, paths: &[PathBuf]) {
    for path in paths {
        match disk.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "a file that is not needed stays until the next start");
            }
            _ => {}
        }
    }
}

pub(crate) fn read_run(disk: &dyn Disk, id: PartitionId, run: Run) -> Result<Vec<AbortedRange>, LogError> {
    let path = run_path(id, run.first_marker);
    let bytes = crate::disk::read_all(disk, &path).context("cannot read", &path)?;
    let ranges =
        envelope::open_as(&bytes, kind::ABORTED_RUN, VERSION).and_then(|(_, payload)| decode_run(payload));
    let ranges = ranges.map_err(|error| LogError::Damaged { path: path.clone(), error })?;
    if ranges.len() != run.count as usize {
        let what = format!("{} aborted ranges are left of {}", ranges.len(), run.count);
        return Err(LogError::Corrupt { path, what });
    }
    Ok(ranges)
}

impl Reader {
    /// First offset that is not decided: readers of committed records see what is below it. Never above [`Reader::end`].
    #[must_use]
    pub fn last_stable(&self) -> i64 {
        self.shared.look().last_stable()
    }

    /// The aborted ranges that touch the offsets `from` to `until`, by rising last offset; `None` when that takes a look at the disk
    /// ([`Reader::aborted`]).
    #[must_use]
    pub fn aborted_in_memory(&self, from: i64, until: i64) -> Option<Vec<AbortedRange>> {
        let view = self.shared.look();
        view.transactions.runs(from, until).is_empty().then(|| view.transactions.recent(from, until))
    }

    /// The aborted ranges that touch the offsets `from` to `until`, by rising last offset. May block on the disk.
    ///
    /// # Errors
    /// When a file of older ranges cannot be read or is damaged.
    pub fn aborted(&self, from: i64, until: i64) -> Result<Vec<AbortedRange>, LogError> {
        let (id, disk) = (self.shared.id, &self.shared.files.disk);
        let (runs, recent) = {
            let view = self.shared.look();
            (view.transactions.runs(from, until), view.transactions.recent(from, until))
        };
        let mut found = Vec::new();
        for run in runs {
            match read_run(disk.as_ref(), id, run) {
                Ok(ranges) => found.extend(select(&ranges, from, until)),
                // the log start passed it just now, and what it spoke of
                Err(LogError::Io { error, .. })
                    if error.kind() == io::ErrorKind::NotFound && self.log_start() > run.last_marker => {}
                Err(error) => return Err(error),
            }
        }
        found.extend(recent);
        Ok(found)
    }
}
