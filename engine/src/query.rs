//! Live queries: what the stores hold, as of the last commit of each task.
//!
//! A query reads one snapshot of the database, in which every task stands exactly at a commit: it sees no half commit, nothing
//! that is not durable, and holds up no task. Its answer says which commits it saw.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, v1};

use crate::plan::{Plan, StoreSpec};
use crate::store::db::{StateDb, TaskPlace, View};
use crate::store::overlay::database_range;

/// Entries of a scan that names no limit.
pub const SCAN_LIMIT_DEFAULT: u32 = 1_000;
/// Most entries of one scan.
pub const SCAN_LIMIT_MAX: u32 = 100_000;
/// Entries of a store up to which a description counts them; beyond, it estimates.
const COUNT_EXACT_MAX: u64 = 1_000;
/// Bytes of keys and values of one scan, so that the answer fits a message.
pub const SCAN_BYTES_MAX: usize = 16 << 20;

/// What a query reads.
#[derive(Clone, Debug)]
pub(crate) struct Queried {
    pub db: Arc<StateDb>,
    pub plan: Arc<Plan>,
    pub generation: u64,
}

impl Queried {
    pub(crate) fn store(&self, id: &str) -> Result<&StoreSpec> {
        let found = self.plan.stores.iter().find(|store| store.id == id && store.queryable());
        found.ok_or_else(|| {
            let known: Vec<_> = self
                .plan
                .stores
                .iter()
                .filter(|store| store.queryable())
                .map(|store| store.id.as_str())
                .collect();
            let message = format!(
                "pipeline {} has no store {id:?} that can be queried: it has {}",
                self.plan.pipeline,
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            );
            Error::new(ErrorCode::UnknownStore, message).at("store")
        })
    }

    fn place(&self, store: &StoreSpec, partition: i32) -> TaskPlace {
        let sub = self.plan.sub_topologies.iter().find(|sub| sub.index == store.sub_topology);
        TaskPlace {
            pipeline: self.plan.pipeline.clone(),
            generation: self.generation,
            sub_topology: sub.map(|sub| sub.name.clone()).unwrap_or_default(),
            partition: partition.cast_unsigned(),
        }
    }

    /// One key. It is looked for in the task that owns it first; in the others too, since whoever wrote the input may place keys
    /// by rules of his own.
    pub(crate) fn get(&self, request: &v1::QueryGetRequest) -> Result<v1::QueryGetResponse> {
        let store = self.store(&request.store)?;
        let key = store.parse_key(&json("key_json", &request.key_json)?)?;
        let owner = store.partition_of(&key);
        let view = self.db.snapshot();
        let others = (0..store.partitions).filter(|partition| *partition != owner);
        for partition in std::iter::once(owner).chain(others) {
            let place = self.place(store, partition);
            let full = [&place.prefix()[..], &key].concat();
            if let Some(value) = view.get(&place.family(&store.id), &full)? {
                let entry = Some(entry(store, key, value)?);
                return Ok(v1::QueryGetResponse { entry, found: true, position: position(&view, &place)? });
            }
        }
        let position = position(&view, &self.place(store, owner))?;
        Ok(v1::QueryGetResponse { entry: None, found: false, position })
    }

