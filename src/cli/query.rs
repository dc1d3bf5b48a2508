//! `sunseo query`.

use clap::Args;
use sunseo_client::QueryClient;
use sunseo_proto::v1;

use super::Context;
use super::failure::{Failure, Outcome};
use crate::json;

/// Entries of one answer; a longer range is asked for in pieces by its user.
const LIMIT: u32 = 1_000;

#[derive(Debug, Args)]
pub struct Arguments {
    pipeline: String,
    /// Store of the pipeline; without it the stores are listed
    store: Option<String>,
    /// Key as JSON or as plain text; without it the store is scanned
    #[arg(conflicts_with_all = ["from", "to"], allow_hyphen_values = true)]
    key: Option<String>,
    /// First key of a scan
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    from: Option<String>,
    /// Key before which a scan ends
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    to: Option<String>,
    /// Most entries of a scan
    #[arg(long, default_value_t = LIMIT)]
    limit: u32,
}

pub async fn run(arguments: Arguments, context: &mut Context) -> Outcome {
    let client = context.connect().await?.query()?;
    let Arguments { pipeline, store, key, from, to, limit } = arguments;
    match (store, key) {
        (None, _) => stores(context, &client.stores(&pipeline).await?),
        (Some(store), Some(key)) => get(context, &client, (&pipeline, &store), &key).await,
        (Some(store), None) => {
            let answer = scan(&client, (&pipeline, &store), (from, to), limit).await?;
            scanned(context, &answer)
        }
    }
}

fn stores(context: &mut Context, stores: &[v1::StoreDescription]) -> Outcome {
    if context.output.json {
        return Ok(context.output.json(&stores.iter().map(json::store).collect())?);
    }
    let row = |s: &v1::StoreDescription| {
        let entries = s.entries_estimate.to_string();
        vec![s.store.clone(), s.key_type.clone(), s.value_type.clone(), entries]
    };
    let headings = ["STORE", "KEY", "VALUE", ">ENTRIES ABOUT"];
    Ok(context.output.table(&headings, stores.iter().map(row).collect())?)
}

async fn get(context: &mut Context, client: &QueryClient, at: (&str, &str), key: &str) -> Outcome {
    let (pipeline, store) = at;
    let ask = |forms: Vec<String>| async move { client.get(pipeline, store, &forms[0]).await };
    let answer = json::first_accepted(&[Some(key)], ask).await?;
    found(context, &answer, store, key)
}

fn found(context: &mut Context, answer: &v1::QueryGetResponse, store: &str, key: &str) -> Outcome {
    if context.output.json {
        context.output.json(&json::query_found(answer))?;
        return if answer.found { Ok(()) } else { Err(Failure::Reported) };
    }
    match answer.entry.as_ref().filter(|_| answer.found) {
        Some(entry) => Ok(context.output.line(json::query_entry(entry)["value"].to_string())?),
        None => Err(Failure::new(format!("store {store} has no entry for key {key:?}"))),
    }
}

async fn scan(
    client: &QueryClient,
    (pipeline, store): (&str, &str),
    (from, to): (Option<String>, Option<String>),
    limit: u32,
) -> Outcome<v1::QueryScanResponse> {
    let ask = |forms: Vec<String>| async move {
        let (from_json, to_json) = (forms[0].clone(), forms[1].clone());
        let (pipeline, store) = (pipeline.to_owned(), store.to_owned());
        client.scan(v1::QueryScanRequest { pipeline, store, from_json, to_json, limit }).await
    };
    Ok(json::first_accepted(&[from.as_deref(), to.as_deref()], ask).await?)
}

fn scanned(context: &mut Context, answer: &v1::QueryScanResponse) -> Outcome {
    if context.output.json {
        return Ok(context.output.json(&json::query_scan(answer))?);
    }
    let row = |entry: &v1::QueryEntry| {
        let entry = json::query_entry(entry);
        vec![entry["key"].to_string(), entry["value"].to_string()]
    };
    context.output.table(&["KEY", "VALUE"], answer.entries.iter().map(row).collect())?;
    if answer.truncated {
        let shown = answer.entries.len();
        let text =
            format!("the store has more than these {shown} entries: narrow the range or raise --limit");
        super::note(&text);
    }
    Ok(())
}
