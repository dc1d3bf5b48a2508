//! The threads that run tasks: a runtime of their own, so that operators that compute for a while do not hold up the network.
//! Its scheduler spreads the tasks, an idle thread takes over from a busy one.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use sunseo_proto::Error;
use tokio::runtime::{Handle, Runtime};

thread_local! {
    static THREAD: Cell<i32> = const { Cell::new(-1) };
}

/// Number of the thread that asks, -1 for one that runs no tasks.
pub(crate) fn current() -> i32 {
    THREAD.get()
}

/// Dropped, it ends without waiting for what runs.
#[derive(Debug)]
pub(crate) struct Threads {
    handle: Handle,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Threads {
    pub(crate) fn start(count: usize) -> Result<Self, Error> {
        let next = Arc::new(AtomicI32::new(0));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(count)
            .thread_name("engine")
            .on_thread_start(move || THREAD.set(next.fetch_add(1, Ordering::Relaxed)))
            .enable_all()
            .build()
            .map_err(|error| {
                Error::internal(format!("engine.threads {count}: threads do not start: {error}"))
            })?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(crate) fn spawn<F: Future<Output = ()> + Send + 'static>(
        &self,
        future: F,
    ) -> tokio::task::JoinHandle<()> {
        self.handle.spawn(future)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
