//! `sunseo consume`: records to standard output.
//!
//! Without `--follow` it ends where the log ended when it began; in a group, where nothing is left of what the group assigns. In a
//! group an offset is committed only when its record was written, so a reader that goes away loses nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use sunseo_client::admin::OffsetQuery;
use sunseo_client::{Client, ConsumedRecord, Consumer, ConsumerConfig, StartFrom, Subscription};
use sunseo_proto::v1;
use tokio::time::Instant;

use super::Context;
use super::failure::{Failure, Outcome};
use super::format::{FIELDS, Format};
use super::output::Output;
use super::place::From;
use super::stop::Stop;
use crate::json;

/// Longest silence before the end is looked for again.
const POLL: Duration = Duration::from_millis(250);

#[derive(Debug, Args)]
pub struct Arguments {
    /// Names, or patterns with * and ? for every topic that fits
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Read as a member of this group, from its offsets, and commit
    #[arg(long, short)]
    group: Option<String>,
    /// Where to begin, in a group only where it has no offset: start, end, OFFSET, -N, @TIME or @-1h
    #[arg(long, value_name = "PLACE", default_value = "start", allow_hyphen_values = true)]
    from: From,
    /// Only this partition
    #[arg(long, short, conflicts_with = "group")]
    partition: Option<i32>,
    /// End after this many records
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
    /// Go on at the end, for records to come
    #[arg(long)]
    follow: bool,
    /// Which records of transactions: committed ones only, or all
    #[arg(long, value_enum, default_value_t = Isolation::Committed)]
    isolation: Isolation,
    /// Fields of a record, see below [default: %v\n]
    #[arg(long, short, value_name = "FORMAT", conflicts_with = "json", long_help = FIELDS)]
    format: Option<Format>,
    /// In a group: be this static member, who takes back what it had when it comes again; another one of the name is fenced
    #[arg(long, value_name = "NAME", requires = "group")]
    instance: Option<String>,
    /// In a group: how its partitions are spread, when this is its first member
    #[arg(long, requires = "group", value_parser = ["range", "uniform"])]
    assignor: Option<String>,
    /// In a group: write no offsets
    #[arg(long, requires = "group")]
    no_commit: bool,
    /// In a group: seconds to wait for a partition
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
}

/// What is seen of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Isolation {
    /// Records of committed transactions and of none
    Committed,
    /// Everything in the log, also what is open or was aborted
    Uncommitted,
}

impl std::convert::From<Isolation> for sunseo_client::Isolation {
    fn from(isolation: Isolation) -> Self {
        match isolation {
            Isolation::Committed => Self::ReadCommitted,
            Isolation::Uncommitted => Self::ReadUncommitted,
        }
    }
}

pub async fn run(arguments: Arguments, context: &mut Context) -> Outcome {
    let mut stop = Stop::listen()?;
    let client = context.connect().await?;
    let topics = client.topics(&arguments.topics).await?;
    for topic in &topics {
        // an unknown topic is no reason to wait for one
        client.partitions(topic).await?;
    }
    if topics.is_empty() && !arguments.follow {
        let patterns = arguments.topics.join(", ");
        return Err(Failure::new(format!(
            "no topic fits {patterns}: --follow waits for one, topic list shows what there is"
        )));
    }
    let (mut consumer, end) = match &arguments.group {
        Some(group) => (join(&client, group, &arguments).await?, End::GroupIsDone(Instant::now())),
        None => open(&client, &topics, &arguments).await?,
    };
    let format = match &arguments.format {
        Some(format) => format.clone(),
        None => "%v\\n".parse().map_err(Failure::new)?,
    };
    let mut printer = Printer { format, buffer: Vec::new() };
    let outcome = tokio::select! {
        outcome = print(&arguments, &mut consumer, &end, &mut printer, &mut context.output) => outcome,
        () = stop.requested() => Ok(()),
    };
    // leaves the group, with the offsets of what was written
    let closed = consumer.close().await;
    outcome?;
    Ok(closed?)
}

