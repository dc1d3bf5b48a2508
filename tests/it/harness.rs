//! The binary as a child: nodes that are started, killed and started again, and commands that run to their end.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;
use sunseo_client::Client;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_sunseo");

/// Longest wait for a node to be ready, a command to end, or a condition to hold.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ran {
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.status.success(), "{self:?}");
        self
    }

    /// Failed with this exit status and one line of stderr, which is returned.
    #[track_caller]
    pub fn fails_with(self, status: i32) -> String {
        assert_eq!(self.status.code(), Some(status), "{self:?}");
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "one line of stderr: {self:?}");
        assert!(lines[0].starts_with("error: "), "{self:?}");
        lines[0].to_owned()
    }

    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("text")
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A command of the binary without a server in its environment.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments).env_remove("SUNSEO_SERVER").env_remove("SUNSEO_LOG");
    command
}

/// Runs to the end, with an input.
pub fn run(command: &mut Command, input: &[u8]) -> Ran {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("spawn");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // a command that does not read its input is not at fault
        let _ = stdin.write_all(&input);
    });
    let (done, waiting) = mpsc::channel::<()>();
    let pid = child.id();
    let watchdog = std::thread::spawn(move || {
        if waiting.recv_timeout(PATIENCE * 4) == Err(mpsc::RecvTimeoutError::Timeout) {
            signal(pid, "KILL");
        }
    });
    let output = child.wait_with_output().expect("wait");
    drop(done);
    watchdog.join().expect("watchdog");
    writer.join().expect("writer");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Ran { status: output.status, stdout: output.stdout, stderr }
}

/// Sends a signal to one process that a test started.
pub fn signal(pid: u32, name: &str) {
    let status =
        Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).stderr(Stdio::null()).status();
    status.expect("sh");
}

/// Two free ports, below the range of outgoing connections, so that a client that tries again does not take them.
pub fn free_ports() -> (u16, u16) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let (from, width) = (10_000, 5_000);
    let start = std::process::id().wrapping_mul(61);
    let mut found = Vec::new();
    while found.len() < 2 {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(from + start.wrapping_add(step) % width).expect("below 15000");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            found.push(port);
        }
    }
    (found[0], found[1])
}

/// Waits until something holds.
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        pause(Duration::from_millis(50));
    }
}

#[allow(clippy::disallowed_methods)] // no runtime thread: tests wait for processes
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// A node in a temporary folder that keeps its ports over every start.
#[derive(Debug)]
pub struct Node {
    dir: TempDir,
    ports: (u16, u16),
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// Words before the binary's own.
    wrapper: Vec<String>,
    data_dir: PathBuf,
    child: Option<Child>,
}

impl Node {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    pub fn start_with(arguments: &[&str]) -> Self {
        Self::start_in(&[], arguments)
    }

    /// With variables in its environment.
    pub fn start_in(environment: &[(&str, &str)], arguments: &[&str]) -> Self {
        let mut node = Self::prepare(environment, arguments);
        node.restart();
        node
    }

    /// Under another program, which runs the words it is given, with its data elsewhere.
    pub fn wrapped(wrapper: &[String], data_dir: &Path) -> Self {
        let mut node = Self::prepare(&[], &[]);
        node.wrapper = wrapper.to_vec();
        node.data_dir = data_dir.to_owned();
        node.restart();
        node
    }

    fn prepare(environment: &[(&str, &str)], arguments: &[&str]) -> Self {
        let dir = TempDir::new().expect("temporary folder");
        Self {
            data_dir: dir.path().join("node"),
            wrapper: Vec::new(),
            dir,
            ports: free_ports(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            environment: environment.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            child: None,
        }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.0)
    }

    pub fn http(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.1))
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().expect("wait").is_none())
    }

    /// Starts it, if it does not run, and waits until it is ready.
    #[track_caller]
    pub fn restart(&mut self) {
        if self.is_running() {
            return;
        }
        let log = self.log_file();
        let mut command = match self.wrapper.split_first() {
            None => command(&["dev", "--until-stdin-closes"]),
            Some((program, words)) => {
                let mut command = Command::new(program);
                command.args(words).args([BINARY, "dev", "--until-stdin-closes"]);
                command
            }
        };
        command.arg("--data-dir").arg(self.data_dir());
        command.args(["--grpc", &self.address(), "--http", &self.http().to_string()]);
        command.args(&self.arguments).envs(self.environment.iter().cloned());
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn().expect("spawn");
        let stdout = child.stdout.take().expect("piped");
        self.child = Some(child);
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = sender.send(line);
        });
        let line = receiver.recv_timeout(PATIENCE).unwrap_or_default();
        assert!(line.starts_with("sunseo ready"), "{line:?}, its log: {}", self.log());
    }

    fn log_file(&self) -> File {
        let path = self.dir.path().join("node.log");
        OpenOptions::new().create(true).append(true).open(path).expect("log")
    }

    /// What it has printed on stderr.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("node.log")).unwrap_or_default()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill");
            child.wait().expect("wait");
        }
    }

    /// SIGTERM, and the exit status.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("runs");
        signal(child.id(), "TERM");
        eventually("the node ends after SIGTERM", || child.try_wait().expect("wait"))
    }

    /// Its parent goes away.
    #[track_caller]
    pub fn orphan(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("runs");
        drop(child.stdin.take());
        eventually("the node ends when its input closes", || child.try_wait().expect("wait"))
    }

    /// Runs a command against this node.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, b"")
    }

    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Ran {
        run(&mut self.command(arguments), input)
    }

    /// A command against this node, to be run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(arguments);
        command.args(["--server", &self.address()]);
        command
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.address()).await.expect("connect")
    }

    /// One HTTP request; status and body.
    pub fn request(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.request_with(method, path, &[("content-type", "application/json")], body)
    }

    pub fn request_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (u16, String) {
        let mut stream = TcpStream::connect(self.http()).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("time-out");
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n");
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += &format!("content-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).expect("send");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("receive");
        let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("status");
        (status, body.to_owned())
    }

    pub fn get_json(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.request("GET", path, "");
        let json = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"));
        (status, json)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the node's log:\n{}", self.log());
        }
    }
}
