//! `sunseo archive`: definitions of the tables that the tier writes as Parquet.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::Value;

use super::Context;
use super::failure::{Failure, Outcome};
use crate::json;

/// Kind of these definitions in the server's metadata.
const KIND: &str = "archive";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// All tables, with their files and rows
    List,
    /// One table's definition
    Describe { table: String },
    /// Add a table, or change it
    ///
    /// The file is a JSON object: {"table": .., "topic": .., "columns": [{"name": .., "type": "string|int64|float64|bool|
    /// timestamp_micros|timestamp_millis|json", "path": .., "optional": ..}], "time_column": .., "key": .., "from": "start|end"}
    Put {
        /// The definition; - is standard input
        file: PathBuf,
    },
    /// Stop a table; files that are written stay
    Remove { table: String },
}

pub async fn run(command: Command, context: &mut Context) -> Outcome {
    let admin = context.connect().await?.admin();
    match command {
        Command::List => {
            let tables = admin.tier_status("").await?.archives;
            if context.output.json {
                return Ok(context.output.json(&tables.iter().map(json::archive).collect())?);
            }
            super::tier::archives(context, &tables)
        }
        Command::Describe { table } => match admin.definition(KIND, &table).await? {
            Some(definition) => Ok(context.output.json(&json::definition(&definition))?),
            None => Err(unknown(&table)),
        },
        Command::Put { file } => {
            let body = read(&file)?;
            let definition: Value = serde_json::from_slice(&body)
                .map_err(|error| Failure::new(format!("{} is not JSON: {error}", file.display())))?;
            let table = definition["table"]
                .as_str()
                .ok_or_else(|| Failure::new(format!("{} names no table: set \"table\"", file.display())))?;
            let version = admin.put_definition(KIND, table, body, -1).await?;
            super::place::done(context, "table", table, &format!("stored as version {version}"))
        }
        Command::Remove { table } => {
            if admin.definition(KIND, &table).await?.is_none() {
                return Err(unknown(&table));
            }
            admin.delete_definition(KIND, &table).await?;
            super::place::done(context, "table", &table, "removed")
        }
    }
}

fn read(file: &std::path::Path) -> Outcome<Vec<u8>> {
    if file.as_os_str() == "-" {
        return std::io::read_to_string(std::io::stdin())
            .map(String::into_bytes)
            .map_err(|error| Failure::new(format!("reading standard input: {error}")));
    }
    std::fs::read(file).map_err(Failure::file("reading", file))
}

fn unknown(table: &str) -> Failure {
    Failure::new(format!("archive table {table:?} does not exist: `sunseo archive list` shows those that do"))
}
