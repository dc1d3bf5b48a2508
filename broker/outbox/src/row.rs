//! A row, or a pushed event, to a record. Pure.
//!
//! Columns are those of Debezium's outbox event router:
//!
//! | column | becomes |
//! |---|---|
//! | `id` | header `id` |
//! | `aggregatetype` | the topic, by the source's template |
//! | `aggregateid` | the key |
//! | `type` | header `type`, left out when NULL |
//! | `payload` | the value as it is; NULL is a tombstone |
//! | `timestamp` | the record's time: milliseconds since 1970, or ISO 8601 text, UTC without an offset |
//! | `headers` | a JSON object of strings; `traceparent` passes through |
//!
//! `timestamp` and `headers` may be missing. A row without a time gets the time at which it is read, so a row that is read
//! twice may show two times in two attempts; only one of them lands.

pub(crate) mod time;

use bytes::Bytes;
use serde_json::Value as Json;
use sunseo_proto::error::Result;
use sunseo_proto::record::RESERVED_HEADER_PREFIX;
use sunseo_proto::{Error, Header, Record, v1};

use crate::names::topic_problem;

/// Headers of one row.
pub const HEADERS_MAX: usize = 256;

/// A column's value as a database gives it.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    #[default]
    Null,
    Integer(i64),
    Real(f64),
    Text(Bytes),
    Blob(Bytes),
}

/// The columns of an outbox table, in the order of [`RawRow::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Id,
    AggregateType,
    AggregateId,
    Type,
    Payload,
    Timestamp,
    Headers,
}

impl Column {
    pub const ALL: [Self; 7] = [
        Self::Id,
        Self::AggregateType,
        Self::AggregateId,
        Self::Type,
        Self::Payload,
        Self::Timestamp,
        Self::Headers,
    ];

    /// Debezium's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::AggregateType => "aggregatetype",
            Self::AggregateId => "aggregateid",
            Self::Type => "type",
            Self::Payload => "payload",
            Self::Timestamp => "timestamp",
            Self::Headers => "headers",
        }
    }

    /// Whether a table must have it.
    pub fn required(self) -> bool {
        !matches!(self, Self::Timestamp | Self::Headers)
    }
}

/// A row as it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawRow {
    pub rowid: i64,
    /// By [`Column`]; a column that the table does not have is NULL.
    pub values: [Value; 7],
}

impl RawRow {
    /// What is left when a column is left out.
    pub fn without(&self, column: Column) -> Self {
        let mut row = self.clone();
        row.values[column as usize] = Value::Null;
        row
    }

    pub fn value(&self, column: Column) -> &Value {
        &self.values[column as usize]
    }

    /// Bytes it takes in memory, about.
    pub fn bytes(&self) -> usize {
        let value = |value: &Value| match value {
            Value::Text(bytes) | Value::Blob(bytes) => bytes.len(),
            _ => 8,
        };
        8 + self.values.iter().map(value).sum::<usize>()
    }
}

/// How aggregate types become topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(String);

const PLACEHOLDER: &str = "{aggregatetype}";

impl Template {
    /// An empty template is `{aggregatetype}`.
    pub fn parse(text: &str) -> Result<Self> {
        let text = if text.is_empty() { PLACEHOLDER } else { text };
        let rest = text.replace(PLACEHOLDER, "x");
        match topic_problem(&rest) {
            None => Ok(Self(text.to_owned())),
            Some(problem) => Err(Error::invalid(
                "topic_template",
                format!(
                    "topic template {text:?} makes no topic: {problem}; its only placeholder is {PLACEHOLDER}"
                ),
            )),
        }
    }

    pub fn topic(&self, aggregate_type: &str) -> Result<String> {
        let topic = self.0.replace(PLACEHOLDER, aggregate_type);
        match topic_problem(&topic) {
            None => Ok(topic),
            Some(problem) => Err(refuse(
                Column::AggregateType,
                &format!("{aggregate_type:?} makes the topic {topic:?}, but {problem}"),
                "change the value, or the source's topic template",
            )),
        }
    }
}

