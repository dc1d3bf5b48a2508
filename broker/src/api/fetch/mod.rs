//! Reads of clients: many partitions, within a budget of bytes, waiting for what is not there yet.
//!
//! A request is a grant of credit: `max_bytes` for each partition and for all. The node buffers no more than that for it, and nothing after
//! its answer, so a client that is slow, or pauses a partition, asks for less and costs only itself. No partition is read before the
//! others again and again: each request begins at another one. Reads of the object store run beside the answer ([`crate::cold`]), which
//! does not wait for them when there is anything else to say.

mod answer;
mod room;

use std::time::Duration;

use futures::future::{join_all, select_all};
use sunseo_log::LogError;
use sunseo_proto::error::{Error, ErrorCode, Result};
use sunseo_proto::{PartitionId, v1};
use tokio::time::Instant;

use self::answer::{Answer, Portion, as_records, find_aborted};
pub(crate) use self::room::{Fetched, Room, Taken, tie};
use super::produce::{check_partitions, within};
use crate::cold::ColdRead;
use crate::log_thread::stopped;
use crate::metadata::State;
use crate::node::Node;
use crate::reads::{Reads, Wanted, below, out_of_range};

/// Bytes of a partition's part when the request names none.
const PARTITION_BYTES_DEFAULT: usize = 1 << 20;

/// What a result takes beside its records.
const RESULT_BYTES: usize = 128;

/// How long an answer waits for the object store when it has something else to say.
const COLD_GRACE: Duration = Duration::from_millis(5);

/// Everything a request asks for, as far as it is there now.
struct Gathered {
    answers: Vec<Answer>,
    bytes: usize,
    refused: bool,
    /// More is there than this answer takes: to wait adds nothing to it.
    full: bool,
    /// Reads of the object store that take longer.
    pending: Vec<ColdRead>,
}

impl Node {
    /// Reads; waits up to `max_wait_ms` for `min_bytes`. With `room`, bytes are read only when there is room for them, and a request that
    /// waits for more takes none.
    pub(crate) async fn fetch(&self, request: v1::FetchRequest, room: Option<Room>) -> Result<Fetched> {
        check_partitions(request.partitions.len(), self.limits.request_partitions_max)?;
        let wait_ms = request.max_wait_ms.min(self.limits.fetch_wait_ms_max);
        let deadline = Instant::now() + Duration::from_millis(wait_ms.into());
        let limit = self.limits.fetch_response_bytes_max.min(self.limits.message_bytes_max);
        let limit = limit.saturating_sub(request.partitions.len() * RESULT_BYTES).max(1);
        let total_bytes = match request.max_bytes {
            0 => limit,
            bytes => (bytes as usize).min(limit),
        };
        let min_bytes = (request.min_bytes as usize).min(total_bytes);
        let mut grace = COLD_GRACE;
        loop {
            if self.log.partitions().is_closed() {
                return Err(stopped());
            }
            let ids = self.ids(&request.partitions);
            let seen = self.log.partitions().committed_bytes(&ids);
            let mut reserved = match &room {
                Some(room) => Some(room.take(total_bytes).await?),
                None => None,
            };
            let gathered = self.gather(&request, total_bytes, grace).await;
            grace = Duration::ZERO;
            let enough = gathered.bytes >= min_bytes || gathered.refused || gathered.full;
            // who asks for what only the object store has waits for it, however short the time
            let nothing_yet = gathered.bytes == 0 && !gathered.refused && !gathered.pending.is_empty();
            if !nothing_yet && (enough || seen.is_empty() || Instant::now() >= deadline) {
                let bytes = gathered.bytes;
                let (mut response, memory) = self.respond(request, gathered);
                match &mut reserved {
                    Some(reserved) => reserved.settle(bytes, memory),
                    None => self.count_internal(&mut response),
                }
                return Ok((response, reserved));
            }
            drop(reserved);
            let missing = (min_bytes.saturating_sub(gathered.bytes) as u64).max(1);
            let news = self.log.partitions().wait(&seen, missing);
            let either = async {
                tokio::select! {
                    _ = news => {}
                    () = first_of(gathered.pending) => {}
                }
            };
            // woken or not, what is there by then is the answer
            if nothing_yet {
                either.await;
            } else {
                let _ = tokio::time::timeout_at(deadline, either).await;
            }
        }
    }

