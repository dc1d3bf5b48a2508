//! `sunseo completions SHELL`.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::failure::Outcome;
use super::{Cli, Context};

#[derive(Debug, Args)]
pub struct Arguments {
    shell: Shell,
}

pub fn run(arguments: &Arguments, context: &mut Context) -> Outcome {
    // into memory first: the generator panics when a pipe breaks
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "sunseo", &mut script);
    Ok(context.output.bytes(&script)?)
}
