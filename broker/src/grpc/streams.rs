//! The two pipelined streams. Each has one task that reads requests while there is room for one more, and a stream of answers.
//!
//! Memory of one stream: `stream_bytes_in_flight_max` of produce requests that are not answered, and of fetch answers that the client
//! has not taken; each is in the node's budget too, a request since before it was read, an answer since before its records were
//! read. An answer counts until its batches are written and the connection asks for what comes after it. A client that leaves one lying
//! for `answer_wait_ms_max` is cut off, so that it costs the others nothing.
//!
//! Quotas: a client over its quota is answered at once and told for how long its stream is not read on.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use prost::Message as _;
use sunseo_proto::error::Result;
use sunseo_proto::stream_codec::Incoming;
use sunseo_proto::{Error, ErrorCode, v1};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::bounded::Caller;
use crate::BrokerHandle;
use crate::api::fetch::{Room, Taken, tie};
use crate::budget::Reserved;
use crate::quota::Kind;

type Answered<T> = std::result::Result<T, Status>;

/// A produce request that was queued, and the room it takes until its answer is handed on.
struct Pending {
    answer: BoxFuture<'static, Answered<v1::ProduceResponse>>,
    room: Option<(OwnedSemaphorePermit, Option<Reserved>)>,
}

pub(super) fn produce(
    handle: BrokerHandle,
    caller: Caller,
    requests: Incoming<v1::ProduceRequest>,
) -> BoxStream<'static, Answered<v1::ProduceResponse>> {
    let limits = handle.limits();
    let (pending, answers) = mpsc::channel(limits.produce_requests_in_flight_max.max(1));
    let room = Arc::new(Semaphore::new(limits.stream_bytes_in_flight_max));
    tokio::spawn(read_produce(handle, caller, requests, pending, room));
    let answer = |pending: Pending| async move {
        let answer = pending.answer.await;
        drop(pending.room);
        answer
    };
    ReceiverStream::new(answers).then(answer).boxed()
}

async fn read_produce(
    handle: BrokerHandle,
    caller: Caller,
    mut requests: Incoming<v1::ProduceRequest>,
    pending: mpsc::Sender<Pending>,
    room: Arc<Semaphore>,
) {
    let room_max = handle.limits().stream_bytes_in_flight_max;
    while let Ok(slot) = pending.reserve().await {
        let next = tokio::select! {
            next = requests.message() => next,
            () = pending.closed() => return,
        };
        let request = match next {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(status) => {
                let answer = ready(Err(unreadable(status))).boxed();
                return slot.send(Pending { answer, room: None });
            }
        };
        let mut reserved = caller.reserved();
        if let Some(reserved) = &mut reserved {
            // plain records take more than their bytes
            reserved.set(reserved.bytes() + plain_records(&request) * size_of::<v1::Record>());
        }
        // what the client did on other streams counts here too
        if !hold(handle.charge(&caller.client, Kind::ProduceBytes, 0), pending.closed()).await {
            return;
        }
        let length = request.encoded_len();
        let throttle_ms = handle
            .charge(&caller.client, Kind::ProduceBytes, length as u64)
            .max(handle.charge(&caller.client, Kind::Requests, 1));
        let bytes = u32::try_from(length.min(room_max)).unwrap_or(u32::MAX);
        // the semaphore is never closed
        let Ok(room) = Arc::clone(&room).acquire_many_owned(bytes).await else { return };
        let correlation_id = request.correlation_id;
        let (admitted, answer) = handle.produce_from_network(request);
        let answer = answer.map(move |result| {
            let response = produce_response(correlation_id, result);
            Ok(v1::ProduceResponse { throttle_ms, ..response })
        });
        slot.send(Pending { answer: answer.boxed(), room: Some((room, reserved)) });
        admitted.await;
        if !hold(throttle_ms, pending.closed()).await {
            return;
        }
    }
}

fn plain_records(request: &v1::ProduceRequest) -> usize {
    let lists = request.partitions.iter().filter_map(|partition| partition.records.as_ref());
    lists.map(|list| list.records.len()).sum()
}

/// Holds a stream; `false` when the client is gone.
async fn hold(ms: u32, gone: impl Future<Output = ()>) -> bool {
    if ms == 0 {
        return true;
    }
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(ms.into())) => true,
        () = gone => false,
    }
}

fn produce_response(correlation_id: u64, result: Result<v1::ProduceResponse>) -> v1::ProduceResponse {
    match result {
        Ok(response) => v1::ProduceResponse { correlation_id, ..response },
        Err(error) => v1::ProduceResponse { correlation_id, error: Some(error.into()), ..Default::default() },
    }
}

/// Dropped when an answer has left. Its batches hold it too: the connection may ask for the next answer before it has written them.
type Left = Arc<oneshot::Sender<()>>;

/// A fetch answer on its way out.
type Leaving = (Answered<v1::FetchResponse>, Option<Left>);