    /// What a part of the server reads counts in the node's memory as long as it holds it, and waits for nothing: its own buffers bound
    /// it, and it must not wait for clients.
    fn count_internal(&self, response: &mut v1::FetchResponse) {
        tie(response, |bytes| self.budget.take(bytes));
    }

    fn ids(&self, partitions: &[v1::FetchPartition]) -> Vec<PartitionId> {
        let image = self.metadata.image();
        let id = |asked: &v1::FetchPartition| {
            image.topic_as(&asked.topic, &asked.topic_id).ok()?.partition(asked.partition).ok()
        };
        partitions.iter().filter_map(id).collect()
    }

    async fn gather(&self, request: &v1::FetchRequest, total_bytes: usize, grace: Duration) -> Gathered {
        let image = self.metadata.image();
        let isolation = request.isolation();
        let asked = request.partitions.iter().enumerate();
        let mut answers: Vec<Answer> =
            asked.map(|(at, asked)| self.begin(&image, at, asked, isolation)).collect();
        let turn = self.reads.next_turn();
        let wanting = in_turn(answers.len(), turn).filter(|&at| answers[at].wanted.is_some());
        let is_cold = |at: &usize| answers[*at].wanted.as_ref().is_some_and(Reads::is_cold);
        let (mut cold, hot): (Vec<usize>, Vec<usize>) = wanting.partition(is_cold);
        let _ = tokio::time::timeout(grace, join_all(self.cold_reads(&answers, &cold))).await;
        let mut portion = Portion { bytes: 0, left: total_bytes, full: false };
        // each has its turn to be first, so that neither uses up the room again and again
        let cold_first = turn & 1 == 0;
        if cold_first {
            self.take_cold(&mut answers, &cold, &mut portion);
        }
        let evicted = self.take_hot(&mut answers, &hot, &mut portion).await;
        cold.extend(evicted);
        if !cold_first {
            self.take_cold(&mut answers, &cold, &mut portion);
        }
        let pending =
            self.cold_reads(&answers, &cold).into_iter().filter(|read| read.peek().is_none()).collect();
        if isolation == v1::Isolation::ReadCommitted {
            find_aborted(&mut answers).await;
        }
        let refused = answers.iter().any(|answer| answer.result.error.is_some());
        let Portion { bytes, full, .. } = portion;
        Gathered { answers, bytes, refused, full: full && bytes > 0, pending }
    }

    /// The reads of these answers that are not taken, started if they do not run.
    fn cold_reads(&self, answers: &[Answer], cold: &[usize]) -> Vec<ColdRead> {
        let open = cold.iter().map(|&at| &answers[at]).filter(|answer| answer.is_open());
        let wanted = open.filter_map(|answer| answer.wanted.as_ref());
        wanted.map(|wanted| self.reads.cold().start(&self.reads, wanted)).collect()
    }

    /// Takes what the object store has given by now.
    fn take_cold(&self, answers: &mut [Answer], cold: &[usize], portion: &mut Portion) {
        for &at in cold {
            let Some(wanted) = answers[at].wanted.clone() else { continue };
            if portion.bytes > 0 && portion.left == 0 {
                return;
            }
            let read = self.reads.cold().start(&self.reads, &wanted);
            // it may have been read for somebody who sees more
            let found = read.peek().map(|read| read.clone().map(|bytes| below(bytes, wanted.until)));
            if found.is_some_and(|found| portion.take(&mut answers[at], found)) {
                self.reads.cold().taken(&wanted);
            }
        }
    }

    /// Reads what is on the disk, in one go; those that have left it meanwhile.
    async fn take_hot(&self, answers: &mut [Answer], hot: &[usize], portion: &mut Portion) -> Vec<usize> {
        if hot.is_empty() || (portion.bytes > 0 && portion.left == 0) {
            return Vec::new();
        }
        let wanted: Vec<Wanted> = hot.iter().filter_map(|&at| answers[at].wanted.clone()).collect();
        let reads = match Reads::read_local(wanted, portion.left).await {
            Ok(reads) => reads,
            Err(error) => {
                hot.iter().for_each(|&at| answers[at].result.error = Some(error.clone().into()));
                return Vec::new();
            }
        };
        let mut evicted = Vec::new();
        for (&at, read) in hot.iter().zip(reads) {
            match read {
                Err(LogError::NotLocal { .. }) => evicted.push(at),
                read => drop(portion.take(&mut answers[at], read.map_err(Error::from))),
            }
        }
        evicted
    }

