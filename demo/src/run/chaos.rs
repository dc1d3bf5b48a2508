//! Kills of the node at random moments of the day.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;

use crate::error::Result;
use crate::node::{Node, Progress};

/// A kill comes up to so long after its moment of the day, and the node stays down up to so long.
const DELAY_MS_MAX: u64 = 400;
const DOWN_MS_MAX: u64 = 300;

/// One kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kill {
    /// When so many orders of the day have been made.
    pub orders: u32,
    pub delay: Duration,
    pub down: Duration,
}

/// The kills of a day, in order.
#[must_use]
pub fn plan(kills: u32, deliveries: u32, seed: u64) -> Vec<Kill> {
    let mut rng = StdRng::seed_from_u64(seed ^ 0x0dead);
    let mut draw = |_| Kill {
        orders: rng.random_range(0..=deliveries),
        delay: Duration::from_millis(rng.random_range(0..=DELAY_MS_MAX)),
        down: Duration::from_millis(rng.random_range(0..=DOWN_MS_MAX)),
    };
    let mut plan: Vec<Kill> = (0..kills).map(&mut draw).collect();
    plan.sort_by_key(|kill| kill.orders);
    plan
}

/// Performs the plan as `orders` grows; what is left when its sender is gone comes at once. Returns how often the node was killed.
///
/// # Errors
/// When the node cannot be killed or does not come up again.
pub async fn perform(
    plan: Vec<Kill>,
    node: Arc<dyn Node>,
    progress: Arc<dyn Progress>,
    mut orders: watch::Receiver<u32>,
) -> Result<u32> {
    let mut kills = 0;
    for kill in plan {
        // an error says that the sender is gone
        let _ = orders.wait_for(|orders| *orders >= kill.orders).await;
        tokio::time::sleep(kill.delay).await;
        node.kill().await?;
        tokio::time::sleep(kill.down).await;
        node.start().await?;
        kills += 1;
        progress.note(&format!("killed and restarted the node ({kills}), after {} orders", kill.orders));
    }
    Ok(kills)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_seeded_and_in_order() {
        let kills = plan(10, 20_000, 1);
        assert_eq!(kills, plan(10, 20_000, 1));
        assert_ne!(kills, plan(10, 20_000, 2));
        assert_eq!(kills.len(), 10);
        assert!(kills.is_sorted_by_key(|kill| kill.orders));
    }
}
