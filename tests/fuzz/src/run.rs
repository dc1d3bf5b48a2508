//! A target over its corpus.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use sunseo_proto::fuzz::{PER_BYTE_MAX, Target};

use crate::{memory, mutate};

/// An input that is being worked on for so long never ends. Far beyond what a busy machine needs for one.
const HANG: Duration = Duration::from_secs(60);

/// An input that shows a defect.
#[derive(Debug)]
pub struct Failure {
    pub target: &'static str,
    pub what: String,
    pub input: Vec<u8>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, more) = self.input.split_at(self.input.len().min(2_048));
        let hex: String = shown.iter().map(|byte| format!("{byte:02x}")).collect();
        let more = if more.is_empty() { String::new() } else { format!(" and {} bytes more", more.len()) };
        write!(f, "{}: {}: input {hex}{more}", self.target, self.what)
    }
}

/// The examples of a target: those of its encoders, and what is kept in files.
#[derive(Debug)]
pub struct Corpus {
    examples: Vec<Vec<u8>>,
}

impl Corpus {
    /// Reads the files of `target` in `directory`; a target without files has the examples of its encoders.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn load(directory: &Path, target: &Target) -> std::io::Result<Self> {
        let mut examples = (target.samples)();
        for path in files(&directory.join(target.name))? {
            examples.push(std::fs::read(path)?);
        }
        Ok(Self { examples })
    }

    /// Writes the examples of the target's encoders into files and returns their bytes. What else is there, such as inputs that
    /// once showed a defect, stays.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(directory: &Path, target: &Target) -> std::io::Result<usize> {
        let directory = directory.join(target.name);
        std::fs::create_dir_all(&directory)?;
        let mut bytes = 0;
        for (n, sample) in (target.samples)().iter().enumerate() {
            std::fs::write(directory.join(format!("{n:02}")), sample)?;
            bytes += sample.len();
        }
        Ok(bytes)
    }

    /// Every example as it is.
    ///
    /// # Errors
    /// The first that shows a defect.
    pub fn replay(&self, target: &Target) -> Result<(), Failure> {
        self.examples.iter().try_for_each(|example| one(target, example))
    }

    /// The changed example of this seed and number.
    ///
    /// # Errors
    /// When it shows a defect.
    pub fn step(&self, target: &Target, seed: u64, number: u64) -> Result<(), Failure> {
        let input = mutate::input(&self.examples, target.seal, seed, number);
        one(target, &input).map_err(|failure| Failure {
            what: format!("{} (seed {seed}, input {number})", failure.what),
            ..failure
        })
    }
}

fn files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn one(target: &Target, input: &[u8]) -> Result<(), Failure> {
    let failure = |what| Failure { target: target.name, what, input: input.to_vec() };
    let (outcome, bytes) = memory::most_of(|| catch_unwind(AssertUnwindSafe(|| (target.run)(input))));
    let max = target.memory_bytes_max + PER_BYTE_MAX * input.len();
    match outcome {
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(failure(format!("panics with {:?}", text.unwrap_or("something that is no text"))))
        }
        Ok(()) if bytes > max => Err(failure(format!("held {bytes} bytes, {max} are allowed"))),
        Ok(()) => Ok(()),
    }
}

/// Ends the process when an input never ends.
#[derive(Debug)]
pub struct Watch {
    steps: Arc<AtomicU64>,
    /// The thread ends when this is gone.
    _end: Sender<()>,
}

impl Watch {
    /// Begins to look. `what` names the run.
    #[must_use]
    pub fn begin(what: String) -> Self {
        let steps = Arc::new(AtomicU64::new(0));
        let (end, ended) = mpsc::channel();
        let looked_at = Arc::clone(&steps);
        std::thread::spawn(move || {
            let mut seen = 0;
            while ended.recv_timeout(HANG) == Err(RecvTimeoutError::Timeout) {
                let now = looked_at.load(Ordering::Relaxed);
                if now == seen {
                    eprintln!("{what}: input {now} has run for over {} s: it hangs", HANG.as_secs());
                    std::process::abort();
                }
                seen = now;
            }
        });
        Self { steps, _end: end }
    }

    /// Input `number` begins.
    pub fn step(&self, number: u64) {
        self.steps.store(number, Ordering::Relaxed);
    }
}
