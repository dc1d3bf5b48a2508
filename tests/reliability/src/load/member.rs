//! A member of a group: polls, commits, stands still, leaves, dies, comes back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::RngExt as _;
use rand::rngs::StdRng;
use sunseo_client::{
    AssignedPartition, Client, ConsumedRecord, Consumer, ConsumerConfig, OutOfRangePolicy, RebalanceListener,
};

use super::{KEPT, PLAIN, Shared, Stress, Topic, Way, number, pause, reads};
use crate::history::{Act, Isolation, Moment, Outcome, Owning, Place};

/// The one group of a run.
pub(crate) const GROUP: &str = "kitchen";
pub(crate) const GROUP_NUMBER: u32 = 1;

/// A partition that the member believes to own.
struct Holding {
    owning: Owning,
    /// How often it had begun by then.
    begun: u64,
}

/// How often each partition began: one that is lost may be back before anybody looks.
#[derive(Debug, Default)]
struct Begun(Mutex<BTreeMap<Place, u64>>);

impl Begun {
    fn of(&self, place: Place) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&place).copied().unwrap_or(0)
    }
}

#[async_trait]
impl RebalanceListener for Begun {
    async fn assigned(&self, _: &Consumer, partitions: &[AssignedPartition]) {
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (topic, partition) in partitions {
            *begun.entry(Place { topic: number(topic), partition: *partition }).or_default() += 1;
        }
    }
}

struct Member<'a> {
    shared: &'a Shared,
    consumer: Consumer,
    begun: Arc<Begun>,
    process: u32,
    owned: BTreeMap<Place, Holding>,
    /// The end of the last poll: what was not owned then was not owned before.
    seen: Moment,
    automatic: bool,
}

/// Takes part until the run stops and nothing is left to read.
pub(super) async fn run(
    shared: Arc<Shared>,
    client: Client,
    way: Arc<dyn Way>,
    mut rng: StdRng,
    stress: Stress,
) {
    let calm = if stress == Stress::Members { 60 } else { 300 };
    let mut quiet = 0;
    while quiet < 30 {
        let process = shared.recorder.process();
        let mut config = ConsumerConfig::group(GROUP, [PLAIN.name, KEPT.name]);
        let automatic = rng.random_range(0..4) == 0;
        config.auto_commit = automatic.then_some(Duration::from_secs(1));
        config.session_timeout = Duration::from_secs([3, 6, 10][rng.random_range(0..3)]);
        config.max_poll_interval = Duration::from_secs(8);
        config.max_poll_records = [5, 100][rng.random_range(0..2)];
        config.on_out_of_range = OutOfRangePolicy::Start;
        let Ok(mut consumer) = client.consumer(config).await else {
            pause(&mut rng, 50..500).await;
            continue;
        };
        shared.recorder.at_once(process, Act::Subscribe { group: GROUP_NUMBER });
        let seen = shared.recorder.now();
        let (owned, begun) = (BTreeMap::new(), Arc::<Begun>::default());
        consumer.set_listener(begun.clone());
        let mut member = Member { shared: &shared, consumer, begun, process, owned, seen, automatic };
        for _ in 0..rng.random_range(50..600) {
            let found = member.poll().await;
            quiet = match (found, shared.stopped()) {
                (Some(0), true) => quiet + 1,
                _ => 0,
            };
            if found.is_none() || quiet >= 30 {
                break;
            }
            if rng.random_range(0..3) == 0 || shared.stopped() {
                member.commit().await;
            }
            if !shared.stopped() {
                trouble(&*way, &mut rng, calm).await;
            }
            pause(&mut rng, 0..50).await;
        }
        member.leave(rng.random_range(0..3) > 0 || quiet >= 30).await;
    }
}

/// Now and then, twice in so many times, the member does not poll, or its way to the node stands still.
async fn trouble(way: &dyn Way, rng: &mut StdRng, calm: u32) {
    match rng.random_range(0..calm) {
        0 => pause(rng, 500..15_000).await,
        1 => way.stand_still(Duration::from_millis(rng.random_range(500..15_000))),
        _ => {}
    }
}

fn topic(place: Place) -> Topic {
    if place.topic == PLAIN.number { PLAIN } else { KEPT }
}

impl Member<'_> {
    /// Records that came; `None` when the group refuses the member.
    async fn poll(&mut self) -> Option<usize> {
        let start = self.shared.recorder.now();
        let records = self.consumer.poll(Duration::from_millis(100)).await.ok()?;
        self.follow_assignment(&records);
        let count = records.len();
        if count > 0 {
            let records = reads(&records, number);
            let act = Act::Poll { isolation: Isolation::Committed, group: Some(GROUP_NUMBER), records };
            self.shared.recorder.done(self.process, start, act);
        }
        self.seen = self.shared.recorder.now();
        Some(count)
    }

    fn follow_assignment(&mut self, records: &[ConsumedRecord]) {
        let assigned: BTreeMap<Place, u64> = self
            .consumer
            .assignment()
            .iter()
            .map(|(topic, partition)| {
                let place = Place { topic: number(topic), partition: *partition };
                (place, self.begun.of(place))
            })
            .collect();
        let (shared, process, seen) = (self.shared, self.process, self.seen);
        self.owned.retain(|place, Holding { owning, begun }| {
            let stays = assigned.get(place) == Some(begun);
            if !stays {
                shared.recorder.done(process, seen, Act::Release { owning: *owning });
            }
            stays
        });
        for (place, begun) in assigned {
            if self.owned.contains_key(&place) {
                continue;
            }
            let of = |consumed: &&ConsumedRecord| {
                number(&consumed.topic) == place.topic && consumed.partition == place.partition
            };
            let first = records.iter().find(of).map(|consumed| consumed.record.offset);
            let position = self.consumer.position(topic(place).name, place.partition);
            let Some(offset) = first.or(position) else { continue };
            let owning = Owning { group: GROUP_NUMBER, place, period: shared.recorder.period() };
            self.owned.insert(place, Holding { owning, begun });
            shared.recorder.done(process, seen, Act::Acquire { owning, offset });
        }
    }

    async fn commit(&mut self) {
        if self.automatic {
            return;
        }
        let position = |place: &Place| self.consumer.position(topic(*place).name, place.partition);
        let held = self.owned.iter();
        let offsets: Vec<(Owning, i64)> =
            held.filter_map(|(place, held)| Some((held.owning, position(place)?))).collect();
        if offsets.is_empty() {
            return;
        }
        let start = self.shared.recorder.now();
        let outcome = match self.consumer.commit().await {
            Ok(()) => Outcome::Done,
            // an earlier attempt of the same call may have gone through
            Err(_) => Outcome::Unknown,
        };
        for (owning, offset) in offsets {
            self.shared.recorder.done(self.process, start, Act::Commit { owning, offset, outcome });
        }
    }

    async fn leave(self, politely: bool) {
        if politely {
            // a commit that is refused is the next owner's business
            let _ = self.consumer.close().await;
        }
        self.shared.recorder.at_once(self.process, Act::Crash);
    }
}
