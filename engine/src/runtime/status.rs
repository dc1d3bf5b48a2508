//! What a task tells about itself.

use std::sync::{Mutex, MutexGuard, PoisonError};

use sunseo_proto::{Error, v1};

/// Where a task is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskPhase {
    Restoring,
    Running,
    /// Stopped on purpose.
    Stopped,
    Failed,
}

impl TaskPhase {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Restoring => "restoring",
            Self::Running => "running",
            Self::Stopped => "paused",
            Self::Failed => "failed",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct TaskFigures {
    pub phase: TaskPhase,
    pub error: Option<Error>,
    /// Number of the last durable commit, -1 before the first.
    pub commit: i64,
    pub stream_time_ms: i64,
    pub lag: i64,
    pub processed: u64,
    pub dead_letters: u64,
    pub worker: i32,
}

/// Figures of one task; written by the task, read by everybody.
#[derive(Debug)]
pub(crate) struct TaskStatus {
    pub sub_topology: i32,
    pub partition: i32,
    figures: Mutex<TaskFigures>,
}

impl TaskStatus {
    pub(crate) fn new(sub_topology: i32, partition: i32) -> Self {
        let figures = TaskFigures {
            phase: TaskPhase::Stopped,
            error: None,
            commit: -1,
            stream_time_ms: 0,
            lag: 0,
            processed: 0,
            dead_letters: 0,
            worker: -1,
        };
        Self { sub_topology, partition, figures: Mutex::new(figures) }
    }

    pub(crate) fn figures(&self) -> MutexGuard<'_, TaskFigures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn enter(&self, phase: TaskPhase, error: Option<Error>) {
        let mut figures = self.figures();
        (figures.phase, figures.error) = (phase, error);
    }

    pub(crate) fn to_message(&self) -> v1::TaskStatus {
        let figures = self.figures().clone();
        v1::TaskStatus {
            sub_topology: self.sub_topology,
            partition: self.partition,
            state: figures.phase.as_str().to_owned(),
            commit_position: figures.commit,
            stream_time_ms: figures.stream_time_ms,
            lag: figures.lag,
            records_processed: figures.processed,
            worker: figures.worker,
        }
    }
}

/// The state of a pipeline from those of its tasks: what needs attention most comes first.
pub(crate) fn summary(name: &str, paused: bool, tasks: &[std::sync::Arc<TaskStatus>]) -> v1::PipelineSummary {
    let figures: Vec<TaskFigures> = tasks.iter().map(|task| task.figures().clone()).collect();
    let any = |phase| figures.iter().any(|task| task.phase == phase);
    let phase = match () {
        () if any(TaskPhase::Failed) => TaskPhase::Failed,
        () if paused || any(TaskPhase::Stopped) => TaskPhase::Stopped,
        () if any(TaskPhase::Restoring) => TaskPhase::Restoring,
        () => TaskPhase::Running,
    };
    v1::PipelineSummary {
        name: name.to_owned(),
        state: phase.as_str().to_owned(),
        error: figures.iter().find_map(|task| task.error.clone()).map(Into::into),
        tasks: i32::try_from(tasks.len()).unwrap_or(i32::MAX),
        lag: figures.iter().map(|task| task.lag).sum(),
        records_processed: figures.iter().map(|task| task.processed).sum(),
        dead_letters: figures.iter().map(|task| task.dead_letters).sum(),
    }
}
