//! Two ports that nobody has, for a node that keeps them over its restarts.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Below the range from which the system takes the ports of outgoing connections: a client that tries again and again while the
/// node is down must not be given the node's own port.
const PORTS: std::ops::Range<u32> = 15_000..32_000;

/// gRPC and HTTP address, free at the moment of the call.
///
/// # Errors
/// When no port of the range is free.
pub fn free_addresses() -> std::io::Result<(SocketAddr, SocketAddr)> {
    // neighbours begin at different places
    let start = std::process::id().wrapping_mul(97);
    let width = PORTS.end - PORTS.start;
    let free = (0..width).filter_map(|step| {
        let port = u16::try_from(PORTS.start + start.wrapping_add(step) % width).ok()?;
        // held until both are found
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()
    });
    let listeners: Vec<TcpListener> = free.take(2).collect();
    match &listeners[..] {
        [grpc, http] => Ok((grpc.local_addr()?, http.local_addr()?)),
        _ => Err(std::io::Error::new(std::io::ErrorKind::AddrInUse, "no port from 15000 to 32000 is free")),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_addresses_differ_and_can_be_bound() {
        let (grpc, http) = super::free_addresses().unwrap();
        assert_ne!(grpc, http);
        let _held = (std::net::TcpListener::bind(grpc).unwrap(), std::net::TcpListener::bind(http).unwrap());
        let (other, _) = super::free_addresses().unwrap();
        assert_ne!(other, grpc);
    }
}
