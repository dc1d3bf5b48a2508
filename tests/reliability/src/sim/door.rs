//! The way from one client to the node: it loses requests and answers, delays them, and stands still for a while.
//!
//! Requests arrive in the order in which they are made, except produce requests that are said to be late: producers must bear those.
//! What a dead node answered does not arrive.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sunseo_broker::BrokerHandle;
use sunseo_client::{Error, ErrorCode, Result, Transport};
use sunseo_proto::v1;
use tokio::sync::{oneshot, watch};

use crate::load::Way;
use crate::requests::pass_on;

/// Where the node is, for every door.
#[derive(Debug, Default)]
pub struct Entrance {
    handle: Mutex<Option<BrokerHandle>>,
    /// Which life of the node this is.
    life: watch::Sender<u64>,
    /// Nothing is lost or late any more.
    calm: AtomicBool,
}

impl Entrance {
    fn handle(&self) -> MutexGuard<'_, Option<BrokerHandle>> {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node serves.
    pub fn open(&self, handle: BrokerHandle) {
        *self.handle() = Some(handle);
    }

    /// The node is gone, and whatever it still says is not heard.
    pub fn close(&self) {
        *self.handle() = None;
        self.life.send_modify(|life| *life += 1);
    }

    /// From now on nothing goes wrong on the way.
    pub fn calm(&self) {
        self.calm.store(true, Ordering::SeqCst);
    }

    fn current(&self) -> Option<(BrokerHandle, watch::Receiver<u64>)> {
        let handle = self.handle().clone()?;
        Some((handle, self.life.subscribe()))
    }
}

/// Chances of 1,000 per request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Odds {
    pub lose_request: u32,
    pub lose_answer: u32,
    pub late: u32,
    /// Longest time that an answer takes.
    pub answer_ms_max: u64,
}

impl Odds {
    /// Of a way that does no more than take time.
    pub const GOOD: Self = Self { lose_request: 0, lose_answer: 0, late: 0, answer_ms_max: 2 };
    pub const BAD: Self = Self { lose_request: 15, lose_answer: 15, late: 5, answer_ms_max: 20 };
}

/// One client's door. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Door {
    entrance: Arc<Entrance>,
    rng: Arc<Mutex<StdRng>>,
    odds: Odds,
    /// Held while the way stands still; fair, so that requests keep their order.
    way: Arc<tokio::sync::Mutex<()>>,
}

enum Fate {
    Arrives { answer_after: Duration, answer_lost: bool },
    Lost,
    Late(Duration),
}

impl Door {
    /// A door with chances of its own.
    #[must_use]
    pub fn new(entrance: &Arc<Entrance>, seed: u64, odds: Odds) -> Self {
        let rng = Arc::new(Mutex::new(StdRng::seed_from_u64(seed)));
        Self { entrance: Arc::clone(entrance), rng, odds, way: Arc::default() }
    }

    fn fate(&self, may_be_late: bool) -> Fate {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        let mut chance = |permille: u32| rng.random_range(0..1000) < permille;
        let calm = self.entrance.calm.load(Ordering::SeqCst);
        let (lost, answer_lost) = (chance(self.odds.lose_request), chance(self.odds.lose_answer));
        let late = chance(self.odds.late) && may_be_late;
        let answer_after = Duration::from_millis(rng.random_range(0..=self.odds.answer_ms_max));
        match (calm, lost, late) {
            (true, ..) => Fate::Arrives { answer_after: Duration::ZERO, answer_lost: false },
            (_, true, _) => Fate::Lost,
            (_, _, true) => Fate::Late(Duration::from_millis(rng.random_range(1..20_000))),
            _ => Fate::Arrives { answer_after, answer_lost },
        }
    }

    fn pass<Q, R>(
        &self,
        request: Q,
        call: fn(BrokerHandle, Q) -> BoxFuture<'static, Result<R>>,
    ) -> BoxFuture<'static, Result<R>>
    where
        Q: Send + 'static,
        R: Send + 'static,
    {
        self.send(request, false, call)
    }

    /// Sends a request on its way now; the future is what comes back.
    fn send<Q, R>(
        &self,
        request: Q,
        may_be_late: bool,
        call: fn(BrokerHandle, Q) -> BoxFuture<'static, Result<R>>,
    ) -> BoxFuture<'static, Result<R>>
    where
        Q: Send + 'static,
        R: Send + 'static,
    {
        let (fate, entrance) = (self.fate(may_be_late), Arc::clone(&self.entrance));
        let (reply, answer) = oneshot::channel();
        let arrive = {
            let way = Arc::clone(&self.way);
            move |held: bool| async move {
                if held {
                    drop(way.lock().await);
                }
                let Some((handle, mut life)) = entrance.current() else {
                    // who asked may have left
                    let _ = reply.send(Err(away()));
                    return;
                };
                let answer = tokio::select! {
                    biased;
                    _ = life.changed() => Err(away()),
                    answer = call(handle, request) => answer,
                };
                let _ = reply.send(answer);
            }
        };
        match fate {
            Fate::Lost => drop(arrive),
            Fate::Late(after) => {
                tokio::spawn(async move {
                    tokio::time::sleep(after).await;
                    arrive(false).await;
                });
                return async move { Err(Error::new(ErrorCode::TimedOut, "simulated silence")) }.boxed();
            }
            Fate::Arrives { answer_after, answer_lost } => {
                tokio::spawn(arrive(true));
                return async move {
                    let answer = answer.await;
                    tokio::time::sleep(answer_after).await;
                    match answer {
                        Ok(answer) if !answer_lost => answer,
                        _ => Err(away()),
                    }
                }
                .boxed();
            }
        }
        async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Err(away())
        }
        .boxed()
    }
}

impl Way for Door {
    fn stand_still(&self, time: Duration) {
        let way = Arc::clone(&self.way);
        tokio::spawn(async move {
            let _held = way.lock().await;
            tokio::time::sleep(time).await;
        });
    }
}

fn away() -> Error {
    Error::new(ErrorCode::Unavailable, "simulated loss")
}

impl Transport for Door {
    fn produce(&self, request: v1::ProduceRequest) -> BoxFuture<'static, Result<v1::ProduceResponse>> {
        self.send(request, true, |handle, request| handle.produce(request))
    }

    fn fetch(&self, request: v1::FetchRequest) -> BoxFuture<'static, Result<v1::FetchResponse>> {
        self.pass(request, |handle, request| handle.fetch(request))
    }

    sunseo_client::each_request!(pass_on);
}
