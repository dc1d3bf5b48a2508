//! Events as JSON. Pure.
//!
//! An event is either our own form or a CloudEvent, told apart by `specversion`.
//!
//! | ours | CloudEvents 1.0 | |
//! |---|---|---|
//! | `sequence` | `sequence` (extension; a number or its text) | required |
//! | `id` | `id` | header `id` |
//! | `aggregate_type` | `aggregatetype` (extension), else `source` | the topic |
//! | `aggregate_id` | `partitionkey` (extension), else `subject` | the key |
//! | `type` | `type` | header `type` |
//! | `payload`, `payload_base64` | `data`, `data_base64` | the value; absent or null: tombstone |
//! | `timestamp_ms`, `timestamp` | `time` | |
//! | `headers` | every other attribute | headers |
//!
//! A payload that is a JSON string is taken as its text, any other JSON as it is written.

use serde_json::{Map, Value};
use sunseo_proto::error::Result;
use sunseo_proto::{Error, v1};

use crate::row::time::parse_ms;

/// An array of events, or one event.
pub fn json(body: &[u8]) -> Result<Vec<v1::OutboxEvent>> {
    match serde_json::from_slice(body) {
        Ok(Value::Array(events)) => {
            events.into_iter().enumerate().map(|(index, value)| at(index, value, event)).collect()
        }
        Ok(value) => Ok(vec![at(0, value, event)?]),
        Err(error) => Err(Error::invalid("body", format!("the body is no JSON: {error}"))),
    }
}

/// One event a line.
pub fn ndjson(body: &[u8]) -> Result<Vec<v1::OutboxEvent>> {
    let lines = body.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let parse = |(index, line): (usize, &[u8])| match serde_json::from_slice(line) {
        Ok(value) => at(index, value, event),
        Err(error) => {
            Err(Error::invalid(format!("events[{index}]"), format!("event {index} is no JSON: {error}")))
        }
    };
    lines.enumerate().map(parse).collect()
}

fn at(
    index: usize,
    value: Value,
    read: fn(Map<String, Value>) -> Result<v1::OutboxEvent>,
) -> Result<v1::OutboxEvent> {
    let Value::Object(object) = value else {
        return Err(Error::invalid(format!("events[{index}]"), format!("event {index} is no JSON object")));
    };
    read(object).map_err(|error| {
        let field = error.field.unwrap_or_default();
        Error::invalid(format!("events[{index}].{field}"), format!("event {index}: {}", error.message))
    })
}

fn event(object: Map<String, Value>) -> Result<v1::OutboxEvent> {
    if object.contains_key("specversion") { cloud_event(object) } else { own_event(object) }
}

fn own_event(object: Map<String, Value>) -> Result<v1::OutboxEvent> {
    let mut event = v1::OutboxEvent::default();
    for (key, value) in object {
        match key.as_str() {
            "sequence" => event.sequence = sequence(&value)?,
            "id" => event.id = text(&key, value)?,
            "aggregate_type" | "aggregateType" | "aggregatetype" => event.aggregate_type = text(&key, value)?,
            "aggregate_id" | "aggregateId" | "aggregateid" => event.aggregate_id = text(&key, value)?,
            "type" => event.r#type = text(&key, value)?,
            "payload" => event.payload = payload(value),
            "payload_base64" | "payloadBase64" => {
                event.payload = Some(base64(&key, &text(&key, value)?)?.into())
            }
            "timestamp_ms" | "timestampMs" => {
                event.timestamp_ms =
                    value.as_i64().ok_or_else(|| expected(&key, "milliseconds since 1970"))?;
            }
            "timestamp" => event.timestamp_ms = time(&key, value)?,
            "headers" => event.headers = headers(value)?,
            _ => {
                let known = "sequence, id, aggregate_type, aggregate_id, type, payload, payload_base64, timestamp_ms, timestamp, headers";
                return Err(Error::invalid(
                    key.clone(),
                    format!("there is no field {key:?}: an event has {known}"),
                ));
            }
        }
    }
    Ok(event)
}

fn cloud_event(mut object: Map<String, Value>) -> Result<v1::OutboxEvent> {
    let version = take(&mut object, "specversion")?.unwrap_or_default();
    if version != "1.0" {
        return Err(Error::invalid("specversion", format!("specversion {version:?} is not read: use 1.0")));
    }
    let source = take(&mut object, "source")?;
    let subject = take(&mut object, "subject")?;
    let mut event = v1::OutboxEvent {
        sequence: object.remove("sequence").as_ref().map(sequence).transpose()?.unwrap_or_default(),
        id: take(&mut object, "id")?.unwrap_or_default(),
        aggregate_type: take(&mut object, "aggregatetype")?.or_else(|| source.clone()).unwrap_or_default(),
        aggregate_id: take(&mut object, "partitionkey")?.or_else(|| subject.clone()).unwrap_or_default(),
        r#type: take(&mut object, "type")?.unwrap_or_default(),
        ..v1::OutboxEvent::default()
    };
    if let Some(value) = object.remove("time") {
        event.timestamp_ms = time("time", value)?;
    }
    event.payload = object.remove("data").and_then(payload);
    if let Some(value) = object.remove("data_base64") {
        event.payload = Some(base64("data_base64", &text("data_base64", value)?)?.into());
    }
    let attributes = [("source", source), ("subject", subject)];
    let attributes =
        attributes.into_iter().filter_map(|(key, value)| Some((key.to_owned(), Value::String(value?))));
    for (key, value) in attributes.chain(object) {
        let value = Some(text(&key, value)?.into());
        event.headers.push(v1::Header { key, value });
    }
    Ok(event)
}

