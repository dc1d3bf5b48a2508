//! What happens in a run: drawn from its seed, or asked for.

use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::door::Odds;

/// A run's dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Time of load, before all comes to rest.
    pub seconds: u64,
    pub producers: usize,
    pub positioned: usize,
    pub readers: usize,
    pub members: usize,
    /// Longest pause between two faults; 0 for none.
    pub fault_pause_ms_max: u64,
    pub odds: OddsOf,
}

/// How bad the way to the node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OddsOf {
    Good,
    Bad,
}

impl OddsOf {
    #[must_use]
    pub fn odds(self) -> Odds {
        match self {
            Self::Good => Odds { answer_ms_max: 2, ..Odds::default() },
            Self::Bad => Odds { lose_request: 15, lose_answer: 15, late: 5, answer_ms_max: 20 },
        }
    }
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x706c_616e);
        Self {
            seconds: rng.random_range(20..60),
            producers: rng.random_range(1..4),
            positioned: rng.random_range(0..3),
            readers: rng.random_range(1..4),
            members: rng.random_range(2..5),
            fault_pause_ms_max: [6_000, 12_000, 3_000][rng.random_range(0..3)],
            odds: if rng.random_range(0..3) == 0 { OddsOf::Good } else { OddsOf::Bad },
        }
    }
}
