//! How a command ends when it does not end well.

use std::io;

/// Why a command stops.
#[derive(Debug)]
pub enum Failure {
    /// One line for stderr; exit status 1.
    Message(String),
    /// The command was asked for something impossible; one line for stderr, exit status 2.
    Usage(String),
    /// Everything was said already; exit status 1.
    Reported,
    /// Whoever read the output has gone, which is no error.
    ReaderGone,
}

/// A command's result.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub fn new(message: impl Into<String>) -> Self {
        Self::Message(message.into())
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// For `map_err` on a file.
    pub fn file(doing: &str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let doing = format!("{doing} {}", path.display());
        move |error| Self::Message(format!("{doing}: {error}"))
    }
}

impl From<sunseo_proto::Error> for Failure {
    fn from(error: sunseo_proto::Error) -> Self {
        Self::Message(error.to_string())
    }
}

impl From<sunseo_client::Undelivered> for Failure {
    fn from(undelivered: sunseo_client::Undelivered) -> Self {
        Self::Message(undelivered.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Message(format!("writing the output: {error}")),
        }
    }
}

/// Everything on one line, whatever the message holds.
pub fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