fn take(object: &mut Map<String, Value>, key: &str) -> Result<Option<String>> {
    object.remove(key).map(|value| text(key, value)).transpose()
}

fn expected(key: &str, what: &str) -> Error {
    Error::invalid(key, format!("{key} must be {what}"))
}

fn sequence(value: &Value) -> Result<i64> {
    let number = value.as_i64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
    number.ok_or_else(|| expected("sequence", "a whole number"))
}

/// Text, or a scalar as text.
fn text(key: &str, value: Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(value) => Ok(value.to_string()),
        _ => Err(expected(key, "a string")),
    }
}

fn payload(value: Value) -> Option<bytes::Bytes> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.into()),
        other => Some(other.to_string().into()),
    }
}

fn time(key: &str, value: Value) -> Result<i64> {
    parse_ms(&text(key, value)?).ok_or_else(|| expected(key, "a time as in RFC 3339"))
}

fn headers(value: Value) -> Result<Vec<v1::Header>> {
    let Value::Object(object) = value else { return Err(expected("headers", "an object of strings")) };
    let header = |(key, value): (String, Value)| {
        let value = Some(text("headers", value)?.into());
        Ok(v1::Header { key, value })
    };
    object.into_iter().map(header).collect()
}

/// Standard or URL-safe alphabet, with or without padding.
fn base64(key: &str, text: &str) -> Result<Vec<u8>> {
    let (mut bytes, mut bits, mut held) = (Vec::with_capacity(text.len() / 4 * 3), 0_u32, 0);
    for symbol in text.trim_end_matches('=').bytes() {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return Err(expected(key, "base64")),
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    if held == 6 { Err(expected(key, "base64")) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(event: &v1::OutboxEvent, key: &str) -> Option<String> {
        let found = event.headers.iter().find(|header| header.key == key)?;
        found.value.as_ref().map(|value| String::from_utf8_lossy(value).into_owned())
    }

    #[test]
    fn our_own_form() {
        let body =
            br#"[{"sequence":1,"id":"e","aggregate_type":"delivery","aggregate_id":"d","type":"PLACED",
            "payload":{"a":1},"timestamp":"1970-01-01T00:00:01Z","headers":{"traceparent":"00"}},
            {"sequence":"2","id":7,"payload":"text"},{"sequence":3,"payload_base64":"AP8="}]"#;
        let events = json(body).unwrap();
        assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(events[0].payload.as_deref(), Some(&br#"{"a":1}"#[..]));
        assert_eq!(
            (events[0].timestamp_ms, header(&events[0], "traceparent").unwrap().as_str()),
            (1000, "00")
        );
        assert_eq!((events[1].id.as_str(), events[1].payload.as_deref()), ("7", Some(&b"text"[..])));
        assert_eq!(events[2].payload.as_deref(), Some(&[0, 255][..]));
        assert_eq!(json(br#"{"sequence":1}"#).unwrap()[0].payload, None);
    }

    #[test]
    fn cloud_events_in_lines() {
        let body = br#"{"specversion":"1.0","id":"e","source":"delivery","subject":"d","type":"PLACED","sequence":"5",
            "time":"1970-01-01T00:00:02Z","data":{"a":1},"traceparent":"00"}"#;
        let one_line: Vec<u8> = body.iter().copied().filter(|&byte| byte != b'\n').collect();
        let events = ndjson(&[&one_line[..], b"\n\n", &one_line[..]].concat()).unwrap();
        let event = &events[1];
        assert_eq!(
            (event.sequence, event.aggregate_type.as_str(), event.aggregate_id.as_str()),
            (5, "delivery", "d")
        );
        assert_eq!((event.timestamp_ms, header(event, "traceparent").unwrap().as_str()), (2000, "00"));
        assert_eq!(header(event, "source").unwrap(), "delivery");
    }

    #[test]
    fn what_does_not_read_says_which_event_and_field() {
        let cases: [(&[u8], &str); 8] = [
            (b"", "no JSON"),
            (b"[1]", "event 0"),
            (br#"[{"sequence":1},{"sequence":"x"}]"#, "event 1"),
            (br#"{"sequnce":1}"#, "sequnce"),
            (br#"{"headers":{"a":[]}}"#, "headers"),
            (br#"{"payload_base64":"!"}"#, "base64"),
            (br#"{"timestamp":"noon"}"#, "RFC 3339"),
            (br#"{"specversion":"0.3"}"#, "1.0"),
        ];
        for (body, said) in cases {
            let error = json(body).unwrap_err();
            assert!(error.message.contains(said), "{error}");
        }
        assert!(ndjson(b"{}\n{").unwrap_err().message.contains("event 1"));
    }

    #[test]
    fn base64_of_every_length() {
        for (text, bytes) in
            [("", &b""[..]), ("Zg==", b"f"), ("Zm8", b"fo"), ("Zm9v", b"foo"), ("_-A", &[255, 224])]
        {
            assert_eq!(base64("x", text).unwrap(), bytes, "{text}");
        }
        assert!(base64("x", "Z").is_err());
    }
}
