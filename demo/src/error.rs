//! What can stop a run. A difference from the truth is no error: it is a failed check in the report.

use std::fmt::Display;
use std::path::PathBuf;

/// Why a run could not be finished.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A setting is out of its range.
    #[error("{name} is {value}: {remedy}")]
    Config { name: String, value: String, remedy: String },
    /// The file with the districts cannot be used.
    #[error("regions file {}: {problem}", path.display())]
    Regions { path: PathBuf, problem: String },
    /// The ordering application's own database failed.
    #[error("the application's database, while {doing}: {source}")]
    Database { doing: &'static str, source: rusqlite::Error },
    /// The node refused a request, or did not answer for too long.
    #[error("{doing}: {source}")]
    Request { doing: String, source: sunseo_proto::Error },
    /// The node could not be started or killed.
    #[error("the node: {0}")]
    Node(String),
    #[error("{doing}: {source}")]
    Io { doing: String, source: std::io::Error },
    /// A defect of the demo itself.
    #[error("{0}: this is a defect of the demo, please report it with the seed")]
    Internal(String),
}

/// A result of this crate.
pub type Result<T, E = DemoError> = std::result::Result<T, E>;

impl DemoError {
    /// A setting that is out of its range; `remedy` says what to choose.
    pub fn config(name: &str, value: impl Display, remedy: impl Into<String>) -> Self {
        Self::Config { name: name.to_owned(), value: value.to_string(), remedy: remedy.into() }
    }

    /// For `map_err` on a request to the node.
    pub fn request(doing: impl Into<String>) -> impl FnOnce(sunseo_proto::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Request { doing, source }
    }

    /// For `map_err` on a statement of the application's database.
    pub fn database(doing: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Database { doing, source }
    }
}
