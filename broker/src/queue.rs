//! What waits for the log's thread.
//!
//! Its bound is not here but in front of it: appends are inside the byte limits of [`crate::gate`], and everything else is sent by a task
//! that awaits the answer before it sends more. So a push never blocks, which matters because the thread itself pushes when it
//! gives room back to those who wait for it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Has a size; the commands of one group commit together stay below a limit.
pub(crate) trait Weigh {
    fn bytes(&self) -> usize;
}

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<T>,
    closed: bool,
    /// The receiver waits.
    idle: bool,
    /// The receiver sleeps until so many commands wait.
    wanted: usize,
}

/// Whom the first command waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Company {
    pub(crate) commands: usize,
    pub(crate) wait: Duration,
}

/// A queue with many senders and one receiver. Clones share it.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    shared: Arc<(Mutex<State<T>>, Condvar)>,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        let state = State { waiting: VecDeque::new(), closed: false, idle: false, wanted: 1 };
        Self { shared: Arc::new((Mutex::new(state), Condvar::new())) }
    }
}

impl<T: Weigh> Queue<T> {
    /// Appends a command; after [`Queue::close`] it is dropped, which its sender sees as an answer that never comes.
    pub(crate) fn push(&self, command: T) {
        let mut state = self.state();
        if state.closed {
            drop(state);
            drop(command);
            return;
        }
        state.waiting.push_back(command);
        let enough = state.waiting.len() >= state.wanted;
        drop(state);
        if enough {
            self.shared.1.notify_one();
        }
    }

    /// Waits for commands and takes all that wait, up to `bytes_max` and at least one; `None` after [`Queue::close`]. Once one is there,
    /// the others of `company` may take as long to come as it says.
    pub(crate) fn take(&self, bytes_max: usize, company: Company) -> Option<Vec<T>> {
        let mut state = self.state();
        state.wanted = 1;
        while !state.closed && state.waiting.is_empty() {
            state.idle = true;
            state = self.shared.1.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle = false;
        }
        if !state.closed && state.waiting.len() < company.commands && !company.wait.is_zero() {
            state.wanted = company.commands;
            let too_few = |state: &mut State<T>| !state.closed && state.waiting.len() < state.wanted;
            let waited = self.shared.1.wait_timeout_while(state, company.wait, too_few);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return None;
        }
        let mut bytes = 0_usize;
        let fits = |command: &&T| {
            bytes = bytes.saturating_add(command.bytes());
            bytes <= bytes_max
        };
        let count = state.waiting.iter().take_while(fits).count().max(1);
        Some(state.waiting.drain(..count).collect())
    }

    /// Whether the receiver has nothing to do and waits for it.
    #[cfg(feature = "testing")]
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.state();
        state.closed || state.idle && state.waiting.is_empty()
    }

    /// Ends the queue at once; what still waits is dropped.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        self.shared.1.notify_all();
        // their owners may push again while they are dropped
        drop(waiting);
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // nothing panics while it holds the lock
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Weigh for usize {
        fn bytes(&self) -> usize {
            *self
        }
    }

    #[test]
    fn what_waits_is_taken_together_up_to_the_limit_and_at_least_one() {
        let queue = Queue::default();
        [3, 4, 5, 100, 1].into_iter().for_each(|command| queue.push(command));
        assert_eq!(queue.take(10, Company::default()), Some(vec![3, 4]));
        assert_eq!(queue.take(10, Company::default()), Some(vec![5]));
        assert_eq!(queue.take(10, Company::default()), Some(vec![100]));
        assert_eq!(queue.take(10, Company::default()), Some(vec![1]));
    }

    #[test]
    fn the_first_command_waits_for_its_company_and_not_for_ever() {
        let queue = Queue::default();
        queue.push(1);
        let alone = Company { commands: 3, wait: Duration::from_millis(1) };
        assert_eq!(queue.take(10, alone), Some(vec![1]), "the others do not come");
        let taking = std::thread::spawn({
            let queue = queue.clone();
            move || queue.take(10, Company { commands: 3, wait: Duration::from_secs(60) })
        });
        [1, 2, 3].into_iter().for_each(|command| queue.push(command));
        assert_eq!(taking.join().expect("ends"), Some(vec![1, 2, 3]));
    }

    #[test]
    fn a_closed_queue_ends_the_receiver_and_drops_what_waits() {
        let queue = Queue::default();
        queue.push(1);
        let waiting = std::thread::spawn({
            let queue = queue.clone();
            move || {
                std::iter::from_fn(|| queue.take(10, Company::default())).flatten().collect::<Vec<usize>>()
            }
        });
        queue.push(2);
        queue.close();
        queue.push(3);
        let taken = waiting.join().expect("ends");
        assert!(taken.iter().all(|command| *command < 3), "{taken:?}");
        assert_eq!(queue.take(10, Company::default()), None);
    }
}
