//! One partition on this node, twice: [`Owned`] is the log thread's side, the only writer; [`Partition`] is what everybody else may see of it.
//!
//! `Owned` performs the effects of the replication core and nothing else: every append, answer and watermark comes out of
//! [`sunseo_replica::Replica::step`].

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::atomic::{AtomicI32, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use sunseo_log::Reader;
use sunseo_proto::PartitionId;
use sunseo_proto::error::{Error, ErrorCode, Result};
use sunseo_replica::{Effect, Event, Leadership, Refusal, Replica, Token};
use tokio::sync::oneshot;

use crate::api::check::CheckedBatch;
use crate::gate::Permit;
use crate::internal::PartitionSettings;

/// What readers and the checks before an append see.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) id: PartitionId,
    pub(crate) reader: Reader,
    settings: RwLock<Arc<PartitionSettings>>,
    /// Records below it may be read; -1 while that is not known.
    readable_end: AtomicI64,
    leader_epoch: AtomicI32,
    failed: OnceLock<String>,
}

impl Partition {
    pub(crate) fn new(id: PartitionId, reader: Reader, settings: PartitionSettings) -> Arc<Self> {
        Arc::new(Self {
            id,
            reader,
            settings: RwLock::new(Arc::new(settings)),
            readable_end: AtomicI64::new(-1),
            leader_epoch: AtomicI32::new(-1),
            failed: OnceLock::new(),
        })
    }

    pub(crate) fn settings(&self) -> Arc<PartitionSettings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_settings(&self, settings: PartitionSettings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// The high watermark, once it may be served.
    pub(crate) fn readable_end(&self) -> Result<i64> {
        let end = self.readable_end.load(Ordering::Acquire);
        if end >= 0 { Ok(end) } else { Err(self.not_leader()) }
    }

    /// Below it every transaction is decided; never above the high watermark.
    pub(crate) fn last_stable(&self) -> Result<i64> {
        // first: what is decided in between is then below the high watermark
        let stable = self.reader.last_stable();
        Ok(self.readable_end()?.min(stable))
    }

    pub(crate) fn leader_epoch(&self) -> i32 {
        self.leader_epoch.load(Ordering::Acquire)
    }

    /// Why it accepts no more records.
    pub(crate) fn failed(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }

    fn not_leader(&self) -> Error {
        let message =
            format!("partition {} is not led here yet: refresh the metadata and try again", self.id);
        Error::new(ErrorCode::NotLeader, message)
    }
}

/// A batch on its way into a partition.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) partition: Arc<Partition>,
    pub(crate) batch: CheckedBatch,
}

/// What became of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) duplicate: bool,
}

/// Why nothing was appended, or why the outcome is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) error: Error,
    pub(crate) accepted_through: i64,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, accepted_through: 0 }
    }
}

pub(crate) type Outcome = std::result::Result<Appended, Refused>;

/// The appends of one request, answered together and in their order.
#[derive(Debug)]
pub(crate) struct Request {
    outcomes: Vec<Option<Outcome>>,
    missing: usize,
    reply: Option<oneshot::Sender<Vec<Outcome>>>,
    /// Room that is given back with the answer.
    permit: Option<Permit>,
}

/// One append's place in its request.
#[derive(Debug)]
pub(crate) struct Slot {
    request: Rc<RefCell<Request>>,
    index: usize,
}

impl Request {
    /// A slot for each append.
    pub(crate) fn slots(
        count: usize,
        reply: oneshot::Sender<Vec<Outcome>>,
        permit: Option<Permit>,
    ) -> impl Iterator<Item = Slot> {
        let mut request = Self { outcomes: vec![None; count], missing: count, reply: Some(reply), permit };
        if count == 0 {
            drop(request.finish());
        }
        let request = Rc::new(RefCell::new(request));
        (0..count).map(move |index| Slot { request: Rc::clone(&request), index })
    }

    /// Sends the outcomes; dropping what is returned may start the next requests in line.
    fn finish(&mut self) -> Option<Permit> {
        let outcomes = self.outcomes.drain(..).flatten().collect();
        if let Some(reply) = self.reply.take() {
            // who asked may have left; the appends stand all the same
            let _ = reply.send(outcomes);
        }
        self.permit.take()
    }
}

impl Slot {
    /// Answers the append; the last answer of a request sends them all.
    pub(crate) fn answer(self, outcome: Outcome) {
        let mut request = self.request.borrow_mut();
        if request.outcomes[self.index].replace(outcome).is_some() {
            return;
        }
        request.missing -= 1;
        if request.missing == 0 {
            let permit = request.finish();
            drop(request);
            drop(permit);
        }
    }
}

/// An append that the log took and that is not answered.
#[derive(Debug)]
struct Waiting {
    slot: Slot,
    appended: Appended,
}

/// What the owner must do outside of the partition.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// Bytes that readers may see now and could not before.
    pub(crate) committed_bytes: u64,
    /// Readers should look again for another reason.
    pub(crate) changed: bool,
}

/// The log thread's side.
#[derive(Debug)]
pub(crate) struct Owned {
    pub(crate) shared: Arc<Partition>,
    replica: Replica,
    waiting: HashMap<Token, Waiting>,
    /// End offset and bytes of batches above the high watermark, and whether it is a marker.
    uncommitted: VecDeque<(i64, u64, bool)>,
}

/// Does the one thing that needs the store.
pub(crate) type AppendTo<'a> = &'a mut dyn FnMut(i32, &CheckedBatch) -> Outcome;

impl Owned {
    /// `end` is the end of the log, all of it durable.
    pub(crate) fn new(shared: Arc<Partition>, node_id: i32, end: i64) -> Self {
        // a single node: what is durable here was safe, or nobody was told that it is
        let replica = Replica::new(node_id, end);
        Self { shared, replica, waiting: HashMap::new(), uncommitted: VecDeque::new() }
    }

