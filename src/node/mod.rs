//! The nodes that the demo and the measurements run on.

mod child;
mod embedded;
mod ports;
mod scratch;

pub use child::ChildNode;
pub use embedded::EmbeddedNode;
pub use ports::free_addresses;
pub use scratch::Scratch;

/// Bytes of memory that a process holds, from `/proc`; `None` where there is none.
fn resident_bytes(process: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_os = "linux")]
    fn the_memory_of_this_process_is_known() {
        let bytes = super::resident_bytes("self").unwrap();
        assert!((1 << 20..1 << 40).contains(&bytes), "{bytes}");
        assert_eq!(super::resident_bytes("nobody"), None);
    }
}
