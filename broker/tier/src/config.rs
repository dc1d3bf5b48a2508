//! Settings of the tier, each with its bound.

/// Settings; [`TierConfig::default`] is right for a server.
#[derive(Clone, Debug)]
pub struct TierConfig {
    /// First part of every object's name except the archive's; one bucket may serve several clusters.
    pub cluster: String,
    /// Time between two looks at the partitions when nothing wakes the tier.
    pub interval_ms: u64,
    /// Segments that are uploaded at the same time.
    pub uploads_in_flight: usize,
    /// Range requests for cold reads at the same time.
    pub cold_reads_in_flight: usize,
    /// Bytes of a cold range; a multiple of [`crate::segment::BLOCK_BYTES`].
    pub chunk_bytes: usize,
    /// Chunks that are fetched ahead of a sequential reader.
    pub prefetch_chunks: usize,
    /// Memory for fetched chunks.
    pub chunk_cache_bytes: usize,
    /// Memory for the indexes of offloaded segments.
    pub index_cache_bytes: usize,
    /// Objects from this size on are uploaded in parts.
    pub multipart_from_bytes: usize,
    /// Size of a part.
    pub part_bytes: usize,
    /// Longest time for one request to the store.
    pub request_timeout_ms: u64,
    /// Pause after the first failed pass; it doubles up to `backoff_max_ms`, and half of it is drawn by lot.
    pub backoff_min_ms: u64,
    pub backoff_max_ms: u64,
    /// How long a removed object stays in the store for readers that are still at it.
    pub delete_delay_ms: i64,
    /// Age at which an upload that was announced and never committed is swept.
    pub orphan_age_ms: i64,
    /// Records after which an archive table's partition is cut.
    pub archive_rows: i64,
    /// Age after which it is cut, however few records there are.
    pub archive_age_ms: i64,
    /// Bytes of record batches in one cut; a cut is built in memory.
    pub archive_cut_bytes: usize,
    /// Records of `__tier` between two summaries of them, unless the last one has more facts.
    pub summary_records: u64,
    /// Bytes of one record of a summary.
    pub summary_part_bytes: usize,
    /// Seed for object names and jitter; `None` draws one.
    pub seed: Option<u64>,
}

impl Default for TierConfig {
    fn default() -> Self {
        Self {
            cluster: "sunseo".to_owned(),
            interval_ms: 5_000,
            uploads_in_flight: 4,
            cold_reads_in_flight: 8,
            chunk_bytes: 8 << 20,
            prefetch_chunks: 2,
            chunk_cache_bytes: 256 << 20,
            index_cache_bytes: 32 << 20,
            multipart_from_bytes: 16 << 20,
            part_bytes: 8 << 20,
            request_timeout_ms: 120_000,
            backoff_min_ms: 500,
            backoff_max_ms: 60_000,
            delete_delay_ms: 60_000,
            orphan_age_ms: 24 * 3_600_000,
            archive_rows: 1_000_000,
            archive_age_ms: 15 * 60_000,
            archive_cut_bytes: 256 << 20,
            summary_records: 1_000,
            summary_part_bytes: 512 << 10,
            seed: None,
        }
    }
}
