//! Writes journal frames on a thread of its own, so that the log's thread fills the segments meanwhile. One frame is under way at a time.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::LogError;
use crate::disk::Context as _;
use crate::entry::FrameBuilder;
use crate::journal::{DIRECTORY, FrameWrite};

/// A frame smaller than this is written by the log's thread itself: to hand it over would cost more than it saves.
pub(crate) const OVERLAP_BYTES: usize = 256 << 10;

type Job = (FrameWrite, Arc<FrameBuilder>);

/// The thread and the way to it.
#[derive(Debug)]
pub(crate) struct FrameWriter {
    /// Taken when it is to end.
    jobs: Option<SyncSender<Job>>,
    done: Receiver<Result<(), LogError>>,
    thread: Option<JoinHandle<()>>,
}

impl FrameWriter {
    pub(crate) fn start() -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel::<Job>(1);
        let (finished, done) = sync_channel(1);
        let thread = std::thread::Builder::new().name("sunseo-log-write".to_owned()).spawn(move || {
            for (write, frame) in queue {
                let result = write.perform(frame.pages());
                // before the answer, so that the frame is the log thread's alone again
                drop(frame);
                if finished.send(result).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { jobs: Some(jobs), done, thread: Some(thread) })
    }

    /// Begins to write a frame; gives it back when the thread is gone. [`FrameWriter::wait`] must follow.
    pub(crate) fn begin(&self, write: FrameWrite, frame: &Arc<FrameBuilder>) -> Result<(), FrameWrite> {
        match self.jobs.as_ref().map(|jobs| jobs.send((write, Arc::clone(frame)))) {
            Some(Err(refused)) => Err(refused.0.0),
            Some(Ok(())) | None => Ok(()),
        }
    }

    /// Whether the frame is durable.
    pub(crate) fn wait(&self) -> Result<(), LogError> {
        self.done.recv().unwrap_or_else(|_| {
            let gone = io::Error::other("the thread that writes it has ended");
            Err(gone).context("cannot write", Path::new(DIRECTORY))
        })
    }
}

impl Drop for FrameWriter {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the thread that writes the journal ended with a panic");
        }
    }
}
