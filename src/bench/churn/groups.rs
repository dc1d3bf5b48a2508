//! Members join, leave and crash, one after another, while records come at a fixed rate. After each event three things are measured: the
//! time until every partition has one owner again and the shares are fair, how many partitions changed hands, and the longest delay of a
//! record that was due meanwhile (from the time it should have been sent: open loop).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use sunseo_client::{Client, ConsumerConfig};
use sunseo_proto::clock::{Clock as _, SystemClock};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::member::{Board, Member};
use super::seen::Seen;
use crate::bench::histogram::Histogram;
use crate::bench::load::Load;
use crate::bench::produce::{durable_records, micros};
use crate::bench::target::Target;
use crate::bench::{Common, Report};
use crate::cli::failure::{Failure, Outcome};

/// How often the board is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// Longest wait for a stable assignment, beside the session time-out.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the producer looks what is due.
const TICK: Duration = Duration::from_millis(1);

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub common: Common,
    /// Members of the group at the start
    #[arg(long, default_value_t = 4, value_name = "N")]
    members: usize,
    /// Records a second
    #[arg(long, default_value_t = 2_000.0, value_name = "RECORDS")]
    rate: f64,
    /// Session time-out of the members: a crash shows only after it
    #[arg(long, default_value_t = 6_000, value_name = "MS")]
    session_timeout_ms: u64,
}

/// What can happen to a group; the number of members is the same after a round of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Join,
    Leave,
    Crash,
    /// Back to the number before the crash.
    Rejoin,
}

const ROUND: [Event; 4] = [Event::Join, Event::Leave, Event::Crash, Event::Rejoin];

/// What was measured about one kind of event.
#[derive(Debug, Default)]
struct Found {
    stable: Histogram,
    delay: Histogram,
    moved: u64,
}

struct Group<'a> {
    target: &'a Target,
    arguments: &'a Arguments,
    topic: &'a str,
    name: String,
    start: Instant,
    board: Arc<Board>,
    seen: Arc<Seen>,
    members: Vec<Member>,
    started: usize,
}

pub async fn run(arguments: &Arguments, target: &Target, report: &mut Report) -> Outcome {
    if arguments.members < 2 || !(arguments.rate.is_finite() && arguments.rate >= 1.0) {
        return Err(Failure::usage("--members and --rate: use at least 2 members and 1 record a second"));
    }
    let common = &arguments.common;
    let admin = Client::connect(target.address.clone()).await?;
    let topic = target.topic(&admin, common, "churn").await?;
    let mut group = Group {
        target,
        arguments,
        topic: &topic,
        name: topic.clone(),
        start: Instant::now(),
        board: Arc::default(),
        seen: Arc::new(Seen::new(common.partitions)),
        members: Vec::new(),
        started: 0,
    };
    let outcome = Box::pin(measure(&mut group, &admin, report)).await;
    for member in group.members.drain(..) {
        // an end in order even after a failure, which is what is reported then
        let _ = member.leave().await;
    }
    let name = group.name;
    // a group whose members are all gone may be gone too
    let _ = admin.admin().delete_group(&name).await;
    target.drop_topic(&admin, common, &topic).await?;
    outcome
}

async fn measure(group: &mut Group<'_>, admin: &Client, report: &mut Report) -> Outcome {
    let (arguments, common) = (group.arguments, &group.arguments.common);
    report.durability(admin, group.topic).await?;
    report.fact("members", arguments.members);
    report.fact("rate_records_per_s", arguments.rate);
    report.fact("session_timeout_ms", arguments.session_timeout_ms);
    let (stop, acknowledged) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
    let producing = produce(group, admin.clone(), stop.clone(), Arc::clone(&acknowledged))?;
    let begun = Instant::now();
    for _ in 0..arguments.members {
        group.join().await?;
    }
    group.settle().await?;
    report.figure("formation_ms", begun.elapsed().as_secs_f64() * 1e3);
    tokio::time::sleep(Duration::from_secs(common.warm_up)).await;
    let end = Instant::now() + Duration::from_secs(common.duration);
    let mut found: [Found; 4] = std::array::from_fn(|_| Found::default());
    let mut events = 0;
    // whole rounds, at least one
    while events == 0 || Instant::now() < end {
        for (event, found) in ROUND.into_iter().zip(&mut found) {
            group.target.live.set_message(format!("{events} events, now: {}", event.name()));
            group.event(event, &acknowledged, found).await?;
            events += 1;
        }
    }
    stop.cancel();
    let sent = producing.await.map_err(|error| Failure::new(format!("the producer ended: {error}")))??;
    group.caught_up(sent).await?;
    report.figure("events", f64::from(events));
    for (event, found) in ROUND.into_iter().zip(&found) {
        found.say(event.name(), report);
    }
    report.figure("records", sent as f64);
    report.figure("redelivered_records", group.seen.repeated() as f64);
    if durable_records(admin, group.topic).await? != sent {
        return Err(Failure::new(format!("{sent} records were acknowledged, the topic has another number")));
    }
    Ok(())
}

