//! The server's binary as a child: started, killed, stopped and told another time.

use std::fs::OpenOptions;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// Longest wait for the line that says that it is ready.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A node in a temporary folder that keeps its ports over every start.
#[derive(Debug)]
pub(super) struct Node {
    binary: PathBuf,
    dir: TempDir,
    ports: [u16; 2],
    /// The library that shows the child another time, if there is one.
    faketime: Option<PathBuf>,
    child: Option<Child>,
}

impl Node {
    pub(super) fn new(binary: &Path, faketime: Option<&Path>) -> io::Result<Self> {
        let (dir, ports) = (TempDir::new()?, [free_port()?, free_port()?]);
        let (binary, faketime) = (binary.to_owned(), faketime.map(Path::to_owned));
        let node = Self { binary, dir, ports, faketime, child: None };
        std::fs::write(node.skew_file(), "+0\n")?;
        Ok(node)
    }

    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    fn skew_file(&self) -> PathBuf {
        self.dir.path().join("skew")
    }

    /// Puts the node's clock so far ahead of the machine's, or behind it; `false` when there is no way to.
    pub(super) fn set_skew(&self, seconds: i64) -> io::Result<bool> {
        if self.faketime.is_none() {
            return Ok(false);
        }
        // a half-written file is never seen
        let next = self.dir.path().join("skew-next");
        std::fs::write(&next, format!("{seconds:+}\n"))?;
        std::fs::rename(next, self.skew_file())?;
        Ok(true)
    }

    /// Starts it, unless it runs, and waits until it is ready.
    pub(super) async fn start(&mut self) -> io::Result<()> {
        if let Some(child) = &mut self.child {
            match child.try_wait()? {
                None => return Ok(()),
                Some(status) => return Err(self.failed(&format!("it ended by itself: {status}"))),
            }
        }
        let log = OpenOptions::new().create(true).append(true).open(self.log_file())?;
        let mut command = Command::new(&self.binary);
        command.args(["dev", "--until-stdin-closes", "--data-dir"]).arg(self.dir.path().join("node"));
        for (flag, port) in ["--grpc", "--http"].iter().zip(self.ports) {
            command.arg(flag).arg(format!("127.0.0.1:{port}"));
        }
        if let Some(library) = &self.faketime {
            command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", self.skew_file());
            // durations are the process's own, as they are when somebody sets the clock of a machine
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("FAKETIME_CACHE_DURATION", "1");
        }
        command.env_remove("SUNSEO_LOG").env_remove("SUNSEO_SERVER");
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true).spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("its output is not piped"))?;
        self.child = Some(child);
        let mut line = String::new();
        let mut output = BufReader::new(stdout);
        let read = tokio::time::timeout(START_TIMEOUT, output.read_line(&mut line)).await;
        match read {
            Ok(Ok(_)) if line.starts_with("sunseo ready") => Ok(()),
            _ => Err(self.failed("it is not ready")),
        }
    }

    /// SIGKILL.
    pub(super) async fn kill(&mut self) -> io::Result<()> {
        match self.child.take() {
            Some(mut child) => child.kill().await,
            None => Ok(()),
        }
    }

    /// An end in order.
    pub(super) async fn terminate(&mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        // the end of its input tells it to stop
        drop(child.stdin.take());
        match tokio::time::timeout(START_TIMEOUT, child.wait()).await {
            Ok(status) => status.map(drop),
            Err(_) => {
                self.child = Some(child);
                Err(self.failed("it does not end when its input closes"))
            }
        }
    }

    /// Sends a signal to the child and to nobody else.
    pub(super) async fn signal(&self, name: &str) -> io::Result<()> {
        let Some(pid) = self.child.as_ref().and_then(Child::id) else { return Ok(()) };
        let status = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().await?;
        if status.success() { Ok(()) } else { Err(self.failed(&format!("SIG{name} did not reach it"))) }
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("node.log")
    }

    fn failed(&self, what: &str) -> io::Error {
        let log = std::fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(10)..].join("\n");
        io::Error::other(format!("{}: {what}; its last words:\n{last}", self.binary.display()))
    }
}

/// A free port below the range of outgoing connections, so that a client that tries again does not take it.
fn free_port() -> io::Result<u16> {
    let start = std::process::id().wrapping_mul(61);
    let ports = (0..5_000).filter_map(|step| u16::try_from(15_000 + start.wrapping_add(step) % 5_000).ok());
    for port in ports {
        static TAKEN: std::sync::Mutex<Vec<u16>> = std::sync::Mutex::new(Vec::new());
        let mut taken = TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !taken.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            taken.push(port);
            return Ok(port);
        }
    }
    Err(io::Error::other("no port from 15000 to 19999 is free"))
}
