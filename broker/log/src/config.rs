//! Settings of a store and of a partition, each with its unit and its bound.

/// Settings of one data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Bytes of one journal file. Files are preallocated and used again.
    pub journal_file_bytes: u64,
    /// Journal files that may be in use at once. More are needed only when a failed partition keeps old ones from being used again.
    pub journal_files_max: usize,
    /// Journal bytes after which a checkpoint is due; bytes that went straight to segments count a quarter.
    pub checkpoint_journal_bytes: u64,
    /// Time after which a checkpoint is due when anything changed.
    pub checkpoint_interval_ms: i64,
    /// From this many bytes in one sync on, of one partition or of several that have an eighth of it each, they go straight to the
    /// segments and are synced there; the journal gets notes.
    pub direct_append_bytes: usize,
    /// Free bytes below which appends are refused, so that checkpoints, metadata and retention can still work.
    pub disk_headroom_bytes: u64,
    /// Segment files open at once; beyond it the longest unused are synced and closed.
    pub open_files_max: usize,
    /// Plain producers remembered per partition; beyond it those that were silent longest are forgotten.
    pub producers_max: usize,
    /// Aborted transactions of a partition that are kept in memory; at a checkpoint more of them go to a file, and twice as many make
    /// one due.
    pub aborted_ranges_max: usize,
    /// Silence after which a plain producer is forgotten.
    pub producer_expiry_ms: i64,
    /// Positioned producers remembered per partition. Beyond it a new one is refused unless one was silent for
    /// [`positioned_expiry_ms`](Self::positioned_expiry_ms), which is then let go of, and refused if it comes back.
    pub positioned_producers_max: usize,
    /// Silence after which a positioned producer may be let go of when room is needed.
    pub positioned_expiry_ms: i64,
    /// Bytes at the ends of active segments that are checked again after a crash, beyond those that were written since the last
    /// checkpoint: each partition has an equal share, so that a start does not take longer with more of them.
    pub verify_bytes: u64,
    /// Segment bytes per entry of the sparse index.
    pub index_interval_bytes: u64,
    /// Who syncs segments and writes checkpoints.
    pub background: Background,
    /// Bytes of keys that one run of the cleaner holds; what is dirty beyond them waits for the next run.
    pub cleaner_map_bytes: usize,
}

/// How work is done that appends do not wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Background {
    /// By threads of its own.
    Threads,
    /// By the log's thread, so many tasks with each sync: a simulation can be repeated.
    Steps(usize),
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            journal_file_bytes: 32 << 20,
            journal_files_max: 64,
            checkpoint_journal_bytes: 256 << 20,
            checkpoint_interval_ms: 30_000,
            direct_append_bytes: 4 << 20,
            disk_headroom_bytes: 256 << 20,
            open_files_max: 1_024,
            producers_max: 10_000,
            aborted_ranges_max: 4_096,
            producer_expiry_ms: 7 * 24 * 3_600_000,
            positioned_producers_max: 10_000,
            positioned_expiry_ms: 365 * 24 * 3_600_000,
            verify_bytes: 128 << 20,
            index_interval_bytes: 16 << 10,
            background: Background::Threads,
            cleaner_map_bytes: 64 << 20,
        }
    }
}

/// Settings of one partition; stored with it. `None` means "without limit".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionConfig {
    /// Bytes after which a segment is closed; a single larger batch still fits.
    pub segment_bytes: u64,
    /// Age of a segment's first append after which it is closed.
    pub segment_ms: i64,
    /// How long sealed segments are kept, by their newest record.
    pub retention_ms: Option<i64>,
    /// Bytes the partition may hold; whole sealed segments beyond it are removed.
    pub retention_bytes: Option<u64>,
    /// Largest batch that is accepted.
    pub max_batch_bytes: usize,
    /// `true`: durable means on the disk. `false` (`durability = "replicated"`): durable means in the page cache; it survives a kill
    /// of the process but not a loss of power.
    pub fsync: bool,
    /// `false` for tiered topics, where the tier decides what leaves, and for topics that are only compacted: the retention settings
    /// above are not applied here.
    pub own_retention: bool,
    /// Whether only the newest record of each key is kept.
    pub compaction: Option<Compaction>,
}

/// How a partition is compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// How long tombstones and transaction markers stay after the cleaner first met them, so that a reader that began before sees
    /// them.
    pub delete_retention_ms: i64,
    /// Records younger than this are left alone.
    pub min_lag_ms: i64,
    /// Part of the cleanable bytes, of a thousand, that must be dirty before cleaning is worth its IO.
    pub min_dirty_permille: u32,
}

impl Default for PartitionConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 128 << 20,
            segment_ms: 7 * 24 * 3_600_000,
            retention_ms: None,
            retention_bytes: None,
            max_batch_bytes: 16 << 20,
            fsync: true,
            own_retention: true,
            compaction: None,
        }
    }
}

/// Journal payload after which a group commit begins a new frame.
const FRAME_BYTES: u64 = 4 << 20;

impl StoreConfig {
    /// Payload after which a new frame is begun: a frame and the largest part that may follow it fit into half a file.
    pub(crate) fn frame_bytes(&self) -> u64 {
        FRAME_BYTES.min(self.journal_file_bytes / 4)
    }

    /// Bytes in one sync from which on they go straight to the segments.
    pub(crate) fn direct_bytes(&self) -> usize {
        self.direct_append_bytes.min(usize::try_from(self.frame_bytes()).unwrap_or(usize::MAX))
    }
}
