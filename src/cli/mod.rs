//! The command line: a file per family of commands, each parse, call, print.
//!
//! Exit status: 0 done, 1 failed, 2 usage. An error is one line on stderr that names what, the value or limit, and the remedy.
//! What is printed on stdout is meant for pipes; a reader that goes away ends a command quietly.

mod archive;
mod bench;
mod completions;
mod consume;
mod demo;
mod dev;
pub mod failure;
mod format;
mod group;
mod log;
mod logging;
mod outbox;
mod output;
mod pipeline;
mod place;
pub mod produce;
pub mod progress;
mod query;
mod quota;
mod stop;
mod tier;
mod topic;
mod txn;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use sunseo_client::{Client, GrpcConfig};

use self::failure::{Failure, Outcome, one_line};
use self::output::Output;

/// Where the server is unless it is said otherwise.
const DEFAULT_SERVER: &str = "127.0.0.1:7411";

/// Longest wait at the end of a process for the engine's state to close.
const CLOSING_MAX: Duration = Duration::from_secs(10);

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("SUNSEO_COMMIT"), ")");

/// One server for ordered events: log, outbox ingest, stream engine, archive.
#[derive(Debug, Parser)]
#[command(name = "sunseo", version = VERSION, propagate_version = true, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Args)]
struct Globals {
    /// gRPC address of the server [default: 127.0.0.1:7411]
    #[arg(
        long,
        global = true,
        env = "SUNSEO_SERVER",
        value_name = "HOST:PORT",
        help_heading = "Global options"
    )]
    server: Option<String>,
    /// Who this is, for the server's quotas
    #[arg(long, global = true, env = "SUNSEO_CLIENT_ID", value_name = "ID", help_heading = "Global options")]
    client_id: Option<String>,
    /// JSON instead of tables
    #[arg(long, global = true, help_heading = "Global options")]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One node with everything in it, for development: data in ./sunseo-data
    Dev(Box<dev::Dev>),
    /// One node, from a configuration file
    Server(dev::Server),
    /// A day of food deliveries on a node of its own, compared with the simulator's truth
    Demo(demo::Arguments),
    /// Create, list, describe, alter and delete topics
    #[command(subcommand)]
    Topic(topic::Command),
    /// Send records from a file or standard input
    Produce(produce::Arguments),
    /// Read records
    Consume(consume::Arguments),
    /// Consumer groups: who reads what, and how far
    #[command(subcommand)]
    Group(group::Command),
    /// Transactions: which are open, what waits for them, and how to end one
    #[command(subcommand)]
    Txn(txn::Command),
    /// Databases whose outbox tables are read
    #[command(subcommand)]
    Outbox(outbox::Command),
    /// Pipelines of the stream engine
    #[command(subcommand)]
    Pipeline(pipeline::Command),
    /// Read a pipeline's live state
    Query(query::Arguments),
    /// Segments in the object store
    #[command(subcommand)]
    Tier(tier::Command),
    /// Tables that are written as Parquet
    #[command(subcommand)]
    Archive(archive::Command),
    /// Bounds on what one client may do in a second
    #[command(subcommand)]
    Quota(quota::Command),
    /// Measure a server, or a node of its own
    #[command(subcommand)]
    Bench(crate::bench::Command),
    /// Read the files of a node that is not running
    #[command(subcommand)]
    Log(log::Command),
    /// Completions for a shell, on standard output
    Completions(completions::Arguments),
}

/// What every command gets.
pub struct Context {
    globals: Globals,
    output: Output,
}

impl Context {
    /// The address asked for, or the default.
    fn server(&self) -> &str {
        self.globals.server.as_deref().unwrap_or(DEFAULT_SERVER)
    }

    async fn connect(&self) -> Outcome<Client> {
        let mut config = GrpcConfig::new(self.server());
        config.client_id.clone_from(&self.globals.client_id);
        Ok(Client::connect_with(config).await?)
    }
}

/// Parses, runs, and says how it ended.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refused(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return ended(Err(Failure::new(format!("cannot start threads: {error}")))),
    };
    let output = Output::new(cli.globals.json);
    let mut context = Context { globals: cli.globals, output };
    let outcome = runtime.block_on(Box::pin(run(cli.command, &mut context)));
    let outcome = outcome.and_then(|()| context.output.flush().map_err(Failure::from));
    drop(context);
    // a task that still blocks on something must not keep a finished command
    runtime.shutdown_background();
    if !sunseo_engine::wait_until_closed(CLOSING_MAX) {
        tracing::warn!("the engine's state did not close in time: the next start replays more");
    }
    ended(outcome)
}

async fn run(command: Command, context: &mut Context) -> Outcome {
    if !matches!(command, Command::Dev(_) | Command::Server(_)) {
        // what goes wrong comes back as an error: the libraries need not say it too
        logging::start("error");
    }
    match command {
        Command::Dev(arguments) => dev::run_dev(*arguments, context).await,
        Command::Server(arguments) => dev::run_server(arguments, context).await,
        Command::Demo(arguments) => demo::run(arguments, context).await,
        Command::Topic(command) => topic::run(command, context).await,
        Command::Produce(arguments) => produce::run(arguments, context).await,
        Command::Consume(arguments) => consume::run(arguments, context).await,
        Command::Group(command) => group::run(command, context).await,
        Command::Txn(command) => txn::run(command, context).await,
        Command::Outbox(command) => outbox::run(command, context).await,
        Command::Pipeline(command) => pipeline::run(command, context).await,
        Command::Query(arguments) => query::run(arguments, context).await,
        Command::Tier(command) => tier::run(command, context).await,
        Command::Archive(command) => archive::run(command, context).await,
        Command::Quota(command) => quota::run(command, context).await,
        Command::Bench(command) => bench::run(command, context).await,
        Command::Log(command) => log::run(command, context),
        Command::Completions(arguments) => completions::run(&arguments, context),
    }
}

fn ended(outcome: Outcome) -> ExitCode {
    let (message, status) = match outcome {
        Ok(()) | Err(Failure::ReaderGone) => return ExitCode::SUCCESS,
        Err(Failure::Reported) => return ExitCode::from(1),
        Err(Failure::Message(message)) => (message, 1),
        Err(Failure::Usage(message)) => (message, 2),
    };
    complain(&message);
    ExitCode::from(status)
}

fn complain(message: &str) {
    note(&format!("error: {message}"));
}

/// One line on stderr; nobody can be told when that fails.
fn note(message: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{}", one_line(message));
}

/// What clap says: help and version as they are, a refusal on one line.
fn refused(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(2)
        }
        _ => {
            let text = error.render().to_string();
            let words = text.lines().map(str::trim).filter(|line| !line.is_empty());
            let words = words.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
            let said = words.collect::<Vec<_>>().join(" ");
            let said = said.strip_prefix("error: ").unwrap_or(&said);
            complain(&format!("{said} (--help shows what is possible)"));
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    #[test]
    fn the_definition_of_the_commands_holds_together() {
        Cli::command().debug_assert();
    }
}
