//! One record as one JSON object, both ways without loss.
//!
//! `key` and `value` are text when they are UTF-8; other bytes travel as `key_base64`, `value_base64`; absent is `null`. So what
//! `consume --json` prints, `produce --format ndjson` takes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use sunseo_client::ConsumedRecord;
use sunseo_proto::{Header, Record};

fn put(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
        None => object.insert(name.to_owned(), Value::Null),
        Some(Ok(text)) => object.insert(name.to_owned(), text.into()),
        Some(Err(bytes)) => object.insert(format!("{name}_base64"), STANDARD.encode(bytes).into()),
    };
}

/// A record that was read.
pub fn consumed(consumed: &ConsumedRecord) -> Value {
    shown(&consumed.topic, consumed.partition, &consumed.record)
}

/// A record and where it was read.
pub fn shown(topic: &str, partition: i32, record: &Record) -> Value {
    let mut object = Map::new();
    object.insert("topic".to_owned(), topic.into());
    object.insert("partition".to_owned(), partition.into());
    object.insert("offset".to_owned(), record.offset.into());
    object.insert("timestamp_ms".to_owned(), record.timestamp_ms.into());
    put(&mut object, "key", record.key.as_deref());
    put(&mut object, "value", record.value.as_deref());
    let header = |header: &Header| {
        let mut object = Map::new();
        object.insert("name".to_owned(), header.key.as_str().into());
        put(&mut object, "value", header.value.as_deref());
        Value::Object(object)
    };
    object.insert("headers".to_owned(), record.headers.iter().map(header).collect());
    Value::Object(object)
}

/// A record to be sent, and the partition it names.
///
/// # Errors
/// What is wrong with the object.
pub fn parse(line: &[u8]) -> Result<(Option<i32>, Record), String> {
    from_value(serde_json::from_slice(line).map_err(|error| format!("not JSON: {error}"))?)
}

/// As [`parse`], of an object that was read already.
///
/// # Errors
/// What is wrong with the object.
pub fn from_value(value: Value) -> Result<(Option<i32>, Record), String> {
    let Value::Object(mut object) = value else {
        return Err(format!("is {value}: give an object such as {}", json!({"key": "k", "value": "v"})));
    };
    // where it was read from says nothing about where it goes
    for name in ["topic", "offset"] {
        object.remove(name);
    }
    let partition = match object.remove("partition") {
        None | Some(Value::Null) => None,
        Some(value) => Some(whole(&value, "partition")?),
    };
    let timestamp_ms = match object.remove("timestamp_ms") {
        None | Some(Value::Null) => 0,
        Some(value) => value.as_i64().ok_or_else(|| format!("timestamp_ms is {value}: give milliseconds"))?,
    };
    let record = Record {
        offset: 0,
        timestamp_ms,
        key: take(&mut object, "key")?,
        value: take(&mut object, "value")?,
        headers: headers(object.remove("headers"))?,
    };
    match object.keys().next() {
        Some(unknown) => Err(format!(
            "has the unknown field {unknown:?}: use key, value, headers, partition, timestamp_ms, key_base64, value_base64"
        )),
        None => Ok((partition, record)),
    }
}

fn whole(value: &Value, name: &str) -> Result<i32, String> {
    let number = value.as_i64().and_then(|number| i32::try_from(number).ok());
    number
        .filter(|&number| number >= 0)
        .ok_or_else(|| format!("{name} is {value}: give a whole number from 0"))
}

/// Text as its bytes, any other JSON as its text.
fn take(object: &mut Map<String, Value>, name: &str) -> Result<Option<Bytes>, String> {
    let encoded = format!("{name}_base64");
    match (object.remove(name), object.remove(&encoded)) {
        (Some(plain), Some(_)) if !plain.is_null() => {
            Err(format!("has both {name} and {encoded}: give one of them"))
        }
        (_, Some(Value::String(text))) => {
            let bytes = STANDARD.decode(text).map_err(|error| format!("{encoded} is not base64: {error}"))?;
            Ok(Some(bytes.into()))
        }
        (_, Some(other)) => Err(format!("{encoded} is {other}: give text in base64")),
        (None | Some(Value::Null), None) => Ok(None),
        (Some(Value::String(text)), None) => Ok(Some(text.into())),
        (Some(other), None) => Ok(Some(other.to_string().into())),
    }
}

fn headers(value: Option<Value>) -> Result<Vec<Header>, String> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Object(object)) => {
            let pair = |(name, value): (String, Value)| {
                let mut one = Map::from_iter([("value".to_owned(), value)]);
                Ok(Header { key: name, value: take(&mut one, "value")? })
            };
            object.into_iter().map(pair).collect()
        }
        Some(Value::Array(items)) => items.into_iter().map(header).collect(),
        Some(other) => {
            Err(format!("headers are {other}: give a list of {{\"name\", \"value\"}} or an object"))
        }
    }
}

fn header(item: Value) -> Result<Header, String> {
    let Value::Object(mut object) = item else {
        return Err(format!("has the header {item}: give {{\"name\", \"value\"}}"));
    };
    match object.remove("name") {
        Some(Value::String(key)) => Ok(Header { key, value: take(&mut object, "value")? }),
        _ => Err("has a header without a name: give {\"name\", \"value\"}".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes() -> impl Strategy<Value = Option<Bytes>> {
        proptest::option::of(prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from),
            "\\PC{0,20}".prop_map(Bytes::from),
        ])
    }

    proptest! {
        #[test]
        fn what_is_printed_can_be_sent_again(
            key in bytes(), value in bytes(), headers in proptest::collection::vec(("[a-z]{1,5}", bytes()), 0..4),
            timestamp_ms in 1i64..9_000_000_000_000, partition in 0i32..100,
        ) {
            let headers = headers.into_iter().map(|(key, value)| Header { key, value }).collect();
            let record = Record { offset: 0, timestamp_ms, key, value, headers };
            let read = ConsumedRecord { topic: "t".into(), partition, record: record.clone() };
            let line = consumed(&read).to_string();
            prop_assert_eq!(parse(line.as_bytes()), Ok((Some(partition), record)), "{}", line);
        }
    }

    #[test]
    fn json_values_are_sent_as_their_text() {
        let (_, record) = parse(br#"{"key": 7, "value": {"a": [1]}, "headers": {"h": "x"}}"#).unwrap();
        assert_eq!(record.key.as_deref(), Some(b"7".as_slice()));
        assert_eq!(record.value.as_deref(), Some(br#"{"a":[1]}"#.as_slice()));
        assert_eq!(record.headers, [Header::new("h", "x")]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, named) in [
            ("[1]", "an object"),
            ("{", "not JSON"),
            (r#"{"valeu": 1}"#, "valeu"),
            (r#"{"value": "a", "value_base64": "YQ=="}"#, "both"),
            (r#"{"value_base64": "%"}"#, "base64"),
            (r#"{"partition": -1}"#, "partition"),
            (r#"{"headers": [{"value": "x"}]}"#, "name"),
        ] {
            let error = parse(line.as_bytes()).unwrap_err();
            assert!(error.contains(named), "{line}: {error}");
        }
    }
}
