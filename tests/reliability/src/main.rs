//! Seeded runs: `sim --seeds 200` in process, `process` with the binary, `hunt` for a seed that shows an error; and `soak`, a day that shows what
//! grows.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::ops::Range;
use std::panic::RefUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use sunseo_reliability::check::{Kind, counts};
use sunseo_reliability::history::Op;
use sunseo_reliability::process::{self, Process};
use sunseo_reliability::soak::{self, NAMES, Sample, Soak};
use sunseo_reliability::{Plan, RunReport, Stress, sim};

#[derive(Debug, Parser)]
#[command(about = "Seeded runs of a node and its clients, and a checker of what they saw")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// In process: faulty disk, own clock, lost answers.
    Sim {
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// How many seeds.
        #[arg(long, default_value_t = 200)]
        seeds: u64,
        /// What happens more often than the rest.
        #[arg(long, value_enum, default_value_t = Stress::Mixed)]
        stress: Stress,
        /// Prints each seed.
        #[arg(short, long)]
        verbose: bool,
        /// Ends at the first seed with an error.
        #[arg(long)]
        first: bool,
        /// Writes the operations of each seed with an error here, one a line.
        #[arg(long)]
        history: Option<PathBuf>,
    },
    /// Out of process: the binary, killed, stopped, and with a wrong clock.
    Process {
        /// The server's binary.
        #[arg(long)]
        binary: PathBuf,
        /// The library of libfaketime, for clock jumps.
        #[arg(long)]
        faketime: Option<PathBuf>,
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// How many seeds.
        #[arg(long, default_value_t = 20)]
        seeds: u64,
        /// Seconds of load of each seed.
        #[arg(long, default_value_t = 20)]
        seconds: u64,
        /// Writes the operations of each seed with an error here, one a line.
        #[arg(long)]
        history: Option<PathBuf>,
    },
    /// As `sim` with a node that is broken on purpose: says at which seed the checker saw it. A run that breaks off proves nothing.
    Hunt {
        /// How many seeds at most.
        #[arg(long, default_value_t = 60)]
        seeds: u64,
        /// No further seed begins after so many seconds.
        #[arg(long, default_value_t = 300)]
        seconds: u64,
        /// What happens more often than the rest.
        #[arg(long, value_enum, default_value_t = Stress::Mixed)]
        stress: Stress,
        /// Kinds of errors of which one must be seen; any when there is none.
        #[arg(long, value_enum, value_delimiter = ',')]
        expect: Vec<Kind>,
    },
    /// A day of one node in simulated time: what grows?
    Soak {
        /// Simulated hours.
        #[arg(long, default_value_t = 24)]
        hours: u32,
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Where the node's folder is made.
        #[arg(long)]
        under: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SUNSEO_LOG").unwrap_or_else(|_| "off".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match Arguments::parse().what {
        What::Sim { from, seeds, stress, verbose, first, history } => {
            let manner = Manner { verbose, first, history };
            count(from..from + seeds, &manner, |seed| Ok(sim::run(seed, Plan::with(seed, stress))))
        }
        What::Hunt { seeds, seconds, stress, expect } => {
            hunt(seeds, Duration::from_secs(seconds), stress, &expect)
        }
        What::Process { binary, faketime, from, seeds, seconds, history } => {
            if faketime.is_none() {
                println!("no libfaketime: clock jumps are left to the simulation");
            }
            let process = Process { binary, faketime, load: Duration::from_secs(seconds) };
            let manner = Manner { verbose: true, first: false, history };
            count(from..from + seeds, &manner, |seed| process::run(&process, seed))
        }
        What::Soak { hours, seed, under } => soak(&Soak { hours, seed, under }),
    }
}

/// How seeds are run.
#[derive(Debug)]
struct Manner {
    verbose: bool,
    first: bool,
    history: Option<PathBuf>,
}

