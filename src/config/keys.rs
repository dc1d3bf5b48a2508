//! The settings there are.

use toml::Value;

use super::NodeConfig;
use super::value::Setting;

/// One setting.
pub struct Key {
    /// `section.key`.
    pub name: &'static str,
    pub about: &'static str,
    pub set: fn(&mut NodeConfig, &Value) -> Result<(), String>,
    pub show: fn(&NodeConfig) -> Option<String>,
}

macro_rules! keys {
    ($($name:literal => $($field:ident).+, $about:literal;)*) => {
        /// Every setting, by section.
        pub const KEYS: &[Key] = &[$(Key {
            name: $name,
            about: $about,
            set: |config, value| {
                config.$($field).+ = Setting::parse(value)?;
                Ok(())
            },
            show: |config| Setting::show(&config.$($field).+),
        },)*];
    };
}

keys! {
    "node.data_dir" => broker.data_dir, "directory of the node";
    "node.id" => broker.node_id, "number of the node in its cluster";
    "node.default_partitions" => broker.default_partitions, "partitions of a topic whose creation names no number";
    "node.maintenance_interval_ms" => broker.maintenance_interval_ms, "time between rounds of retention and checkpoints";

    "listen.grpc" => listen.grpc, "address of the gRPC server";
    "listen.http" => listen.http, "address of the HTTP server";
    "listen.connections_max" => listen.connections.connections_max, "connections at once, of gRPC and of HTTP each";
    "listen.connections_per_address_max" => listen.connections.connections_per_address_max, "the same of one address";
    "listen.connections_per_second_max" => listen.connections.connections_per_second_max, "new connections per second; more wait";
    "listen.connection_idle_ms_max" => listen.connections.connection_idle_ms_max, "a gRPC connection without an open call is closed after this time, 0 never";
    "listen.keepalive_ms" => listen.http2.keepalive, "a silent gRPC connection is probed this often";
    "listen.streams_max" => listen.http2.streams_max, "calls that are open at once on one gRPC connection";
    "listen.header_bytes_max" => listen.http2.header_bytes_max, "bytes of the headers of one gRPC call";
    "listen.http_body_bytes_max" => listen.http_body_bytes_max, "bytes of records in one HTTP request or answer";

    "limits.partitions_max" => broker.limits.partitions_max, "partitions of the node";
    "limits.memory_bytes_max" => broker.limits.memory_bytes_max, "bytes of requests and answers together";
    "limits.produce_bytes_in_flight_max" => broker.limits.produce_bytes_in_flight_max, "bytes of produce requests that wait for the disk";
    "limits.internal_produce_bytes_in_flight_max" => broker.limits.internal_produce_bytes_in_flight_max, "the same of outbox and engine";
    "limits.stream_bytes_in_flight_max" => broker.limits.stream_bytes_in_flight_max, "the same of one stream";
    "limits.produce_requests_in_flight_max" => broker.limits.produce_requests_in_flight_max, "unanswered produce requests of one stream";
    "limits.fetch_requests_in_flight_max" => broker.limits.fetch_requests_in_flight_max, "unanswered fetch requests of one stream";
    "limits.message_bytes_max" => broker.limits.message_bytes_max, "bytes of one gRPC message";
    "limits.fetch_response_bytes_max" => broker.limits.fetch_response_bytes_max, "bytes of batches in one fetch answer";
    "limits.fetch_wait_ms_max" => broker.limits.fetch_wait_ms_max, "longest wait of one fetch";
    "limits.answer_wait_ms_max" => broker.limits.answer_wait_ms_max, "a client that does not take its answer for this long is cut off";
    "limits.batch_records_max" => broker.limits.batch_records_max, "records of one batch that is produced";
    "limits.request_partitions_max" => broker.limits.request_partitions_max, "partitions of one request";
    "limits.commit_group_bytes_max" => broker.limits.commit_group_bytes_max, "bytes of batches that share one disk write";

    "groups.session_timeout_ms" => broker.groups.session_timeout_ms, "session time-out of a member that names none";
    "groups.session_timeout_ms_min" => broker.groups.session_timeout_ms_min, "shortest that a member may ask for";
    "groups.session_timeout_ms_max" => broker.groups.session_timeout_ms_max, "longest that a member may ask for";
    "groups.heartbeat_interval_ms" => broker.groups.heartbeat_interval_ms, "time between heartbeats";
    "groups.rebalance_heartbeat_interval_ms" => broker.groups.rebalance_heartbeat_interval_ms, "the same while partitions change hands";
    "groups.offsets_retention_ms" => broker.groups.offsets_retention_ms, "time without members and commits after which a group is forgotten, -1: never";
    "groups.members_max" => broker.groups.members_max, "members of one group";
    "groups.snapshot_records" => broker.groups.snapshot_records, "records of an offsets partition between snapshots";
    "transactions.timeout_ms" => broker.transactions.timeout_ms, "time-out of a transaction whose producer names none";
    "transactions.timeout_ms_max" => broker.transactions.timeout_ms_max, "longest that a producer may ask for";
    "transactions.id_expiry_ms" => broker.transactions.id_expiry_ms, "silence after which a transactional id is forgotten";
    "transactions.partitions_max" => broker.transactions.partitions_max, "partitions of one transaction";
    "transactions.snapshot_records" => broker.transactions.snapshot_records, "records of a transactions partition between snapshots";

    "tier.object_store" => broker.object_store_url, "file:///path or s3://bucket/prefix?endpoint=..; a folder in the data directory otherwise";
    "tier.cluster" => broker.tier.cluster, "first part of the names of segments in the store";
    "tier.interval_ms" => broker.tier.interval_ms, "time between two looks at the partitions";
    "tier.uploads_in_flight" => broker.tier.uploads_in_flight, "segments uploaded at the same time";
    "tier.cold_reads_in_flight" => broker.tier.cold_reads_in_flight, "range requests of cold reads at the same time";
    "tier.prefetch_chunks" => broker.tier.prefetch_chunks, "chunks fetched ahead of a sequential reader";
    "tier.chunk_cache_bytes" => broker.tier.chunk_cache_bytes, "memory for fetched chunks";
    "tier.index_cache_bytes" => broker.tier.index_cache_bytes, "memory for indexes of offloaded segments";
    "tier.request_timeout_ms" => broker.tier.request_timeout_ms, "longest time of one request to the store";
    "tier.delete_delay_ms" => broker.tier.delete_delay_ms, "how long a removed object stays for its readers";
    "tier.orphan_age_ms" => broker.tier.orphan_age_ms, "age at which an unfinished upload is swept";
    "tier.archive_rows" => broker.tier.archive_rows, "records after which an archive table is cut";
    "tier.archive_age_ms" => broker.tier.archive_age_ms, "age after which it is cut";
    "tier.archive_cut_bytes" => broker.tier.archive_cut_bytes, "bytes of batches in one cut";
    "tier.summary_records" => broker.tier.summary_records, "records of the tier's own topic between summaries";

    "outbox.poll_min_ms" => outbox.poll_min, "wait between two looks at a busy database";
    "outbox.poll_max_ms" => outbox.poll_max, "wait between two looks at a quiet one";
    "outbox.batch_rows" => outbox.batch_rows, "rows of a table read at a time";
    "outbox.batch_bytes" => outbox.batch_bytes, "bytes of rows read at a time";
    "outbox.checkpoint_interval_ms" => outbox.checkpoint_interval, "time after which progress is written down";
    "outbox.busy_timeout_ms" => outbox.busy_timeout, "how long a locked database is waited for";
    "outbox.default_partitions" => outbox.default_partitions, "partitions of topics made on the way, 0: the node's";
    "outbox.ingest_bytes" => outbox.ingest_bytes, "bytes of pushed events that wait for an answer";
    "outbox.ingest_deadline_ms" => outbox.ingest_deadline, "how long a push tries";

    "engine.threads" => engine.threads, "threads that run tasks";
    "engine.commit_interval_ms" => engine.commit_interval, "longest wait of a processed record for its commit";
    "engine.batch_records_max" => engine.batch_records_max, "records at which a micro-batch is committed";
    "engine.block_cache_bytes" => engine.block_cache_bytes, "memory for state read from disk";
    "engine.write_buffer_bytes" => engine.write_buffer_bytes, "memory for state not yet on disk";
    "engine.flush_interval_ms" => engine.flush_interval, "age at which state is written to disk";
    "engine.input_buffer_bytes" => engine.input_buffer_bytes, "fetched and not yet processed bytes of one task";
    "engine.tick_interval_ms" => engine.tick_interval, "how often timers are looked at when no record comes";
    "engine.request_timeout_ms" => engine.request_timeout, "longest wait for one answer of the broker";

    "pipelines.run" => pipelines.run, "pipelines to run: delivery-day";
    "pipelines.regions" => pipelines.regions, "GeoJSON file with the districts of delivery-day";
    "pipelines.city_seed" => pipelines.city_seed, "seed of the districts without a file";
    "pipelines.partitions" => pipelines.partitions, "partitions of the pipelines' topics";
}
