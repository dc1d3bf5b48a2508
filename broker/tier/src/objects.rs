//! The few requests the tier makes to the store, each with a time limit and a clear error.
//!
//! [`Objects::put_exactly`] is safe to repeat: a lost acknowledgement makes one's own write look like a stranger's, so what is
//! there is compared before anything is concluded. Conditional PUTs are used where the store has them and never relied on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutMode, PutOptions, PutPayload};
use sunseo_proto::error::{Error, ErrorCode, Result};

use crate::config::TierConfig;
use crate::store::ObjectStoreHandle;

/// Parts of one object that are on their way at the same time.
const PARTS_IN_FLIGHT: usize = 4;

/// What is under a name after [`Objects::put_exactly`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The given bytes, now or from an earlier attempt.
    Exact,
    /// Other bytes; nothing was changed.
    Different,
}

/// Why a request failed.
#[derive(Debug)]
enum Failure {
    Store(object_store::Error),
    TimedOut(Duration),
}

/// The store with its limits.
#[derive(Debug)]
pub struct Objects {
    store: ObjectStoreHandle,
    timeout: Duration,
    multipart_from_bytes: usize,
    part_bytes: usize,
    conditional: AtomicBool,
    reachable: AtomicBool,
}

impl Objects {
    pub fn new(store: ObjectStoreHandle, config: &TierConfig) -> Self {
        Self {
            store,
            timeout: Duration::from_millis(config.request_timeout_ms),
            multipart_from_bytes: config.multipart_from_bytes,
            part_bytes: config.part_bytes.max(1),
            conditional: AtomicBool::new(true),
            reachable: AtomicBool::new(false),
        }
    }

    /// Where objects go.
    pub fn name(&self) -> &str {
        self.store.name()
    }

    /// Whether the last request was answered.
    pub fn reachable(&self) -> bool {
        self.reachable.load(Ordering::Relaxed)
    }

    /// Runs a request under the time limit and notes whether the store answered. "Not there" and "already there" are answers.
    async fn request<T>(
        &self,
        request: impl Future<Output = object_store::Result<T>> + Send,
    ) -> Result<T, Failure> {
        let outcome = match tokio::time::timeout(self.timeout, request).await {
            Ok(outcome) => outcome.map_err(Failure::Store),
            Err(_) => Err(Failure::TimedOut(self.timeout)),
        };
        use object_store::Error as E;
        let answered = matches!(
            &outcome,
            Ok(_)
                | Err(Failure::Store(
                    E::NotFound { .. }
                        | E::AlreadyExists { .. }
                        | E::Precondition { .. }
                        | E::NotImplemented { .. }
                        | E::NotSupported { .. }
                ))
        );
        self.reachable.store(answered, Ordering::Relaxed);
        outcome
    }

    fn refused(&self, verb: &str, object: &str, failure: &Failure) -> Error {
        metrics::counter!("sunseo_tier_store_errors_total", "request" => verb.to_owned()).increment(1);
        let why = match failure {
            Failure::Store(error) => error.to_string(),
            Failure::TimedOut(limit) => format!("no answer within {} s", limit.as_secs_f64()),
        };
        let message =
            format!("object store {}: {verb} {object} failed: {why}; it is tried again", self.name());
        Error::new(ErrorCode::ObjectStore, message)
    }

