//! The outbox of a node: its sources and its pushed shards.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use sunseo_client::Client;
use sunseo_proto::clock::Clock;
use sunseo_proto::error::Result;
use sunseo_proto::{Error, ErrorCode, v1};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::checkpoint::Checkpoints;
use crate::config::OutboxConfig;
use crate::definition::{Definition, KIND, from_body, to_body};
use crate::ingest::Ingest;
use crate::read::repeat;
use crate::source::{Context, Runner, Status, shard_status};
use crate::sqlite::connection::preflight;
use crate::tasks::Tasks;
use crate::verify;

/// Sources of one node; each has a thread.
pub const SOURCES_MAX: usize = 256;

/// The running sources and the door for pushes. Clones share them; when the last is dropped everything ends where it is.
#[derive(Clone, Debug)]
pub struct Outbox {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    context: Arc<Context>,
    tasks: Arc<Tasks>,
    ingest: Ingest,
    sources: Mutex<BTreeMap<String, Source>>,
    /// Held while a definition changes.
    change: tokio::sync::Mutex<()>,
    /// Outlives the others, whose last progress it writes down.
    _writer: Tasks,
}

#[derive(Debug)]
struct Source {
    raw: v1::SourceDefinition,
    status: Arc<Status>,
    running: Option<Running>,
}

/// A source's task.
#[derive(Debug)]
struct Running {
    cancel: CancellationToken,
    ended: oneshot::Receiver<()>,
}

fn unknown(name: &str) -> Error {
    Error::new(ErrorCode::UnknownSource, format!("there is no source {name:?}: see `sunseo outbox list`"))
}

/// Calls about a source fail with `UNKNOWN_SOURCE` when there is none of that name.
#[allow(clippy::missing_errors_doc)] // said above, and at each call what is particular to it
impl Outbox {
    /// Reads the definitions of kind "outbox" from the broker and starts the sources that are not paused. Must be called inside
    /// a tokio runtime, when the broker answers.
    ///
    /// # Errors
    /// A value of the configuration out of its range; a broker that does not answer for half a minute; notes that do not read.
    pub async fn start(config: OutboxConfig, client: Client, clock: Arc<dyn Clock>) -> Result<Self> {
        config.validate()?;
        let (checkpoints, ledger, writer) = Checkpoints::open(&client).await?;
        let retry = sunseo_client::retry::RetryPolicy::default().until(std::time::Duration::from_secs(30));
        let definitions = repeat(retry, || async { client.admin().definitions(KIND).await }).await?;
        let context = Arc::new(Context::new(config, client, clock, (checkpoints, ledger)));
        let (tasks, writer_task) = (Arc::new(Tasks::default()), Tasks::default());
        writer_task.spawn(writer);
        let inner = Inner {
            ingest: Ingest::new(Arc::clone(&context), Arc::clone(&tasks)),
            context,
            tasks,
            sources: Mutex::default(),
            change: tokio::sync::Mutex::default(),
            _writer: writer_task,
        };
        let outbox = Self { inner: Arc::new(inner) };
        for definition in definitions {
            match from_body(&definition.body) {
                Ok((raw, paused)) => outbox.insert(raw, paused),
                Err(error) => {
                    tracing::error!(source = definition.name, %error, "definition of an outbox source does not read");
                    let raw = v1::SourceDefinition { name: definition.name, ..Default::default() };
                    outbox.insert(raw, false);
                }
            }
        }
        Ok(outbox)
    }

