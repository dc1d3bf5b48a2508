//! Bytes of produce requests that wait for the disk, bounded; who finds no room waits in line.
//!
//! Invariants: jobs start in the order in which they were submitted; together the running ones stay below the limit, except that a job
//! larger than the limit runs alone. A job is never refused for want of room, so that a caller that goes on submitting without awaiting
//! is bounded only by [`WAITING_MAX`].

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sunseo_proto::error::{Error, ErrorCode, Result};

/// Jobs of one gate that wait for room.
pub(crate) const WAITING_MAX: usize = 65_536;

type Job = Box<dyn FnOnce(Permit) + Send>;

struct State {
    free: usize,
    waiting: VecDeque<(usize, Job)>,
    /// Somebody starts jobs right now: others leave it to them, so that the order stays.
    starting: bool,
}

/// The bound and the line in front of it.
pub(crate) struct Gate {
    limit: usize,
    state: Mutex<State>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// Room for one job; it is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    gate: Arc<Gate>,
    bytes: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.state().free += self.bytes;
        self.gate.start_waiting();
    }
}

impl Gate {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        let state = State { free: limit, waiting: VecDeque::new(), starting: false };
        Arc::new(Self { limit, state: Mutex::new(state) })
    }

    /// Runs `job` as soon as there is room for `bytes`: now, or on the thread that gives the room back. It must not block.
    pub(crate) fn submit(
        self: &Arc<Self>,
        bytes: usize,
        job: impl FnOnce(Permit) + Send + 'static,
    ) -> Result<()> {
        {
            let mut state = self.state();
            if state.waiting.len() >= WAITING_MAX {
                return Err(Error::new(
                    ErrorCode::Overloaded,
                    format!(
                        "{WAITING_MAX} produce requests wait for room: await answers before sending more"
                    ),
                ));
            }
            state.waiting.push_back((bytes.min(self.limit), Box::new(job)));
        }
        self.start_waiting();
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // the state is whole between any two statements that hold the lock
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_waiting(self: &Arc<Self>) {
        let mut state = self.state();
        if state.starting {
            return;
        }
        state.starting = true;
        while state.waiting.front().is_some_and(|(bytes, _)| *bytes <= state.free) {
            let Some((bytes, job)) = state.waiting.pop_front() else { break };
            state.free -= bytes;
            drop(state);
            job(Permit { gate: Arc::clone(self), bytes });
            state = self.state();
        }
        state.starting = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Started = Arc<Mutex<Vec<(u32, Permit)>>>;

    fn submit(gate: &Arc<Gate>, started: &Started, name: u32, bytes: usize) {
        let started = Arc::clone(started);
        gate.submit(bytes, move |permit| started.lock().unwrap().push((name, permit))).expect("room in line");
    }

    fn names(started: &Started) -> Vec<u32> {
        started.lock().unwrap().iter().map(|(name, _)| *name).collect()
    }

    #[test]
    fn jobs_start_in_order_and_a_small_one_does_not_overtake() {
        let (gate, started) = (Gate::new(10), Started::default());
        submit(&gate, &started, 1, 6);
        submit(&gate, &started, 2, 6);
        submit(&gate, &started, 3, 1);
        assert_eq!(names(&started), [1]);
        let first = started.lock().unwrap().remove(0);
        drop(first);
        assert_eq!(names(&started), [2, 3]);
    }

    #[test]
    fn a_job_larger_than_the_limit_runs_alone() {
        let (gate, started) = (Gate::new(10), Started::default());
        submit(&gate, &started, 1, 3);
        submit(&gate, &started, 2, 1_000);
        submit(&gate, &started, 3, 1);
        assert_eq!(names(&started), [1]);
        let first = started.lock().unwrap().remove(0);
        drop(first);
        assert_eq!(names(&started), [2]);
        let large = started.lock().unwrap().remove(0);
        drop(large);
        assert_eq!(names(&started), [3]);
    }

    #[test]
    fn a_job_that_ends_at_once_makes_room_without_growing_the_stack() {
        let gate = Gate::new(1);
        let done = Arc::new(Mutex::new(0));
        let held = Started::default();
        submit(&gate, &held, 0, 1);
        for _ in 0..50_000 {
            let done = Arc::clone(&done);
            gate.submit(1, move |_permit| *done.lock().unwrap() += 1).expect("room in line");
        }
        let first = held.lock().unwrap().remove(0);
        drop(first);
        assert_eq!(*done.lock().unwrap(), 50_000);
    }
}
