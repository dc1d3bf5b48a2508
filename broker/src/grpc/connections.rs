//! Connections from the network: how many, from where, how fast, and how long they may be idle.
//!
//! `Admission` decides and is pure; [`Connections`] accepts sockets by it. A connection too many is closed at once, before a byte of it
//! is read; ones that come too fast stay in the kernel's queue. A connection on which no call is open is closed after a while.
//!
//! Not here: HTTP/2 (the server's settings), and what a call may do ([`super::bounded()`]).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::quota::bucket::Bucket;

/// What a listener takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections at once.
    pub connections_max: usize,
    /// Connections of one address at once.
    pub connections_per_address_max: usize,
    /// New connections per second; more wait in the kernel's queue.
    pub connections_per_second_max: u64,
    /// A connection without an open call is closed after this time; 0 is never.
    pub connection_idle_ms_max: u64,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections_max: 4_096,
            connections_per_address_max: 2_048,
            connections_per_second_max: 1_000,
            connection_idle_ms_max: 600_000,
        }
    }
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TooMany {
    InAll,
    OfThisAddress,
}

impl TooMany {
    fn name(self) -> &'static str {
        match self {
            Self::InAll => "connections_max",
            Self::OfThisAddress => "connections_per_address_max",
        }
    }
}

/// Who is connected. Pure.
#[derive(Debug, Default)]
struct Admission {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Admission {
    fn admit(&mut self, address: IpAddr, limits: &ConnectionLimits) -> Result<(), TooMany> {
        if self.total >= limits.connections_max {
            return Err(TooMany::InAll);
        }
        let here = self.by_address.get(&address).copied().unwrap_or(0);
        if here >= limits.connections_per_address_max {
            return Err(TooMany::OfThisAddress);
        }
        self.total += 1;
        self.by_address.insert(address, here + 1);
        Ok(())
    }

    fn leave(&mut self, address: IpAddr) {
        self.total -= 1;
        match self.by_address.get_mut(&address) {
            Some(here) if *here > 1 => *here -= 1,
            _ => drop(self.by_address.remove(&address)),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    admission: Admission,
    open: HashMap<u64, Weak<Connection>>,
    next: u64,
}

/// The connections of one listener.
#[derive(Debug)]
pub struct Connections {
    listener: &'static str,
    limits: ConnectionLimits,
    state: Mutex<State>,
    rate: Mutex<Bucket>,
    begun: Instant,
}

/// One connection, as calls on it see it.
#[derive(Debug)]
pub struct Connection {
    peer: SocketAddr,
    calls: AtomicUsize,
    used_ms: AtomicU64,
    begun: Instant,
    closing: CancellationToken,
}

impl Connection {
    /// Where it comes from.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Ends it: what is being read or written on it is dropped.
    pub fn close(&self) {
        self.closing.cancel();
    }

    /// A call begins; it ends when what is returned is dropped.
    #[must_use]
    pub fn call(self: &Arc<Self>) -> Call {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Call(Arc::clone(self))
    }

    fn touch(&self) {
        self.used_ms.store(elapsed_ms(self.begun), Ordering::Relaxed);
    }

    fn is_idle(&self, now_ms: u64, idle_ms_max: u64) -> bool {
        self.calls.load(Ordering::Relaxed) == 0
            && now_ms.saturating_sub(self.used_ms.load(Ordering::Relaxed)) >= idle_ms_max
    }
}

/// A call that is open.
#[derive(Debug)]
pub struct Call(Arc<Connection>);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.touch();
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

fn elapsed_ms(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Connections {
    /// `listener` names it in metrics and messages.
    #[must_use]
    pub fn new(listener: &'static str, limits: ConnectionLimits) -> Arc<Self> {
        let rate = Mutex::new(Bucket::new(limits.connections_per_second_max, 0));
        Arc::new(Self { listener, limits, state: Mutex::default(), rate, begun: Instant::now() })
    }

    /// Accepted connections, for a server. Closes idle ones while it is polled.
    pub fn incoming(
        self: Arc<Self>,
        listener: TcpListener,
    ) -> impl Stream<Item = io::Result<Guarded>> + Send {
        let sweeper = self.sweeper();
        futures::stream::unfold((self, listener, sweeper), |(connections, listener, sweeper)| async move {
            let taken = connections.accept(&listener).await;
            Some((Ok(taken), (connections, listener, sweeper)))
        })
    }

    /// The next connection that may stay. Errors of the socket (too many open files) are waited out.
    pub async fn accept(self: &Arc<Self>, listener: &TcpListener) -> Guarded {
        loop {
            let now_ms = i64::try_from(self.begun.elapsed().as_millis()).unwrap_or(i64::MAX);
            let wait_ms = self.rate.lock().unwrap_or_else(PoisonError::into_inner).take(1, now_ms);
            if wait_ms > 0 {
                metrics::counter!("sunseo_connections_delayed_total", "listener" => self.listener)
                    .increment(1);
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            }
            match listener.accept().await {
                Ok((stream, peer)) => {
                    if let Some(guarded) = self.take(stream, peer) {
                        return guarded;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, listener = self.listener, "a connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn take(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) -> Option<Guarded> {
        let mut state = self.state();
        if let Err(too_many) = state.admission.admit(peer.ip(), &self.limits) {
            drop(state);
            let limit = too_many.name();
            metrics::counter!("sunseo_connections_refused_total", "listener" => self.listener, "limit" => limit)
                .increment(1);
            tracing::debug!(%peer, limit, listener = self.listener, "a connection too many is closed");
            return None;
        }
        let id = state.next;
        state.next += 1;
        let connection = Arc::new(Connection {
            peer,
            calls: AtomicUsize::new(0),
            used_ms: AtomicU64::new(elapsed_ms(self.begun)),
            begun: self.begun,
            closing: CancellationToken::new(),
        });
        state.open.insert(id, Arc::downgrade(&connection));
        self.count(&state);
        drop(state);
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, %peer, "no delay cannot be turned off");
        }
        let closing = Box::pin(connection.closing.clone().cancelled_owned());
        Some(Guarded { stream, connection, closing, seat: Seat { connections: Arc::clone(self), id, peer } })
    }

    fn count(&self, state: &State) {
        metrics::gauge!("sunseo_connections", "listener" => self.listener).set(state.admission.total as f64);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // nothing panics while it holds the lock
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sweeper(self: &Arc<Self>) -> Option<Sweeper> {
        let idle_ms_max = self.limits.connection_idle_ms_max;
        if idle_ms_max == 0 {
            return None;
        }
        let connections = Arc::downgrade(self);
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis((idle_ms_max / 4).max(1)));
            loop {
                ticks.tick().await;
                let Some(connections) = connections.upgrade() else { return };
                connections.close_idle(idle_ms_max);
            }
        });
        Some(Sweeper(task))
    }

    fn close_idle(&self, idle_ms_max: u64) {
        let now_ms = elapsed_ms(self.begun);
        let open: Vec<Arc<Connection>> = self.state().open.values().filter_map(Weak::upgrade).collect();
        for connection in open.iter().filter(|connection| connection.is_idle(now_ms, idle_ms_max)) {
            metrics::counter!("sunseo_connections_idle_closed_total", "listener" => self.listener)
                .increment(1);
            connection.close();
        }
    }
}

#[derive(Debug)]
struct Sweeper(tokio::task::JoinHandle<()>);

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection's place among those that are allowed.
#[derive(Debug)]
struct Seat {
    connections: Arc<Connections>,
    id: u64,
    peer: SocketAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.connections.state();
        state.open.remove(&self.id);
        state.admission.leave(self.peer.ip());
        self.connections.count(&state);
    }
}

/// A socket that has its place and can be closed from outside.
#[derive(Debug)]
pub struct Guarded {
    stream: TcpStream,
    connection: Arc<Connection>,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    seat: Seat,
}

impl Guarded {
    /// Where it comes from.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.seat.peer
    }
}

impl Connected for Guarded {
    type ConnectInfo = Arc<Connection>;

