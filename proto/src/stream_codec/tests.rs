//! Messages over bodies that are cut anywhere.

use bytes::Bytes;
use futures::executor::block_on;
use futures::stream::{self, StreamExt as _};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use proptest::prelude::*;
use prost::Message as _;
use tonic::body::Body;
use tonic::codegen::http::{HeaderValue, Response, StatusCode};
use tonic::{Code, Status};

use super::gather::PIECE_BYTES;
use super::{Gather, Incoming, Outgoing, PREFIX_BYTES, Pieces};
use crate::v1;

const MESSAGE_BYTES_MAX: usize = 16 << 20;

fn request(correlation_id: u64, batches: &[Option<usize>]) -> v1::ProduceRequest {
    let partition = |(n, bytes): (usize, &Option<usize>)| v1::ProducePartition {
        topic: "deliveries".into(),
        partition: n as i32,
        batch: bytes.map(|bytes| vec![n as u8; bytes].into()),
        topic_id: vec![7; 16].into(),
        ..Default::default()
    };
    let partitions = batches.iter().enumerate().map(partition).collect();
    v1::ProduceRequest { correlation_id, partitions, transactional_id: "t".into() }
}

fn response(correlation_id: u64, batches: &[Option<usize>]) -> v1::FetchResponse {
    let result = |(n, bytes): (usize, &Option<usize>)| v1::FetchResult {
        topic: "deliveries".into(),
        partition: n as i32,
        high_watermark: 9,
        batches: vec![n as u8; bytes.unwrap_or(0)].into(),
        next_offset: -1,
        ..Default::default()
    };
    let results = batches.iter().enumerate().map(result).collect();
    v1::FetchResponse { correlation_id, results, throttle_ms: 3, ..Default::default() }
}

/// The frames of a body of these messages.
fn frames(messages: Vec<impl Gather>) -> Vec<Bytes> {
    let mut body =
        Outgoing::request(stream::iter(messages.into_iter().map(Ok::<_, Status>)), MESSAGE_BYTES_MAX);
    let mut frames = Vec::new();
    while let Some(frame) = block_on(body.frame()) {
        frames.push(frame.expect("encodes").into_data().expect("data"));
    }
    frames
}

fn body(frames: impl IntoIterator<Item = Bytes>) -> Body {
    let frames: Vec<_> = frames.into_iter().map(|frame| Ok::<_, Status>(Frame::data(frame))).collect();
    Body::new(StreamBody::new(stream::iter(frames)))
}

/// The same bytes, cut elsewhere.
fn cut(frames: Vec<Bytes>, cuts: &[usize]) -> Vec<Bytes> {
    let mut rest = Bytes::from(frames.concat());
    let mut cuts = cuts.iter().cycle();
    let mut out = Vec::new();
    while !rest.is_empty() {
        let at = cuts.next().map_or(rest.len(), |cut| (*cut).min(rest.len()));
        out.push(rest.split_to(at));
    }
    out
}