/// When reading ends, without `--follow`.
enum End {
    /// At these offsets.
    At(HashMap<(String, i32), i64>),
    /// When the partitions that the group assigns hold nothing more; since when one is waited for.
    GroupIsDone(Instant),
}

async fn join(client: &Client, group: &str, arguments: &Arguments) -> Outcome<Consumer> {
    let mut config = ConsumerConfig::group(group, arguments.topics.clone()).from(arguments.from.0);
    config.isolation = arguments.isolation.into();
    if let Subscription::Group { instance_id, assignor, .. } = &mut config.subscription {
        *instance_id = arguments.instance.clone().unwrap_or_default();
        *assignor = arguments.assignor.clone().unwrap_or_default();
    }
    if arguments.no_commit {
        config.auto_commit = None;
    }
    config.max_poll_records = poll_records(arguments);
    Ok(client.consumer(config).await?)
}

/// No more than is asked for, so that little has to be given back.
fn poll_records(arguments: &Arguments) -> usize {
    arguments.count.map_or(4_096, |count| count.clamp(1, 4_096) as usize)
}

async fn open(client: &Client, topics: &[String], arguments: &Arguments) -> Outcome<(Consumer, End)> {
    let by_offset = matches!(arguments.from.0, StartFrom::Offset(_));
    if arguments.follow && arguments.partition.is_none() && !by_offset {
        // follows topics and partitions that are yet to come, too
        let mut config = ConsumerConfig::topics(arguments.topics.clone()).from(arguments.from.0);
        config.max_poll_records = poll_records(arguments);
        return Ok((client.consumer(config).await?, End::At(HashMap::new())));
    }
    let mut partitions = Vec::new();
    for topic in topics {
        let count = client.partitions(topic).await?;
        match arguments.partition {
            None => partitions.extend((0..count).map(|partition| (topic.clone(), partition))),
            Some(partition) if (0..count).contains(&partition) => partitions.push((topic.clone(), partition)),
            Some(partition) => {
                return Err(Failure::new(format!(
                    "topic {topic} has {count} partitions, there is no {partition}: use 0 to {}",
                    count - 1
                )));
            }
        }
    }
    let ends = offsets(client, &partitions, OffsetQuery::End, arguments.isolation).await?;
    let (from, clamp) = match arguments.from.0 {
        StartFrom::Offset(offset) => (StartFrom::Start, Some(offset)),
        from => (from, None),
    };
    let mut config = ConsumerConfig::partitions(partitions.clone()).from(from);
    config.isolation = arguments.isolation.into();
    config.max_poll_records = poll_records(arguments);
    let consumer = client.consumer(config).await?;
    if let Some(offset) = clamp {
        let highest = ends.iter().copied().max().unwrap_or(0);
        if offset > highest {
            return Err(Failure::new(format!(
                "offset {offset} is beyond the end of {}: the highest is {highest}, --from end begins there",
                arguments.topics.join(", ")
            )));
        }
        // one number cannot fit every partition: where it lies outside, the nearest end of the log counts
        let starts = offsets(client, &partitions, OffsetQuery::Start, arguments.isolation).await?;
        for (((topic, partition), start), end) in partitions.iter().zip(starts).zip(&ends) {
            consumer.seek(topic, *partition, offset.max(start).min(*end))?;
        }
    }
    Ok((consumer, End::At(partitions.into_iter().zip(ends).collect())))
}

async fn offsets(
    client: &Client,
    partitions: &[(String, i32)],
    at: OffsetQuery,
    isolation: Isolation,
) -> Outcome<Vec<i64>> {
    let partition = |(topic, partition): &(String, i32)| v1::ListOffsetsPartition {
        topic: topic.clone(),
        partition: *partition,
        timestamp_ms: at.timestamp_ms(),
        ..Default::default()
    };
    let request = v1::ListOffsetsRequest {
        partitions: partitions.iter().map(partition).collect(),
        isolation: v1::Isolation::from(sunseo_client::Isolation::from(isolation)).into(),
    };
    let answer = client.transport().list_offsets(request).await?;
    if let Some(error) = answer.results.iter().find_map(|result| result.error.clone()) {
        return Err(sunseo_proto::Error::from(error).into());
    }
    Ok(answer.results.into_iter().map(|result| result.offset.max(0)).collect())
}

