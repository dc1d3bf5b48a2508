//! The running clients of a run, by name.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sunseo_client::Client;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Plan, Shared, auditor, churn, member, mill, positioned, producer, reader, seeker, teller};

/// What is between one client and the node, as far as a client may know.
pub(crate) trait Way: fmt::Debug + Send + Sync {
    /// Nothing passes for a while; then everything does, in order.
    fn stand_still(&self, time: Duration);
}

/// The clients.
#[derive(Debug, Default)]
pub(crate) struct Crew {
    tasks: JoinSet<()>,
    names: HashMap<tokio::task::Id, &'static str>,
}

impl Crew {
    /// Starts them. `connect` makes a client from a seed.
    pub(crate) fn begin(
        Plan { load, stress, .. }: Plan,
        shared: &Arc<Shared>,
        rng: &mut StdRng,
        connect: impl Fn(u64) -> (Client, Arc<dyn Way>),
    ) -> Self {
        let mut crew = Self::default();
        let mut next = || {
            let (client, way) = connect(rng.random_range(0..u64::MAX));
            (Arc::clone(shared), client, way, StdRng::seed_from_u64(rng.random_range(0..u64::MAX)))
        };
        for _ in 0..load.producers {
            let (shared, client, _, rng) = next();
            crew.spawn("producer", producer::run(shared, client, rng));
        }
        for number in 0..load.positioned {
            let (shared, client, _, rng) = next();
            crew.spawn("source", positioned::run(shared, client, rng, format!("source-{number}")));
        }
        for _ in 0..load.readers {
            let (shared, client, _, rng) = next();
            crew.spawn("reader", reader::run(shared, client, rng));
        }
        for _ in 0..load.seekers {
            let (shared, client, _, rng) = next();
            crew.spawn("seeker", seeker::run(shared, client, rng));
        }
        for _ in 0..load.members {
            let (shared, client, way, rng) = next();
            crew.spawn("member", member::run(shared, client, way, rng, stress));
        }
        for number in 0..load.tellers * load.rivals {
            let (shared, client, _, rng) = next();
            crew.spawn("teller", teller::run(shared, client, rng, name(number % load.tellers)));
        }
        for number in 0..load.mills {
            let (shared, client, _, rng) = next();
            crew.spawn("mill", mill::run(shared, client, rng, name(load.tellers + number)));
        }
        let (shared, client, _, rng) = next();
        crew.spawn("auditor", auditor::run(shared, client, rng));
        let (shared, client, _, rng) = next();
        crew.spawn("churn", churn::run(shared, client, rng));
        crew
    }

    fn spawn(&mut self, name: &'static str, client: impl Future<Output = ()> + Send + 'static) {
        let id = self.tasks.spawn(client).id();
        self.names.insert(id, name);
    }

    /// Waits for the clients' ends.
    ///
    /// # Panics
    /// When one hangs, or ended with a panic.
    pub(crate) async fn rest(&mut self, seed: u64, patience: Duration) {
        let end = Instant::now() + patience;
        while !self.names.is_empty() {
            match tokio::time::timeout_at(end, self.tasks.join_next_with_id()).await {
                Ok(Some(done)) => {
                    let (id, ()) =
                        done.unwrap_or_else(|error| panic!("seed {seed}: a client ended: {error}"));
                    self.names.remove(&id);
                }
                Ok(None) => return,
                Err(_) => {
                    let names: Vec<_> = self.names.values().collect();
                    panic!("seed {seed}: {names:?} hang {patience:?} after everything is well");
                }
            }
        }
    }
}

/// The number of a transactional name.
fn name(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
