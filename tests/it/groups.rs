//! Groups over the network while records come in: a rolling restart of static members, streams across a rebalance, a member that stalls.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use sunseo_client::{Client, Consumer, ConsumerConfig, ErrorCode, NewTopic, ProducerConfig, Record};
use tokio::task::JoinHandle;

use crate::harness::{Node, PATIENCE};

const KEYS: u32 = 24;
const PARTITIONS: i32 = 6;

/// Writes numbers under every key, in order, until it is told to stop, and returns how many under each.
fn load(client: &Client, stop: &Arc<AtomicBool>) -> JoinHandle<u32> {
    let (client, stop) = (client.clone(), Arc::clone(stop));
    tokio::spawn(async move {
        let producer = client.producer(ProducerConfig::default()).unwrap();
        let mut rounds = 0;
        while !stop.load(Ordering::Relaxed) {
            for key in 0..KEYS {
                let record = Record::new(format!("k{key}"), rounds.to_string(), 1);
                drop(producer.send("orders", record).await.unwrap());
            }
            rounds += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        producer.flush().await.unwrap();
        rounds
    })
}

/// Key, number and partition of a record.
type Seen = (String, u32, i32);

fn seen(record: &Record, partition: i32) -> Seen {
    let text = |bytes: &Option<bytes::Bytes>| String::from_utf8(bytes.clone().unwrap().to_vec()).unwrap();
    (text(&record.key), text(&record.value).parse().unwrap(), partition)
}

/// Of each key every number once, in order.
fn check(all: &[Seen], rounds: u32) {
    let mut by_key: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    all.iter().for_each(|(key, number, _)| by_key.entry(key).or_default().push(*number));
    assert_eq!(by_key.len(), KEYS as usize);
    let expected: Vec<u32> = (0..rounds).collect();
    for (key, numbers) in by_key {
        assert_eq!(numbers, expected, "{key}");
    }
}

/// Polls once, and commits what came.
async fn step(consumer: &mut Consumer, all: &mut Vec<Seen>) {
    let records = consumer.poll(Duration::from_millis(200)).await.unwrap();
    all.extend(records.iter().map(|consumed| seen(&consumed.record, consumed.partition)));
    if !records.is_empty() {
        consumer.commit().await.unwrap();
    }
}

fn held(consumer: &Consumer) -> Vec<i32> {
    let mut partitions: Vec<i32> =
        consumer.assignment().into_iter().map(|(_, partition)| partition).collect();
    partitions.sort_unstable();
    partitions
}

/// A scenario that hangs fails.
async fn in_time(scenario: impl Future<Output = ()>) {
    tokio::time::timeout(PATIENCE * 4, scenario).await.expect("it comes to its end");
}

fn orders() -> ConsumerConfig {
    ConsumerConfig::group("kitchen", ["orders"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_static_members_moves_nothing() {
    in_time(Box::pin(restart_one_after_another())).await;
}

async fn restart_one_after_another() {
    let node = Node::start();
    let client = node.client().await;
    client.admin().create_topic(NewTopic::new("orders", PARTITIONS)).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let load = load(&client, &stop);
    let start = async |n: usize| {
        let config = orders().manual_commit().instance(format!("pod-{n}"));
        node.client().await.consumer(config).await.unwrap()
    };
    let (mut members, mut all) = (Vec::new(), Vec::new());
    for n in 0..3 {
        members.push(start(n).await);
    }
    let even = |members: &[Consumer]| members.iter().all(|member| held(member).len() == 2);
    while !even(&members) {
        for member in &mut members {
            step(member, &mut all).await;
        }
    }
    let before: Vec<Vec<i32>> = members.iter().map(held).collect();
    for n in 0..3 {
        members.remove(n).close().await.unwrap();
        for _ in 0..10 {
            for member in &mut members {
                step(member, &mut all).await;
            }
        }
        members.insert(n, start(n).await);
        while held(&members[n]).is_empty() {
            for member in &mut members {
                step(member, &mut all).await;
            }
        }
        assert_eq!(members.iter().map(held).collect::<Vec<_>>(), before, "after the restart of pod-{n}");
    }
    stop.store(true, Ordering::Relaxed);
    let rounds = load.await.unwrap();
    while all.len() < (rounds * KEYS) as usize {
        for member in &mut members {
            step(member, &mut all).await;
        }
    }
    check(&all, rounds);
    for (member, owned) in members.iter().zip(&before) {
        assert_eq!(held(member), *owned);
    }
    for (_, _, partition) in &all {
        assert_eq!(before.iter().filter(|owned| owned.contains(partition)).count(), 1);
    }
}

/// Reads a stream and counts until it is told to stop, and leaves the group.
fn read(
    client: &Client,
    all: &Arc<Mutex<Vec<Seen>>>,
    stop: &Arc<AtomicBool>,
    count: &Arc<AtomicUsize>,
) -> JoinHandle<()> {
    let (client, all) = (client.clone(), Arc::clone(all));
    let (stop, count) = (Arc::clone(stop), Arc::clone(count));
    tokio::spawn(async move {
        let consumer = client.consumer(orders()).await.unwrap();
        let mut stream = consumer.stream();
        while !stop.load(Ordering::Relaxed) {
            let Ok(item) = tokio::time::timeout(Duration::from_millis(100), stream.next()).await else {
                continue;
            };
            let consumed = item.unwrap().unwrap();
            all.lock().unwrap().push(seen(&consumed.record, consumed.partition));
            count.fetch_add(1, Ordering::Relaxed);
        }
        drop(stream);
        consumer.close().await.unwrap();
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_lose_nothing_when_a_member_comes_and_goes() {
    in_time(Box::pin(come_and_go())).await;
}

async fn come_and_go() {
    let node = Node::start();
    let client = node.client().await;
    client.admin().create_topic(NewTopic::new("orders", PARTITIONS)).await.unwrap();
    let switch = || Arc::new(AtomicBool::new(false));
    let (writing, staying, guest) = (switch(), switch(), switch());
    let all = Arc::new(Mutex::new(Vec::new()));
    let load = load(&client, &writing);
    let [by_host, by_guest] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
    let stays = read(&client, &all, &staying, &by_host);
    let seen_by = async |more: usize| {
        let goal = all.lock().unwrap().len() + more;
        let wait = async {
            while all.lock().unwrap().len() < goal {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("records come");
    };
    seen_by(500).await;
    let comes = read(&node.client().await, &all, &guest, &by_guest);
    while by_guest.load(Ordering::Relaxed) < 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    guest.store(true, Ordering::Relaxed);
    comes.await.unwrap();
    seen_by(2_000).await;
    writing.store(true, Ordering::Relaxed);
    let rounds = load.await.unwrap();
    let rest = (rounds * KEYS) as usize - all.lock().unwrap().len();
    seen_by(rest).await;
    staying.store(true, Ordering::Relaxed);
    stays.await.unwrap();
    check(&all.lock().unwrap(), rounds);
}

/// A process that stands still: its runtime has one thread, and that waits.
fn stalled(address: String, stands: &Sender<()>, go_on: &Receiver<()>) -> Vec<i32> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::connect(&address).await.unwrap();
        let mut config = orders().manual_commit();
        config.session_timeout = Duration::from_secs(2);
        let mut consumer = client.consumer(config).await.unwrap();
        while consumer.poll(Duration::from_millis(200)).await.unwrap().is_empty() {}
        stands.send(()).unwrap();
        go_on.recv().unwrap();
        let refused = consumer.commit().await.expect_err("what it read was read by another");
        // its session ended long ago: the node says so, or a heartbeat has said it before
        let fenced = matches!(refused.code, ErrorCode::UnknownMember | ErrorCode::FencedMember);
        assert!(fenced, "{refused}");
        // on a machine that is slow enough it may lose its place more than once
        while held(&consumer).is_empty() || consumer.commit().await.is_err() {
            consumer.poll(Duration::from_millis(200)).await.unwrap();
        }
        let owned = held(&consumer);
        consumer.close().await.unwrap();
        owned
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_stalls_is_fenced_at_its_next_commit_and_comes_back() {
    in_time(Box::pin(stall())).await;
}

async fn stall() {
    let node = Node::start();
    let client = node.client().await;
    client.admin().create_topic(NewTopic::new("orders", PARTITIONS)).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let load = load(&client, &stop);
    let ((stands, stood), (wake, woken)) = (mpsc::channel(), mpsc::channel());
    let address = node.address();
    let process = std::thread::spawn(move || stalled(address, &stands, &woken));
    tokio::task::block_in_place(|| stood.recv_timeout(PATIENCE)).expect("it has read");
    let (mut other, mut all) = (client.consumer(orders().manual_commit()).await.unwrap(), Vec::new());
    while held(&other).len() < PARTITIONS as usize {
        step(&mut other, &mut all).await;
    }
    step(&mut other, &mut all).await;
    wake.send(()).unwrap();
    while !process.is_finished() {
        step(&mut other, &mut all).await;
    }
    assert!(!process.join().unwrap().is_empty(), "it has partitions again");
    stop.store(true, Ordering::Relaxed);
    load.await.unwrap();
}
