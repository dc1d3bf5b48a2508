//! Members of the group under test, and what each of them owns.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sunseo_client::{Client, Consumer, ConsumerConfig};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::seen::Seen;
use crate::bench::load::stamp_of;
use crate::cli::failure::{Failure, Outcome};

/// Longest wait of one poll: how old a member's word about what it owns can be.
const POLL: Duration = Duration::from_millis(10);

/// Who owns which partitions, as the members themselves see it.
#[derive(Debug, Default)]
pub struct Board(Mutex<BTreeMap<usize, Vec<i32>>>);

impl Board {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, Vec<i32>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The owner of every partition, when each has exactly one and the members' shares differ by one at most.
    pub fn stable(&self, partitions: i32) -> Option<Vec<usize>> {
        stable(&self.lock(), partitions)
    }
}

fn stable(owned: &BTreeMap<usize, Vec<i32>>, partitions: i32) -> Option<Vec<usize>> {
    let mut owners = vec![None; usize::try_from(partitions).ok()?];
    for (member, partitions) in owned {
        for partition in partitions {
            let owner = owners.get_mut(usize::try_from(*partition).ok()?)?;
            if owner.replace(*member).is_some() {
                return None;
            }
        }
    }
    let shares = owned.values().map(Vec::len);
    let fair = shares.clone().max()? - shares.min()? <= 1;
    owners.into_iter().collect::<Option<Vec<_>>>().filter(|_| fair)
}

/// How a member ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Leave,
    Crash,
}

/// A member that works until it is told to end.
#[derive(Debug)]
pub struct Member {
    number: usize,
    end: oneshot::Sender<End>,
    task: AbortOnDropHandle<Outcome>,
    board: Arc<Board>,
}

impl Member {
    /// On a connection of its own. `start` is what the stamps of records count from.
    pub fn start(
        number: usize,
        (client, config): (Client, ConsumerConfig),
        (board, seen): (Arc<Board>, Arc<Seen>),
        start: Instant,
    ) -> Self {
        board.lock().insert(number, Vec::new());
        let (end, ended) = oneshot::channel();
        let work = work(number, client, config, (Arc::clone(&board), seen), (start, ended));
        Self { number, end, task: AbortOnDropHandle::new(tokio::spawn(work)), board }
    }

    async fn end(self, how: End) -> Outcome {
        // what it owned is nobody's from now on
        self.board.lock().remove(&self.number);
        let _ = self.end.send(how);
        self.task.await.map_err(|error| Failure::new(format!("a member ended: {error}")))?
    }

    pub async fn leave(self) -> Outcome {
        self.end(End::Leave).await
    }

    /// Without a word to the server.
    pub async fn crash(self) -> Outcome {
        self.end(End::Crash).await
    }

    /// Whether it has ended by itself, which it should not.
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }
}

async fn work(
    number: usize,
    client: Client,
    config: ConsumerConfig,
    (board, seen): (Arc<Board>, Arc<Seen>),
    (start, mut ended): (Instant, oneshot::Receiver<End>),
) -> Outcome {
    let mut consumer = client.consumer(config).await?;
    loop {
        // a sender that is gone is the end of the measurement
        match ended.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => {
                step(number, &mut consumer, &board, &seen, start).await?
            }
            Ok(End::Crash) => return Ok(()),
            Ok(End::Leave) | Err(_) => return Ok(consumer.close().await?),
        }
    }
}

async fn step(number: usize, consumer: &mut Consumer, board: &Board, seen: &Seen, start: Instant) -> Outcome {
    let batch = consumer.poll(POLL).await?;
    let now = start.elapsed();
    seen.note(batch.iter().map(|consumed| {
        let due = stamp_of(&consumed.record).map_or(now, Duration::from_micros);
        (consumed.partition, consumed.record.offset, now.saturating_sub(due))
    }));
    let owns = consumer.assignment().into_iter().map(|(_, partition)| partition).collect();
    // a member that was told to end is no longer on the board
    if let Some(owned) = board.lock().get_mut(&number) {
        *owned = owns;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(owned: &[&[i32]]) -> BTreeMap<usize, Vec<i32>> {
        owned.iter().map(|owned| owned.to_vec()).enumerate().collect()
    }

    #[test]
    fn stable_is_everything_owned_once_and_fairly() {
        assert_eq!(stable(&of(&[&[0, 2], &[1]]), 3), Some(vec![0, 1, 0]));
        assert_eq!(stable(&of(&[&[0, 2], &[1, 2]]), 3), None, "two owners");
        assert_eq!(stable(&of(&[&[0], &[1]]), 3), None, "no owner");
        assert_eq!(stable(&of(&[&[0, 1, 2], &[]]), 3), None, "one has nothing");
        assert_eq!(stable(&of(&[&[0], &[]]), 1), Some(vec![0]), "more members than partitions");
        assert_eq!(stable(&of(&[]), 1), None, "no member");
    }
}