    /// A range of keys in order, over all tasks.
    pub(crate) fn scan(&self, request: &v1::QueryScanRequest) -> Result<v1::QueryScanResponse> {
        let store = self.store(&request.store)?;
        let bound = |field: &str, text: &str| match text {
            "" => Ok(None),
            text => {
                json(field, text).and_then(|json| store.parse_key(&json)).map(Some).map_err(|e| e.at(field))
            }
        };
        let from = bound("from_json", &request.from_json)?;
        let to = bound("to_json", &request.to_json)?;
        let limit = match request.limit {
            0 => SCAN_LIMIT_DEFAULT,
            limit => limit.min(SCAN_LIMIT_MAX),
        } as usize;
        let from = from.as_deref().map_or(Bound::Unbounded, Bound::Included);
        let to = to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let view = self.db.snapshot();
        let (mut found, mut positions) = (Vec::new(), Vec::new());
        for partition in 0..store.partitions {
            let place = self.place(store, partition);
            let (low, high) = database_range(place.prefix(), from, to);
            // what fits the answer of one task alone, and one entry more to tell that there are more
            let (mut room, mut bytes) = (limit + 1, 0);
            view.range(&place.family(&store.id), &low, &high, |key, value| {
                found.push((Bytes::copy_from_slice(&key[4..]), Bytes::copy_from_slice(value)));
                (room, bytes) = (room - 1, bytes + key.len() - 4 + value.len());
                room > 0 && bytes <= SCAN_BYTES_MAX
            })?;
            positions.extend(position(&view, &place)?);
        }
        found.sort();
        let count = fitting(&found, limit);
        let truncated = count < found.len();
        found.truncate(count);
        let entries: Result<Vec<_>> =
            found.into_iter().map(|(key, value)| entry(store, key, value)).collect();
        Ok(v1::QueryScanResponse { entries: entries?, positions, truncated })
    }

    /// The stores that can be queried.
    pub(crate) fn stores(&self) -> Result<Vec<v1::StoreDescription>> {
        self.plan.stores.iter().filter(|store| store.queryable()).map(|store| self.describe(store)).collect()
    }

    /// Every store, those that are internal to an operator included.
    pub(crate) fn all_stores(&self) -> Result<Vec<v1::StoreDescription>> {
        self.plan.stores.iter().map(|store| self.describe(store)).collect()
    }

    fn describe(&self, store: &StoreSpec) -> Result<v1::StoreDescription> {
        Ok(v1::StoreDescription {
            store: store.id.clone(),
            operator: store.operator.clone(),
            key_type: store.key.type_name().to_string(),
            value_type: store.value.type_name().to_string(),
            entries_estimate: self.entries(store)?,
        })
    }

    /// Exact while it is cheap: that a store is empty again is worth knowing, and estimates cannot say it.
    fn entries(&self, store: &StoreSpec) -> Result<u64> {
        let view = self.db.snapshot();
        let mut count = 0;
        for partition in 0..store.partitions {
            let place = self.place(store, partition);
            let (low, high) = database_range(place.prefix(), Bound::Unbounded, Bound::Unbounded);
            view.range(&place.family(&store.id), &low, &high, |_, _| {
                count += 1;
                count <= COUNT_EXACT_MAX
            })?;
        }
        if count <= COUNT_EXACT_MAX {
            return Ok(count);
        }
        Ok(self.db.entries_estimate(&self.place(store, 0).family(&store.id)).max(count))
    }
}

/// How many entries, within both limits; at least one.
fn fitting(found: &[(Bytes, Bytes)], limit: usize) -> usize {
    let mut bytes = 0;
    let fits = found.iter().take(limit).take_while(|(key, value)| {
        bytes += key.len() + value.len();
        bytes <= SCAN_BYTES_MAX
    });
    fits.count().max(1).min(found.len())
}

fn entry(store: &StoreSpec, key: Bytes, stored: Bytes) -> Result<v1::QueryEntry> {
    let (_, value) = store.split_value(&stored)?;
    Ok(v1::QueryEntry {
        key_json: store.render_key(&key)?.to_string(),
        value_json: store.render_value(&stored)?.to_string(),
        key,
        value,
    })
}

fn position(view: &View<'_>, place: &TaskPlace) -> Result<Option<v1::StorePosition>> {
    Ok(view.position(place)?.map(|position| v1::StorePosition {
        task_partition: place.partition.cast_signed(),
        commit_position: position.head.number,
        stream_time_ms: position.head.stream_time_ms,
    }))
}

fn json(field: &str, text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| {
        let message = format!("{field} {text:?} is not JSON ({error}): a text key is quoted, as \"abc\"");
        Error::invalid(field, message)
    })
}
