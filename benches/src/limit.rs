//! What the machine itself gives, for the side-by-side run: the same bytes over a loopback socket, checked and appended, without a
//! server; and appends with fdatasync. One JSON object each with `--json`.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sunseo_proto::Record;
use sunseo_proto::batch::{self, BatchBuilder, Compression};

/// Of one record batch, and of one append of the disk's own rate.
const BATCH_BYTES: usize = 256 << 10;
const APPEND_BYTES: usize = 4 << 20;
const SMALL_APPEND_BYTES: usize = 4 << 10;
const RECORD_BYTES: usize = 1 << 10;
/// As many as a topic of the comparison has partitions, and as it has producers.
const FILES: usize = 16;
const CONNECTIONS: usize = 2;
/// Time for the small appends.
const SMALL_TIME: Duration = Duration::from_secs(1);

struct Arguments {
    time: Duration,
    bytes: u64,
    json: bool,
}

impl Arguments {
    /// `--seconds N`, `--megabytes N`, `--json`.
    fn read() -> Self {
        let words: Vec<String> = std::env::args().skip(2).collect();
        let number = |name: &str, otherwise: u64| {
            let at = words.iter().position(|word| word == name);
            at.and_then(|at| words.get(at + 1)?.parse().ok()).unwrap_or(otherwise)
        };
        Self {
            time: Duration::from_secs(number("--seconds", 3)),
            bytes: number("--megabytes", 4_000) * 1_000_000,
            json: words.iter().any(|word| word == "--json"),
        }
    }

    fn print(&self, title: &str, figures: &[(&str, f64)]) {
        if self.json {
            let figures: Vec<String> =
                figures.iter().map(|(name, value)| format!("\"{name}\": {value:.4}")).collect();
            println!("{{{}}}", figures.join(", "));
            return;
        }
        println!("{title}");
        figures.iter().for_each(|(name, value)| println!("  {name:<28} {value:>12.3}"));
    }
}

/// A folder that goes with its owner.
struct Folder(PathBuf);

impl Folder {
    fn new() -> std::io::Result<Self> {
        let parent = std::env::var_os("SUNSEO_BENCH_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from);
        let dir = parent.join(format!("sunseo-limit-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        Ok(Self(dir))
    }

    fn file(&self, name: &str) -> std::io::Result<File> {
        OpenOptions::new().create(true).truncate(true).write(true).open(Path::new(&self.0).join(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            println!("{} stays: {error}", self.0.display());
        }
    }
}

pub fn limit() {
    let arguments = Arguments::read();
    match through_a_socket(&arguments) {
        Ok(figures) => arguments.print("TCP loopback, CRC and append", &figures),
        Err(error) => panic!("limit: {error}"),
    }
}

pub fn disk() {
    let arguments = Arguments::read();
    match appends(&arguments) {
        Ok(figures) => arguments.print("append and fdatasync", &figures),
        Err(error) => panic!("disk: {error}"),
    }
}

fn one_batch() -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None);
    let mut state = 1_u32;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    for _ in 0..BATCH_BYTES / RECORD_BYTES {
        let value: Vec<u8> = (0..RECORD_BYTES).map(|_| noise()).collect();
        let mut record = Record::new("", value, 1);
        record.key = None;
        builder.push(&record);
    }
    builder.build().to_vec()
}

/// For each connection one thread sends batches, and one receives, checks and appends them to files in turn; nothing is synced.
fn through_a_socket(arguments: &Arguments) -> std::io::Result<Vec<(&'static str, f64)>> {
    let folder = Folder::new()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let batch = one_batch();
    let count = arguments.bytes.div_ceil((batch.len() * CONNECTIONS) as u64);
    let end = Instant::now() + arguments.time;
    let begun = Instant::now();
    let bytes = std::thread::scope(|scope| -> std::io::Result<u64> {
        let (mut senders, mut receivers) = (Vec::new(), Vec::new());
        for connection in 0..CONNECTIONS {
            let files = (0..FILES / CONNECTIONS).map(|n| folder.file(&format!("{connection}-{n}")));
            let files = files.collect::<std::io::Result<Vec<File>>>()?;
            let batch = &batch;
            // the listener takes it before it is asked for
            let outgoing = TcpStream::connect(address)?;
            senders.push(scope.spawn(move || send(outgoing, batch, count, end)));
            let (socket, _) = listener.accept()?;
            let size = batch.len();
            receivers.push(scope.spawn(move || receive(socket, size, files)));
        }
        let panicked = |_| std::io::Error::other("a sender or receiver panicked");
        let bytes: std::io::Result<u64> =
            receivers.into_iter().map(|receiver| receiver.join().map_err(panicked)?).sum();
        senders.into_iter().try_for_each(|sender| sender.join().map_err(panicked)?)?;
        bytes
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    Ok(vec![("throughput_mb_per_s", bytes as f64 / seconds / 1e6), ("duration_s", seconds)])
}

fn send(mut socket: TcpStream, batch: &[u8], count: u64, end: Instant) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    for _ in 0..count {
        if Instant::now() >= end {
            break;
        }
        socket.write_all(batch)?;
    }
    Ok(())
}

/// Until the sender has ended; the bytes of whole batches.
fn receive(mut socket: TcpStream, size: usize, mut files: Vec<File>) -> std::io::Result<u64> {
    let (mut received, mut bytes, count) = (vec![0; size], 0_u64, files.len());
    for number in 0.. {
        match socket.read_exact(&mut received) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
        batch::validate(&received).map_err(|error| std::io::Error::other(error.to_string()))?;
        files[number % count].write_all(&received)?;
        bytes += size as u64;
    }
    Ok(bytes)
}

/// The disk's own rate at 4 MiB, and the time of one small append with its sync.
fn appends(arguments: &Arguments) -> std::io::Result<Vec<(&'static str, f64)>> {
    let folder = Folder::new()?;
    let large = vec![1_u8; APPEND_BYTES];
    let (times, seconds) =
        timed(&folder.file("large")?, &large, arguments.time, arguments.bytes.div_ceil(APPEND_BYTES as u64))?;
    let rate = (times.len() * APPEND_BYTES) as f64 / seconds / 1e6;
    let (mut times, _) = timed(
        &folder.file("small")?,
        &large[..SMALL_APPEND_BYTES],
        arguments.time.min(SMALL_TIME),
        u64::MAX,
    )?;
    times.sort_unstable();
    let ms = |share: f64| {
        let at = ((times.len() - 1) as f64 * share).round() as usize;
        times[at].as_secs_f64() * 1e3
    };
    Ok(vec![
        ("throughput_mb_per_s", rate),
        ("fdatasync_p50_ms", ms(0.5)),
        ("fdatasync_p99_ms", ms(0.99)),
        ("duration_s", seconds),
    ])
}

/// Appends, each synced, for a time or a number of times, at least once; the time of each, and of all.
fn timed(file: &File, bytes: &[u8], time: Duration, most: u64) -> std::io::Result<(Vec<Duration>, f64)> {
    let (begun, mut times, mut at) = (Instant::now(), Vec::new(), 0_u64);
    while times.is_empty() || (begun.elapsed() < time && (times.len() as u64) < most) {
        let start = Instant::now();
        file.write_all_at(bytes, at)?;
        file.sync_data()?;
        times.push(start.elapsed());
        at += bytes.len() as u64;
    }
    Ok((times, begun.elapsed().as_secs_f64()))
}
