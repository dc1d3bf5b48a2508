//! [`Transport`] over gRPC: one HTTP/2 connection, produce and fetch each on one stream.
//!
//! Invariants: a lost connection is opened again by the next call; calls that were in flight are answered with a
//! retryable error whose outcome is unknown. Every call ends within its time-out.
//! Not here: repeating calls; TLS.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use sunseo_proto::error::Result;
use sunseo_proto::stream_codec::{FETCH, Gather, Incoming, Outgoing, PRODUCE};
use sunseo_proto::v1::admin_client::AdminClient;
use sunseo_proto::v1::broker_client::BrokerClient;
use sunseo_proto::v1::groups_client::GroupsClient;
use sunseo_proto::v1::transactions_client::TransactionsClient;
use sunseo_proto::{Error, ErrorCode, v1};
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::Service as _;
use tonic::codegen::http::{self, HeaderValue, header};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;

use crate::mux::{Mux, Opener, Protocol, timed_out};
use crate::transport::Transport;

/// Largest message in either direction: a fetch answer of 64 MiB and its frame.
pub const MAX_MESSAGE_BYTES: usize = 72 << 20;

const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
const MAX_FRAME_BYTES: u32 = 1 << 20;
const _: () = assert!(STREAM_WINDOW_BYTES <= CONNECTION_WINDOW_BYTES);

/// Where to connect and how long to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcConfig {
    /// `host:port` or `http://host:port`.
    pub address: String,
    pub connect_timeout: Duration,
    /// Longest wait for an answer; a fetch waits its `max_wait_ms` on top.
    pub request_timeout: Duration,
    /// A silent connection is probed this often, and given up when a probe is not answered for as long again.
    pub keepalive: Duration,
    /// Who this is, for quotas: a-z A-Z 0-9 . _ -; without one the server goes by the address.
    pub client_id: Option<String>,
}

impl GrpcConfig {
    /// The defaults: 5 s to connect, 30 s for an answer, probes every 10 s.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            keepalive: Duration::from_secs(10),
            client_id: None,
        }
    }

    /// The same with an id, for quotas.
    #[must_use]
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.client_id = Some(id.into());
        self
    }

    fn endpoint(&self) -> Result<Endpoint> {
        let uri = match self.address.split_once("://") {
            None => format!("http://{}", self.address),
            Some(("http", _)) => self.address.clone(),
            Some((scheme, _)) => {
                let message =
                    format!("address {:?} has scheme {scheme:?}: use host:port or http://", self.address);
                return Err(Error::invalid("address", message));
            }
        };
        let endpoint = Endpoint::from_shared(uri).map_err(|error| {
            let message = format!(
                "address {:?} is not host:port ({error}): use for example 127.0.0.1:7411",
                self.address
            );
            Error::invalid("address", message)
        })?;
        Ok(endpoint
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(MAX_FRAME_BYTES)
            .http2_keep_alive_interval(self.keepalive)
            .keep_alive_timeout(self.keepalive)
            .keep_alive_while_idle(true))
    }
}

/// The header in which a client says who it is.
const CLIENT_ID_HEADER: &str = "sunseo-client-id";

/// The connection, on which every call says who this is.
pub(crate) type Connection = InterceptedService<Channel, ClientId>;

/// Puts the client's id on a call.
#[derive(Clone, Debug)]
pub(crate) struct ClientId(Option<MetadataValue<Ascii>>);

impl Interceptor for ClientId {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(id) = &self.0 {
            request.metadata_mut().insert(CLIENT_ID_HEADER, id.clone());
        }
        Ok(request)
    }
}

impl GrpcConfig {
    fn header(&self) -> Result<ClientId> {
        let Some(id) = &self.client_id else { return Ok(ClientId(None)) };
        let value = id.parse().map_err(|_| {
            Error::invalid("client_id", format!("client id {id:?} cannot be sent: use a-z A-Z 0-9 . _ -"))
        })?;
        Ok(ClientId(Some(value)))
    }
}

/// The connection.
pub struct GrpcTransport {
    config: GrpcConfig,
    channel: Connection,
    produce: Mux<v1::ProduceRequest, v1::ProduceResponse>,
    fetch: Mux<v1::FetchRequest, v1::FetchResponse>,
}

impl fmt::Debug for GrpcTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcTransport").field("address", &self.config.address).finish_non_exhaustive()
    }
}

