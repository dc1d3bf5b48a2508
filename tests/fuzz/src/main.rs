//! Long runs, and the corpus: `make fuzz TARGET=batch SECONDS=600`, `make fuzz CORPUS=1`.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use sunseo_fuzz::run::Watch;
use sunseo_fuzz::targets::{self, CORPUS};
use sunseo_fuzz::{Corpus, Failure, Target, memory};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

#[derive(Debug, Parser)]
#[command(about = "Changed examples for every decoder")]
struct Arguments {
    /// Only the targets whose name begins so.
    #[arg(long, default_value = "")]
    target: String,
    /// For each target.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Of the first input; without it one that was not used before.
    #[arg(long)]
    seed: Option<u64>,
    /// Writes the examples of the encoders into the corpus, and runs nothing.
    #[arg(long)]
    corpus: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let chosen: Vec<Target> =
        targets::all().into_iter().filter(|target| target.name.starts_with(&arguments.target)).collect();
    if chosen.is_empty() {
        let known: Vec<_> = targets::all().iter().map(|target| target.name).collect();
        eprintln!("no target begins with {:?}: there are {}", arguments.target, known.join(", "));
        return ExitCode::FAILURE;
    }
    let work = if arguments.corpus { write } else { long };
    match chosen.iter().try_for_each(|target| work(target, &arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}

fn write(target: &Target, _: &Arguments) -> Result<(), String> {
    let bytes = Corpus::write(Path::new(CORPUS), target).map_err(|error| format!("{CORPUS}: {error}"))?;
    println!("{}: {bytes} bytes", target.name);
    Ok(())
}

fn long(target: &Target, arguments: &Arguments) -> Result<(), String> {
    let corpus = Corpus::load(Path::new(CORPUS), target).map_err(|error| format!("{CORPUS}: {error}"))?;
    let seed = arguments.seed.unwrap_or_else(rand::random);
    let (watch, begun) = (Watch::begin(format!("{} (seed {seed})", target.name)), Instant::now());
    let mut outcome = corpus.replay(target);
    let mut inputs = 0;
    while outcome.is_ok() && begun.elapsed() < Duration::from_secs(arguments.seconds) {
        watch.step(inputs);
        outcome = corpus.step(target, seed, inputs);
        inputs += 1;
    }
    println!("{}: seed {seed}, {inputs} inputs", target.name);
    outcome.map_err(|failure| keep(&failure))
}

/// Puts the input beside the examples, where every later run meets it.
fn keep(failure: &Failure) -> String {
    let name = format!("found-{:08x}", crc32fast::hash(&failure.input));
    let path = Path::new(CORPUS).join(failure.target).join(name);
    match std::fs::write(&path, &failure.input) {
        Ok(()) => format!("{failure}\nkept as {}", path.display()),
        Err(error) => format!("{failure}\ncannot be kept as {}: {error}", path.display()),
    }
}
