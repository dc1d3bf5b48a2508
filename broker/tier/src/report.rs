//! What the tier tells about itself. Shapes follow the `Tier*` messages of `sunseo.v1`.

use sunseo_proto::{Error, PartitionId};

/// Answer to "how is the tier".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TierStatus {
    /// Where objects go, without credentials.
    pub store: String,
    /// Whether the last request to the store was answered.
    pub reachable: bool,
    pub partitions: Vec<TierPartitionStatus>,
    pub archives: Vec<ArchiveStatus>,
    /// Committed objects, segments and archive files.
    pub objects: u64,
    pub bytes: u64,
    /// Bytes of record batches given to cold readers since the start.
    pub bytes_read_back: u64,
    /// Bytes fetched from the store for them.
    pub bytes_fetched: u64,
    /// Empty when the last pass went through.
    pub last_error: String,
}

/// One tiered partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierPartitionStatus {
    pub id: PartitionId,
    pub topic: String,
    pub segments: u32,
    /// Bytes of the partition's objects.
    pub bytes: u64,
    pub offloaded_from: i64,
    /// Offset after the last offloaded record.
    pub offloaded_to: i64,
    /// Bytes of sealed segments that wait for their upload.
    pub pending_bytes: u64,
}

/// One archive table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArchiveStatus {
    pub table: String,
    pub topic: String,
    pub files: u64,
    pub rows: u64,
    pub bytes: u64,
    /// Records that did not fit the schema; they lie under `bad/`.
    pub bad_rows: u64,
    /// Records not yet in a committed file.
    pub lag: u64,
}

/// What [`crate::Tier::verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    pub objects: u64,
    pub bytes: u64,
    pub problems: Vec<Error>,
}

/// What [`crate::Tier::restore`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestoreReport {
    pub segments: u32,
    pub bytes: u64,
}

/// What [`crate::Tier::flush`] is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlushRequest {
    /// Empty means every tiered topic and every archive table.
    pub topic: String,
    /// Close the active segments first.
    pub seal: bool,
    /// Evict local copies of what is offloaded, whatever the local retention says.
    pub evict: bool,
}

/// What [`crate::Tier::flush`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlushReport {
    pub segments_offloaded: u32,
    pub bytes_offloaded: u64,
    pub segments_evicted: u32,
    pub archive_files: u32,
    pub archive_rows: u64,
}