impl GrpcTransport {
    /// Connects now, so that a wrong address is known at once.
    ///
    /// # Errors
    /// `UNAVAILABLE` with the address, the cause and what to check; `INVALID_ARGUMENT` for an address that is none.
    pub async fn connect(config: GrpcConfig) -> Result<Self> {
        let (endpoint, id) = (config.endpoint()?, config.header()?);
        let channel =
            endpoint.connect().await.map_err(|error| unreachable(&config.address, &deepest_cause(&error)))?;
        Ok(Self::over(config, InterceptedService::new(channel, id)))
    }

    /// Connects at the first call. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for an address that is none.
    pub fn connect_lazy(config: GrpcConfig) -> Result<Self> {
        let (channel, id) = (config.endpoint()?.connect_lazy(), config.header()?);
        Ok(Self::over(config, InterceptedService::new(channel, id)))
    }

    fn over(config: GrpcConfig, channel: Connection) -> Self {
        let address: Arc<str> = config.address.as_str().into();
        let produce = Mux::start(Protocol {
            name: "produce",
            set_id: |request: &mut v1::ProduceRequest, id| request.correlation_id = id,
            id: |response: &v1::ProduceResponse| response.correlation_id,
            throttle_ms: |response: &v1::ProduceResponse| response.throttle_ms,
            open: opener(&channel, PRODUCE),
            explain: explainer(&address),
        });
        let fetch = Mux::start(Protocol {
            name: "fetch",
            set_id: |request: &mut v1::FetchRequest, id| request.correlation_id = id,
            id: |response: &v1::FetchResponse| response.correlation_id,
            throttle_ms: |response: &v1::FetchResponse| response.throttle_ms,
            open: opener(&channel, FETCH),
            explain: explainer(&address),
        });
        Self { config, channel, produce, fetch }
    }

    /// The connection itself, for services beside the log.
    pub(crate) fn channel(&self) -> Connection {
        self.channel.clone()
    }

    /// An error that says which address did not answer.
    pub(crate) fn explain(&self, status: Status) -> Error {
        explain(&self.config.address, status)
    }

    /// Awaits a call no longer than the time-out.
    pub(crate) async fn unary<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T> {
        match tokio::time::timeout(self.config.request_timeout, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.explain(status)),
            Err(_) => {
                Err(timed_out(&format!("a request to {}", self.config.address), self.config.request_timeout))
            }
        }
    }

    fn groups(&self) -> GroupsClient<Connection> {
        let client = GroupsClient::new(self.channel());
        client.max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn transactions(&self) -> TransactionsClient<Connection> {
        let client = TransactionsClient::new(self.channel());
        client.max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn admin(&self) -> AdminClient<Connection> {
        let client = AdminClient::new(self.channel());
        client.max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES)
    }
}

fn broker(channel: &Connection) -> BrokerClient<Connection> {
    let client = BrokerClient::new(channel.clone());
    client.max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// Opens one of the two streams, each time it is asked.
fn opener<Req, Resp>(channel: &Connection, path: &'static str) -> Opener<Req, Resp>
where
    Req: Gather + Send + 'static,
    Resp: prost::Message + Default + 'static,
{
    let channel = channel.clone();
    Box::new(move |requests| Box::pin(open(channel.clone(), path, requests)))
}

async fn open<Req: Gather + Send + 'static, Resp: prost::Message + Default>(
    mut channel: Connection,
    path: &'static str,
    requests: ReceiverStream<Req>,
) -> Result<Incoming<Resp>, Status> {
    let body = Body::new(Outgoing::request(requests.map(Ok::<_, Status>), MAX_MESSAGE_BYTES));
    let mut request = http::Request::new(body);
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = http::Uri::from_static(path);
    let headers = request.headers_mut();
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let failed = |error: tonic::transport::Error| Status::from_error(error.into());
    poll_fn(|cx| channel.poll_ready(cx)).await.map_err(failed)?;
    Incoming::answer(channel.call(request).await.map_err(failed)?, MAX_MESSAGE_BYTES)
}

fn explainer(address: &Arc<str>) -> Box<dyn Fn(Status) -> Error + Send + Sync> {
    let address = Arc::clone(address);
    Box::new(move |status| explain(&address, status))
}

/// Statuses with our details are the server's words; what the connection says becomes a retryable error with the address.
fn explain(address: &str, status: Status) -> Error {
    if status.get_details_error_info().is_some() {
        return Error::from(status);
    }
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::Aborted => {
            let cause = std::error::Error::source(&status).map(deepest_cause);
            unreachable(address, cause.as_deref().unwrap_or(status.message()))
        }
        Code::Unimplemented => {
            let message = format!(
                "{address} does not serve this call: check that it is a sunseo server of this version"
            );
            Error::new(ErrorCode::Unsupported, message)
        }
        _ => Error::from(status),
    }
}

