//! Small arguments that several commands share: places in a log, pairs, names with a partition.

use std::str::FromStr;

use serde_json::json;
use sunseo_client::StartFrom;
use sunseo_proto::clock::{Clock as _, SystemClock};

use super::Context;
use super::failure::Outcome;

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct From(pub StartFrom);

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        place(text, SystemClock.now_ms()).map(Self)
    }
}

const PLACES: &str =
    "start, end, OFFSET, -N (N records before the end), @TIME (RFC 3339, a date, or ms since 1970) or @-1h";

fn place(text: &str, now_ms: i64) -> Result<StartFrom, String> {
    let refused = || format!("{text:?} is no place: use {PLACES}");
    match text {
        "start" => return Ok(StartFrom::Start),
        "end" => return Ok(StartFrom::End),
        _ => {}
    }
    if let Some(time) = text.strip_prefix('@') {
        return timestamp(time, now_ms).map(StartFrom::Timestamp).ok_or_else(refused);
    }
    if let Some(count) = text.strip_prefix('-') {
        return count.parse().map(StartFrom::LastN).map_err(|_| refused());
    }
    text.parse().map(StartFrom::Offset).map_err(|_| refused())
}

fn timestamp(text: &str, now_ms: i64) -> Option<i64> {
    if let Some(ago) = text.strip_prefix('-') {
        return Some(now_ms.saturating_sub(duration_ms(ago)?));
    }
    if let Ok(ms) = text.parse() {
        return Some(ms);
    }
    if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_millis());
    }
    let date = text.parse::<chrono::NaiveDate>().ok()?;
    Some(date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis())
}

/// `500ms`, `30s`, `5m`, `1h`, `2d`.
fn duration_ms(text: &str) -> Option<i64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let unit_ms: i64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(unit_ms)
}

/// `NAME=VALUE`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is no pair: write NAME=VALUE")),
    }
}

/// `TOPIC` or `TOPIC:PARTITION`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPart {
    pub topic: String,
    /// `None`: every partition.
    pub partition: Option<i32>,
}

impl FromStr for TopicPart {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((topic, partition)) = text.rsplit_once(':') else {
            return Ok(Self { topic: text.to_owned(), partition: None });
        };
        match partition.parse() {
            Ok(partition) if partition >= 0 => {
                Ok(Self { topic: topic.to_owned(), partition: Some(partition) })
            }
            _ => Err(format!("{text:?} names no partition: write TOPIC or TOPIC:PARTITION")),
        }
    }
}

/// `\n`, `\t`, `\r`, `\0`, `\\` and `\xHH` as the bytes they mean.
pub fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let unknown = || format!("{text:?} has an unknown escape: use \\n, \\t, \\r, \\0, \\\\ or \\xHH");
        let (&escape, after) = rest.split_first().ok_or_else(unknown)?;
        rest = after;
        bytes.push(match escape {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'0' => 0,
            b'\\' => b'\\',
            b'x' => {
                let (digits, after) = rest.split_at_checked(2).ok_or_else(unknown)?;
                rest = after;
                let digits = std::str::from_utf8(digits).map_err(|_| unknown())?;
                u8::from_str_radix(digits, 16).map_err(|_| unknown())?
            }
            _ => return Err(unknown()),
        });
    }
    Ok(bytes)
}

/// `text` is one of the things that was changed, and how.
pub fn done(context: &mut Context, kind: &str, name: &str, what: &str) -> Outcome {
    if context.output.json {
        return Ok(context.output.json(&json!({kind: name, "result": what}))?);
    }
    Ok(context.output.line(format!("{kind} {name} {what}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000_000_000;

    #[test]
    fn every_way_to_name_a_place_is_understood() {
        let check = |text, expected| assert_eq!(place(text, NOW), Ok(expected), "{text}");
        check("start", StartFrom::Start);
        check("end", StartFrom::End);
        check("17", StartFrom::Offset(17));
        check("-5", StartFrom::LastN(5));
        check("@1234", StartFrom::Timestamp(1234));
        check("@-1h", StartFrom::Timestamp(NOW - 3_600_000));
        check("@-250ms", StartFrom::Timestamp(NOW - 250));
        check("@1970-01-02", StartFrom::Timestamp(86_400_000));
        check("@1970-01-01T09:00:01+09:00", StartFrom::Timestamp(1_000));
    }

    #[test]
    fn what_is_no_place_is_refused_with_the_ways_there_are() {
        for text in ["", "begin", "-", "1.5", "@", "@-1w", "@yesterday", "--3", "@-99999999999999999d"] {
            let error = place(text, NOW).unwrap_err();
            assert!(error.contains("@-1h") && error.contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn escapes_become_bytes() {
        assert_eq!(unescape(r"a\n\t\\\x00\xfF").unwrap(), b"a\n\t\\\x00\xff");
        for text in [r"\", r"\q", r"\x1", r"\xzz"] {
            assert!(unescape(text).unwrap_err().contains("xHH"), "{text}");
        }
    }

    #[test]
    fn a_topic_may_name_one_partition() {
        let part = |topic: &str, partition| Ok(TopicPart { topic: topic.to_owned(), partition });
        assert_eq!("t".parse(), part("t", None));
        assert_eq!("t:3".parse(), part("t", Some(3)));
        assert!("t:x".parse::<TopicPart>().is_err());
        assert!("t:-1".parse::<TopicPart>().is_err());
    }
}