pub(super) fn fetch(
    handle: BrokerHandle,
    caller: Caller,
    requests: Incoming<v1::FetchRequest>,
) -> BoxStream<'static, Answered<v1::FetchResponse>> {
    let (answers, answered) = mpsc::channel(1);
    tokio::spawn(read_fetch(handle, caller, requests, answers));
    let next = |(mut answered, before): (mpsc::Receiver<Leaving>, Option<Left>)| async move {
        // the connection asks for more: of what it got before, at most batches have not left
        drop(before);
        let (answer, left) = answered.recv().await?;
        Some((answer, (answered, left)))
    };
    futures::stream::unfold((answered, None), next).boxed()
}

async fn read_fetch(
    handle: BrokerHandle,
    caller: Caller,
    mut requests: Incoming<v1::FetchRequest>,
    answers: mpsc::Sender<Leaving>,
) {
    let limits = handle.limits();
    let slots = Arc::new(Semaphore::new(limits.fetch_requests_in_flight_max));
    let room = Room::new(limits.stream_bytes_in_flight_max, handle.budget());
    // how long this stream is still to be held, as the last answers said
    let hold_ms = Arc::new(AtomicU32::new(0));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let next = tokio::select! {
            next = requests.message() => next,
            () = answers.closed() => return,
        };
        let request = match next {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(status) => {
                // a client that is gone needs no reason
                let _ = answers.send((Err(unreadable(status)), None)).await;
                return;
            }
        };
        drop(caller.reserved());
        if !hold(handle.charge(&caller.client, Kind::FetchBytes, 0), answers.closed()).await {
            return;
        }
        let throttle_ms = handle.charge(&caller.client, Kind::Requests, 1);
        let fetch = Fetch { throttle_ms, hold_ms: Arc::clone(&hold_ms), answers: answers.clone() };
        tokio::spawn(fetch.run(handle.clone(), caller.clone(), request, room.clone(), slot));
        let hold_ms = hold_ms.swap(0, Ordering::Relaxed).max(throttle_ms);
        if !hold(hold_ms, answers.closed()).await {
            return;
        }
    }
}

/// One request of a fetch stream.
struct Fetch {
    /// For the request itself.
    throttle_ms: u32,
    hold_ms: Arc<AtomicU32>,
    answers: mpsc::Sender<Leaving>,
}

impl Fetch {
    async fn run(
        self,
        handle: BrokerHandle,
        caller: Caller,
        request: v1::FetchRequest,
        room: Room,
        slot: OwnedSemaphorePermit,
    ) {
        let Self { throttle_ms, hold_ms, answers } = self;
        let correlation_id = request.correlation_id;
        let result = tokio::select! {
            result = handle.fetch_from_network(request, room) => result,
            () = answers.closed() => return,
        };
        let (result, taken) = match result {
            Ok((response, taken)) => (Ok(response), taken),
            Err(error) => (Err(error), None),
        };
        let bytes = taken.as_ref().map_or(0, Taken::batch_bytes);
        let throttle_ms = throttle_ms.max(handle.charge(&caller.client, Kind::FetchBytes, bytes as u64));
        hold_ms.fetch_max(throttle_ms, Ordering::Relaxed);
        let mut response = v1::FetchResponse { throttle_ms, ..fetch_response(correlation_id, result) };
        let (left, has_left) = oneshot::channel();
        let left = Arc::new(left);
        tie(&mut response, |_| Arc::clone(&left));
        let delivered = async {
            // a client that is gone needs no answer
            if answers.send((Ok(response), Some(left))).await.is_ok() {
                let _ = has_left.await;
            }
        };
        let patience = Duration::from_millis(handle.limits().answer_wait_ms_max);
        if tokio::time::timeout(patience, delivered).await.is_err()
            && let Some(connection) = &caller.connection
        {
            metrics::counter!("sunseo_stalled_connections_closed_total").increment(1);
            tracing::debug!(peer = %connection.peer(), ?patience, "a client that does not take its answers is cut off");
            connection.close();
        }
        drop((taken, slot));
    }
}

fn fetch_response(correlation_id: u64, result: Result<v1::FetchResponse>) -> v1::FetchResponse {
    match result {
        Ok(response) => v1::FetchResponse { correlation_id, ..response },
        Err(error) => v1::FetchResponse { correlation_id, error: Some(error.into()), ..Default::default() },
    }
}

/// What the connection or the decoder says of a request, in our words when the request is at fault.
fn unreadable(status: Status) -> Status {
    let what = status.message();
    match status.code() {
        Code::Internal if what.contains("decode") => {
            let message =
                format!("the request is no message of sunseo.v1 ({what}): check the client's version");
            Error::new(ErrorCode::InvalidArgument, message).into()
        }
        Code::OutOfRange => {
            let message =
                format!("the request is larger than one message may be ({what}): send smaller batches");
            Error::new(ErrorCode::BatchTooLarge, message).into()
        }
        _ => status,
    }
}
