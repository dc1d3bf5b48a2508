//! What makes bytes durable beside the log's thread, so that appends do not wait for it: syncs of segments and directories, indexes, the
//! checkpoint's file.
//!
//! Invariants: tasks are done in the order in which they were given; every task that was given comes back with its result, which the
//! log's thread acts on (nothing is decided here); after a drop nothing more is begun. A segment is synced through a handle of its own,
//! so that an error of the disk is told to both: to the task, and to the log's thread at its next sync of that segment.
//!
//! In tests there is no thread: a poll does a number of tasks, in the order of the thread, so that a seed replays what it found.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use bytes::Bytes;
use sunseo_proto::PartitionId;

use crate::checkpoint::FILE;
use crate::config::Background;
use crate::disk::{Context as _, Disk, SharedDisk, SharedFile};
use crate::segment::Segment;
use crate::{LogError, sealed};

/// One thing to be done.
#[derive(Debug)]
pub(crate) enum Task {
    /// `_written` is the handle that the bytes were written through; it stays open until they are synced.
    Segment { id: PartitionId, segment: Arc<Segment>, _written: SharedFile },
    /// The same ahead of any checkpoint, so that the sync of a segment that is sealed finds little to do.
    Ahead { id: PartitionId, segment: Arc<Segment>, _written: SharedFile },
    /// Names in a directory; of one partition, or of all of them.
    Names { id: Option<PartitionId>, directory: PathBuf },
    /// May be lost: it can be built again.
    Index { segment: Arc<Segment>, index: Bytes, sealed: bool },
    /// The checkpoint's file, under its name when it is back.
    Checkpoint { bytes: Vec<u8> },
}

/// A task that was done.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) task: Task,
    pub(crate) result: Result<(), LogError>,
}

/// Does the tasks.
#[derive(Debug)]
pub(crate) struct Syncer {
    disk: SharedDisk,
    /// Tasks that are not back.
    outstanding: usize,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Thread(Worker),
    Steps { each_poll: usize, waiting: VecDeque<Task> },
}

#[derive(Debug)]
struct Worker {
    /// Taken when it is to end.
    tasks: Option<Sender<Task>>,
    finished: Receiver<Finished>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    pub(crate) fn start(disk: SharedDisk, background: Background) -> Self {
        let way = match background {
            Background::Threads => Worker::start(disk.clone()).map_or_else(
                |error| {
                    tracing::warn!(%error, "no thread for syncs: appends wait for them");
                    Way::Steps { each_poll: usize::MAX, waiting: VecDeque::new() }
                },
                Way::Thread,
            ),
            Background::Steps(each_poll) => {
                Way::Steps { each_poll: each_poll.max(1), waiting: VecDeque::new() }
            }
        };
        Self { disk, outstanding: 0, way }
    }

    pub(crate) fn submit(&mut self, task: Task) {
        self.outstanding += 1;
        match &mut self.way {
            Way::Steps { waiting, .. } => waiting.push_back(task),
            Way::Thread(worker) => {
                let sent = worker.tasks.as_ref().map(|tasks| tasks.send(task));
                debug_assert!(matches!(sent, Some(Ok(()))), "the thread lives as long as its queue");
            }
        }
    }

    /// The tasks that are done by now.
    pub(crate) fn poll(&mut self) -> Vec<Finished> {
        let done: Vec<Finished> = match &mut self.way {
            Way::Steps { each_poll, waiting } => {
                let count = waiting.len().min(*each_poll);
                waiting.drain(..count).map(|task| perform(self.disk.as_ref(), task)).collect()
            }
            Way::Thread(worker) => worker.finished.try_iter().collect(),
        };
        self.outstanding -= done.len();
        done
    }

    /// Whether a poll leaves nothing that could be done.
    pub(crate) fn polls_all(&self) -> bool {
        !matches!(self.way, Way::Steps { each_poll, .. } if each_poll < usize::MAX)
    }

    /// The next task that is done; waits for it. `None` when there is none.
    pub(crate) fn wait(&mut self) -> Option<Finished> {
        if self.outstanding == 0 {
            return None;
        }
        let done = match &mut self.way {
            Way::Steps { waiting, .. } => waiting.pop_front().map(|task| perform(self.disk.as_ref(), task)),
            Way::Thread(worker) => worker.finished.recv().ok(),
        };
        match done.is_some() {
            true => self.outstanding -= 1,
            // its thread has ended with a panic: what it had is lost
            false => self.outstanding = 0,
        }
        done
    }
}

impl Worker {
    fn start(disk: SharedDisk) -> io::Result<Self> {
        let (tasks, queue) = channel();
        let (done, finished) = channel();
        let stopped = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("sunseo-log-sync".to_owned()).spawn({
            let stopped = Arc::clone(&stopped);
            move || {
                for task in queue {
                    // who gave the task may be gone
                    if stopped.load(Ordering::Relaxed) || done.send(perform(disk.as_ref(), task)).is_err() {
                        return;
                    }
                }
            }
        })?;
        Ok(Self { tasks: Some(tasks), finished, stopped, thread: Some(thread) })
    }
}

impl Drop for Worker {
    /// Waits for the task that is under way: afterwards the directory is free for the next owner.
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.tasks = None;
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the thread that syncs ended with a panic");
        }
    }
}

fn perform(disk: &dyn Disk, task: Task) -> Finished {
    let result = match &task {
        Task::Segment { segment, .. } => {
            let path = &segment.path;
            disk.open(path).and_then(|file| file.sync_data()).context("cannot sync", path)
        }
        Task::Ahead { segment, .. } => match disk.open(&segment.path) {
            // removed meanwhile
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            file => file.and_then(|file| file.sync_data()).context("cannot sync", &segment.path),
        },
        Task::Names { directory, .. } => disk.sync_dir(directory).context("cannot sync directory", directory),
        Task::Index { segment, index, sealed } => segment.write_index(disk, index, *sealed),
        Task::Checkpoint { bytes } => sealed::write_new(disk, Path::new(FILE), bytes),
    };
    Finished { task, result }
}