    fn connect_info(&self) -> Self::ConnectInfo {
        Arc::clone(&self.connection)
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.closing.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[test]
    fn an_address_does_not_take_every_place_and_gives_its_own_back() {
        let limits = ConnectionLimits {
            connections_max: 3,
            connections_per_address_max: 2,
            ..ConnectionLimits::default()
        };
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut admission = Admission::default();
        assert_eq!((admission.admit(a, &limits), admission.admit(a, &limits)), (Ok(()), Ok(())));
        assert_eq!(admission.admit(a, &limits), Err(TooMany::OfThisAddress));
        assert_eq!(admission.admit(b, &limits), Ok(()));
        assert_eq!(admission.admit(b, &limits), Err(TooMany::InAll));
        admission.leave(a);
        assert_eq!(admission.admit(b, &limits), Ok(()));
        admission.leave(a);
        assert_eq!(admission.by_address.get(&a), None, "who is gone is forgotten");
    }

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn a_connection_too_many_is_closed_and_the_next_one_taken() {
        let limits = ConnectionLimits { connections_max: 1, ..ConnectionLimits::default() };
        let connections = Connections::new("test", limits);
        let (listener, address) = listener().await;
        let _first = TcpStream::connect(address).await.unwrap();
        let seat = connections.accept(&listener).await;
        let mut second = TcpStream::connect(address).await.unwrap();
        let accepting = tokio::spawn(async move { connections.accept(&listener).await.peer() });
        assert_eq!(second.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed");
        drop(seat);
        let third = TcpStream::connect(address).await.unwrap();
        assert_eq!(accepting.await.unwrap(), third.local_addr().unwrap());
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed_and_one_with_a_call_is_not() {
        let connections = Connections::new("test", ConnectionLimits::default());
        let (listener, address) = listener().await;
        let _clients =
            [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        let (mut idle, mut busy) = (connections.accept(&listener).await, connections.accept(&listener).await);
        let call = busy.connect_info().call();
        connections.close_idle(0);
        assert!(idle.read(&mut [0; 1]).await.is_err());
        let read = tokio::time::timeout(Duration::from_millis(20), busy.read(&mut [0; 1])).await;
        assert!(read.is_err(), "goes on");
        drop(call);
        connections.close_idle(600_000);
        let read = tokio::time::timeout(Duration::from_millis(20), busy.read(&mut [0; 1])).await;
        assert!(read.is_err(), "used just now");
        connections.close_idle(0);
        assert!(busy.read(&mut [0; 1]).await.is_err());
    }

    #[tokio::test]
    async fn connections_that_come_too_fast_wait() {
        let limits = ConnectionLimits { connections_per_second_max: 20, ..ConnectionLimits::default() };
        let connections = Connections::new("test", limits);
        let (listener, address) = listener().await;
        let begun = std::time::Instant::now();
        for _ in 0..26 {
            let _client = TcpStream::connect(address).await.unwrap();
            connections.accept(&listener).await;
        }
        assert!(begun.elapsed() >= Duration::from_millis(250), "{:?}", begun.elapsed());
    }
}