fn refuse(column: Column, what: &str, remedy: &str) -> Error {
    Error::invalid(column.name(), format!("column {}: {what}; {remedy}", column.name()))
}

/// A record with the topic it goes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Routed {
    pub topic: String,
    pub record: Record,
}

/// Turns a row into a record. The error names column and remedy; the caller adds table and rowid.
pub fn convert(template: &Template, row: &RawRow, now_ms: i64) -> Result<Routed> {
    let aggregate_type = text(row, Column::AggregateType)?.ok_or_else(|| null(Column::AggregateType))?;
    let topic = template.topic(&aggregate_type)?;
    let id = id_text(row)?;
    let key = scalar(row, Column::AggregateId)?.ok_or_else(|| null(Column::AggregateId))?;
    let mut headers = vec![Header::new("id", id)];
    headers.extend(text(row, Column::Type)?.map(|kind| Header::new("type", kind)));
    more_headers(row, &mut headers)?;
    let value = match row.value(Column::Payload) {
        Value::Null => None,
        Value::Text(bytes) | Value::Blob(bytes) => Some(bytes.clone()),
        Value::Integer(number) => Some(number.to_string().into()),
        Value::Real(number) => Some(number.to_string().into()),
    };
    let timestamp_ms = timestamp(row)?.unwrap_or(now_ms);
    Ok(Routed { topic, record: Record { offset: 0, timestamp_ms, key: Some(key), value, headers } })
}

/// The id as header `id` shows it: 16 bytes are a UUID, other bytes hexadecimal.
pub fn id_text(row: &RawRow) -> Result<String> {
    match row.value(Column::Id) {
        Value::Blob(bytes) => Ok(match uuid::Uuid::from_slice(bytes) {
            Ok(uuid) => uuid.to_string(),
            Err(_) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        }),
        _ => text(row, Column::Id)?.filter(|id| !id.is_empty()).ok_or_else(|| null(Column::Id)),
    }
}

fn null(column: Column) -> Error {
    refuse(column, "it is NULL or empty", "give every row a value")
}

/// Text, or a number as text.
fn text(row: &RawRow, column: Column) -> Result<Option<String>> {
    match row.value(column) {
        Value::Null => Ok(None),
        Value::Integer(number) => Ok(Some(number.to_string())),
        Value::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err(refuse(column, "its text is not UTF-8", "store UTF-8")),
        },
        Value::Real(_) | Value::Blob(_) => {
            Err(refuse(column, "it is neither text nor integer", "store text"))
        }
    }
}

/// Text, an integer as text, or bytes as they are.
fn scalar(row: &RawRow, column: Column) -> Result<Option<Bytes>> {
    match row.value(column) {
        Value::Blob(bytes) => Ok(Some(bytes.clone())),
        _ => Ok(text(row, column)?.filter(|text| !text.is_empty()).map(Bytes::from)),
    }
}

fn timestamp(row: &RawRow) -> Result<Option<i64>> {
    let remedy = "store milliseconds since 1970 as an integer, or ISO 8601 text";
    match row.value(Column::Timestamp) {
        Value::Null => Ok(None),
        Value::Integer(ms) if *ms >= 0 => Ok(Some(*ms)),
        Value::Integer(ms) => Err(refuse(Column::Timestamp, &format!("{ms} lies before 1970"), remedy)),
        Value::Text(bytes) => {
            let text = String::from_utf8_lossy(bytes);
            let parsed = time::parse_ms(&text);
            parsed.map(Some).ok_or_else(|| refuse(Column::Timestamp, &format!("{text:?} is no time"), remedy))
        }
        Value::Real(_) | Value::Blob(_) => {
            Err(refuse(Column::Timestamp, "it is neither integer nor text", remedy))
        }
    }
}

