//! The two pipelined streams. Each has one task that reads requests while there is room for one more, and a stream of answers.
//!
//! Memory of one stream: `stream_bytes_in_flight_max` of produce requests that are not answered, plus the one in hand; the same of fetch
//! answers that the client has not taken, plus those that were handed on.

use std::future::ready;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use prost::Message as _;
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, v1};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::BrokerHandle;

type Answered<T> = std::result::Result<T, Status>;

/// A produce request that was queued, and the room it takes until its answer is handed on.
struct Pending {
    answer: BoxFuture<'static, Answered<v1::ProduceResponse>>,
    room: Option<OwnedSemaphorePermit>,
}

pub(super) fn produce(
    handle: BrokerHandle,
    requests: Streaming<v1::ProduceRequest>,
) -> BoxStream<'static, Answered<v1::ProduceResponse>> {
    let limits = handle.limits();
    let (pending, answers) = mpsc::channel(limits.produce_requests_in_flight_max.max(1));
    let room = Arc::new(Semaphore::new(limits.stream_bytes_in_flight_max));
    tokio::spawn(read_produce(handle, requests, pending, room));
    let answer = |pending: Pending| async move {
        let answer = pending.answer.await;
        drop(pending.room);
        answer
    };
    ReceiverStream::new(answers).then(answer).boxed()
}

async fn read_produce(
    handle: BrokerHandle,
    mut requests: Streaming<v1::ProduceRequest>,
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
        let bytes = u32::try_from(request.encoded_len().min(room_max)).unwrap_or(u32::MAX);
        // the semaphore is never closed
        let Ok(room) = Arc::clone(&room).acquire_many_owned(bytes).await else { return };
        let correlation_id = request.correlation_id;
        let (admitted, answer) = handle.produce_from_network(request);
        let answer = answer.map(move |result| Ok(produce_response(correlation_id, result))).boxed();
        slot.send(Pending { answer, room: Some(room) });
        admitted.await;
    }
}

fn produce_response(correlation_id: u64, result: Result<v1::ProduceResponse>) -> v1::ProduceResponse {
    match result {
        Ok(response) => v1::ProduceResponse { correlation_id, ..response },
        Err(error) => v1::ProduceResponse { correlation_id, error: Some(error.into()), ..Default::default() },
    }
}

pub(super) fn fetch(
    handle: BrokerHandle,
    requests: Streaming<v1::FetchRequest>,
) -> BoxStream<'static, Answered<v1::FetchResponse>> {
    let (answers, answered) = mpsc::channel(1);
    tokio::spawn(read_fetch(handle, requests, answers));
    ReceiverStream::new(answered).boxed()
}

async fn read_fetch(
    handle: BrokerHandle,
    mut requests: Streaming<v1::FetchRequest>,
    answers: mpsc::Sender<Answered<v1::FetchResponse>>,
) {
    let limits = handle.limits();
    let slots = Arc::new(Semaphore::new(limits.fetch_requests_in_flight_max));
    let room = Arc::new(Semaphore::new(limits.stream_bytes_in_flight_max));
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
                let _ = answers.send(Err(unreadable(status))).await;
                return;
            }
        };
        let correlation_id = request.correlation_id;
        let answer = handle.fetch_from_network(request, Arc::clone(&room));
        let answers = answers.clone();
        tokio::spawn(async move {
            let result = tokio::select! {
                result = answer => result,
                () = answers.closed() => return,
            };
            let (result, room) = match result {
                Ok((response, room)) => (Ok(response), room),
                Err(error) => (Err(error), None),
            };
            // a client that is gone needs no answer
            let _ = answers.send(Ok(fetch_response(correlation_id, result))).await;
            drop((room, slot));
        });
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
