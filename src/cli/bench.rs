//! `sunseo bench`: runs a measurement and prints it.

use serde_json::Value;

use super::Context;
use super::failure::Outcome;
use crate::bench::{self, Command};

pub async fn run(command: Command, context: &mut Context) -> Outcome {
    let name = command.name();
    let server = context.globals.server.clone();
    let quiet = context.output.json;
    let report = Box::pin(bench::run(command, server.as_deref(), quiet)).await?;
    if context.output.json {
        return Ok(context.output.json(&report.to_json(name))?);
    }
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut pairs = vec![("bench", name.to_owned())];
    pairs.extend(report.facts().iter().map(|(name, value)| (name.as_str(), plain(value))));
    pairs.extend(report.figures().iter().map(|(name, value)| (name.as_str(), super::output::figure(*value))));
    Ok(context.output.pairs(pairs)?)
}