/// Runs seeds and counts what they did and what was wrong.
fn count(
    seeds: Range<u64>,
    manner: &Manner,
    run: impl Fn(u64) -> io::Result<RunReport> + RefUnwindSafe,
) -> ExitCode {
    let began = Instant::now();
    let mut totals: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut wrong = 0;
    for seed in seeds {
        let start = Instant::now();
        // what breaks off is an error of its seed, and the others are still worth knowing
        let report = match std::panic::catch_unwind(|| run(seed)) {
            Ok(Ok(report)) => report,
            ended => {
                let error = ended.ok().and_then(Result::err);
                let why = error.map_or_else(|| "a panic, told above".to_owned(), |error| error.to_string());
                println!("seed {seed} broke off: {why}");
                wrong += 1;
                if manner.first {
                    break;
                }
                continue;
            }
        };
        for (what, n) in report.counts() {
            *totals.entry(what).or_default() += n;
        }
        if manner.verbose {
            println!("seed {seed}: {} operations in {:?}", report.history.ops.len(), start.elapsed());
        }
        if report.anomalies.is_empty() {
            continue;
        }
        wrong += 1;
        tell(&report, manner.history.as_deref());
        if manner.first {
            break;
        }
    }
    for (what, n) in &totals {
        println!("{n:>12} {what}");
    }
    println!("{wrong:>12} runs with an error, in {:.1?}", began.elapsed());
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What is wrong with a run.
fn tell(report: &RunReport, history: Option<&Path>) {
    println!("seed {}: {:?}", report.seed, counts(&report.anomalies));
    for anomaly in report.anomalies.iter().take(5) {
        println!("  {anomaly}");
    }
    let Some(folder) = history else { return };
    match write_history(folder, report) {
        Ok(path) => println!("  its operations: {}", path.display()),
        Err(error) => eprintln!("{}: {error}: give a folder that can be written", folder.display()),
    }
}

/// The operations in the order in which they began.
fn write_history(folder: &Path, report: &RunReport) -> io::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join(format!("seed-{}.txt", report.seed));
    let mut file = BufWriter::new(File::create(&path)?);
    let mut ops: Vec<_> = report.history.ops.iter().collect();
    ops.sort_by_key(|op| op.start);
    for Op { process, start, end, act } in ops {
        let end = end.map_or_else(|| "?".to_owned(), |end| end.to_string());
        writeln!(file, "{start}..{end} process {process}: {act:?}")?;
    }
    file.flush()?;
    Ok(path)
}

/// Looks for the first seed with an error of one of the kinds.
fn hunt(seeds: u64, time: Duration, stress: Stress, expect: &[Kind]) -> ExitCode {
    let began = Instant::now();
    let (mut runs, mut broken_off) = (0, 0);
    // why a run breaks off is the mutant's business
    std::panic::set_hook(Box::new(|_| {}));
    for seed in 0..seeds {
        if began.elapsed() > time {
            break;
        }
        runs += 1;
        let Ok(report) = std::panic::catch_unwind(|| sim::run(seed, Plan::with(seed, stress))) else {
            broken_off += 1;
            continue;
        };
        let found = counts(&report.anomalies);
        let is_expected = |kind| expect.is_empty() || expect.contains(kind);
        if found.keys().any(is_expected) {
            println!("caught at seed {seed} after {:.0?}: {found:?}", began.elapsed());
            for anomaly in report.anomalies.iter().take(3) {
                println!("  {anomaly}");
            }
            return ExitCode::SUCCESS;
        }
        if !found.is_empty() {
            println!("seed {seed} shows {found:?}, not what was expected");
        }
    }
    println!("missed in {runs} runs, {broken_off} of them broke off, after {:.0?}", began.elapsed());
    ExitCode::FAILURE
}

fn soak(soak: &Soak) -> ExitCode {
    let began = Instant::now();
    print!("{:>5}", "hour");
    NAMES.iter().for_each(|name| print!(" {name:>18}"));
    println!();
    let line = |sample: &Sample| {
        print!("{:>5}", sample.hour);
        sample.values.iter().for_each(|value| print!(" {value:>18}"));
        println!();
    };
    let samples = match soak::run(soak, line) {
        Ok(samples) => samples,
        Err(error) => {
            eprintln!("seed {}: {error}", soak.seed);
            return ExitCode::FAILURE;
        }
    };
    let found = soak::growth(&samples);
    println!("medians of the second and the last third:");
    for growth in &found {
        let verdict = if growth.grows { "GROWS" } else { "holds" };
        println!("{:>18} {:>12} {:>12} {verdict}", growth.what, growth.second_third, growth.last_third);
    }
    println!("seed {}, {} simulated hours in {:.1?}", soak.seed, soak.hours, began.elapsed());
    if found.iter().any(|growth| growth.grows) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
