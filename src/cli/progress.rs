//! The stages of long work: a bar on a terminal, a line a stage elsewhere, nothing beside JSON.

use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use sunseo_demo::Progress;

/// How often a bar without news moves.
const TICK: Duration = Duration::from_millis(120);

/// Shows one stage at a time.
pub struct Stages {
    how: How,
    bar: Mutex<ProgressBar>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Bars,
    Lines,
    Nothing,
}

impl Stages {
    /// `quiet` shows stages only on a terminal.
    pub fn new(quiet: bool) -> Self {
        let how = match (std::io::stderr().is_terminal(), quiet) {
            (true, _) => How::Bars,
            (false, false) => How::Lines,
            (false, true) => How::Nothing,
        };
        Self { how, bar: Mutex::new(ProgressBar::hidden()) }
    }

    fn bar(&self) -> std::sync::MutexGuard<'_, ProgressBar> {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stages {
    fn drop(&mut self) {
        self.bar().finish_and_clear();
    }
}

impl Progress for Stages {
    fn stage(&self, name: &str, total: Option<u64>) {
        match self.how {
            How::Nothing => {}
            How::Lines => super::note(name),
            How::Bars => {
                let (bar, template) = match total {
                    Some(total) => {
                        (ProgressBar::new(total), "{msg:28} {bar:30} {pos}/{len} {per_sec} {eta} left")
                    }
                    None => (ProgressBar::new_spinner(), "{msg:28} {spinner} {elapsed}"),
                };
                let style = ProgressStyle::with_template(template);
                let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                let bar = bar.with_message(name.to_owned());
                bar.enable_steady_tick(TICK);
                let before = std::mem::replace(&mut *self.bar(), bar);
                before.finish_and_clear();
            }
        }
    }

    fn done(&self, units: u64) {
        self.bar().set_position(units);
    }

    fn note(&self, text: &str) {
        match self.how {
            How::Nothing => {}
            How::Lines => super::note(text),
            How::Bars => self.bar().println(text),
        }
    }
}

/// A line that moves, for work whose end is not known; hidden unless somebody looks.
pub fn spinner(quiet: bool) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}");
    let bar =
        ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(TICK);
    bar
}