/// Turns records into bytes.
struct Printer {
    format: Format,
    buffer: Vec<u8>,
}

impl Printer {
    /// Writes and flushes; on an error nobody knows how much was read.
    fn print(&mut self, records: &[ConsumedRecord], output: &mut Output) -> std::io::Result<()> {
        for record in records {
            if output.json {
                output.json_line(&json::record::consumed(record))?;
            } else {
                self.buffer.clear();
                self.format.write(record, &mut self.buffer);
                output.bytes(&self.buffer)?;
            }
        }
        output.flush()
    }
}

async fn print(
    arguments: &Arguments,
    consumer: &mut Consumer,
    end: &End,
    printer: &mut Printer,
    output: &mut Output,
) -> Outcome {
    let mut left = arguments.count.unwrap_or(u64::MAX);
    let mut warned = false;
    while left > 0 && (arguments.follow || !reached(consumer, end)) {
        let records = consumer.poll(POLL).await?;
        if records.is_empty() {
            warn_once(consumer, &mut warned);
            if !arguments.follow && group_is_done(consumer, arguments, end)? {
                return Ok(());
            }
            continue;
        }
        let (wanted, surplus): (Vec<_>, Vec<_>) = records.into_iter().partition(|record| {
            let wanted = left > 0 && (arguments.follow || !beyond(record, end));
            left -= u64::from(wanted);
            wanted
        });
        if let Err(error) = printer.print(&wanted, output) {
            give_back(consumer, &wanted);
            return Err(error.into());
        }
        give_back(consumer, &surplus);
    }
    Ok(())
}

/// The record came after the consumer began.
fn beyond(record: &ConsumedRecord, end: &End) -> bool {
    match end {
        End::At(ends) => {
            let end = ends.get(&(record.topic.to_string(), record.partition));
            end.is_some_and(|&end| record.record.offset >= end)
        }
        End::GroupIsDone(_) => false,
    }
}

fn reached(consumer: &Consumer, end: &End) -> bool {
    match end {
        End::At(ends) => ends.iter().all(|((topic, partition), end)| {
            consumer.position(topic, *partition).is_some_and(|position| position >= *end)
        }),
        End::GroupIsDone(_) => false,
    }
}

/// Nothing came: is that because nothing is left?
fn group_is_done(consumer: &Consumer, arguments: &Arguments, end: &End) -> Outcome<bool> {
    let End::GroupIsDone(since) = end else { return Ok(false) };
    let assigned = consumer.assignment();
    if assigned.is_empty() && since.elapsed() >= Duration::from_secs(arguments.wait) {
        let why = consumer.trouble().map_or_else(
            || "other members have them all: end one, or raise --wait".to_owned(),
            |trouble| trouble.to_string(),
        );
        let group = arguments.group.as_deref().unwrap_or_default();
        return Err(Failure::new(format!(
            "group {group} gave no partition of {} within {} s: {why}",
            arguments.topics.join(", "),
            arguments.wait
        )));
    }
    let nothing_left = |(topic, partition): &(Arc<str>, i32)| consumer.lag(topic, *partition) == Some(0);
    Ok(!assigned.is_empty() && assigned.iter().all(nothing_left))
}

/// Records that nobody saw are read again by whoever comes next.
fn give_back(consumer: &Consumer, records: &[ConsumedRecord]) {
    let mut seen = HashSet::new();
    for ConsumedRecord { topic, partition, record } in records {
        if seen.insert((topic, partition)) {
            // a partition that is no longer assigned is the next owner's, from the last commit
            let _ = consumer.seek(topic, *partition, record.offset);
        }
    }
}

fn warn_once(consumer: &Consumer, warned: &mut bool) {
    match consumer.trouble() {
        None => *warned = false,
        Some(_) if *warned => {}
        Some(trouble) => {
            super::note(&format!("{trouble}; trying again"));
            *warned = true;
        }
    }
}