fn unreachable(address: &str, cause: &str) -> Error {
    let message = format!(
        "no answer from {address}: {cause}: check that the server runs (sunseo dev) and that the address is right"
    );
    Error::new(ErrorCode::Unavailable, message)
}

fn deepest_cause(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

/// The refusal of a service that only a gRPC connection reaches.
pub(crate) fn needs_grpc(service: &str) -> Error {
    let message = format!("{service} is reached by gRPC only: open the client with Client::connect(address)");
    Error::new(ErrorCode::Unsupported, message)
}

macro_rules! unary {
    ($($name:ident($client:ident): $request:ident -> $response:ident;)*) => {$(
        fn $name<'life0, 'async_trait>(
            &'life0 self,
            request: v1::$request,
        ) -> BoxFuture<'async_trait, Result<v1::$response>>
        where
            'life0: 'async_trait,
            Self: 'async_trait,
        {
            Box::pin(async move {
                let mut client = self.$client();
                self.unary(client.$name(request)).await
            })
        }
    )*};
}

impl GrpcTransport {
    fn broker(&self) -> BrokerClient<Connection> {
        broker(&self.channel)
    }

    async fn heartbeat(&self, request: v1::GroupHeartbeatRequest) -> Result<v1::GroupHeartbeatResponse> {
        self.unary(self.groups().heartbeat(request)).await
    }
}

#[async_trait]
impl Transport for GrpcTransport {
    fn produce(&self, request: v1::ProduceRequest) -> BoxFuture<'static, Result<v1::ProduceResponse>> {
        self.produce.call(request, self.config.request_timeout)
    }

    fn fetch(&self, request: v1::FetchRequest) -> BoxFuture<'static, Result<v1::FetchResponse>> {
        let wait = Duration::from_millis(request.max_wait_ms.into());
        self.fetch.call(request, self.config.request_timeout + wait)
    }

    async fn group_heartbeat(
        &self,
        request: v1::GroupHeartbeatRequest,
    ) -> Result<v1::GroupHeartbeatResponse> {
        self.heartbeat(request).await
    }

    unary! {
        metadata(broker): MetadataRequest -> MetadataResponse;
        list_offsets(broker): ListOffsetsRequest -> ListOffsetsResponse;
        init_producer(broker): InitProducerRequest -> InitProducerResponse;
        commit_offsets(groups): CommitOffsetsRequest -> CommitOffsetsResponse;
        fetch_offsets(groups): FetchOffsetsRequest -> FetchOffsetsResponse;
        list_groups(groups): ListGroupsRequest -> ListGroupsResponse;
        describe_group(groups): DescribeGroupRequest -> DescribeGroupResponse;
        delete_group(groups): DeleteGroupRequest -> DeleteGroupResponse;
        create_topic(admin): CreateTopicRequest -> CreateTopicResponse;
        list_topics(admin): ListTopicsRequest -> ListTopicsResponse;
        describe_topic(admin): DescribeTopicRequest -> DescribeTopicResponse;
        alter_topic(admin): AlterTopicRequest -> AlterTopicResponse;
        delete_topic(admin): DeleteTopicRequest -> DeleteTopicResponse;
        delete_records(admin): DeleteRecordsRequest -> DeleteRecordsResponse;
        set_quota(admin): SetQuotaRequest -> SetQuotaResponse;
        list_quotas(admin): ListQuotasRequest -> ListQuotasResponse;
        delete_quota(admin): DeleteQuotaRequest -> DeleteQuotaResponse;
        put_definition(admin): PutDefinitionRequest -> PutDefinitionResponse;
        list_definitions(admin): ListDefinitionsRequest -> ListDefinitionsResponse;
        delete_definition(admin): DeleteDefinitionRequest -> DeleteDefinitionResponse;
        send_offsets(transactions): SendOffsetsRequest -> SendOffsetsResponse;
        end_transaction(transactions): EndTransactionRequest -> EndTransactionResponse;
        list_transactions(transactions): ListTransactionsRequest -> ListTransactionsResponse;
        describe_transaction(transactions): DescribeTransactionRequest -> DescribeTransactionResponse;
        abort_transaction(transactions): AbortTransactionRequest -> AbortTransactionResponse;
        tier_status(admin): TierStatusRequest -> TierStatusResponse;
        tier_verify(admin): TierVerifyRequest -> TierVerifyResponse;
        tier_restore(admin): TierRestoreRequest -> TierRestoreResponse;
        tier_flush(admin): TierFlushRequest -> TierFlushResponse;
    }
}