    /// Checks that a source can be read correctly, writes its definition down and starts it.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for the definition, `SOURCE_UNREADABLE` for the database, `ALREADY_EXISTS` for the name.
    pub async fn add(&self, raw: v1::SourceDefinition) -> Result<v1::SourceStatus> {
        let _change = self.inner.change.lock().await;
        let definition = Arc::new(Definition::parse(raw.clone())?);
        let name = raw.name.clone();
        let exists = |what: &str| {
            Error::new(ErrorCode::AlreadyExists, format!("{what} {name:?} exists: choose another name"))
                .at("name")
        };
        if self.sources().contains_key(&name) {
            return Err(exists("source"));
        }
        if self.sources().len() >= SOURCES_MAX {
            let message = format!("{SOURCES_MAX} sources exist, which is the limit: remove one");
            return Err(Error::new(ErrorCode::Overloaded, message));
        }
        if self.inner.context.ledger().pushed_sources().any(|pushed| pushed == name) {
            return Err(exists("pushed source"));
        }
        let busy_timeout = self.inner.context.config.busy_timeout;
        let checked = tokio::task::spawn_blocking(move || preflight(&definition, busy_timeout)).await;
        let tables = checked.map_err(|error| Error::internal(format!("preflight ended: {error}")))??;
        let admin = self.inner.context.client.admin();
        admin.put_definition(KIND, &name, to_body(&raw, false), 0).await.map_err(|error| {
            match error.code {
                ErrorCode::VersionMismatch => exists("definition"),
                _ => error,
            }
        })?;
        self.insert(raw, false);
        if let Some(source) = self.sources().get(&name) {
            source.status.found(tables.into_iter().map(|table| table.name).collect());
        }
        self.describe(&name).await
    }

    /// Every source, also those that applications push.
    pub async fn list(&self) -> Vec<v1::SourceStatus> {
        let mut names: Vec<String> = self.sources().keys().cloned().collect();
        names.extend(self.inner.context.ledger().pushed_sources().map(str::to_owned));
        let described: Vec<_> = names.iter().filter_map(|name| self.status(name)).collect();
        described
    }

    /// One source and its shards.
    pub async fn describe(&self, name: &str) -> Result<v1::SourceStatus> {
        self.status(name).ok_or_else(|| unknown(name))
    }

    /// Stops reading, also over restarts, until [`resume`](Self::resume).
    pub async fn pause(&self, name: &str) -> Result<v1::SourceStatus> {
        let _change = self.inner.change.lock().await;
        let raw = self.definition(name)?;
        self.write(&raw, true).await?;
        self.stop(name).await;
        self.insert(raw, true);
        self.describe(name).await
    }

    /// Reads on, also a source or shard that stopped with an error.
    pub async fn resume(&self, name: &str) -> Result<v1::SourceStatus> {
        let _change = self.inner.change.lock().await;
        let raw = self.definition(name)?;
        self.write(&raw, false).await?;
        self.stop(name).await;
        self.insert(raw, false);
        self.describe(name).await
    }

    /// Forgets the definition. Its positions stay with the log: added again, it goes on where it was.
    pub async fn remove(&self, name: &str) -> Result<v1::SourceStatus> {
        let _change = self.inner.change.lock().await;
        self.definition(name)?;
        self.inner.context.client.admin().delete_definition(KIND, name).await?;
        self.stop(name).await;
        let status = self.describe(name).await;
        self.sources().remove(name);
        status
    }

    /// Compares the rows of the database with the records in the log.
    ///
    /// # Errors
    /// When one of the two cannot be read; what does not fit together is in the answer.
    pub async fn verify(&self, name: &str) -> Result<v1::VerifySourceResponse> {
        let definition = Arc::new(Definition::parse(self.definition(name)?)?);
        verify::verify(&self.inner.context, &definition).await
    }

    /// Takes over a shard: whoever pushed it before is fenced.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a name, also that of a source which is read from a database.
    pub async fn open(&self, source: &str, shard: &str) -> Result<v1::IngestStateResponse> {
        self.check_pushable(source)?;
        let state = self.inner.ingest.open(source, shard).await?;
        Ok(v1::IngestStateResponse { epoch: state.epoch, accepted_through: state.accepted_through })
    }

    /// Epoch and last accepted sequence of a shard.
    ///
    /// # Errors
    /// `UNKNOWN_SOURCE` when it was never opened.
    pub async fn state(&self, source: &str, shard: &str) -> Result<v1::IngestStateResponse> {
        self.check_pushable(source)?;
        let state = self.inner.ingest.state(source, shard)?;
        Ok(v1::IngestStateResponse { epoch: state.epoch, accepted_through: state.accepted_through })
    }

