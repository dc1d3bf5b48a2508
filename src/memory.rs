//! What the system's allocator is told about a server's memory: batches of a quarter of a megabyte come and go on every thread.
//!
//! Its own rules give such blocks back to the system at once and fetch them again, page by page, and give every thread a region
//! whose free memory the others cannot use. Here blocks stay for the next batch, in few regions, and what is free is given back once
//! the load is over ([`give_back_when_quiet`]): under load that would stop other threads for milliseconds. Measured with produce of 1 KiB: a fifth of the server's CPU time per byte.

#![cfg_attr(all(target_os = "linux", target_env = "gnu"), allow(unsafe_code))]

use std::time::Duration;

/// How often it is looked whether the load is over.
const LOOK_INTERVAL: Duration = Duration::from_secs(3);

/// Processor time of a process that does nothing, in that interval.
const QUIET: Duration = Duration::from_millis(150);

/// Blocks from this size on are mapped alone; the largest that glibc takes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_BYTES: libc::c_int = 32 << 20;

/// Free bytes at the end of a region that stay for the next batches.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_BYTES: libc::c_int = 64 << 20;

/// Regions that threads share.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const REGIONS: libc::c_int = 4;

/// To be called first, before there are other threads.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn tune() {
    for (parameter, value) in [
        (libc::M_MMAP_THRESHOLD, MAPPED_BYTES),
        (libc::M_TRIM_THRESHOLD, KEPT_BYTES),
        (libc::M_ARENA_MAX, REGIONS),
    ] {
        // SAFETY: mallopt takes two numbers and sets a parameter under the allocator's own lock; one it does not like is refused, and
        // then the allocator goes on as it was, so the answer is not needed.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Gives free memory back to the system, once after each time of load. Never ends.
pub async fn give_back_when_quiet() {
    let (mut before, mut was_busy) = (processor_time(), true);
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let now = processor_time();
        let is_quiet = now.saturating_sub(before) < QUIET;
        if is_quiet && was_busy {
            // a panic there is none, and the runtime may be ending
            let _ = tokio::task::spawn_blocking(give_back).await;
        }
        (before, was_busy) = (processor_time(), !is_quiet);
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn give_back() {
    // SAFETY: malloc_trim works under the allocator's own locks and touches free memory only.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a value of this frame; an error leaves it as it is.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn tune() {}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn give_back() {}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn processor_time() -> Duration {
    Duration::ZERO
}