    /// This node leads from now on, alone.
    pub(crate) fn lead(
        &mut self,
        node_id: i32,
        leader_epoch: i32,
        log_end: i64,
        durable_end: i64,
        now_ms: i64,
    ) -> Done {
        let leadership = Leadership {
            leader_epoch,
            partition_epoch: 0,
            replicas: BTreeMap::from([(node_id, i64::from(leader_epoch))]),
            in_sync: BTreeSet::from([node_id]),
            min_in_sync: 1,
        };
        self.step(Event::Lead { leadership, log_end, durable_end }, now_ms)
    }

    /// Appends, or answers why not.
    pub(crate) fn append(
        &mut self,
        token: Token,
        batch: &CheckedBatch,
        slot: Slot,
        now_ms: i64,
        append: AppendTo<'_>,
    ) -> Done {
        let mut done = Done::default();
        let mut slot = Some(slot);
        for effect in self.replica.step(Event::Propose { token }, now_ms) {
            match effect {
                Effect::Append { token: proposed, leader_epoch } if proposed == token => {
                    let Some(slot) = slot.take() else { continue };
                    match append(leader_epoch, batch) {
                        Ok(appended) => {
                            let waiting = Waiting { slot, appended };
                            let size = (batch.bytes.len(), batch.header.is_control());
                            self.took(token, waiting, size, now_ms, &mut done);
                        }
                        Err(refused) => {
                            let effects = self.replica.step(Event::Rejected { token }, now_ms);
                            self.perform(effects, &mut done);
                            slot.answer(Err(refused));
                        }
                    }
                }
                Effect::Refuse { token: proposed, refusal } if proposed == token => {
                    if let Some(slot) = slot.take() {
                        slot.answer(Err(error_of(self.shared.id, &refusal).into()));
                    }
                }
                effect => self.perform(vec![effect], &mut done),
            }
        }
        done
    }

    fn took(
        &mut self,
        token: Token,
        waiting: Waiting,
        (bytes, is_marker): (usize, bool),
        now_ms: i64,
        done: &mut Done,
    ) {
        let Appended { last_offset, duplicate, .. } = waiting.appended;
        if !duplicate {
            self.uncommitted.push_back((last_offset + 1, bytes as u64, is_marker));
        }
        self.waiting.insert(token, waiting);
        let effects = self.replica.step(Event::Appended { token, last_offset }, now_ms);
        self.perform(effects, done);
    }

    /// The log is on disk up to `end`.
    pub(crate) fn durable(&mut self, end: i64, now_ms: i64) -> Done {
        self.step(Event::Durable { end }, now_ms)
    }

    /// The log stopped.
    pub(crate) fn fail(&mut self, reason: &str, now_ms: i64) -> Done {
        if self.shared.failed.set(reason.to_owned()).is_ok() {
            tracing::error!(partition = %self.shared.id, topic = %self.shared.settings().topic, reason, "partition stopped");
        }
        let mut done = self.step(Event::Failed { reason: reason.to_owned() }, now_ms);
        done.changed = true;
        done
    }

    /// The partition is being removed: what waits is refused.
    pub(crate) fn resign(&mut self, now_ms: i64) -> Done {
        let mut done = self.step(Event::Resign, now_ms);
        done.changed = true;
        done
    }

    fn step(&mut self, event: Event, now_ms: i64) -> Done {
        let mut done = Done::default();
        let effects = self.replica.step(event, now_ms);
        self.perform(effects, &mut done);
        done
    }

    fn perform(&mut self, effects: Vec<Effect>, done: &mut Done) {
        for effect in effects {
            match effect {
                Effect::AdvanceHighWatermark { to } => self.commit_below(to, done),
                Effect::Acknowledge { token } => {
                    // readers see the record before its producer knows
                    self.publish();
                    if let Some(Waiting { slot, appended }) = self.waiting.remove(&token) {
                        slot.answer(Ok(appended));
                    }
                }
                Effect::Refuse { token, refusal } => {
                    if let Some(Waiting { slot, .. }) = self.waiting.remove(&token) {
                        slot.answer(Err(error_of(self.shared.id, &refusal).into()));
                    }
                }
                // nothing is appended but in `append`; other members are not there yet
                Effect::Append { .. } | Effect::ProposeInSync { .. } | Effect::RefuseFetch { .. } => {}
            }
        }
        self.publish();
    }

    fn publish(&self) {
        let end = self.replica.readable_end().unwrap_or(-1);
        self.shared.readable_end.store(end, Ordering::Release);
        self.shared.leader_epoch.store(self.replica.leader_epoch().unwrap_or(-1), Ordering::Release);
    }

    fn commit_below(&mut self, to: i64, done: &mut Done) {
        while let Some((_, more, is_marker)) = self.uncommitted.pop_front_if(|(end, ..)| *end <= to) {
            done.committed_bytes += more;
            // whatever it decided may be read now, and was counted long ago
            done.changed |= is_marker;
        }
    }
}

fn error_of(id: PartitionId, refusal: &Refusal) -> Error {
    let code = match refusal {
        Refusal::NotLeader | Refusal::NotAReplica(_) | Refusal::BrokerEpoch { .. } => ErrorCode::NotLeader,
        Refusal::Epoch { .. } => ErrorCode::FencedLeaderEpoch,
        Refusal::NotEnoughInSync { .. } => ErrorCode::Unavailable,
        Refusal::Failed(_) => ErrorCode::PartitionFailed,
    };
    Error::new(code, format!("partition {id}: {refusal}"))
}
