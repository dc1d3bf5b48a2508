//! Task log, forwarder and inputs over a broker in memory.

use std::sync::Arc;
use std::time::Duration;

use sunseo_client::Client;
use sunseo_client::positioned::PositionedConfig;
use sunseo_client::testing::MemoryTransport;
use sunseo_proto::{ErrorCode, Record};

use super::commit::{Commit, CommitHead, Output};
use super::entry::{Assembler, Entry};
use super::forward::{Forwarder, Outputs};
use super::input::{Input, Inputs};
use super::log::{self, LogPlace, TaskLog};
use crate::task::SourceIndex;
use crate::testing;

fn client(transport: &MemoryTransport) -> Client {
    transport.client()
}

fn place() -> LogPlace {
    LogPlace { topic: "log".into(), partition: 0 }
}

async fn begin(client: &Client) -> TaskLog {
    let producer =
        super::retry::again(|| client.positioned("engine/day/0/orders/0")).await.expect("an epoch");
    TaskLog::begin(client, producer, place()).await.expect("begins").with_piece_bytes(40)
}

fn commit(number: i64, outputs: usize) -> Commit {
    let head = CommitHead {
        number,
        inputs: Vec::new(),
        meta: Vec::new().into(),
        stream_time_ms: 0,
        processed: 0,
        dead_letters: 0,
        first_output: number * 10,
        forwarded: 0,
    };
    let outputs = (0..outputs as i64).map(|n| output(number * 10 + n)).collect();
    Commit { head, deltas: Vec::new(), outputs }
}

fn output(number: i64) -> Output {
    let record = Record::new(format!("key-{number}"), number.to_string(), number);
    Output { topic: "out".into(), partition: (number % 3) as i32, record }
}

async fn found(client: &Client, end: i64) -> Vec<i64> {
    let (mut assembler, mut numbers) = (Assembler::default(), Vec::new());
    let each = |offset, entry: Entry| {
        if let Some(found) = assembler.take(offset, entry)? {
            assert_eq!(found.commit.outputs.len() as i64, found.commit.head.number % 4, "whole commits only");
            numbers.push(found.commit.head.number);
        }
        Ok(())
    };
    log::read(client, &place(), (0, end), each).await.expect("reads");
    numbers
}

/// Incarnations that each append some commits and stop anywhere in the next one; requests get lost, repeated, late.
#[tokio::test]
async fn a_task_log_holds_every_durable_commit_once_and_in_order_whatever_gets_lost() {
    for seed in 0..6 {
        let transport = testing::broker(seed, &[("log", 1)]);
        transport.broker().faults = testing::faults();
        let client = client(&transport);
        let mut durable = 0;
        for incarnation in 0..4 {
            let mut log = begin(&client).await;
            let known = found(&client, log.end()).await;
            let next = known.last().map_or(0, |last| last + 1);
            assert!(next >= durable, "seed {seed}: commit {durable} was durable and is gone");
            assert_eq!(known, (0..next).collect::<Vec<_>>(), "seed {seed}");
            for number in next..next + 3 {
                let (span, append) =
                    log.append(number, commit(number, number as usize % 4).encode()).expect("small");
                append.await.expect("durable");
                durable = number + 1;
                assert_eq!(span.next_offset, log.end(), "seed {seed}");
            }
            let end = transport.len("log") as i64;
            assert_eq!(end, log.end(), "seed {seed} incarnation {incarnation}: offsets are counted right");
            // the crash: an append that may land in part, or late
            let (_, append) =
                log.append(durable, commit(durable, durable as usize % 4).encode()).expect("small");
            let _ = tokio::time::timeout(Duration::from_millis(seed % 3), append).await;
        }
    }
}

#[tokio::test]
async fn an_earlier_incarnation_is_fenced_by_the_first_record_of_a_later_one() {
    let transport = testing::broker(1, &[("log", 1)]);
    let client = client(&transport);
    let mut old = begin(&client).await;
    let _new = begin(&client).await;
    let before = transport.len("log");
    let (_, append) = old.append(0, commit(0, 3).encode()).expect("small");
    assert_eq!(append.await.map_err(|error| error.code), Err(ErrorCode::ProducerFenced));
    assert_eq!(transport.len("log"), before);
}

#[tokio::test]
async fn outputs_land_once_and_in_order_however_often_they_are_forwarded() {
    for seed in 0..6 {
        let transport = testing::broker(seed, &[("out", 3)]);
        transport.broker().faults = testing::faults();
        let client = client(&transport);
        let mut known = 0;
        for incarnation in 0..6 {
            // from what is known to be forwarded, or from before
            let from = (known / 10 - incarnation % 2).max(0);
            let open = || client.positioned_with("task", PositionedConfig::default());
            let mut forwarder =
                Forwarder::start(super::retry::again(open).await.expect("an epoch"), from * 10);
            let to = if incarnation == 5 { 12 } else { from + 5 };
            for n in from..to.min(12) {
                let outputs = (n * 10..n * 10 + 10).map(output).collect();
                forwarder.send(Outputs { first: n * 10, outputs }).await.expect("runs");
                tokio::time::sleep(Duration::from_millis(seed % 3)).await;
            }
            known = known.max(forwarder.forwarded());
            if incarnation == 5 {
                forwarder.drain().await.expect("forwards");
            }
            // otherwise dropped where it is: a crash
        }
        for (partition, records) in transport.records("out").iter().enumerate() {
            let numbers: Vec<i64> = records.iter().map(|record| record.timestamp_ms).collect();
            let expected: Vec<i64> = (0..120).filter(|n| n % 3 == partition as i64).collect();
            assert_eq!(numbers, expected, "seed {seed} partition {partition}");
        }
    }
}

#[tokio::test]
async fn inputs_come_in_the_order_of_time_and_the_positions_of_batches_do_not_show() {
    let transport = testing::broker(1, &[("a", 1), ("b", 1)]);
    for n in 0..50_i64 {
        transport.put("a", &Record::new("k", "a", n * 3));
        transport.put("b", &Record::new("k", "b", n * 2));
    }
    let input = |source, topic: &str| Input::new(SourceIndex(source), topic.to_owned(), 0, 0);
    let shared = Arc::new(transport.clone());
    let mut inputs = Inputs::new(shared, vec![input(0, "a"), input(1, "b")], 4096, Duration::from_secs(1));
    let mut taken = Vec::new();
    while taken.len() < 100 {
        if !inputs.is_ready() {
            inputs.fetch().await.expect("fetches");
        }
        inputs.take(7, &mut taken);
    }
    let last = taken[90..].to_vec();
    inputs.put_back(taken.drain(90..).rev());
    assert!(!inputs.is_caught_up());
    assert_eq!(inputs.offsets().iter().map(|input| input.next_offset).sum::<i64>(), 90);
    inputs.take(50, &mut taken);
    assert_eq!(taken[90..], last, "what was put back comes again");
    let times: Vec<_> = taken.iter().map(|record| record.timestamp_ms).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert!(inputs.is_caught_up());
    transport.broker().faults.lose_answer = 100;
    inputs.fetch().await.expect("is tried again");
    assert!(!inputs.is_caught_up(), "nobody knows what has come meanwhile");
    assert_eq!(inputs.offsets().iter().map(|input| input.next_offset).collect::<Vec<_>>(), [50, 50]);
}
