//! What happens to the node, in turns drawn from the seed.

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use sunseo_log::faulty::Faults;
use tokio::time::Instant;

use super::node::{Death, World};
use crate::load::{Plan, Stress};
use crate::report::Deeds;

/// Hours that a clock jumps at most.
const JUMP_MS_MAX: i64 = 6 * 3_600_000;
const LATENCY_MS: u64 = 2;
/// Before deaths upon deaths: a checkpoint knows the topics then, also on a disk that forgets what is journaled.
const CALM: Duration = Duration::from_secs(8);
/// What [`act`] can do, and the part of it that is the node's death.
const TURNS: u32 = 12;
const DEATHS: std::ops::Range<u32> = 0..5;

/// Torments the node until the time is over; leaves it running.
pub(super) async fn run(world: &mut World, rng: &mut StdRng, plan: &Plan, until: Instant) -> Deeds {
    let (mut deeds, pause_ms_max) = (Deeds::new(), plan.fault_pause_ms_max);
    world.disk.pace.set_latency(Duration::from_millis(LATENCY_MS));
    if plan.stress == Stress::Deaths {
        tokio::time::sleep(CALM).await;
    }
    while Instant::now() < until {
        if pause_ms_max == 0 {
            tokio::time::sleep_until(until).await;
            break;
        }
        let pause = Duration::from_millis(rng.random_range(pause_ms_max / 10..pause_ms_max));
        let fuse = std::sync::Arc::clone(&world.disk.fuse);
        tokio::select! {
            () = tokio::time::sleep(pause) => {
                let turn = match plan.stress {
                    Stress::Deaths if rng.random_range(0..4) > 0 => rng.random_range(DEATHS),
                    _ => rng.random_range(0..TURNS),
                };
                act(world, rng, (turn, plan.stress), &mut deeds).await;
            }
            () = fuse.burnt.notified() => {
                *deeds.entry("deaths at an operation").or_default() += 1;
                die(world, rng, plan.stress, &mut deeds).await;
            }
        }
    }
    world.set_faults(Faults::default());
    world.disk.fuse.light(-1);
    world.disk.pace.set_latency(Duration::from_millis(LATENCY_MS));
    if world.disk.fuse.is_burnt() {
        world.end(Death::Kill).await;
    }
    world.revive().await;
    deeds
}

async fn act(world: &mut World, rng: &mut StdRng, (turn, stress): (u32, Stress), deeds: &mut Deeds) {
    let mut did = |what: &'static str| *deeds.entry(what).or_default() += 1;
    match turn {
        0..3 => die(world, rng, stress, deeds).await,
        3..5 => {
            did("fuses");
            world.disk.fuse.light(rng.random_range(0..300));
        }
        5 => {
            did("clock jumps forwards");
            world.clock.jump(rng.random_range(0..JUMP_MS_MAX));
        }
        6 => {
            did("clock jumps backwards");
            world.clock.jump(-rng.random_range(0..JUMP_MS_MAX));
        }
        7 => {
            did("slow disks");
            world.disk.pace.set_latency(Duration::from_millis(rng.random_range(20..3_000)));
            tokio::time::sleep(Duration::from_millis(rng.random_range(100..8_000))).await;
            world.disk.pace.set_latency(Duration::from_millis(LATENCY_MS));
        }
        8 => {
            did("full disks");
            let capacity_bytes = Some(world.disk.disk.used_bytes() + rng.random_range(0..200_000));
            world.set_faults(Faults { capacity_bytes, ..Faults::default() });
            tokio::time::sleep(Duration::from_millis(rng.random_range(100..5_000))).await;
            world.set_faults(Faults::default());
        }
        9 => {
            did("failed syncs");
            world.set_faults(Faults {
                fail_sync_of: Some(["", "journal"][rng.random_range(0..2)]),
                ..Faults::default()
            });
            tokio::time::sleep(Duration::from_millis(rng.random_range(1..500))).await;
            world.set_faults(Faults::default());
            // a partition that stopped goes on with the next start
            die(world, rng, stress, deeds).await;
        }
        10 => {
            did("short reads and writes");
            world.set_faults(Faults { short_io_permille: 200, ..Faults::default() });
        }
        _ => {
            did("shutdowns");
            world.end(Death::Shutdown).await;
            rest(world, rng).await;
        }
    }
}

/// A death, some time without a node, a start; sometimes one more death in the middle of the start.
async fn die(world: &mut World, rng: &mut StdRng, stress: Stress, deeds: &mut Deeds) {
    let power_cut = if stress == Stress::Deaths { Death::EarlyPowerCut } else { Death::PowerCut };
    let death = if rng.random_range(0..3) == 0 { Death::Kill } else { power_cut };
    *deeds.entry(if death == Death::Kill { "kills" } else { "power cuts" }).or_default() += 1;
    world.end(death).await;
    if rng.random_range(0..3) == 0 {
        world.disk.fuse.light(rng.random_range(0..60));
        if world.start().await.is_err() {
            *deeds.entry("interrupted starts").or_default() += 1;
            match stress {
                Stress::Deaths => world.disk.disk.early_power_cut(),
                _ => world.disk.disk.power_cut(),
            }
        }
    }
    rest(world, rng).await;
}

async fn rest(world: &mut World, rng: &mut StdRng) {
    let longest = if rng.random_range(0..4) == 0 { 12_000 } else { 800 };
    tokio::time::sleep(Duration::from_millis(rng.random_range(0..longest))).await;
    if !world.disk.fuse.is_burnt() {
        world.revive().await;
    }
}
