//! `sunseo txn`: transactions, as an operator sees them.

use clap::Subcommand;
use serde_json::{Value, json};
use sunseo_proto::v1;

use super::Context;
use super::failure::Outcome;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Transactional ids and how they stand
    List {
        /// Only those in this state: empty, ongoing, prepare_commit, prepare_abort, complete_commit or complete_abort
        #[arg(long, value_name = "STATE")]
        state: Vec<String>,
    },
    /// What is part of a transaction, and what readers of committed records wait for
    Describe {
        #[arg(value_name = "TRANSACTIONAL_ID")]
        id: String,
    },
    /// End an open transaction; its producer is told
    Abort {
        #[arg(value_name = "TRANSACTIONAL_ID")]
        id: String,
    },
}

pub async fn run(command: Command, context: &mut Context) -> Outcome {
    let client = context.connect().await?;
    let transport = client.transport();
    match command {
        Command::List { state } => {
            let request = v1::ListTransactionsRequest { states: state };
            list(context, &transport.list_transactions(request).await?.transactions)
        }
        Command::Describe { id } => {
            let request = v1::DescribeTransactionRequest { transactional_id: id };
            describe(context, &transport.describe_transaction(request).await?)
        }
        Command::Abort { id } => {
            let request = v1::AbortTransactionRequest { transactional_id: id.clone() };
            transport.abort_transaction(request).await?;
            super::place::done(context, "transaction", &id, "aborted")
        }
    }
}

fn summary(transaction: &v1::TransactionSummary) -> Value {
    json!({
        "transactional_id": transaction.transactional_id,
        "state": transaction.state,
        "producer_id": transaction.producer_id,
        "producer_epoch": transaction.producer_epoch,
        "open_ms": (transaction.open_ms >= 0).then_some(transaction.open_ms),
    })
}

fn open_for(transaction: &v1::TransactionSummary) -> String {
    match transaction.open_ms {
        ms if ms < 0 => "-".to_owned(),
        ms => format!("{}.{:03} s", ms / 1_000, ms % 1_000),
    }
}

fn list(context: &mut Context, transactions: &[v1::TransactionSummary]) -> Outcome {
    if context.output.json {
        return Ok(context.output.json(&transactions.iter().map(summary).collect())?);
    }
    let row = |t: &v1::TransactionSummary| {
        vec![
            t.transactional_id.clone(),
            t.state.clone(),
            t.producer_id.to_string(),
            t.producer_epoch.to_string(),
            open_for(t),
        ]
    };
    let rows = transactions.iter().map(row).collect();
    Ok(context.output.table(&["TRANSACTIONAL ID", "STATE", ">PRODUCER", ">EPOCH", ">OPEN"], rows)?)
}

fn describe(context: &mut Context, described: &v1::DescribeTransactionResponse) -> Outcome {
    let of = described.summary.clone().unwrap_or_default();
    let place = |p: &v1::TransactionPartition| p.partition.clone().unwrap_or_default();
    if context.output.json {
        let mut value = summary(&of);
        let partition = |p: &v1::TransactionPartition| {
            json!({
                "topic": place(p).topic,
                "partition": place(p).partition,
                "last_stable_offset": p.last_stable_offset,
                "high_watermark": p.high_watermark,
            })
        };
        value["timeout_ms"] = json!(described.timeout_ms);
        value["changed_ms"] = json!(described.changed_ms);
        value["partitions"] = described.partitions.iter().map(partition).collect();
        value["groups"] = json!(described.groups);
        return Ok(context.output.json(&value)?);
    }
    context.output.pairs(vec![
        ("transactional id", of.transactional_id.clone()),
        ("state", of.state.clone()),
        ("producer", format!("{} epoch {}", of.producer_id, of.producer_epoch)),
        ("open for", open_for(&of)),
        ("time-out", format!("{} ms", described.timeout_ms)),
        ("groups", described.groups.join(", ")),
    ])?;
    if described.partitions.is_empty() {
        return Ok(());
    }
    let row = |p: &v1::TransactionPartition| {
        let v1::TopicPartition { topic, partition } = place(p);
        let waiting = (p.high_watermark - p.last_stable_offset).max(0);
        vec![topic, partition.to_string(), p.last_stable_offset.to_string(), waiting.to_string()]
    };
    let rows = described.partitions.iter().map(row).collect();
    Ok(context.output.table(&["TOPIC", ">PARTITION", ">STABLE", ">WAITING"], rows)?)
}
