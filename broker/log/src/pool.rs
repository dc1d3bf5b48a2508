//! Syncs files on threads of their own while the log's thread writes the next ones; a file system makes those that wait at the same time
//! durable together. Recovery, which has all of its files at once, has [`crate::together`].
//!
//! Invariant: each sync that was begun is answered, with an error if its thread is gone. In tests there are no threads: a sync is over when
//! it was begun, so that a seed replays what it found.

use std::io;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use crate::config::Background;
use crate::disk::SharedFile;

/// Syncs at the same time.
const THREADS: usize = 8;

type Job = (SharedFile, SyncSender<io::Result<()>>);

/// The threads. They wait most of the time.
#[derive(Debug)]
pub(crate) struct SyncPool {
    threads: Vec<(Sender<Job>, JoinHandle<()>)>,
    /// Whose turn it is.
    turn: usize,
}

/// A sync that was begun.
#[derive(Debug)]
pub(crate) enum Syncing {
    Over(io::Result<()>),
    UnderWay(Receiver<io::Result<()>>),
}

impl Syncing {
    /// Whether it succeeded, when it is over.
    pub(crate) fn wait(self) -> io::Result<()> {
        match self {
            Self::Over(result) => result,
            Self::UnderWay(told) => {
                told.recv().unwrap_or_else(|_| Err(io::Error::other("the thread that syncs it has ended")))
            }
        }
    }
}

impl SyncPool {
    pub(crate) fn start(background: Background) -> Self {
        let count = if background == Background::Threads { THREADS } else { 0 };
        // where fewer threads can be made, fewer do; where none, the caller does
        Self { threads: (0..count).map_while(|_| thread().ok()).collect(), turn: 0 }
    }

    pub(crate) fn begin(&mut self, file: SharedFile) -> Syncing {
        self.turn = self.turn.wrapping_add(1);
        let Some(at) = self.turn.checked_rem(self.threads.len()) else {
            return Syncing::Over(file.sync_data());
        };
        let (tell, told) = sync_channel(1);
        match self.threads[at].0.send((file, tell)) {
            Ok(()) => Syncing::UnderWay(told),
            Err(refused) => Syncing::Over(refused.0.0.sync_data()),
        }
    }
}

fn thread() -> io::Result<(Sender<Job>, JoinHandle<()>)> {
    let (jobs, queue) = channel::<Job>();
    let handle = std::thread::Builder::new().name("sunseo-log-pool".to_owned()).spawn(move || {
        for (file, tell) in queue {
            let result = file.sync_data();
            // before the answer, so that the file can be closed when everything was answered
            drop(file);
            // who waits for it is there until it is answered
            let _ = tell.send(result);
        }
    })?;
    Ok((jobs, handle))
}

impl Drop for SyncPool {
    fn drop(&mut self) {
        for (jobs, thread) in self.threads.drain(..) {
            drop(jobs);
            if thread.join().is_err() {
                tracing::error!("a thread that syncs segments ended with a panic");
            }
        }
    }
}