impl Event {
    fn name(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Crash => "crash",
            Self::Rejoin => "rejoin",
        }
    }
}

impl Found {
    fn say(&self, event: &str, report: &mut Report) {
        let ms = |micros: u64| micros as f64 / 1e3;
        report.figure(&format!("{event}_stable_p50_ms"), ms(self.stable.quantile(0.5)));
        report.figure(&format!("{event}_stable_max_ms"), ms(self.stable.max()));
        report.figure(&format!("{event}_gap_max_ms"), ms(self.delay.max()));
        let moved = self.moved as f64 / self.stable.count().max(1) as f64;
        report.figure(&format!("{event}_moved_partitions"), moved);
    }
}

impl Group<'_> {
    async fn join(&mut self) -> Outcome {
        let client = Client::connect(self.target.address.clone()).await?;
        let mut config = ConsumerConfig::group(self.name.clone(), [self.topic]);
        config.session_timeout = Duration::from_millis(self.arguments.session_timeout_ms);
        let shared = (Arc::clone(&self.board), Arc::clone(&self.seen));
        self.members.push(Member::start(self.started, (client, config), shared, self.start));
        self.started += 1;
        Ok(())
    }

    /// The member that has been there longest.
    fn oldest(&mut self) -> Outcome<Member> {
        if self.members.is_empty() {
            return Err(Failure::new("the group has no member"));
        }
        Ok(self.members.remove(0))
    }

    /// Waits for a stable assignment: the owner of each partition.
    async fn settle(&mut self) -> Outcome<Vec<usize>> {
        let patience = PATIENCE + Duration::from_millis(self.arguments.session_timeout_ms);
        let deadline = Instant::now() + patience;
        loop {
            if let Some(owners) = self.board.stable(self.arguments.common.partitions) {
                return Ok(owners);
            }
            if let Some(at) = self.members.iter().position(Member::has_ended) {
                self.members.remove(at).leave().await?;
                return Err(Failure::new("a member ended by itself"));
            }
            if Instant::now() > deadline {
                let seconds = patience.as_secs();
                return Err(Failure::new(format!("the assignment was not stable within {seconds} s")));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the members have had so many records.
    async fn caught_up(&self, records: u64) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        while self.seen.distinct() < records {
            if Instant::now() > deadline {
                let (seen, seconds) = (self.seen.distinct(), PATIENCE.as_secs());
                return Err(Failure::new(format!(
                    "{records} records were acknowledged, the members have had {seen} of them {seconds} s later"
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    async fn event(&mut self, event: Event, acknowledged: &AtomicU64, found: &mut Found) -> Outcome {
        let before = self.settle().await?;
        self.caught_up(acknowledged.load(Ordering::Relaxed)).await?;
        self.seen.take_latest();
        let begun = Instant::now();
        match event {
            Event::Join | Event::Rejoin => self.join().await?,
            Event::Leave => self.oldest()?.leave().await?,
            Event::Crash => self.oldest()?.crash().await?,
        }
        let after = self.settle().await?;
        found.stable.record(micros(begun.elapsed()));
        // what was due until now must have come before the delays are read
        self.caught_up(acknowledged.load(Ordering::Relaxed)).await?;
        found.delay.record(micros(self.seen.take_latest()));
        found.moved += before.iter().zip(&after).filter(|(before, after)| before != after).count() as u64;
        Ok(())
    }
}

type Producing = AbortOnDropHandle<Outcome<u64>>;

/// Sends to all partitions in turn at the fixed rate until it is stopped; how many were acknowledged.
fn produce(
    group: &Group<'_>,
    client: Client,
    stop: CancellationToken,
    acknowledged: Arc<AtomicU64>,
) -> Outcome<Producing> {
    let common: &Common = &group.arguments.common;
    let producer = client.producer(common.producer())?;
    let mut load = Load::new(1, common.record_bytes, common.key_bytes);
    let interval = Duration::from_secs_f64(1.0 / group.arguments.rate);
    let (topic, partitions, start) = (group.topic.to_owned(), common.partitions, group.start);
    let task = async move {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        // the first record is due now
        let (first, mut number) = (start.elapsed(), 0_u32);
        while !stop.is_cancelled() {
            ticks.tick().await;
            let mut due = first + interval * number;
            while due <= start.elapsed() {
                let record = load.stamped(micros(due), SystemClock.now_ms());
                let partition = (number % partitions.unsigned_abs()) as i32;
                let ack = producer.send_to(&topic, Some(partition), record).await?;
                let acknowledged = Arc::clone(&acknowledged);
                tokio::spawn(async move {
                    if ack.await.is_ok() {
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                });
                number += 1;
                due = first + interval * number;
            }
        }
        producer.close().await?;
        Ok(u64::from(number))
    };
    Ok(AbortOnDropHandle::new(tokio::spawn(task)))
}
