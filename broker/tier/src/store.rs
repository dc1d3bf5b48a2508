//! The object store behind a handle: where it is, and the few requests the tier makes.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use sunseo_proto::error::{Error, ErrorCode, Result};
use url::Url;

/// Attempts of the store's client inside one request; the tier's own loop goes on without end.
const INNER_RETRIES: usize = 2;

/// Longest time for one request including its inner retries.
const INNER_RETRY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);

/// An object store and its name.
#[derive(Clone, Debug)]
pub struct ObjectStoreHandle {
    store: Arc<dyn ObjectStore>,
    name: String,
}

impl ObjectStoreHandle {
    /// A handle around any store; `name` is shown in the status.
    pub fn new(store: Arc<dyn ObjectStore>, name: impl Into<String>) -> Self {
        Self { store, name: name.into() }
    }

    /// Opens a store by URL. Makes no request except creating a local folder.
    ///
    /// - `/path` or `file:///path`: a local folder, created if it is missing, fsynced on every write.
    /// - `s3://bucket/prefix?endpoint=http://host:port&region=...`: any S3-compatible server; keys from the environment
    ///   (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, ...), region `us-east-1` unless given there or here. Option `style=virtual` puts
    ///   the bucket into the host name.
    ///
    /// # Errors
    /// For another scheme, an unknown option, or a folder that cannot be created.
    pub fn from_url(url: &str) -> Result<Self> {
        match Url::parse(url) {
            Ok(parsed) if parsed.scheme() == "s3" => Self::s3(&parsed),
            Ok(parsed) if parsed.scheme() == "file" => match parsed.to_file_path() {
                Ok(path) => Self::local(&path),
                Err(()) => {
                    Err(refuse(format!("object store URL {url} names no local path: write file:///path")))
                }
            },
            Ok(parsed) if url.contains("://") => Err(refuse(format!(
                "object store scheme {} is not supported: use a path, file:///path or s3://bucket/prefix",
                parsed.scheme()
            ))),
            _ if url.is_empty() => {
                Err(refuse("object store URL is empty: give a path or s3://bucket/prefix".into()))
            }
            _ => Self::local(std::path::Path::new(url)),
        }
    }

    fn local(path: &std::path::Path) -> Result<Self> {
        let failed = |e: &dyn std::fmt::Display| {
            refuse(format!(
                "object store folder {} cannot be used: {e}; check the path and its permissions",
                path.display()
            ))
        };
        std::fs::create_dir_all(path).map_err(|e| failed(&e))?;
        let store = LocalFileSystem::new_with_prefix(path).map_err(|e| failed(&e))?.with_fsync(true);
        Ok(Self::new(Arc::new(store), path.display().to_string()))
    }

    fn s3(url: &Url) -> Result<Self> {
        install_tls_provider();
        let bucket = url.host_str().filter(|host| !host.is_empty());
        let bucket = bucket.ok_or_else(|| {
            refuse(format!("object store URL {url} names no bucket: write s3://bucket/prefix"))
        })?;
        let retry = RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: INNER_RETRIES,
            retry_timeout: INNER_RETRY_TIMEOUT,
        };
        let mut client = ClientOptions::new()
            .with_connect_timeout(std::time::Duration::from_secs(5))
            .with_timeout(INNER_RETRY_TIMEOUT);
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry);
        for (key, value) in url.query_pairs() {
            match key.as_ref() {
                "endpoint" => {
                    client = client.with_allow_http(value.starts_with("http://"));
                    builder = builder.with_endpoint(value.trim_end_matches('/'));
                }
                "region" => builder = builder.with_region(value),
                "style" if value == "virtual" => builder = builder.with_virtual_hosted_style_request(true),
                "style" if value == "path" => builder = builder.with_virtual_hosted_style_request(false),
                _ => {
                    return Err(refuse(format!(
                        "object store option {key}={value} is unknown: use endpoint=URL, region=NAME or style=path|virtual"
                    )));
                }
            }
        }
        let store = builder
            .with_client_options(client)
            .build()
            .map_err(|e| refuse(format!("object store {bucket}: {e}")))?;
        let prefix = url.path().trim_matches('/');
        let name = format!("s3://{bucket}/{prefix}");
        match prefix {
            "" => Ok(Self::new(Arc::new(store), name)),
            prefix => Ok(Self::new(Arc::new(PrefixStore::new(store, prefix)), name)),
        }
    }

    /// Where objects go, without credentials.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The store itself.
    #[must_use]
    pub fn raw(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }
}

/// reqwest is built without a TLS provider; the process may have installed one already.
fn install_tls_provider() {
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
}

fn refuse(message: String) -> Error {
    Error::new(ErrorCode::InvalidArgument, message).at("object_store")
}
