//! One run: the day is played against the node, then everything is compared with the truth.

use std::sync::Arc;

use crate::config::DemoConfig;
use crate::error::{DemoError, Result};
use crate::node::{Node, Progress};
use crate::report::Report;

/// Plays the day and compares. The node is started if it does not run, and left running.
///
/// # Errors
/// When the day could not be played to its end. Differences from the truth are failed checks in the report.
pub async fn run(config: DemoConfig, node: Arc<dyn Node>, progress: Arc<dyn Progress>) -> Result<Report> {
    config.validate()?;
    node.start().await?;
    let _ = progress;
    Err(DemoError::Internal("the day is not assembled yet".to_owned()))
}
