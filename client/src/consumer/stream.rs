//! Records, and batches of records of one partition, as streams.
//!
//! A stream hands out one item and, when the next one is asked for, counts it as processed: automatic commits write no more than that, and
//! a revoked partition is let go then. What was fetched for the stream and not handed out stays with the consumer when the stream is dropped.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::{BoxStream, unfold};
use sunseo_proto::Record;
use sunseo_proto::error::Result;

use super::{ConsumedRecord, Consumer};

/// Records of one partition, in order and without gaps other than those of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumedBatch {
    pub topic: Arc<str>,
    pub partition: i32,
    /// Never empty, at most `max_poll_records`.
    pub records: Vec<Record>,
}

impl Consumer {
    /// Records one by one, without end. To ask for the next one says that the one before is processed. Everything else can be done
    /// meanwhile: [`commit`](Self::commit), [`seek`](Self::seek), [`pause`](Self::pause).
    ///
    /// An item is an error where [`poll`](Self::poll) fails; the stream ends after the error of a group that refuses the member.
    pub fn stream(&self) -> BoxStream<'_, Result<ConsumedRecord>> {
        self.items(|consumer| async move {
            let most = consumer.shared.config.max_poll_records;
            consumer.next_of(None, |book| book.next_record(most)).await
        })
    }

    /// As [`stream`](Self::stream), batch by batch, each of one partition, partitions in turn.
    pub fn batches(&self) -> BoxStream<'_, Result<ConsumedBatch>> {
        self.items(|consumer| async move {
            let most = consumer.shared.config.max_poll_records;
            consumer.next_of(None, |book| Ok(batch(book.next_batch(most)?))).await
        })
    }

    fn items<'a, T, F>(&'a self, next: impl Fn(&'a Self) -> F + Send + 'a) -> BoxStream<'a, Result<T>>
    where
        T: Send + 'a,
        F: Future<Output = Result<Option<T>>> + Send + 'a,
    {
        let step = move |ended: bool| {
            let item = (!ended).then(|| next(self));
            async move {
                match item?.await {
                    Ok(item) => item.map(|item| (Ok(item), false)),
                    Err(error) => {
                        let fatal = self.shared.lock().fatal.is_some();
                        Some((Err(error), fatal))
                    }
                }
            }
        };
        unfold(false, step).boxed()
    }
}

fn batch(records: Vec<ConsumedRecord>) -> Option<ConsumedBatch> {
    let first = records.first()?;
    let (topic, partition) = (Arc::clone(&first.topic), first.partition);
    let records = records.into_iter().map(|consumed| consumed.record).collect();
    Some(ConsumedBatch { topic, partition, records })
}
