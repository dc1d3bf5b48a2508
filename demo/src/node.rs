//! Ports to the outside: the node under test, and whoever watches the run.

use std::fmt::Debug;
use std::path::Path;

use async_trait::async_trait;

use crate::error::Result;

/// One node that runs the pipeline [`crate::topics::PIPELINE`]. Implemented by the binary: embedded in the process, or as a
/// child process that can be killed.
#[async_trait]
pub trait Node: Debug + Send + Sync {
    /// `host:port` of the gRPC server; the same after every start.
    fn address(&self) -> String;

    /// Where the node keeps its data.
    fn data_dir(&self) -> &Path;

    /// The folder that serves as object store; `None` when it is not a local folder.
    fn object_store_dir(&self) -> Option<&Path>;

    /// Starts the node on the data it left, and returns when it serves requests. Success when it runs already.
    ///
    /// # Errors
    /// When it does not come up; the message carries what it printed.
    async fn start(&self) -> Result<()>;

    /// Ends the node without any warning (SIGKILL) and returns when the process is gone.
    ///
    /// # Errors
    /// When this kind of node cannot be killed.
    async fn kill(&self) -> Result<()>;

    /// [`kill`](Self::kill), then [`start`](Self::start).
    ///
    /// # Errors
    /// As those two.
    async fn restart(&self) -> Result<()> {
        self.kill().await?;
        self.start().await
    }

    /// Bytes of memory the node holds, when that is known.
    fn resident_bytes(&self) -> Option<u64> {
        None
    }
}

/// Whoever watches: a progress bar, or nobody.
pub trait Progress: Send + Sync {
    /// A new stage begins; `total` is the number of units it has, when that is known.
    fn stage(&self, name: &str, total: Option<u64>);

    /// Units of the stage that are done.
    fn done(&self, units: u64);

    /// Something worth a line, such as a kill.
    fn note(&self, text: &str);
}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&self, _name: &str, _total: Option<u64>) {}
    fn done(&self, _units: u64) {}
    fn note(&self, _text: &str) {}
}