    /// Appends the events that follow the last accepted one. A refusal is inside the answer.
    pub async fn ingest(&self, request: v1::IngestRequest) -> v1::IngestResponse {
        self.submit(request).await.await
    }

    /// Queues a push now; the future is its answer. Pushes of a shard take effect in the order of these calls.
    pub async fn submit(&self, request: v1::IngestRequest) -> BoxFuture<'static, v1::IngestResponse> {
        let v1::IngestRequest { source, shard, epoch, events } = request;
        self.submit_as((&source, &shard), Some(epoch), events).await
    }

    /// `epoch` `None` stands for the current one.
    pub(crate) async fn submit_as(
        &self,
        (source, shard): (&str, &str),
        epoch: Option<i32>,
        events: Vec<v1::OutboxEvent>,
    ) -> BoxFuture<'static, v1::IngestResponse> {
        if let Err(error) = self.check_pushable(source) {
            let response = v1::IngestResponse { error: Some(error.into()), ..Default::default() };
            return Box::pin(std::future::ready(response));
        }
        self.inner.ingest.submit((source, shard), epoch, events).await
    }

    /// Stops reading and taking; what is under way is finished and written down.
    pub async fn shutdown(&self) {
        let _change = self.inner.change.lock().await;
        self.inner.tasks.stop().await;
    }

    fn sources(&self) -> MutexGuard<'_, BTreeMap<String, Source>> {
        self.inner.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn definition(&self, name: &str) -> Result<v1::SourceDefinition> {
        self.sources().get(name).map(|source| source.raw.clone()).ok_or_else(|| unknown(name))
    }

    async fn write(&self, raw: &v1::SourceDefinition, paused: bool) -> Result<()> {
        let admin = self.inner.context.client.admin();
        admin.put_definition(KIND, &raw.name, to_body(raw, paused), -1).await.map(drop)
    }

    fn status(&self, name: &str) -> Option<v1::SourceStatus> {
        let ledger = self.inner.context.ledger();
        if let Some(source) = self.sources().get(name) {
            return Some(source.status.describe(&source.raw, &ledger));
        }
        let shards: Vec<_> = ledger
            .of_source(name)
            .filter(|(_, stored)| stored.checkpoint.events.is_some())
            .map(|(shard, stored)| shard_status(shard, stored))
            .collect();
        let kind = "ingest".to_owned();
        let definition = v1::SourceDefinition { name: name.to_owned(), kind, ..Default::default() };
        let state = "running".to_owned();
        (!shards.is_empty()).then_some(v1::SourceStatus {
            definition: Some(definition),
            state,
            error: None,
            shards,
        })
    }

    /// Puts a source in its place and starts it unless it is paused.
    fn insert(&self, raw: v1::SourceDefinition, paused: bool) {
        let name = raw.name.clone();
        let status = Arc::new(if paused { Status::paused() } else { Status::default() });
        let running = match Definition::parse(raw.clone()) {
            _ if paused => None,
            Ok(definition) => Some(self.spawn(Arc::new(definition), Arc::clone(&status))),
            Err(error) => {
                status.stopped(error);
                None
            }
        };
        self.sources().insert(name, Source { raw, status, running });
    }

    fn spawn(&self, definition: Arc<Definition>, status: Arc<Status>) -> Running {
        let cancel = self.inner.tasks.stopping().child_token();
        let runner = Runner::new(Arc::clone(&self.inner.context), definition, status, cancel.clone());
        let (alive, ended) = oneshot::channel();
        self.inner.tasks.spawn(async move {
            runner.run().await;
            // `stop` waits for it; nobody may
            let _ = alive.send(());
        });
        Running { cancel, ended }
    }

    async fn stop(&self, name: &str) {
        let running = self.sources().get_mut(name).and_then(|source| source.running.take());
        if let Some(running) = running {
            running.cancel.cancel();
            // an error is an end as well
            let _ = running.ended.await;
        }
    }

    fn check_pushable(&self, source: &str) -> Result<()> {
        match self.sources().contains_key(source) {
            false => Ok(()),
            true => {
                let message = format!("{source:?} is read from a database: push under another name");
                Err(Error::invalid("source", message))
            }
        }
    }
}
