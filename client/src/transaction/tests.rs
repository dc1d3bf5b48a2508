//! What a transactional producer says of its transactions, over the broker in memory.

use sunseo_proto::{Error, ErrorCode, Record};

use super::{GroupMetadata, TransactionalConfig, TransactionalProducer};
use crate::testing::{Faults, MemoryTransport};

async fn producer() -> (MemoryTransport, TransactionalProducer) {
    let fake = MemoryTransport::new(1, Faults::default()).with_topics(&[("bills", 1)]);
    let producer = fake.client().transactional("bills-1", TransactionalConfig::default()).await;
    (fake, producer.expect("an identity"))
}

async fn begin(producer: &mut TransactionalProducer) {
    producer.begin().expect("none is open");
    drop(producer.send("bills", Record::new("k", "v", 1)).await.expect("queued"));
}

fn code<T>(result: Result<T, Error>) -> Result<(), ErrorCode> {
    result.map(drop).map_err(|error| error.code)
}

#[tokio::test(start_paused = true)]
async fn who_aborts_what_was_committed_hears_of_it() {
    let (fake, mut producer) = producer().await;
    begin(&mut producer).await;
    // committed for good, and a partition does not show it
    fake.broker().ends.push_back(Error::new(ErrorCode::PartitionFailed, "scripted"));
    assert_eq!(code(producer.commit().await), Err(ErrorCode::PartitionFailed));
    assert!(!producer.is_open());
    assert_eq!(code(producer.abort().await), Err(ErrorCode::TransactionState));

    begin(&mut producer).await;
    // a commit whose answer was lost came first
    fake.broker().ends.push_back(Error::new(ErrorCode::TransactionState, "scripted"));
    for _ in 0..2 {
        assert_eq!(code(producer.abort().await), Err(ErrorCode::TransactionState), "as often as it is asked");
    }
    begin(&mut producer).await;
    assert_eq!(code(producer.commit().await), Ok(()));
    assert_eq!(code(producer.abort().await), Ok(()), "nothing is open");
}

#[tokio::test(start_paused = true)]
async fn who_aborts_what_was_aborted_has_nothing_to_do() {
    let (fake, mut producer) = producer().await;
    for told in [ErrorCode::PartitionFailed, ErrorCode::TransactionState] {
        begin(&mut producer).await;
        fake.broker().ends.push_back(Error::new(told, "scripted"));
        let ended = match told {
            ErrorCode::PartitionFailed => producer.abort().await,
            // an abort whose answer was lost came first
            _ => producer.commit().await,
        };
        assert_eq!(code(ended), Err(told));
        assert_eq!(code(producer.abort().await), Ok(()), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_without_the_offsets_of_its_input_is_not_committed() {
    let (_, mut producer) = producer().await;
    begin(&mut producer).await;
    let member = GroupMetadata { group: "g".to_owned(), member_id: "m".to_owned(), member_epoch: 1 };
    assert_eq!(code(producer.send_offsets(&member, &[]).await), Err(ErrorCode::InvalidArgument));
    assert_eq!(code(producer.commit().await), Err(ErrorCode::InvalidArgument));
    assert_eq!(code(producer.abort().await), Ok(()));
    begin(&mut producer).await;
    assert_eq!(code(producer.commit().await), Ok(()), "the next one is not concerned");
}