fn sizes() -> impl Strategy<Value = Vec<Option<usize>>> {
    let size = prop_oneof![Just(0), 1..200_usize, 30_000..35_000_usize, Just(300_000), Just(2_500_000)];
    prop::collection::vec(prop::option::of(size), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn messages_arrive_as_they_were_sent(
        batches in prop::collection::vec(sizes(), 0..4),
        cuts in prop::collection::vec(prop_oneof![1..9_usize, 1..2_000_000_usize], 1..6),
    ) {
        let requests: Vec<_> = (1..).zip(&batches).map(|(id, sizes)| request(id, sizes)).collect();
        let sent = cut(frames(requests.clone()), &cuts);
        let came: Vec<_> = block_on(Incoming::<v1::ProduceRequest>::request(body(sent), MESSAGE_BYTES_MAX).collect());
        prop_assert_eq!(came.into_iter().map(|m| m.expect("whole")).collect::<Vec<_>>(), requests);

        let responses: Vec<_> = (1..).zip(&batches).map(|(id, sizes)| response(id, sizes)).collect();
        let mut answer = Response::new(body(cut(frames(responses.clone()), &cuts)));
        answer.headers_mut().insert("grpc-status", HeaderValue::from_static("0"));
        let incoming = Incoming::<v1::FetchResponse>::answer(answer, MESSAGE_BYTES_MAX).expect("an answer");
        let came: Vec<_> = block_on(incoming.collect());
        prop_assert_eq!(came.into_iter().map(|m| m.expect("whole")).collect::<Vec<_>>(), responses);
    }

    #[test]
    fn any_protobuf_decoder_reads_it(sizes in sizes()) {
        let sent = request(5, &sizes);
        let bytes = Bytes::from(frames(vec![sent.clone()]).concat());
        prop_assert_eq!(bytes.len(), PREFIX_BYTES + sent.encoded_len());
        prop_assert_eq!(bytes[1..PREFIX_BYTES].to_vec(), (sent.encoded_len() as u32).to_be_bytes().to_vec());
        prop_assert_eq!(v1::ProduceRequest::decode(bytes.slice(PREFIX_BYTES..)).expect("protobuf"), sent);
        let sent = response(5, &sizes);
        let bytes = Bytes::from(frames(vec![sent.clone()]).concat());
        prop_assert_eq!(v1::FetchResponse::decode(bytes.slice(PREFIX_BYTES..)).expect("protobuf"), sent);
    }

    #[test]
    fn anything_is_read_without_a_panic(noise in prop::collection::vec(any::<u8>(), 0..300), cuts in prop::collection::vec(1..9_usize, 1..4)) {
        let mut incoming = Incoming::<v1::ProduceRequest>::request(body(cut(vec![noise.into()], &cuts)), 1_000);
        while let Some(Ok(_)) = block_on(incoming.next()) {}
        prop_assert!(block_on(incoming.next()).is_none(), "an error is the last word");
    }
}

#[test]
fn a_large_batch_is_sent_and_received_where_it_lies() {
    let sent = request(1, &[Some(300_000), Some(10)]);
    let place = sent.partitions[0].batch.as_ref().map(|batch| batch.as_ptr());
    let frames = frames(vec![sent]);
    assert!(frames.iter().any(|frame| Some(frame.as_ptr()) == place), "not copied on its way out");
    let came = block_on(Incoming::<v1::ProduceRequest>::request(body(frames), MESSAGE_BYTES_MAX).message());
    let came = came.expect("whole").expect("one");
    assert_eq!(came.partitions[0].batch.as_ref().map(|batch| batch.as_ptr()), place, "nor on its way in");
}

#[test]
fn pieces_are_no_larger_than_a_frame_and_count_what_is_left() {
    let mut pieces = Pieces::new(MESSAGE_BYTES_MAX);
    pieces.message(request(1, &[Some(3 * PIECE_BYTES + 1), Some(70_000)])).expect("encodes");
    let mut left = pieces.bytes();
    while let Some(piece) = pieces.next() {
        assert!(piece.len() <= PIECE_BYTES);
        left -= piece.len();
        assert_eq!(pieces.bytes(), left);
    }
    assert_eq!(left, 0);
}

/// What a stream of requests ends with.
fn end_of(frames: Vec<Bytes>) -> Option<Status> {
    let mut incoming = Incoming::<v1::ProduceRequest>::request(body(frames), 1_000);
    loop {
        match block_on(incoming.message()) {
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(status) => {
                assert!(matches!(block_on(incoming.message()), Ok(None)), "an error is the last word");
                return Some(status);
            }
        }
    }
}

#[test]
fn what_is_no_message_ends_the_stream_with_a_reason() {
    let whole = Bytes::from(frames(vec![request(1, &[Some(10)])]).concat());
    assert!(end_of(vec![whole.clone()]).is_none());
    let code = |frames| end_of(frames).map(|status| (status.code(), status.message().to_owned()));
    assert_eq!(
        code(vec![whole.clone(), whole.slice(..9)]),
        Some((Code::Internal, "the stream ends within a message".into()))
    );
    let compressed = Bytes::from_static(&[1, 0, 0, 0, 0]);
    assert!(
        code(vec![compressed]).is_some_and(|(code, what)| code == Code::Internal && what.contains("flag 1"))
    );
    let long = Bytes::from_static(&[0, 0, 0, 4, 0]);
    assert!(code(vec![long]).is_some_and(|(code, what)| code == Code::OutOfRange && what.contains("1024")));
    let noise = Bytes::from_static(&[0, 0, 0, 0, 2, 0xFF, 0xFF]);
    assert!(code(vec![noise]).is_some_and(|(code, what)| code == Code::Internal && what.contains("decode")));
}

#[test]
fn an_answer_ends_with_its_status() {
    let messages =
        vec![Ok(response(1, &[])), Err(Status::resource_exhausted("too much")), Ok(response(2, &[]))];
    let answer = Response::new(Body::new(Outgoing::answer(stream::iter(messages), MESSAGE_BYTES_MAX)));
    let mut incoming = Incoming::<v1::FetchResponse>::answer(answer, MESSAGE_BYTES_MAX).expect("an answer");
    assert_eq!(block_on(incoming.message()).expect("the first"), Some(response(1, &[])));
    let status = block_on(incoming.message()).expect_err("the status");
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "too much"));
    assert!(matches!(block_on(incoming.message()), Ok(None)));

    let cut_off = Response::new(body(frames(vec![response(1, &[])])));
    let mut incoming = Incoming::<v1::FetchResponse>::answer(cut_off, MESSAGE_BYTES_MAX).expect("an answer");
    assert_eq!(block_on(incoming.message()).expect("the first"), Some(response(1, &[])));
    assert_eq!(block_on(incoming.message()).expect_err("no status").code(), Code::Unknown);

    let mut proxy = Response::new(body([]));
    *proxy.status_mut() = StatusCode::NOT_FOUND;
    let status = Incoming::<v1::FetchResponse>::answer(proxy, MESSAGE_BYTES_MAX).expect_err("no answer");
    assert_eq!(status.code(), Code::Unimplemented);

    let refused: Response<Body> = Status::unimplemented("no such call").into_http();
    let status = Incoming::<v1::FetchResponse>::answer(refused, MESSAGE_BYTES_MAX).expect_err("no answer");
    assert_eq!(status.code(), Code::Unimplemented);
}

#[test]
fn a_message_that_is_too_long_is_not_sent() {
    let messages = vec![Ok::<_, Status>(response(1, &[])), Ok(response(2, &[Some(40_000)]))];
    let answer = Response::new(Body::new(Outgoing::answer(stream::iter(messages), 10_000)));
    let mut incoming = Incoming::<v1::FetchResponse>::answer(answer, MESSAGE_BYTES_MAX).expect("an answer");
    assert_eq!(block_on(incoming.message()).expect("the first"), Some(response(1, &[])));
    let status = block_on(incoming.message()).expect_err("the status");
    assert_eq!(status.code(), Code::OutOfRange);
    assert!(status.message().contains("10000 are allowed"), "{}", status.message());
}
