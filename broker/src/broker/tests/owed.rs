//! A partition that fails with a transaction open in it: what the others, the producer and the next start make of it.

use std::time::Duration;

use sunseo_log::faulty::Faults;
use sunseo_proto::error::ErrorCode;

use super::support::*;
use super::transactions::{Producer, read_committed, started};

#[tokio::test]
async fn a_partition_that_failed_gets_the_end_of_its_transaction_after_the_restart() {
    let (world, broker, handle) = started(71).await;
    let mut producer = Producer::init(&handle, "bills").await;
    producer.send(&handle, 0, &["a"]).await.unwrap();
    producer.send(&handle, 1, &["b"]).await.unwrap();
    let id = broker.node.metadata.image().topic("orders").unwrap().partition(1).unwrap();
    // the disk of the tests is told parts of paths that live as long as it
    let fail_write_to = Some(&*id.to_string().leak());
    world.disk.set_faults(Faults { fail_write_to, ..Faults::default() });
    let stopped = produce(&handle, "orders", 1, batch_of(["plain"])).await;
    assert_eq!(code(&stopped.error), Some(ErrorCode::PartitionFailed));
    world.disk.set_faults(Faults::default());

    let told = producer.end(&handle, true).await.unwrap_err();
    assert_eq!(told.code, ErrorCode::PartitionFailed);
    assert!(told.message.contains("committed for good") && told.message.contains(&id.to_string()), "{told}");
    let again = producer.end(&handle, true).await.unwrap_err();
    assert_eq!(again, told, "asked again it is the same");
    assert_eq!(read_committed(&handle, 0).await, ["a"], "nobody waits for the partition that failed");

    let mut producer = Producer::init(&handle, "bills").await;
    producer.send(&handle, 0, &["c"]).await.unwrap();
    producer.end(&handle, true).await.unwrap();
    assert_eq!(read_committed(&handle, 0).await, ["a", "c"], "the producer goes on elsewhere");

    drop(broker);
    world.disk.power_cut();
    let broker = world.start().await;
    let handle = broker.handle();
    let marked = async {
        while !read_committed(&handle, 1).await.contains(&"b".to_owned()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), marked).await.expect("it is paid what it is owed");
    let mut producer = Producer::init(&handle, "bills").await;
    producer.send(&handle, 1, &["d"]).await.unwrap();
    producer.end(&handle, true).await.unwrap();
    assert_eq!(read_committed(&handle, 1).await.last().map(String::as_str), Some("d"));
}

#[tokio::test]
async fn an_end_that_could_not_be_stored_is_no_end_and_may_be_asked_for_again() {
    let (world, broker, handle) = started(72).await;
    let mut producer = Producer::init(&handle, "bills").await;
    producer.send(&handle, 0, &["a"]).await.unwrap();
    world.disk.set_faults(Faults { fail_sync_of: Some("journal"), ..Faults::default() });
    for _ in 0..2 {
        // not PARTITION_FAILED, which would say that it is committed for good
        let told = producer.end(&handle, true).await.unwrap_err();
        assert!(told.retryable(), "{told}");
    }
    world.disk.set_faults(Faults::default());
    drop(broker);
    world.disk.power_cut();
    let broker = world.start().await;
    let handle = broker.handle();
    producer.end(&handle, true).await.unwrap();
    assert_eq!(read_committed(&handle, 0).await, ["a"]);
}
