//! What the heartbeats that passed say about a member: how often it has lost each partition.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use sunseo_client::Result;
use sunseo_proto::v1;

/// Of the one member behind a client.
#[derive(Debug, Default)]
pub(crate) struct Assigned(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    held: BTreeSet<(String, i32)>,
    losses: HashMap<(String, i32), u64>,
}

impl Assigned {
    /// A heartbeat goes out.
    pub(crate) fn asks(&self, request: &v1::GroupHeartbeatRequest) {
        // who joins, or leaves, has nothing
        if request.member_epoch <= 0 {
            self.set(BTreeSet::new());
        }
    }

    /// Its answer arrives.
    pub(crate) fn hears(&self, answer: &Result<v1::GroupHeartbeatResponse>) {
        match answer {
            Ok(answer) => {
                let now = answer.assignment.iter().map(|held| (held.topic.clone(), held.partition));
                self.set(now.collect());
            }
            Err(error) if !error.retryable() => self.set(BTreeSet::new()),
            Err(_) => {}
        }
    }

    pub(crate) fn losses(&self, topic: &str, partition: i32) -> u64 {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.losses.get(&(topic.to_owned(), partition)).copied().unwrap_or(0)
    }

    fn set(&self, now: BTreeSet<(String, i32)>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let State { held, losses } = &mut *state;
        for lost in held.difference(&now) {
            *losses.entry(lost.clone()).or_default() += 1;
        }
        *held = now;
    }
}
