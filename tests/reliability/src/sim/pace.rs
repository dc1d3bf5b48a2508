//! The time that a sync takes, on the run's clock, and what keeps that clock from running while the log's thread works.
//!
//! The runtime has one thread and its time stands still until nothing is left to do; then it goes to the next timer. The log's thread is not the
//! runtime's, so before the runtime rests, [`Pace::settle`] waits until that thread rests as well: in its queue, or in a sync.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

type Probe = Arc<dyn Fn() -> bool + Send + Sync>;

#[derive(Default)]
struct State {
    /// Syncs take time.
    on: bool,
    /// Number of the sync that waits.
    waiting: Option<u64>,
    next: u64,
    latency: Duration,
    probe: Option<Probe>,
}

/// Shared by the disk, which waits, and the runtime, which lets it.
pub struct Pace {
    state: Mutex<State>,
    over: Condvar,
    timer: mpsc::UnboundedSender<(u64, Duration)>,
}

impl std::fmt::Debug for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pace").finish_non_exhaustive()
    }
}

impl Pace {
    /// Lives to the end on a runtime of its own, whose clock goes on when nothing else can. No latency until [`Pace::begin`].
    ///
    /// # Panics
    /// When there is no runtime to be had.
    pub fn live<T, F: Future<Output = T>>(life: impl FnOnce(Arc<Self>) -> F) -> T {
        let (timer, timers) = mpsc::unbounded_channel();
        let pace = Arc::new(Self { state: Mutex::default(), over: Condvar::new(), timer });
        let settle = Arc::clone(&pace);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .on_thread_park(move || settle.settle())
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            tokio::spawn(Arc::clone(&pace).run(timers));
            Box::pin(life(pace)).await
        })
    }

    /// Ends the waits of the disk when their time is over; runs as long as the run.
    async fn run(self: Arc<Self>, mut timers: mpsc::UnboundedReceiver<(u64, Duration)>) {
        while let Some((number, latency)) = timers.recv().await {
            tokio::time::sleep(latency).await;
            let mut state = self.state();
            if state.waiting == Some(number) {
                state.waiting = None;
                self.over.notify_all();
            }
        }
    }

    /// A node runs: its log's thread is watched, and its syncs take time.
    pub fn begin(&self, probe: impl Fn() -> bool + Send + Sync + 'static) {
        let mut state = self.state();
        state.on = true;
        state.probe = Some(Arc::new(probe));
    }

    /// The node is gone: nobody waits.
    pub fn end(&self) {
        let mut state = self.state();
        (state.on, state.probe, state.waiting) = (false, None, None);
        self.over.notify_all();
    }

    /// What a sync takes from now on.
    pub fn set_latency(&self, latency: Duration) {
        self.state().latency = latency;
    }

    /// For the disk: waits as long as a sync takes.
    pub fn wait(&self) {
        let mut state = self.state();
        if !state.on || state.latency.is_zero() {
            return;
        }
        state.next += 1;
        let number = state.next;
        // nobody receives when the run is over
        if self.timer.send((number, state.latency)).is_err() {
            return;
        }
        state.waiting = Some(number);
        while state.waiting == Some(number) {
            state = self.over.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// For the runtime's thread, before it rests: waits until the log's thread does.
    pub fn settle(&self) {
        loop {
            let probe = {
                let state = self.state();
                if state.waiting.is_some() {
                    return;
                }
                state.probe.clone()
            };
            if probe.is_none_or(|is_idle| is_idle()) {
                return;
            }
            std::thread::yield_now();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
