//! Writes the history while it happens.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::history::{Act, History, Moment, Op, Rules};

#[derive(Debug, Default)]
struct State {
    history: History,
    moment: Moment,
    processes: u32,
    periods: u64,
}

/// The one recorder of a run.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<State>);

impl Recorder {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next moment.
    pub fn now(&self) -> Moment {
        let mut state = self.state();
        state.moment += 1;
        state.moment
    }

    /// A process that is not there yet.
    pub fn process(&self) -> u32 {
        let mut state = self.state();
        state.processes += 1;
        state.processes
    }

    /// A period of owning.
    pub fn period(&self) -> u64 {
        let mut state = self.state();
        state.periods += 1;
        state.periods
    }

    /// An operation that began at `start` and ends now.
    pub fn done(&self, process: u32, start: Moment, act: Act) {
        let mut state = self.state();
        state.moment += 1;
        let end = Some(state.moment);
        state.history.ops.push(Op { process, start, end, act });
    }

    /// One that begins and ends now.
    pub fn at_once(&self, process: u32, act: Act) {
        let start = self.now();
        self.done(process, start, act);
    }

    /// What a topic promises.
    pub fn rules(&self, topic: u32, rules: Rules) {
        self.state().history.rules.insert(topic, rules);
    }

    /// The history, when nothing more comes.
    #[must_use]
    pub fn take(&self) -> History {
        std::mem::take(&mut self.state().history)
    }
}
