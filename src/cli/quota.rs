//! `sunseo quota`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use sunseo_proto::v1;

use super::Context;
use super::failure::Outcome;

/// How everybody without a quota of their own is named.
const DEFAULT: &str = "(default)";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Set what a client may do; it holds from the next request on
    Set(Set),
    /// All quotas
    List,
    /// Delete the quota of a client: the default holds for it
    Delete(Client),
}

#[derive(Debug, Args)]
pub struct Client {
    /// Id that the client gives itself (header sunseo-client-id)
    #[arg(required_unless_present = "default")]
    client: Option<String>,
    /// Every client without a quota of its own, each for itself
    #[arg(long, conflicts_with = "client")]
    default: bool,
}

#[derive(Debug, Args)]
pub struct Set {
    #[command(flatten)]
    client: Client,
    /// Bytes produced per second [default: no bound]
    #[arg(long, value_name = "N")]
    produce_bytes: Option<u64>,
    /// Bytes fetched per second [default: no bound]
    #[arg(long, value_name = "N")]
    fetch_bytes: Option<u64>,
    /// Requests per second [default: no bound]
    #[arg(long, value_name = "N")]
    requests: Option<u64>,
}

pub async fn run(command: Command, context: &mut Context) -> Outcome {
    let admin = context.connect().await?.admin();
    match command {
        Command::Set(Set { client, produce_bytes, fetch_bytes, requests }) => {
            let client = client.client.unwrap_or_default();
            admin
                .set_quota(v1::Quota {
                    client: client.clone(),
                    produce_bytes_per_second: produce_bytes,
                    fetch_bytes_per_second: fetch_bytes,
                    requests_per_second: requests,
                })
                .await?;
            super::place::done(context, "quota", shown(&client), "set")
        }
        Command::List => list(context, &admin.quotas().await?),
        Command::Delete(client) => {
            let client = client.client.unwrap_or_default();
            admin.delete_quota(&client).await?;
            super::place::done(context, "quota", shown(&client), "deleted")
        }
    }
}

fn shown(client: &str) -> &str {
    if client.is_empty() { DEFAULT } else { client }
}

fn list(context: &mut Context, quotas: &[v1::Quota]) -> Outcome {
    if context.output.json {
        let quota = |quota: &v1::Quota| {
            json!({
                "client": if quota.client.is_empty() { Value::Null } else { quota.client.as_str().into() },
                "produce_bytes_per_second": quota.produce_bytes_per_second,
                "fetch_bytes_per_second": quota.fetch_bytes_per_second,
                "requests_per_second": quota.requests_per_second,
            })
        };
        return Ok(context.output.json(&quotas.iter().map(quota).collect())?);
    }
    let rate = |rate: Option<u64>| rate.map_or_else(|| "-".to_owned(), |rate| rate.to_string());
    let row = |quota: &v1::Quota| {
        vec![
            shown(&quota.client).to_owned(),
            rate(quota.produce_bytes_per_second),
            rate(quota.fetch_bytes_per_second),
            rate(quota.requests_per_second),
        ]
    };
    let headings = ["CLIENT", ">PRODUCE B/S", ">FETCH B/S", ">REQUESTS/S"];
    Ok(context.output.table(&headings, quotas.iter().map(row).collect())?)
}
