//! A node as a child process, to be killed.
//!
//! It runs this very binary, keeps its ports and its data over every start, and ends when this process does: its standard input is a
//! pipe that nobody writes to, and whose end it takes as the wish to stop.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use sunseo_demo::error::{DemoError, Result};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;

use crate::config::NodeConfig;

/// Longest wait for the line that says that it is ready.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// Longest wait for an end in order; then it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Lines of what it printed that an error carries.
const LOG_LINES: usize = 5;

/// Starts, is killed, starts again.
#[derive(Debug)]
pub struct ChildNode {
    config: NodeConfig,
    object_store: PathBuf,
    /// What it prints on stderr, over all starts.
    log: PathBuf,
    running: Mutex<Option<Child>>,
    /// Of the running child, 0 when there is none.
    pid: std::sync::atomic::AtomicU32,
}

fn failed(doing: &str) -> impl FnOnce(std::io::Error) -> DemoError {
    move |error| DemoError::Node(format!("{doing}: {error}"))
}

impl ChildNode {
    /// `object_store` is the folder that the configuration's URL names; `log` is where its stderr goes.
    pub fn new(config: NodeConfig, object_store: PathBuf, log: PathBuf) -> Self {
        Self { config, object_store, log, running: Mutex::new(None), pid: 0.into() }
    }

    /// Stops it in order, if it runs.
    pub async fn stop(&self) -> Result<()> {
        let Some(mut child) = self.running.lock().await.take() else { return Ok(()) };
        self.note_pid(None);
        // the end of its input tells it to stop
        drop(child.stdin.take());
        if tokio::time::timeout(STOP_TIMEOUT, child.wait()).await.is_err() {
            child.kill().await.map_err(failed("killing it after it did not stop"))?;
        }
        Ok(())
    }

    fn note_pid(&self, pid: Option<u32>) {
        self.pid.store(pid.unwrap_or(0), std::sync::atomic::Ordering::Relaxed);
    }

    /// The settings of the demo, as flags.
    fn command(&self) -> Result<Command> {
        let program = std::env::current_exe().map_err(failed("finding this program"))?;
        let config = &self.config;
        let mut command = Command::new(program);
        command.arg("dev").arg("--until-stdin-closes");
        command.arg("--data-dir").arg(&config.broker.data_dir);
        command.args(["--grpc", &config.listen.grpc.to_string(), "--http", &config.listen.http.to_string()]);
        command.args(["--partitions", &config.pipelines.partitions.to_string()]);
        if let Some(url) = &config.broker.object_store_url {
            command.args(["--object-store", url]);
        }
        for name in &config.pipelines.run {
            command.args(["--pipeline", name]);
        }
        match &config.pipelines.regions {
            Some(file) => command.arg("--regions").arg(file),
            None => command.args(["--city-seed", &config.pipelines.city_seed.to_string()]),
        };
        Ok(command)
    }

    fn spawn(&self) -> Result<Child> {
        let log: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(failed("opening its log"))?;
        let mut command = self.command()?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        command.spawn().map_err(failed("starting it"))
    }

    /// Waits for the line that says it is ready.
    async fn ready(&self, child: &mut Child) -> Result<()> {
        let stdout = child.stdout.take();
        let line = async {
            let mut line = String::new();
            match stdout {
                Some(stdout) => BufReader::new(stdout.take(4096)).read_line(&mut line).await.map(|_| line),
                None => Ok(line),
            }
        };
        match tokio::time::timeout(START_TIMEOUT, line).await {
            Ok(Ok(line)) if line.starts_with("sunseo ready") => Ok(()),
            Ok(Ok(_)) => Err(DemoError::Node(format!("it ended before it was ready: {}", self.last_words()))),
            Ok(Err(error)) => Err(DemoError::Node(format!("reading what it prints: {error}"))),
            Err(_) => {
                let seconds = START_TIMEOUT.as_secs();
                Err(DemoError::Node(format!("it was not ready within {seconds} s: {}", self.last_words())))
            }
        }
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join(" | ")
    }
}

#[async_trait]
impl sunseo_demo::Node for ChildNode {
    fn address(&self) -> String {
        self.config.listen.grpc.to_string()
    }

    fn data_dir(&self) -> &Path {
        &self.config.broker.data_dir
    }

    fn object_store_dir(&self) -> Option<&Path> {
        Some(&self.object_store)
    }

    async fn start(&self) -> Result<()> {
        let mut running = self.running.lock().await;
        if let Some(child) = running.as_mut() {
            match child.try_wait().map_err(failed("looking after it"))? {
                None => return Ok(()),
                Some(status) => {
                    tracing::warn!(%status, "the node had ended by itself");
                    *running = None;
                }
            }
        }
        let mut child = self.spawn()?;
        self.ready(&mut child).await?;
        self.note_pid(child.id());
        *running = Some(child);
        Ok(())
    }

    async fn kill(&self) -> Result<()> {
        let Some(mut child) = self.running.lock().await.take() else { return Ok(()) };
        self.note_pid(None);
        child.kill().await.map_err(failed("killing it"))
    }

    fn resident_bytes(&self) -> Option<u64> {
        match self.pid.load(std::sync::atomic::Ordering::Relaxed) {
            0 => None,
            pid => super::resident_bytes(&pid.to_string()),
        }
    }
}
