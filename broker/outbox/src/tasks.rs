//! The tasks of an outbox: all end with it.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Two ways to an end: `stop` lets tasks finish what is under way; a drop ends them where they are, as a crash would.
#[derive(Debug, Default)]
pub struct Tasks {
    stop: CancellationToken,
    kill: CancellationToken,
    tracker: TaskTracker,
}

impl Tasks {
    /// Runs until the future ends or the tasks are dropped.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let kill = self.kill.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = kill.cancelled() => {}
                () = future => {}
            }
        });
    }

    /// Cancelled when tasks are to finish.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Every task is told to finish, and has.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.kill.cancel();
    }
}