    /// What is known of a partition before anything is read.
    fn begin(
        &self,
        image: &State,
        index: usize,
        asked: &v1::FetchPartition,
        isolation: v1::Isolation,
    ) -> Answer {
        let mut answer = Answer {
            result: v1::FetchResult {
                topic: asked.topic.clone(),
                partition: asked.partition,
                high_watermark: -1,
                log_start_offset: -1,
                leader_epoch: -1,
                last_stable_offset: -1,
                next_offset: asked.fetch_offset,
                ..Default::default()
            },
            wanted: None,
            fetch_offset: asked.fetch_offset,
        };
        match self.locate(image, asked, isolation, &mut answer.result) {
            Ok(wanted) => answer.wanted = wanted,
            Err(error) => answer.result.error = Some(within(error, index).into()),
        }
        answer
    }

    fn locate(
        &self,
        image: &State,
        asked: &v1::FetchPartition,
        isolation: v1::Isolation,
        result: &mut v1::FetchResult,
    ) -> Result<Option<Wanted>> {
        let id = image.topic_as(&asked.topic, &asked.topic_id)?.partition(asked.partition)?;
        let partition = self.partition(id)?;
        let until = partition.readable_end()?;
        let start = partition.reader.log_start();
        (result.high_watermark, result.log_start_offset) = (until, start);
        result.last_stable_offset = partition.last_stable()?;
        result.leader_epoch = partition.leader_epoch();
        check_epoch(asked.current_leader_epoch, result.leader_epoch)?;
        if asked.fetch_offset < start || asked.fetch_offset > until {
            return Err(out_of_range(&partition, asked.fetch_offset, start, until));
        }
        let max_bytes = match asked.max_bytes {
            0 => PARTITION_BYTES_DEFAULT,
            bytes => bytes as usize,
        };
        let until = match isolation {
            v1::Isolation::ReadCommitted => result.last_stable_offset,
            v1::Isolation::ReadUncommitted => until,
        };
        let wanted = Wanted { partition, offset: asked.fetch_offset, until, max_bytes };
        Ok((asked.fetch_offset < until).then_some(wanted))
    }

    /// The answer, and the memory it takes.
    fn respond(&self, request: v1::FetchRequest, gathered: Gathered) -> (v1::FetchResponse, usize) {
        let Gathered { mut answers, mut bytes, .. } = gathered;
        metrics::counter!("sunseo_fetch_bytes_total").increment(bytes as u64);
        if request.as_records {
            // a batch may be larger as records than it was; the largest single one still fits
            let overhead = request.partitions.len() * RESULT_BYTES;
            let most = self.limits.message_bytes_max.saturating_sub(overhead);
            let mut left = most;
            answers.iter_mut().for_each(|answer| as_records(answer, &mut left));
            bytes = most - left;
        }
        let is_news = |answer: &Answer| {
            let result = &answer.result;
            let something =
                !result.batches.is_empty() || !result.records.is_empty() || result.error.is_some();
            something || result.high_watermark != answer.fetch_offset
        };
        answers.retain(|answer| !request.omit_empty || is_news(answer));
        let results = answers.into_iter().map(|answer| answer.result).collect();
        (v1::FetchResponse { correlation_id: request.correlation_id, results, ..Default::default() }, bytes)
    }
}

async fn first_of(pending: Vec<ColdRead>) {
    if pending.is_empty() {
        std::future::pending::<()>().await;
    }
    // its bytes are taken when the request looks again
    let _ = select_all(pending).await;
}

/// The numbers below `count`, from one of them on and around.
fn in_turn(count: usize, turn: u64) -> impl Iterator<Item = usize> {
    let first = usize::try_from(turn % (count.max(1) as u64)).unwrap_or(0);
    (first..count).chain(0..first)
}

/// -1 is not checked.
fn check_epoch(theirs: i32, ours: i32) -> Result<()> {
    if theirs < 0 || theirs == ours {
        return Ok(());
    }
    let code = if theirs < ours { ErrorCode::FencedLeaderEpoch } else { ErrorCode::NotLeader };
    let message = format!("leader epoch {theirs} is not the current one, {ours}: refresh the metadata");
    Err(Error::new(code, message).at("current_leader_epoch"))
}
