//! What comes and goes: members of a group, topics and their partitions.

mod groups;
mod member;
mod partitions;
mod seen;

use clap::Subcommand;

use super::target::Target;
use super::{Common, Report};
use crate::cli::failure::Outcome;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Members join, leave and crash while records flow: time until the assignment is stable, what moved, how long records waited
    Groups(groups::Arguments),
    /// Topics are made, grown, written to and deleted: how many a second, and how long each takes
    Partitions(partitions::Arguments),
}

impl Command {
    pub fn common(&self) -> &Common {
        match self {
            Self::Groups(arguments) => &arguments.common,
            Self::Partitions(arguments) => &arguments.common,
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Groups(_) => "churn groups",
            Self::Partitions(_) => "churn partitions",
        }
    }

    pub async fn run(&self, target: &Target, report: &mut Report) -> Outcome {
        match self {
            Self::Groups(arguments) => Box::pin(groups::run(arguments, target, report)).await,
            Self::Partitions(arguments) => Box::pin(partitions::run(arguments, target, report)).await,
        }
    }
}
