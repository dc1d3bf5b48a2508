//! Fuzz targets of what the node stores about itself, and of requests. For tests only (feature `testing`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use sunseo_proto::batch::{self, BatchBuilder, Compression, Ending};
use sunseo_proto::fuzz::{BATCH_BYTES_MAX, SMALL, Seal, Target};
use sunseo_proto::{PartitionId, Record, TopicId, envelope, v1};

use crate::GroupConfig;
use crate::api::check;
use crate::coordinator::validate;
use crate::folded::Fold;
use crate::group::membership::{Facts, Heartbeat};
use crate::group::record::GroupRecord;
use crate::group::{CommittedOffset, Group, TopicFact, TopicFacts, TopicPartition};
use crate::grpc::plain_records::RecordCounter;
use crate::metadata::fuzz as metadata;
use crate::txn::record::TransactionRecord;
use crate::txn::state::{Now, Transaction};

const NOW_MS: i64 = 1_700_000_000_000;
const BATCH_BYTES: usize = 1 << 20;
/// Owned partitions of one heartbeat.
const OWNED_MAX: usize = 1_000;

/// The targets of this crate.
pub const TARGETS: &[Target] = &[
    target("metadata_commands", Seal::Envelopes, metadata::commands, metadata::command_samples),
    target("create_topic", Seal::None, metadata::create_topic, metadata::create_topic_samples),
    target("group_records", Seal::Envelopes, groups, group_samples),
    target("transaction_records", Seal::Envelopes, transactions, transaction_samples),
    target("group_heartbeat", Seal::None, heartbeat, heartbeat_samples),
    Target {
        memory_bytes_max: BATCH_BYTES_MAX,
        ..target("produce_request", Seal::None, produce, produce_samples)
    },
];

const fn target(name: &'static str, seal: Seal, run: fn(&[u8]), samples: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, run, samples, seal, memory_bytes_max: SMALL }
}

const fn topic_id() -> TopicId {
    TopicId(uuid::Uuid::from_u128(7))
}

/// What stored records fold to; those that do not read are passed over.
fn folded<R: Fold>(bytes: &[u8]) -> R::State {
    let mut rest = Bytes::copy_from_slice(bytes);
    let mut state = R::State::default();
    while let Ok(opened) = envelope::open(&rest) {
        if let Ok(record) = R::from_stored(&rest) {
            let stored = record.to_stored();
            assert_eq!(R::from_stored(&stored).expect("just written").to_stored(), stored);
            let _ = record.fold(&mut state);
        }
        rest = rest.slice(opened.frame_bytes..);
    }
    state
}

fn stored<R: Fold>(records: Vec<R>) -> Vec<u8> {
    records.iter().flat_map(R::to_stored).collect()
}

fn groups(bytes: &[u8]) {
    let state = folded::<GroupRecord>(bytes);
    let snapshot = stored(GroupRecord::snapshot(&state));
    let again = stored(GroupRecord::snapshot(&folded::<GroupRecord>(&snapshot)));
    assert_eq!(again, snapshot, "a snapshot says everything that counts");
    let (topics, config) = (topics(), GroupConfig::default());
    for (_, mut group) in state {
        // refused or not, whatever numbers the group came with
        let _ = group.heartbeat(&joining("m-new"), Facts { topics: &topics, config: &config, now_ms: 0 });
    }
}

fn joining(member: &str) -> Heartbeat {
    Heartbeat {
        member_id: member.to_owned(),
        member_epoch: 0,
        instance_id: format!("instance-{member}"),
        topics: BTreeSet::from([Arc::from("orders")]),
        owned: BTreeSet::new(),
        session_timeout_ms: 0,
        assignor: String::new(),
    }
}

fn group_samples() -> Vec<Vec<u8>> {
    let (topics, config) = (topics(), GroupConfig::default());
    let facts = Facts { topics: &topics, config: &config, now_ms: 0 };
    let mut group = Group::default();
    for member in ["m-1", "m-2"] {
        group.heartbeat(&joining(member), facts).expect("joins");
    }
    let offset = |offset| CommittedOffset { topic_id: topic_id(), offset, metadata: "m".into() };
    let offsets: BTreeMap<_, _> =
        (0..3).map(|partition| (TopicPartition::new("orders", partition), offset(9))).collect();
    let life = vec![
        GroupRecord::membership("kitchen", &group),
        GroupRecord::offsets("kitchen", 0, &offsets),
        GroupRecord::pending("kitchen", 7, 1, &offsets),
        GroupRecord::ended("kitchen", 7, 2, true),
        GroupRecord::offsets("alone", NOW_MS, &offsets),
        GroupRecord::pending("alone", 8, 1, &offsets),
    ];
    vec![stored(life), stored(vec![GroupRecord::deleted("kitchen")])]
}

fn topics() -> TopicFacts {
    TopicFacts::from([(Arc::from("orders"), TopicFact { id: topic_id(), partitions: 4 })])
}

fn transactions(bytes: &[u8]) {
    let write = |state: &BTreeMap<Arc<str>, Transaction>| {
        stored(state.iter().map(|(id, transaction)| TransactionRecord::of(id, transaction)).collect())
    };
    let state = folded::<TransactionRecord>(bytes);
    let snapshot = write(&state);
    assert_eq!(write(&folded::<TransactionRecord>(&snapshot)), snapshot);
    state.into_values().for_each(goes_on);
}

