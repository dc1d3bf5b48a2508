//! Static members by lot: a rolling restart of all of them moves nothing, over crashes of the node and lost writes; a member that stalls is
//! fenced at its next commit, comes back, and goes on from what was committed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use sunseo_proto::{ErrorCode, v1};

use super::{Node, beat};
use crate::memory_log::Fault;

const SESSION: Duration = Duration::from_secs(45);
const STEP: Duration = Duration::from_secs(3);

/// A process of a static member.
struct Pod {
    number: usize,
    /// Counts its processes.
    life: usize,
    epoch: i32,
    holds: Vec<i32>,
}

impl Pod {
    fn id(&self) -> String {
        format!("pod-{}-{}", self.number, self.life)
    }
}

struct World {
    node: Node,
    rng: StdRng,
    seed: u64,
    pods: Vec<Pod>,
    assignor: &'static str,
    /// Nothing goes wrong with the log any more.
    calm: bool,
}

impl World {
    async fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let (pods, partitions) = (rng.random_range(2..6), rng.random_range(2..12));
        let node = Node::start(partitions).await;
        let assignor = if rng.random_bool(0.5) { "range" } else { "uniform" };
        let pods = (0..pods).map(|number| Pod { number, life: 0, epoch: 0, holds: Vec::new() }).collect();
        Self { node, rng, seed, pods, assignor, calm: false }
    }

    fn request(&self, pod: &Pod, epoch: i32) -> v1::GroupHeartbeatRequest {
        v1::GroupHeartbeatRequest {
            instance_id: format!("pod-{}", pod.number),
            assignor: self.assignor.to_owned(),
            ..beat(&pod.id(), epoch, &pod.holds)
        }
    }

    /// Heartbeats until it is answered; lost writes are tried again, as a client does.
    async fn beat(&mut self, at: usize) {
        if !self.calm && self.rng.random_bool(0.1) {
            let fault = if self.rng.random_bool(0.5) { Fault::Refused } else { Fault::AnswerLost };
            self.node.log.script([fault]);
        }
        loop {
            let request = self.request(&self.pods[at], self.pods[at].epoch);
            match self.node.send(request).await {
                Ok((epoch, holds)) => {
                    (self.pods[at].epoch, self.pods[at].holds) = (epoch, holds);
                    return;
                }
                Err(code) if code.retryable() => tokio::time::sleep(Duration::from_millis(100)).await,
                Err(code) => panic!("seed {}: pod {at} is refused with {code}", self.seed),
            }
        }
    }

    async fn settle(&mut self) {
        for _ in 0..30 {
            tokio::time::sleep(STEP).await;
            for at in 0..self.pods.len() {
                self.beat(at).await;
            }
        }
        assert_eq!(self.node.state().await, "stable", "seed {}", self.seed);
    }

    fn shares(&self) -> Vec<Vec<i32>> {
        self.pods.iter().map(|pod| pod.holds.clone()).collect()
    }

    async fn commit(&self, at: usize) -> Result<Vec<Option<ErrorCode>>, ErrorCode> {
        let pod = &self.pods[at];
        let offsets: Vec<(i32, i64)> = pod.holds.iter().map(|partition| (*partition, 7)).collect();
        loop {
            match self.node.commit(&pod.id(), pod.epoch, &offsets).await {
                Err(code) if code.retryable() => tokio::time::sleep(Duration::from_millis(100)).await,
                result => return result,
            }
        }
    }

    /// The process ends, in order or not, and another one comes within the session.
    async fn restart(&mut self, at: usize) {
        if self.rng.random_bool(0.5) {
            let goodbye = self.request(&self.pods[at], -1);
            self.node.send(goodbye).await.expect("its place is kept");
        }
        if self.rng.random_bool(0.3) {
            self.node.restart().await;
        }
        for _ in 0..self.rng.random_range(0..10) {
            tokio::time::sleep(STEP).await;
            for other in (0..self.pods.len()).filter(|other| *other != at) {
                let before = (self.pods[other].epoch, self.pods[other].holds.clone());
                self.beat(other).await;
                let after = (self.pods[other].epoch, self.pods[other].holds.clone());
                assert_eq!(before, after, "seed {}: {other} moves while {at} is away", self.seed);
            }
        }
        let (former, epoch) = (self.pods[at].id(), self.pods[at].epoch);
        let share = std::mem::take(&mut self.pods[at].holds);
        (self.pods[at].life, self.pods[at].epoch) = (self.pods[at].life + 1, 0);
        self.beat(at).await;
        assert_eq!(self.pods[at].holds, share, "seed {}: pod {at} comes back", self.seed);
        let late = self.node.commit(&former, epoch, &[(share.first().copied().unwrap_or(0), 9)]).await;
        assert_eq!(late, Err(ErrorCode::FencedInstance), "seed {}", self.seed);
    }

    /// One does nothing for longer than its session, and does not know it.
    async fn stall(&mut self, at: usize) {
        let committed = self.commit(at).await.expect("a member");
        assert!(committed.iter().all(Option::is_none), "seed {}", self.seed);
        let share = self.pods[at].holds.clone();
        // a write that fails begins fresh sessions for everybody: the node cannot know what it missed
        self.calm = true;
        self.node.log.crash();
        let until = tokio::time::Instant::now() + SESSION + STEP;
        while tokio::time::Instant::now() < until {
            tokio::time::sleep(STEP).await;
            for other in (0..self.pods.len()).filter(|other| *other != at) {
                self.beat(other).await;
            }
        }
        assert_eq!(self.commit(at).await, Err(ErrorCode::UnknownMember), "seed {}", self.seed);
        (self.pods[at].epoch, self.pods[at].holds) = (0, Vec::new());
        self.settle().await;
        for partition in share {
            assert_eq!(self.node.committed(partition).await, 7, "seed {}", self.seed);
        }
        assert!(self.commit(at).await.is_ok(), "seed {}: a member again", self.seed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rolling_restart_moves_nothing_and_a_member_that_stalls_comes_back() {
    for seed in 0..40 {
        let mut world = World::new(seed).await;
        world.settle().await;
        let shares = world.shares();
        assert_eq!(
            shares.concat().len(),
            shares.iter().flatten().collect::<std::collections::BTreeSet<_>>().len()
        );
        let mut order: Vec<usize> = (0..shares.len()).collect();
        order.shuffle(&mut world.rng);
        for at in order {
            world.restart(at).await;
        }
        world.settle().await;
        assert_eq!(world.shares(), shares, "seed {seed}");
        let at = world.rng.random_range(0..shares.len());
        world.stall(at).await;
    }
}