    /// Writes an object that is made of `parts`, unless exactly it is there already.
    pub async fn put_exactly(&self, object: &str, parts: &[Bytes]) -> Result<Put> {
        let length: usize = parts.iter().map(Bytes::len).sum();
        let path = Path::from(object);
        if length < self.multipart_from_bytes && self.conditional.load(Ordering::Relaxed) {
            let options = PutOptions::from(PutMode::Create);
            let payload = PutPayload::from_iter(parts.iter().cloned());
            match self.request(self.store.raw().put_opts(&path, payload, options)).await {
                Ok(_) => return Ok(Put::Exact),
                Err(Failure::Store(
                    object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. },
                )) => {
                    return self
                        .compare(object, parts, length)
                        .await
                        .map(|same| same.unwrap_or(Put::Different));
                }
                Err(Failure::Store(
                    object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. },
                )) => self.conditional.store(false, Ordering::Relaxed),
                Err(failure) => return Err(self.refused("PUT", object, &failure)),
            }
        }
        if let Some(there) = self.compare(object, parts, length).await? {
            return Ok(there);
        }
        self.overwrite(object, parts).await.map(|()| Put::Exact)
    }

    /// Writes an object whatever is there.
    pub async fn overwrite(&self, object: &str, parts: &[Bytes]) -> Result<()> {
        let length: usize = parts.iter().map(Bytes::len).sum();
        let path = Path::from(object);
        if length >= self.multipart_from_bytes {
            return self.put_multipart(object, &path, parts, length).await;
        }
        let put = self.store.raw().put(&path, PutPayload::from_iter(parts.iter().cloned()));
        self.request(put).await.map(|_| ()).map_err(|e| self.refused("PUT", object, &e))
    }

    async fn put_multipart(&self, object: &str, path: &Path, parts: &[Bytes], length: usize) -> Result<()> {
        let refused = |e: Failure| self.refused("PUT", object, &e);
        let mut upload = self.request(self.store.raw().put_multipart(path)).await.map_err(refused)?;
        let starts = (0..length).step_by(self.part_bytes);
        let puts: Vec<_> = starts
            .map(|start| upload.put_part(slice(parts, start, (start + self.part_bytes).min(length))))
            .collect();
        let requests: Vec<BoxFuture<'_, _>> = puts.into_iter().map(|put| self.request(put).boxed()).collect();
        let sent: Result<(), Failure> =
            futures::stream::iter(requests).buffer_unordered(PARTS_IN_FLIGHT).try_collect().await;
        let finished = match sent {
            Ok(()) => self.request(upload.complete()).await.map(|_| ()),
            Err(failure) => Err(failure),
        };
        if let Err(failure) = finished {
            // best effort: what is left of it is no object
            let _ = self.request(upload.abort()).await;
            return Err(refused(failure));
        }
        Ok(())
    }

    /// `None` when there is no such object.
    async fn compare(&self, object: &str, parts: &[Bytes], length: usize) -> Result<Option<Put>> {
        match self.length(object).await? {
            None => return Ok(None),
            Some(there) if there != length as u64 => return Ok(Some(Put::Different)),
            Some(_) => {}
        }
        for start in (0..length).step_by(self.part_bytes) {
            let end = (start + self.part_bytes).min(length);
            let there = self.get_range(object, start as u64, end as u64).await?;
            let mut at = 0;
            for part in slice(parts, start, end).iter() {
                if there.get(at..at + part.len()) != Some(part.as_ref()) {
                    return Ok(Some(Put::Different));
                }
                at += part.len();
            }
        }
        Ok(Some(Put::Exact))
    }

    /// Bytes of an object, `None` when there is none.
    pub async fn length(&self, object: &str) -> Result<Option<u64>> {
        match self.request(self.store.raw().head(&Path::from(object))).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(Failure::Store(object_store::Error::NotFound { .. })) => Ok(None),
            Err(failure) => Err(self.refused("HEAD", object, &failure)),
        }
    }

    /// Exactly the bytes `start..end` of an object.
    ///
    /// # Errors
    /// `CORRUPT_LOG` when the object is missing or shorter, `OBJECT_STORE` when the store does not answer.
    pub async fn get_range(&self, object: &str, start: u64, end: u64) -> Result<Bytes> {
        if start == end {
            return Ok(Bytes::new());
        }
        let bytes = match self.request(self.store.raw().get_range(&Path::from(object), start..end)).await {
            Ok(bytes) => bytes,
            Err(Failure::Store(object_store::Error::NotFound { .. })) => return Err(missing(object)),
            Err(failure) => return Err(self.refused("GET", object, &failure)),
        };
        if bytes.len() as u64 != end - start {
            let message = format!(
                "object {object} gave {} bytes for the range {start}..{end}: it is cut off; run `sunseo tier verify`",
                bytes.len()
            );
            return Err(Error::new(ErrorCode::CorruptLog, message));
        }
        Ok(bytes)
    }

    /// Deletes an object; one that is not there is success.
    pub async fn delete(&self, object: &str) -> Result<()> {
        match self.request(self.store.raw().delete(&Path::from(object))).await {
            Ok(()) | Err(Failure::Store(object_store::Error::NotFound { .. })) => Ok(()),
            Err(failure) => Err(self.refused("DELETE", object, &failure)),
        }
    }

    /// Names under a prefix.
    pub async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let path = Path::from(prefix);
        let listing = self.store.raw().list(Some(&path)).map_ok(|meta| meta.location.to_string());
        let names: Result<Vec<String>, Failure> = self.request(listing.try_collect()).await;
        names.map_err(|failure| self.refused("LIST", prefix, &failure))
    }

    /// Writes, reads, lists and deletes a small object, to tell early and clearly that the store cannot be used.
    pub async fn probe(&self, object: &str) -> Result<()> {
        let content = Bytes::from_static(b"sunseo probes the store");
        self.overwrite(object, std::slice::from_ref(&content)).await?;
        let part = self.get_range(object, 7, 13).await?;
        let folder = object.rsplit_once('/').map_or("", |(folder, _)| folder);
        let listed = self.list(folder).await?;
        if part != content.slice(7..13) || !listed.iter().any(|name| name == object) {
            return Err(Error::new(
                ErrorCode::ObjectStore,
                format!(
                    "object store {} does not give back what was written to {object}: use another store",
                    self.name()
                ),
            ));
        }
        let again = PutOptions::from(PutMode::Create);
        let path = Path::from(object);
        let put = self.store.raw().put_opts(&path, PutPayload::from_bytes(content), again);
        let honoured = matches!(
            self.request(put).await,
            Err(Failure::Store(
                object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }
            ))
        );
        self.conditional.store(honoured, Ordering::Relaxed);
        self.delete(object).await
    }
}

fn missing(object: &str) -> Error {
    let message =
        format!("object {object} is not in the store: it was deleted from outside; run `sunseo tier verify`");
    Error::new(ErrorCode::CorruptLog, message)
}

/// `start..end` of the concatenation of `parts`, without a copy.
fn slice(parts: &[Bytes], start: usize, end: usize) -> PutPayload {
    let mut begin = 0;
    let mut slices = Vec::new();
    for part in parts {
        let (from, to) = (start.clamp(begin, begin + part.len()), end.clamp(begin, begin + part.len()));
        if from < to {
            slices.push(part.slice(from - begin..to - begin));
        }
        begin += part.len();
    }
    PutPayload::from_iter(slices)
}
