//! An [`InternalLog`] in memory with faults, for the tests of the folds.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sunseo_proto::PartitionId;
use sunseo_proto::error::{Error, ErrorCode, Result};

use crate::internal::{InternalLog, PartitionSettings};

/// Records of one answer to a read, few so that readers must page.
const READ_RECORDS: usize = 3;

/// What happens to an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Refused, nothing is stored.
    Refused,
    /// Stored, the answer is an error.
    AnswerLost,
    /// The answer is an error, and it is stored just before the next append, or never when the node dies first.
    Late,
}

#[derive(Debug, Default)]
struct Partition {
    settings: Option<PartitionSettings>,
    start: i64,
    next: i64,
    records: Vec<(i64, Bytes)>,
    late: Vec<Vec<Bytes>>,
}

impl Partition {
    fn push(&mut self, values: Vec<Bytes>) {
        for value in values {
            self.records.push((self.next, value));
            self.next += 1;
        }
    }
}

#[derive(Debug, Default)]
struct State {
    partitions: BTreeMap<PartitionId, Partition>,
    faults: VecDeque<Fault>,
    /// Calls of these kinds that fail.
    failing_ensures: usize,
    failing_removes: usize,
    failing_reads: usize,
    appends: usize,
    append_delay: Duration,
}

/// The log; shared by a node and the next one after a "restart".
#[derive(Debug, Default)]
pub(crate) struct MemoryLog(Mutex<State>);

fn broken(what: &str) -> Error {
    Error::new(ErrorCode::Unavailable, format!("scripted: {what}"))
}

fn fails(left: &mut usize) -> bool {
    let failing = *left > 0;
    *left = left.saturating_sub(1);
    failing
}

impl MemoryLog {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds it")
    }

    /// The next appends meet these, the ones after them nothing.
    pub(crate) fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults.extend(faults);
    }

    pub(crate) fn fail_ensures(&self, count: usize) {
        self.lock().failing_ensures = count;
    }

    pub(crate) fn fail_removes(&self, count: usize) {
        self.lock().failing_removes = count;
    }

    pub(crate) fn fail_reads(&self, count: usize) {
        self.lock().failing_reads = count;
    }

    /// The node dies: what is still on its way never arrives.
    pub(crate) fn crash(&self) {
        let mut state = self.lock();
        state.faults.clear();
        (state.failing_ensures, state.failing_removes, state.failing_reads) = (0, 0, 0);
        state.partitions.values_mut().for_each(|partition| partition.late.clear());
    }

    /// Every append takes so long from now on.
    pub(crate) fn delay(&self, time: Duration) {
        self.lock().append_delay = time;
    }

    pub(crate) fn appends(&self) -> usize {
        self.lock().appends
    }

    /// Partitions on the disk.
    pub(crate) fn disk(&self) -> Vec<PartitionId> {
        self.lock().partitions.keys().copied().collect()
    }

    pub(crate) fn settings(&self, id: PartitionId) -> Option<PartitionSettings> {
        self.lock().partitions.get(&id)?.settings.clone()
    }

    pub(crate) fn records(&self, id: PartitionId) -> Vec<(i64, Bytes)> {
        self.lock().partitions.get(&id).map(|partition| partition.records.clone()).unwrap_or_default()
    }

    /// Puts bytes into a partition as no fold would.
    pub(crate) fn inject(&self, id: PartitionId, value: Bytes) {
        self.lock().partitions.entry(id).or_default().push(vec![value]);
    }
}

#[async_trait]
impl InternalLog for MemoryLog {
    async fn append(&self, id: PartitionId, values: Vec<Bytes>) -> Result<i64> {
        // a real append leaves the task: others may run before it is answered
        tokio::task::yield_now().await;
        let delay = self.lock().append_delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        assert!(!values.is_empty(), "an append without values");
        let mut state = self.lock();
        state.appends += 1;
        let fault = state.faults.pop_front().unwrap_or(Fault::None);
        let partition = state.partitions.get_mut(&id).ok_or_else(|| broken("no such partition"))?;
        for values in std::mem::take(&mut partition.late) {
            partition.push(values);
        }
        match fault {
            Fault::None => partition.push(values),
            Fault::Refused => return Err(broken("refused")),
            Fault::AnswerLost => {
                partition.push(values);
                return Err(broken("answer lost"));
            }
            Fault::Late => {
                partition.late.push(values);
                return Err(broken("late"));
            }
        }
        Ok(partition.next - 1)
    }

    async fn read(&self, id: PartitionId, from: i64) -> Result<Vec<(i64, Bytes)>> {
        let mut state = self.lock();
        if fails(&mut state.failing_reads) {
            return Err(broken("read"));
        }
        let partition = state.partitions.get(&id).ok_or_else(|| broken("no such partition"))?;
        assert!(from >= partition.start, "read at {from}, below the start {}", partition.start);
        Ok(partition.records.iter().filter(|(at, _)| *at >= from).take(READ_RECORDS).cloned().collect())
    }

    async fn trim(&self, id: PartitionId, before: i64) -> Result<()> {
        let mut state = self.lock();
        let partition = state.partitions.get_mut(&id).ok_or_else(|| broken("no such partition"))?;
        partition.start = partition.start.max(before);
        partition.records.retain(|(at, _)| *at >= before);
        Ok(())
    }

    async fn start(&self, id: PartitionId) -> Result<i64> {
        self.lock()
            .partitions
            .get(&id)
            .map(|partition| partition.start)
            .ok_or_else(|| broken("no such partition"))
    }

    async fn ensure(&self, id: PartitionId, settings: PartitionSettings) -> Result<()> {
        let mut state = self.lock();
        if fails(&mut state.failing_ensures) {
            return Err(broken("ensure"));
        }
        state.partitions.entry(id).or_default().settings = Some(settings);
        Ok(())
    }

    async fn remove(&self, id: PartitionId) -> Result<()> {
        let mut state = self.lock();
        if fails(&mut state.failing_removes) {
            return Err(broken("remove"));
        }
        state.partitions.remove(&id);
        Ok(())
    }
}