/// Ends what is open, is asked about it once more, and begins anew: refused or not, whatever numbers it came with.
fn goes_on(mut transaction: Transaction) {
    const SPARE: i64 = 9;
    let (now, asked) = (Now::default(), transaction.identity);
    for _ in 0..2 {
        let _ = transaction.end(asked, Ending::Abort, SPARE, now);
        transaction.complete(transaction.identity, &BTreeSet::new(), now);
    }
    transaction.init(60_000, SPARE, now);
}

fn transaction_samples() -> Vec<Vec<u8>> {
    let now = Now { elapsed_ms: 5, wall_ms: NOW_MS };
    let idle = Transaction::new(7, 60_000, now);
    let mut open = Transaction::new(8, 60_000, now);
    open.partitions = (0..3).map(|partition| PartitionId { topic_id: topic_id(), partition }).collect();
    open.groups = BTreeSet::from(["kitchen".to_owned()]);
    let records = vec![
        TransactionRecord::of("app-1", &idle),
        TransactionRecord::of("app-2", &open),
        TransactionRecord::forgotten("app-1"),
    ];
    vec![stored(records)]
}

/// Heartbeats with their lengths before them, as several members may send them to one group.
fn heartbeat(bytes: &[u8]) {
    let (topics, config) = (topics(), GroupConfig::default());
    let mut group = Group::default();
    let mut rest = bytes;
    while let Ok(request) = v1::GroupHeartbeatRequest::decode_length_delimited(&mut rest) {
        let Ok((_, beat)) = validate::heartbeat(request, OWNED_MAX) else { continue };
        let facts = Facts { topics: &topics, config: &config, now_ms: 0 };
        if let Ok(told) = group.heartbeat(&beat, facts) {
            for TopicPartition { topic, partition } in &told.assignment {
                assert!(topics.get(topic).is_some_and(|fact| (0..fact.partitions).contains(partition)));
            }
        }
        let mut owners = BTreeSet::new();
        for partition in group.members.values().flat_map(|member| member.grants.keys()) {
            assert!(owners.insert(partition), "{partition:?} has two owners");
        }
    }
    let snapshot = stored(vec![GroupRecord::membership("kitchen", &group)]);
    groups(&snapshot);
}

fn heartbeat_samples() -> Vec<Vec<u8>> {
    let beat = |member: &str, member_epoch, owned: &[i32]| v1::GroupHeartbeatRequest {
        group: "kitchen".into(),
        member_id: member.into(),
        member_epoch,
        topics: vec!["orders".into()],
        owned: owned
            .iter()
            .map(|partition| v1::TopicPartition { topic: "orders".into(), partition: *partition })
            .collect(),
        ..Default::default()
    };
    let beats = [
        beat("m-1", 0, &[]),
        beat("m-1", 1, &[0, 1, 2, 3]),
        beat("m-2", 0, &[]),
        beat("m-1", 1, &[0, 1]),
        beat("m-1", -1, &[]),
    ];
    vec![beats.iter().flat_map(Message::encode_length_delimited_to_vec).collect()]
}

fn produce(bytes: &[u8]) {
    let mut counter = RecordCounter::new();
    counter.begin();
    bytes.chunks(7).for_each(|part| counter.feed(part));
    let Ok(request) = v1::ProduceRequest::decode(bytes) else { return };
    let lists = request.partitions.iter().filter_map(|partition| partition.records.as_ref());
    assert!(counter.records() >= lists.map(|list| list.records.len()).sum(), "records came in uncounted");
    for part in request.partitions {
        let Ok(checked) = check::check(part, BATCH_BYTES, NOW_MS) else { continue };
        let read = batch::iterate(&checked.bytes).expect("what is accepted decodes");
        let records = read.collect::<Result<Vec<_>, _>>().expect("what is accepted decodes");
        assert_eq!(records.len(), checked.header.record_count as usize);
    }
}

fn produce_samples() -> Vec<Vec<u8>> {
    let mut builder = BatchBuilder::new(Compression::None).producer(7, 0, 3);
    (0..3).for_each(|n| builder.push(&Record::new("k", format!("value {n}"), NOW_MS)));
    let header = v1::Header { key: "h".into(), value: Some("v".into()) };
    let record = v1::Record {
        key: Some("k".into()),
        value: Some("v".into()),
        headers: vec![header],
        timestamp_ms: NOW_MS,
        offset: 0,
    };
    let topic_id = Bytes::copy_from_slice(topic_id().as_bytes());
    let part = v1::ProducePartition { topic: "orders".into(), partition: 3, topic_id, ..Default::default() };
    let records = v1::RecordList { records: vec![record.clone(), record, v1::Record::default()] };
    let partitions = vec![
        v1::ProducePartition { batch: Some(builder.build()), ..part.clone() },
        v1::ProducePartition { records: Some(records), ..part },
    ];
    vec![v1::ProduceRequest { correlation_id: 9, partitions, ..Default::default() }.encode_to_vec()]
}
