//! Transactions over the network, with a node that is killed in their midst.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sunseo_client::{
    Client, Consumer, ConsumerConfig, ErrorCode, GroupMetadata, Isolation, NewTopic, Record, Remedy,
    StartFrom, TransactionalConfig, TransactionalProducer,
};

use crate::harness::Node;

async fn values(client: &Client, isolation: Isolation, count: usize) -> Vec<String> {
    let config = ConsumerConfig::topics(["out"]).isolation(isolation);
    let mut consumer = client.consumer(config).await.unwrap();
    let mut values = Vec::new();
    while values.len() < count {
        let records = consumer.poll(Duration::from_secs(20)).await.unwrap();
        assert!(!records.is_empty(), "{} of {count} records are there", values.len());
        values.extend(
            records.into_iter().map(|r| String::from_utf8(r.record.value.unwrap().to_vec()).unwrap()),
        );
    }
    let more = consumer.poll(Duration::from_millis(300)).await.unwrap();
    assert!(more.is_empty(), "{} more than {count}", more.len());
    values.sort();
    values
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_commits_aborts_and_is_fenced() {
    let node = Node::start();
    let client = node.client().await;
    client.admin().create_topic(NewTopic::new("out", 3)).await.unwrap();
    let mut producer = client.transactional("bills", TransactionalConfig::default()).await.unwrap();
    let send = async |producer: &TransactionalProducer, from: u32| {
        for n in from..from + 20 {
            drop(producer.send("out", Record::new(format!("k{n}"), format!("{n:03}"), 1)).await.unwrap());
        }
    };
    assert_eq!(
        producer.send("out", Record::new("k", "v", 1)).await.map(drop).unwrap_err().code,
        ErrorCode::TransactionState
    );
    for round in 0..3 {
        producer.begin().unwrap();
        send(&producer, round * 100).await;
        producer.commit().await.unwrap();
        producer.begin().unwrap();
        send(&producer, round * 100 + 50).await;
        producer.abort().await.unwrap();
    }
    let expected: Vec<String> =
        (0..3).flat_map(|round| (round * 100..round * 100 + 20).map(|n| format!("{n:03}"))).collect();
    assert_eq!(values(&client, Isolation::ReadCommitted, 60).await, expected);
    assert!(values(&client, Isolation::ReadUncommitted, 60).await.len() >= 60);
    let cli = node.run(&["consume", "out", "-f", "%v "]).ok();
    let mut printed: Vec<&str> = cli.text().split_whitespace().collect();
    printed.sort_unstable();
    assert_eq!(printed, expected);
    // open: readers wait, an operator ends it, its producer learns of it
    producer.begin().unwrap();
    producer.send("out", Record::new("k", "open", 1)).await.unwrap().await.unwrap();
    let listed = node.run(&["txn", "list", "--state", "ongoing", "--json"]).ok().json();
    assert_eq!(listed[0]["transactional_id"], "bills");
    let described = node.run(&["txn", "describe", "bills", "--json"]).ok().json();
    assert_eq!(described["partitions"][0]["topic"], "out");
    node.run(&["txn", "abort", "bills"]).ok();
    let error = producer.commit().await.unwrap_err();
    assert_eq!((error.code, Remedy::of(&error)), (ErrorCode::TransactionAborted, Remedy::Abort));
    producer.abort().await.unwrap();
    // a second instance takes over
    let mut second = client.transactional("bills", TransactionalConfig::default()).await.unwrap();
    producer.begin().unwrap();
    drop(producer.send("out", Record::new("k", "zombie", 1)).await.unwrap());
    let error = producer.commit().await.unwrap_err();
    assert_eq!(Remedy::of(&error), Remedy::Stop, "{error}");
    second.begin().unwrap();
    drop(second.send("out", Record::new("k", "900", 1)).await.unwrap());
    second.commit().await.unwrap();
    assert_eq!(values(&client, Isolation::ReadCommitted, 61).await[60], "900");
    // offsets of somebody who owns nothing: what goes with them is not committed either
    second.begin().unwrap();
    drop(second.send("out", Record::new("k", "901", 1)).await.unwrap());
    let nobody = GroupMetadata { group: "g".into(), member_id: "nobody".into(), member_epoch: 7 };
    let refused = second.send_offsets(&nobody, &[("out".into(), 0, 1)]).await.unwrap_err();
    assert_eq!(second.commit().await.unwrap_err().code, refused.code);
    second.abort().await.unwrap();
    assert_eq!(values(&client, Isolation::ReadCommitted, 61).await[60], "900");
}

/// Copies "in" to "out", each record once, until `total` are there; begins anew after every trouble.
async fn copy(node: &str, total: usize) {
    let client = Client::connect(node).await.unwrap();
    let config = || ConsumerConfig::group("copy", ["in"]).manual_commit().from(StartFrom::Start);
    let mut producer = client.transactional("copy-1", TransactionalConfig::default()).await.unwrap();
    let mut consumer: Consumer = client.consumer(config()).await.unwrap();
    let mut idle = 0;
    while idle < 8 {
        let records = match consumer.poll(Duration::from_millis(500)).await {
            Ok(records) => records,
            Err(error) => {
                println!("poll: {error}");
                Vec::new()
            }
        };
        let committed: i64 = match client.admin().committed("copy", Vec::new()).await {
            Ok(offsets) => offsets.iter().map(|o| o.offset).sum(),
            Err(_) => 0,
        };
        idle = if committed as usize >= total { 8 } else { 0 };
        if records.is_empty() {
            continue;
        }
        let Some(member) = consumer.group_metadata() else { continue };
        let offsets = consumer.positions();
        let work = async {
            producer.begin()?;
            for consumed in &records {
                let record = Record { headers: Vec::new(), ..consumed.record.clone() };
                drop(producer.send("out", record).await?);
            }
            producer.send_offsets(&member, &offsets).await?;
            producer.commit().await
        };
        if let Err(error) = work.await {
            assert_ne!(Remedy::of(&error), Remedy::Stop, "{error}");
            println!("aborting: {error}");
            match producer.abort().await {
                // committed after all
                Err(error) if error.code == ErrorCode::TransactionState => {}
                ended => ended.unwrap(),
            }
            // read again what was not done
            let _ = consumer.close().await;
            consumer = client.consumer(config()).await.unwrap();
        }
    }
    consumer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consume_transform_produce_is_done_once_over_kills() {
    let seed = 20_261_125;
    let mut random = StdRng::seed_from_u64(seed);
    let mut node = Node::start();
    let client = node.client().await;
    client.admin().create_topic(NewTopic::new("in", 2)).await.unwrap();
    client.admin().create_topic(NewTopic::new("out", 3)).await.unwrap();
    let total = 3_000;
    let address = node.address();
    let copying = tokio::spawn(async move { copy(&address, total).await });
    let sender = client.producer(sunseo_client::ProducerConfig::default()).unwrap();
    let mut sent: BTreeMap<String, usize> = BTreeMap::new();
    for n in 0..total {
        let value = format!("{n:05}");
        sent.insert(value.clone(), 1);
        drop(sender.send("in", Record::new(format!("k{}", n % 50), value, 1)).await.unwrap());
        if n % 700 == 699 {
            sender.flush().await.unwrap();
            tokio::time::sleep(Duration::from_millis(random.random_range(50..400))).await;
            tokio::task::block_in_place(|| {
                node.kill();
                node.restart();
            });
        }
    }
    sender.close().await.unwrap();
    copying.await.unwrap();
    let found = values(&node.client().await, Isolation::ReadCommitted, total).await;
    let mut counted: BTreeMap<String, usize> = BTreeMap::new();
    found.into_iter().for_each(|value| *counted.entry(value).or_default() += 1);
    assert_eq!(counted, sent, "seed {seed}");
}
