//! How much of what a run has.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Numbers of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    pub producers: usize,
    pub positioned: usize,
    pub readers: usize,
    /// Readers that look up offsets and times.
    pub seekers: usize,
    pub members: usize,
    /// Transactional names, and how many instances fight for each.
    pub tellers: usize,
    pub rivals: usize,
    /// Members of a group that work in transactions.
    pub mills: usize,
}

/// A run's dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Time of load, before all comes to rest.
    pub seconds: u64,
    pub load: Load,
    /// Longest pause between two faults; 0 for none.
    pub fault_pause_ms_max: u64,
    /// The way to the node loses and delays.
    pub bad_way: bool,
    pub stress: Stress,
}

/// What happens more often than the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Stress {
    /// Everything in its turn.
    Mixed,
    /// The node dies, and what it had not synced is lost.
    Deaths,
    /// Members stand still.
    Members,
    /// Offsets and times are looked up.
    Lookups,
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x706c_616e);
        Self {
            seconds: rng.random_range(20..60),
            load: Load {
                producers: rng.random_range(1..4),
                positioned: rng.random_range(0..3),
                readers: rng.random_range(1..4),
                seekers: rng.random_range(1..3),
                members: rng.random_range(2..5),
                tellers: rng.random_range(0..3),
                rivals: rng.random_range(1..3),
                mills: rng.random_range(0..3),
            },
            fault_pause_ms_max: [6_000, 12_000, 3_000][rng.random_range(0..3)],
            bad_way: rng.random_range(0..3) > 0,
            stress: Stress::Mixed,
        }
    }

    /// The plan of a seed with more of one thing.
    #[must_use]
    pub fn with(seed: u64, stress: Stress) -> Self {
        let mut plan = Self { stress, ..Self::of(seed) };
        match stress {
            Stress::Mixed => {}
            Stress::Deaths => (plan.load.positioned, plan.fault_pause_ms_max) = (1, 3_000),
            Stress::Members => (plan.load.members, plan.fault_pause_ms_max) = (5, 12_000),
            Stress::Lookups => (plan.load.seekers, plan.fault_pause_ms_max) = (4, 12_000),
        }
        plan
    }
}
