//! `sunseo produce`: a file or standard input becomes records.
//!
//! A thread reads and parses, the producer sends; between them stand at most [`QUEUE_RECORDS`] records. Success means that every record is
//! durable.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal as _, Read as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use sunseo_client::producer::config::MAX_RECORD_BYTES;
use sunseo_client::{Ack, Compression, Producer, ProducerConfig, RecordPlace};
use sunseo_proto::clock::{Clock as _, SystemClock};
use sunseo_proto::{Header, Record};
use tokio::sync::mpsc;

use super::Context;
use super::failure::{Failure, Outcome};
use super::place::unescape;
use super::stop::Stop;
use crate::json::record;

/// Records that are read and not yet handed to the producer.
const QUEUE_RECORDS: usize = 1_024;

/// Acknowledgements that are waited for before more is sent, with `--places`.
const UNANSWERED_RECORDS: usize = 100_000;

#[derive(Debug, Args)]
pub struct Arguments {
    topic: String,
    /// Key of every record
    #[arg(long, short, conflicts_with = "key_delimiter")]
    key: Option<String>,
    /// The key of a line is what stands before the first of these [raw only]
    #[arg(long, short = 'K', value_name = "DELIM", value_parser = bytes_of)]
    key_delimiter: Option<Bytes>,
    /// Header of every record; may be given several times
    #[arg(long = "header", short = 'H', value_name = "NAME=VALUE", value_parser = super::place::pair)]
    headers: Vec<(String, String)>,
    /// Partition of every record, instead of the key's
    #[arg(long, short)]
    partition: Option<i32>,
    /// How the input is read
    #[arg(long, value_enum, default_value_t = Format::Raw)]
    format: Format,
    /// The byte that ends a record [raw only]
    #[arg(long, short = 'D', default_value = "\\n", value_name = "BYTE", value_parser = byte_of)]
    delimiter: u8,
    /// The whole input is one record [raw only]
    #[arg(long)]
    whole: bool,
    /// A record without bytes is a tombstone [raw only]
    #[arg(long)]
    null: bool,
    /// Input; standard input without it
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// When a record counts as sent. There is only "all": as durable as the topic's durability says, on disk unless it is "replicated".
    /// Batches are pipelined, so nothing waits for it
    #[arg(long, value_enum, default_value_t = Acks::All)]
    acks: Acks,
    /// Codec of the record batches
    #[arg(long, short = 'z', value_enum, default_value_t = Codec::None)]
    compression: Codec,
    /// Milliseconds that a batch waits for more records
    #[arg(long, default_value_t = 5, value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=3_600_000))]
    linger: u64,
    /// Bytes at which a batch is sent without waiting
    #[arg(long, default_value_t = 256 << 10, value_name = "BYTES")]
    batch_bytes: usize,
    /// Seconds after which a record that cannot be delivered fails
    #[arg(long, default_value_t = 120, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Print where each record landed
    #[arg(long)]
    places: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Each line is a value, whatever its bytes are
    Raw,
    /// Each line is a JSON object, as `consume --json` prints it
    Ndjson,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Acks {
    All,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Codec {
    None,
    Lz4,
    Zstd,
    Snappy,
    Gzip,
}

/// Bytes that were written with escapes.
#[derive(Clone, Debug)]
struct Bytes(Vec<u8>);

fn bytes_of(text: &str) -> Result<Bytes, String> {
    match unescape(text)? {
        bytes if bytes.is_empty() => Err("is empty: give at least one byte".to_owned()),
        bytes => Ok(Bytes(bytes)),
    }
}

fn byte_of(text: &str) -> Result<u8, String> {
    match unescape(text)?[..] {
        [byte] => Ok(byte),
        _ => Err(format!("{text:?} is not one byte: use one such as \\n or \\0")),
    }
}

/// A record on its way, and the partition it asks for.
type Parsed = (Option<i32>, Record);

pub async fn run(arguments: Arguments, context: &mut Context) -> Outcome {
    let Acks::All = arguments.acks;
    let client = context.connect().await?;
    // an unknown topic must not wait for the first record
    client.partitions(&arguments.topic).await?;
    let compression = match arguments.compression {
        Codec::None => Compression::None,
        Codec::Lz4 => Compression::Lz4,
        Codec::Zstd => Compression::Zstd,
        Codec::Snappy => Compression::Snappy,
        Codec::Gzip => Compression::Gzip,
    };
    let delivery_timeout = Duration::from_secs(arguments.timeout);
    let (linger_ms, batch_bytes) = (arguments.linger, arguments.batch_bytes);
    let config =
        ProducerConfig { compression, delivery_timeout, linger_ms, batch_bytes, ..ProducerConfig::default() };
    // a wrong value is a wrong command
    config.validate().map_err(|error| Failure::usage(error.to_string()))?;
    let producer = client.producer(config)?;
    let bar = progress(&arguments);
    let (topic, places) = (arguments.topic.clone(), arguments.places);
    let (sender, records) = mpsc::channel(QUEUE_RECORDS);
    let reading = {
        let bar = bar.clone();
        tokio::task::spawn_blocking(move || read(&arguments, &sender, &bar))
    };
    let sent = send(context, &producer, &topic, records, places).await;
    // what was accepted becomes durable, also after a failure
    let flushed = producer.close().await;
    bar.finish_and_clear();
    let sent = sent?;
    flushed?;
    // the reader has ended by itself, unless the user interrupted it while it waits for input
    if reading.is_finished() || !sent.interrupted {
        let read = reading.await.map_err(|error| Failure::new(format!("reading the input: {error}")))?;
        read?;
    }
    if context.output.json && !places {
        context.output.json(&json!({"topic": topic, "records": sent.records, "bytes": sent.bytes}))?;
    }
    Ok(())
}

fn progress(arguments: &Arguments) -> ProgressBar {
    let file_bytes =
        arguments.file.as_ref().and_then(|file| file.metadata().ok()).map(|metadata| metadata.len());
    match file_bytes.filter(|_| std::io::stderr().is_terminal()) {
        None => ProgressBar::hidden(),
        Some(bytes) => {
            let bar = ProgressBar::new(bytes);
            let template = "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
            bar.with_style(
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
            )
        }
    }
}

#[derive(Debug, Default)]
struct Sent {
    records: u64,
    bytes: u64,
    interrupted: bool,
}

async fn send(
    context: &mut Context,
    producer: &Producer,
    topic: &str,
    mut records: mpsc::Receiver<Parsed>,
    places: bool,
) -> Outcome<Sent> {
    let mut stop = Stop::listen()?;
    let mut sent = Sent::default();
    let mut unanswered: VecDeque<Ack> = VecDeque::new();
    loop {
        let room = unanswered.len() < UNANSWERED_RECORDS;
        let oldest = async {
            match unanswered.front_mut() {
                Some(ack) => ack.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.requested() => {
                sent.interrupted = true;
                break;
            }
            place = oldest => {
                unanswered.pop_front();
                show(context, &place?)?;
                if unanswered.is_empty() {
                    context.output.flush()?;
                }
            }
            record = records.recv(), if room => {
                let Some((partition, record)) = record else { break };
                sent.records += 1;
                sent.bytes += record.value.as_ref().map_or(0, |value| value.len() as u64);
                let ack = producer.send_to(topic, partition, record).await?;
                if places {
                    unanswered.push_back(ack);
                }
            }
        }
    }
    for ack in unanswered {
        show(context, &ack.await?)?;
    }
    Ok(sent)
}

fn show(context: &mut Context, place: &RecordPlace) -> Outcome {
    let RecordPlace { topic, partition, offset } = place;
    if context.output.json {
        let value = json!({"topic": topic.as_ref(), "partition": partition, "offset": offset});
        return Ok(context.output.json_line(&value)?);
    }
    Ok(context.output.bytes(format!("{topic} {partition} {offset}\n").as_bytes())?)
}

/// Reads until the end of the input, an error, or until nobody takes records any more.
fn read(arguments: &Arguments, sender: &mpsc::Sender<Parsed>, bar: &ProgressBar) -> Outcome {
    match &arguments.file {
        None => split(arguments, &mut std::io::stdin().lock(), "standard input", sender),
        Some(path) => {
            let file = File::open(path).map_err(Failure::file("opening", path))?;
            let mut reader = BufReader::with_capacity(1 << 20, bar.wrap_read(file));
            split(arguments, &mut reader, &path.display().to_string(), sender)
        }
    }
}

fn split(
    arguments: &Arguments,
    input: &mut dyn BufRead,
    name: &str,
    sender: &mpsc::Sender<Parsed>,
) -> Outcome {
    let limit = MAX_RECORD_BYTES as u64;
    let delimiter = if arguments.format == Format::Ndjson { b'\n' } else { arguments.delimiter };
    for number in 1_u64.. {
        let mut line = Vec::new();
        let mut bounded = input.take(limit + 1);
        let read = if arguments.whole {
            bounded.read_to_end(&mut line)
        } else {
            bounded.read_until(delimiter, &mut line)
        };
        let bytes = read.map_err(|error| Failure::new(format!("reading {name}: {error}")))?;
        if bytes == 0 && !(arguments.whole && number == 1) {
            return Ok(());
        }
        if !arguments.whole && line.last() == Some(&delimiter) {
            line.pop();
        }
        if line.len() as u64 > limit {
            return Err(Failure::new(format!(
                "record {number} of {name} has more than {limit} bytes: split it, or store it elsewhere and send its address"
            )));
        }
        let parsed =
            parse(arguments, line).map_err(|what| Failure::new(format!("line {number} of {name} {what}")))?;
        if parsed.is_some_and(|record| sender.blocking_send(record).is_err()) || arguments.whole {
            return Ok(());
        }
    }
    Ok(())
}

/// `None` for a line that holds nothing.
fn parse(arguments: &Arguments, line: Vec<u8>) -> Result<Option<Parsed>, String> {
    let (partition, mut record) = match arguments.format {
        Format::Raw => (None, raw(arguments, line)?),
        Format::Ndjson if line.trim_ascii().is_empty() => return Ok(None),
        Format::Ndjson => record::parse(&line)?,
    };
    if let Some(key) = &arguments.key {
        record.key = Some(key.clone().into());
    }
    if record.timestamp_ms == 0 {
        record.timestamp_ms = SystemClock.now_ms();
    }
    record
        .headers
        .extend(arguments.headers.iter().map(|(name, value)| Header::new(name.clone(), value.clone())));
    Ok(Some((arguments.partition.or(partition), record)))
}

fn raw(arguments: &Arguments, line: Vec<u8>) -> Result<Record, String> {
    let line = bytes::Bytes::from(line);
    let (key, value) = match &arguments.key_delimiter {
        None => (None, line),
        Some(Bytes(delimiter)) => {
            let at =
                line.windows(delimiter.len()).position(|window| window == delimiter).ok_or_else(|| {
                    let shown = String::from_utf8_lossy(delimiter).escape_default().to_string();
                    format!("has no key: {shown:?} does not occur in it")
                })?;
            (Some(line.slice(..at)), line.slice(at + delimiter.len()..))
        }
    };
    let value = Some(value).filter(|value| !(arguments.null && value.is_empty()));
    Ok(Record { key, value, ..Record::default() })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn read_all(options: &[&str], input: &[u8]) -> Result<Vec<Parsed>, String> {
        let line = ["produce", "t"].iter().chain(options);
        let arguments = Line::try_parse_from(line).map_err(|error| error.to_string())?.arguments;
        let (sender, mut records) = mpsc::channel(100);
        match split(&arguments, &mut &input[..], "input", &sender) {
            Ok(()) => {}
            Err(Failure::Message(message)) => return Err(message),
            Err(other) => panic!("{other:?}"),
        }
        drop(sender);
        Ok(std::iter::from_fn(|| records.try_recv().ok()).collect())
    }

    fn values(options: &[&str], input: &[u8]) -> Vec<Option<Vec<u8>>> {
        let read = read_all(options, input).unwrap();
        read.into_iter().map(|(_, record)| record.value.map(|value| value.to_vec())).collect()
    }

    #[test]
    fn lines_are_values_whatever_their_bytes_are() {
        let some = |bytes: &[u8]| Some(bytes.to_vec());
        assert_eq!(
            values(&[], b"a\n\n\xff\x00\r\nz"),
            [some(b"a"), some(b""), some(b"\xff\x00\r"), some(b"z")]
        );
        assert_eq!(values(&[], b""), []);
        assert_eq!(values(&["--whole"], b"a\nb\n"), [some(b"a\nb\n")]);
        assert_eq!(values(&["-D", "\\0"], b"a\nb\0c\0"), [some(b"a\nb"), some(b"c")]);
        assert_eq!(values(&["--null"], b"a\n\n"), [some(b"a"), None]);
    }

    #[test]
    fn keys_stand_before_the_delimiter_and_a_line_without_one_is_refused() {
        let read = read_all(&["-K", "::", "-H", "h=1"], b"k::v::w\n").unwrap();
        assert_eq!(read[0].1.key.as_deref(), Some(b"k".as_slice()));
        assert_eq!(read[0].1.value.as_deref(), Some(b"v::w".as_slice()));
        assert_eq!(read[0].1.headers, [Header::new("h", "1")]);
        let error = read_all(&["-K", ":"], b"k:v\nkv\n").unwrap_err();
        assert!(error.contains("line 2") && error.contains("no key"), "{error}");
    }

    #[test]
    fn a_broken_line_of_json_is_named() {
        let read = read_all(&["--format", "ndjson"], b"{\"value\":\"a\",\"partition\":3}\n\n").unwrap();
        assert_eq!((read.len(), read[0].0), (1, Some(3)));
        let error = read_all(&["--format", "ndjson"], b"{\"value\":1}\n{\n").unwrap_err();
        assert!(error.contains("line 2 of input not JSON"), "{error}");
    }

    #[test]
    fn a_record_beyond_the_limit_is_refused_without_reading_it_all() {
        let error = read_all(&[], &vec![b'x'; MAX_RECORD_BYTES + 10]).unwrap_err();
        assert!(error.contains("33554432"), "{error}");
    }
}