fn more_headers(row: &RawRow, headers: &mut Vec<Header>) -> Result<()> {
    let remedy = "store a JSON object whose values are strings";
    let bytes = match row.value(Column::Headers) {
        Value::Null => return Ok(()),
        Value::Text(bytes) | Value::Blob(bytes) => bytes,
        _ => return Err(refuse(Column::Headers, "it is neither text nor bytes", remedy)),
    };
    let object = match serde_json::from_slice::<Json>(bytes) {
        Ok(Json::Object(object)) => object,
        Ok(_) => return Err(refuse(Column::Headers, "it is no JSON object", remedy)),
        Err(error) => return Err(refuse(Column::Headers, &format!("it is no JSON: {error}"), remedy)),
    };
    for (key, value) in object {
        let Json::String(value) = value else {
            return Err(refuse(Column::Headers, &format!("header {key:?} is no string"), remedy));
        };
        headers.push(Header::new(key, value));
    }
    check_headers(headers)
}

fn check_headers(headers: &[Header]) -> Result<()> {
    if headers.len() > HEADERS_MAX {
        let what = format!("there are {} headers, the limit is {HEADERS_MAX}", headers.len());
        return Err(refuse(Column::Headers, &what, "send fewer"));
    }
    match headers.iter().find(|header| header.key.starts_with(RESERVED_HEADER_PREFIX)) {
        None => Ok(()),
        Some(header) => Err(refuse(
            Column::Headers,
            &format!(
                "header {:?} begins with {RESERVED_HEADER_PREFIX}, which belongs to the server",
                header.key
            ),
            "rename it",
        )),
    }
}

/// Turns a pushed event into a record, by the same rules.
pub fn convert_event(template: &Template, event: v1::OutboxEvent, now_ms: i64) -> Result<Routed> {
    if event.aggregate_id.is_empty() {
        return Err(null(Column::AggregateId));
    }
    if event.id.is_empty() {
        return Err(null(Column::Id));
    }
    let topic = template.topic(&event.aggregate_type)?;
    let mut headers = vec![Header::new("id", event.id)];
    if !event.r#type.is_empty() {
        headers.push(Header::new("type", event.r#type));
    }
    headers.extend(event.headers.into_iter().map(|header| Header { key: header.key, value: header.value }));
    check_headers(&headers)?;
    let timestamp_ms = if event.timestamp_ms > 0 { event.timestamp_ms } else { now_ms };
    let (key, value) = (Some(event.aggregate_id.into()), event.payload);
    Ok(Routed { topic, record: Record { offset: 0, timestamp_ms, key, value, headers } })
}

/// Longest reason of a dead letter, in bytes: it may name a value of any length.
const REASON_BYTES_MAX: usize = 4_096;

/// The record that stands for a row that cannot be turned into one: its payload, and headers that say where and why.
pub fn dead_letter(source: &str, table: &str, row: &RawRow, why: &Error, now_ms: i64) -> Record {
    let value = match row.value(Column::Payload) {
        Value::Text(bytes) | Value::Blob(bytes) => Some(bytes.clone()),
        _ => None,
    };
    let mut headers = vec![
        Header::new("source", source.to_owned()),
        Header::new("table", table.to_owned()),
        Header::new("rowid", row.rowid.to_string()),
        Header::new("error-code", why.code.as_str()),
        Header::new("error", why.message[..why.message.floor_char_boundary(REASON_BYTES_MAX)].to_owned()),
    ];
    headers.extend(id_text(row).ok().map(|id| Header::new("id", id)));
    headers.extend(text(row, Column::AggregateType).ok().flatten().map(|t| Header::new("aggregatetype", t)));
    headers.extend(text(row, Column::Type).ok().flatten().map(|kind| Header::new("type", kind)));
    let key = scalar(row, Column::AggregateId).ok().flatten();
    Record { offset: 0, timestamp_ms: timestamp(row).ok().flatten().unwrap_or(now_ms), key, value, headers }
}

#[cfg(test)]
mod tests;
